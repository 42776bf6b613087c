"""Trainings that are interrupted: the weights are those of an undisturbed one, bit for bit."""

from __future__ import annotations

import io
import os
import pickle
import signal
import subprocess
import sys

import pytest
import torch

from charpy.cli.app import run_program
from charpy.errors import IdentityError, RunFileError
from charpy.specs import ComponentSpec
from charpy_models.checkpoint import Checkpoint, write_whole
from charpy_models.fit import fit
from charpy_models.recipe import Augmentation, Precision, Recipe
from charpy_models.training import Images, Progress

NETWORKS = "charpy_models.architectures"
GREY = {"in_channels": 1, "num_classes": 2, "mean": [0.5], "std": [0.5]}
BASE = Recipe(
    architecture=f"{NETWORKS}.digits_cnn:DigitsCNN",
    architecture_params={"num_classes": 2, "widths": [3, 4], "hidden": 5},
    data="none",
    epochs=3,
    batch_size=8,
    learning_rate=0.01,
    augmentation=Augmentation(flip=True, shift=1),
)


def trained_with(kind: str, **params: object) -> dict[str, tuple[ComponentSpec, ...]]:
    return {"defenses": (ComponentSpec(kind=kind, params=params),)}


KINDS = {
    "augmented": {},
    "cosine": {"schedule": "cosine"},
    "constant": {"schedule": "constant"},
    "fast": trained_with("adversarial_training", method="fast", radius=0.1, steps=2, step_size=0.075, ramp=0.5),
    "replace": trained_with("adversarial_training", radius=0.1, attack={"kind": "pgd", "params": {"steps": 2}}),
    "free": trained_with("adversarial_training", method="free", radius=0.1, replays=3),
    "trades": trained_with("trades", radius=0.1, steps=2),
    "tvm": trained_with("tvm", steps=5),
    "batch norm": {
        "architecture": f"{NETWORKS}.resnet:ResNet",
        "architecture_params": {**GREY, "blocks": 1, "widths": [3, 4]},
    },
    "triplets": {
        "architecture": f"{NETWORKS}.triplet:TripletNet",
        "architecture_params": {"trunk": "digits_cnn:DigitsCNN", "num_classes": 2, "size": 4},
    },
    "dropout": {
        "architecture": f"{NETWORKS}.wide_resnet:WideResNet",
        "architecture_params": {**GREY, "depth": 10, "widen": 1, "base": 2, "dropout": 0.3},
    },
}


@pytest.fixture
def data() -> Images:
    draw = torch.Generator().manual_seed(7)
    labels = torch.arange(24) % 2
    images = torch.randint(0, 100, (24, 1, 8, 8), generator=draw) + 150 * labels[:, None, None, None]
    return Images(images.to(torch.uint8), labels)


class StopAt:
    """Raises in the middle of one epoch, as Ctrl-C would."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __call__(self, now: Progress) -> None:
        if (now.epoch, now.step) == (self.epoch, 2):
            raise KeyboardInterrupt


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == again and torch.equal(a, b) for (name, a), (again, b) in pairs)


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("precision", [Precision.FLOAT32, Precision.FLOAT16])
@pytest.mark.parametrize("change", KINDS.values(), ids=KINDS)
def test_a_resumed_training_ends_with_the_same_weights(tmp_path, data, change, precision, held_out):
    recipe = BASE.model_copy(update=change)
    options = {"seed": 5, "precision": precision, "held_out": data if held_out else None}
    undisturbed = fit(recipe, *data, **options)
    checkpoint = Checkpoint(tmp_path / "it", {"seed": 5})
    for epoch in (2, 3):  # twice, each in the middle of an epoch
        with pytest.raises(KeyboardInterrupt):
            fit(recipe, *data, **options, checkpoint=checkpoint, listen=StopAt(epoch))
    told: list[Progress] = []
    resumed = fit(recipe, *data, **options, checkpoint=checkpoint, listen=told.append)
    assert {now.epoch for now in told} == {3}  # nothing is trained twice
    assert same(undisturbed.module, resumed.module)
    assert undisturbed[1:] == resumed[1:]


@pytest.mark.parametrize("epoch", [2, 4, 5])  # teacher, the student's first epoch, its second
def test_a_resumed_distillation_ends_with_the_same_weights(tmp_path, data, epoch):
    recipe = BASE.model_copy(update=trained_with("distillation", temperature=10))
    options = {"seed": 5, "held_out": data}
    undisturbed = fit(recipe, *data, **options)
    checkpoint = Checkpoint(tmp_path / "it", {"seed": 5})
    with pytest.raises(KeyboardInterrupt):
        fit(recipe, *data, **options, checkpoint=checkpoint, listen=StopAt(epoch))
    resumed = fit(recipe, *data, **options, checkpoint=checkpoint)
    assert same(undisturbed.module, resumed.module)
    assert undisturbed[1:] == resumed[1:]


def test_what_is_saved_is_needed(tmp_path, data):
    """Each part of the state changes the weights when it is lost."""
    undisturbed = fit(BASE, *data, seed=5).module
    for part, empty in (("random", torch.get_rng_state()), ("optimiser", None), ("schedule", None), ("module", None)):
        checkpoint = Checkpoint(tmp_path / part, {})
        with pytest.raises(KeyboardInterrupt):
            fit(BASE, *data, seed=5, checkpoint=checkpoint, listen=StopAt(2))
        state, fresh = checkpoint.read(), Checkpoint(tmp_path / "fresh", {})
        fresh.remove()
        with pytest.raises(KeyboardInterrupt):
            fit(BASE, *data, seed=6, checkpoint=fresh, listen=StopAt(2))
        lost = fresh.read()[part] if empty is None else empty
        if part == "schedule":
            lost = {**lost, "last_epoch": 0, "_step_count": 1}
        checkpoint.write({**state, part: lost})
        assert not same(undisturbed, fit(BASE, *data, seed=5, checkpoint=checkpoint).module), part


def test_a_finished_training_is_not_trained_again(tmp_path, data):
    checkpoint = Checkpoint(tmp_path / "it", {})
    first = fit(BASE, *data, seed=5, checkpoint=checkpoint).module
    told: list[Progress] = []
    assert same(first, fit(BASE, *data, seed=5, checkpoint=checkpoint, listen=told.append).module)
    assert told == []


def test_the_checkpoint_of_another_training_is_refused_by_what_differs(tmp_path):
    Checkpoint(tmp_path / "it", {"seed": 1, "data": "a"}).write({})
    assert Checkpoint(tmp_path / "it", {"data": "a", "seed": 1}).read() == {}
    with pytest.raises(IdentityError, match="another training") as caught:
        Checkpoint(tmp_path / "it", {"seed": 2, "data": "a"}).read()
    assert (caught.value.found, caught.value.expected) == ("seed: 1", "seed: 2")
    assert "--out" in caught.value.hint


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "nonsense", "cut"])
def test_a_damaged_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "it"
    Checkpoint(path, {}).write({"a": torch.rand(100)})
    path.write_bytes(path.read_bytes()[:-200] if content is None else content)
    with pytest.raises(RunFileError, match="damaged") as caught:
        Checkpoint(path, {}).read()
    assert "delete" in caught.value.hint


class _Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


@pytest.mark.parametrize("write", [pickle.dumps, lambda thing: _torch_bytes(thing)], ids=["pickle", "torch"])
def test_nothing_in_a_checkpoint_is_executed(tmp_path, monkeypatch, write):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it").write_bytes(write({"identity": {}, "state": _Evil()}))
    with pytest.raises(RunFileError):
        Checkpoint(tmp_path / "it", {}).read()
    assert not (tmp_path / "evil").exists()


def _torch_bytes(thing: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "it"
    write_whole(path, b"old")

    def broken(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(RunFileError, match="cannot be written"):
        write_whole(path, b"new and longer")
    assert path.read_bytes() == b"old"
    monkeypatch.undo()
    write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert [file.name for file in tmp_path.iterdir()] == ["it"]


@pytest.mark.slow
def test_a_killed_program_goes_on_and_ends_with_the_same_bytes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "it.yaml").write_text("recipe: {like: digits-cnn, epochs: 6}\nthreads: 1\n")
    assert run_program(["train", "it.yaml", "--out", "undisturbed"]) == 0
    command = [sys.executable, "-m", "charpy", "train", "it.yaml", "--out", "killed"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        for line in process.stderr:
            if "epoch 2/6" in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "it.safetensors").exists()
    assert (tmp_path / "killed" / "it.checkpoint").is_file()

    capsys.readouterr()
    assert run_program(["train", "it.yaml", "--out", "killed"]) == 0
    told = capsys.readouterr().err
    assert "epoch 6/6" in told
    assert "epoch 2/6" not in told
    for name in ("it.safetensors", "it.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert not (tmp_path / "killed" / "it.checkpoint").exists()
