"""Twenty defects seen in public robustness tools, none of which is here: one test each, by their number."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import charpy
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.errors import DataError, IdentityError, ModelError
from charpy.evaluator import evaluate
from charpy.interfaces.attack import Attack
from charpy.judge import Claim, Judge
from charpy.pixels import pack, unpack
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.threat import Access, Grid, Norm, ThreatModel
from charpy.unit import drawn_targets

SIZE = 12
LABELS = np.arange(SIZE) % 2
IMAGES = np.random.default_rng(0).integers(0, 50, (SIZE, 1, 6, 6), np.uint8) + (77 + 51 * LABELS[:, None, None, None])
IMAGES = IMAGES.astype(np.uint8)
L0 = {"norms": ("l0",), "levels": (3, 12), "queries": 60, "battery": "corner_pixels"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)


def scores(images: torch.Tensor) -> torch.Tensor:
    """Dark or bright; a margin of 1 is a mean that is 1/40 from one half."""
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1) * 40


class Net(torch.nn.Module):
    """`scores`, with a gradient and room for a fault."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return scores(images)


def net(change: Any) -> torch.nn.Module:
    module = Net()
    module.forward = change  # type: ignore[method-assign]
    return module


def attacked(attack: type[Attack], path: Path, model: str = "brightness", **threat: Any) -> Any:
    """The assessment of a stranger's attack, at L0 level 3 if nothing else is said."""
    registry = Registry()
    registry.add(SimpleNamespace(charpy_attacks=lambda: {"mine": attack}), "mine", "mine", "1")
    threats = [{"norm": "l0", "levels": [3], "queries": 40, "battery": [{"kind": "mine"}], **threat}]
    data = {"kind": "shades", "params": {"size": SIZE}}
    evaluate(
        parse(RunSpec, {"data": data, "models": [{"reference": model}], "threats": threats}), path, registry=registry
    )
    with RunFile.open(path) as run:
        return RunSummary.of(run).assessments[0]


class Mine(Attack):
    """An attack of this file."""

    norms, access = frozenset({Norm.L0, Norm.LINF}), Access.SCORES


def witnesses(result: Any) -> list[tuple[int, np.ndarray]]:
    with RunFile.open(result.path) as run:
        rows = list(run.witnesses(0))
        return [(row.sample, unpack(row.image, (1, 6, 6), Grid.EIGHT_BIT).numpy()) for row in rows]


@pytest.mark.parametrize("battery", ["fmn", "ddn", "pgd"])
def test_01_a_projection_that_does_nothing(battery: str) -> None:
    """An attack asked for an L2 distance of at most 0.5 came back with 6.9, and that counted."""
    found = charpy.assess(Net(), IMAGES, LABELS, norms=("l2",), levels=(200,), queries=60, battery=battery)
    moved = witnesses(found)
    assert len(moved) == found.assessment.threats[0].broken > 0
    for sample, image in moved:
        assert np.linalg.norm(image.astype(float) - IMAGES[sample]) <= 200


def test_02_an_attack_that_returns_what_it_was_given(tmp_path: Path) -> None:
    """An ensemble always returned the clean images, and its figure was reported as robustness."""

    class Idle(Mine):
        def run(self, task: Any) -> Any:
            return task.images.clone()

    found = attacked(Idle, tmp_path / "run.charpy")
    assert (found.threats[0].broken, found.threats[0].grade) == (0, "weak")
    assert any(part.kind == "planted" and part.fired for part in found.indicators)


def test_03_success_that_a_second_look_does_not_find() -> None:
    """Reported success and a new prediction of the very images differed."""
    found = charpy.assess(Net(), IMAGES, LABELS, **L0)
    again = witnesses(found)
    assert len({sample for sample, _ in again}) == found.assessment.threats[-1].broken > 0
    for sample, image in again:
        assert int(scores(torch.from_numpy(image / 255.0)[None]).argmax()) != LABELS[sample]


def test_04_success_on_images_that_were_wrong_from_the_start() -> None:
    """Images that the model gets wrong anyway were counted as broken."""
    found = charpy.assess(Net(), IMAGES, np.where(np.arange(SIZE) < 5, 1 - LABELS, LABELS), **L0).assessment
    assert (found.clean.count, found.threats[-1].clean_error) == (SIZE - 5, 5)
    assert all(part.attacked <= SIZE - 5 for part in found.attacks)


def test_05_a_targeted_attack_scored_as_untargeted() -> None:
    """Any other class counted as the target, or the target was always the next class."""
    other = SimpleNamespace(predict=lambda x: torch.eye(3)[torch.full((len(x),), 2)], device=torch.device("cpu"))
    judge = Judge(other, "logits", (1, 6, 6))  # type: ignore[arg-type]
    threat = ThreatModel.at_level(Norm.L0, 36)
    image = pack(torch.from_numpy(IMAGES[0]), Grid.EIGHT_BIT)
    wanted, another = judge.decide([Claim(image, image, 0, target=2), Claim(image, image, 0, target=1)], threat)
    assert wanted.confirmed
    assert another.reason == "not classified as the target"
    from charpy.random import Random, sample_keys

    labels = torch.zeros(300, dtype=torch.int64)
    targets = drawn_targets(Random(0, sample_keys([f"s{n}" for n in range(300)])), labels, 10)
    assert set(targets.tolist()) == set(range(1, 10))


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_06_nan_and_infinity_scored_as_robust(value: float) -> None:
    """Constant NaN logits were 100 % robust in two tools, infinite ones 38 % in four; none warned."""
    found = charpy.assess(net(lambda x: scores(x) * 0 + value), IMAGES, LABELS, **L0).assessment
    assert found.status == "invalid"
    for threat in found.threats:
        assert (threat.invalid, threat.held, threat.broken, threat.grade) == (SIZE, 0, 0, "invalid")


def test_07_a_model_that_ends_the_evaluation_as_a_success() -> None:
    """SystemExit(0) inside a model ended the whole evaluation with exit code 0 in four of four."""

    def leaves(_: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)

    with pytest.raises(ModelError, match="end the process") as caught:
        charpy.assess(leaves, IMAGES, LABELS, **L0)
    assert caught.value.exit_code != 0


def test_08_images_of_another_range() -> None:
    """Images from 0 to 255 given to an evaluation in [0, 1] were 100 % robust, or moved by 254."""
    for images in (IMAGES.astype(np.float32), IMAGES / 127.5 - 1, IMAGES.astype(np.int64)):
        with pytest.raises(DataError):
            charpy.assess(Net(), images, LABELS, **L0)


def test_09_a_pixel_that_is_not_a_number() -> None:
    """`(x < 0) | (x > 1)` is false for NaN, so it passed three of four box checks."""
    images = IMAGES / np.float32(255)
    images[3, 0, 2, 2] = np.nan
    with pytest.raises(DataError, match="1 NaN"):
        charpy.assess(Net(), images, LABELS, **L0)
    judge = Judge(SimpleNamespace(predict=scores, device=torch.device("cpu")), "logits", (1, 6, 6))  # type: ignore[arg-type]
    clean, moved = (pack(torch.from_numpy(x), Grid.NONE) for x in (IMAGES[3] / np.float32(255), images[3]))
    (verdict,) = judge.decide([Claim(clean, moved, 1)], ThreatModel.at_level(Norm.L0, 3, grid=Grid.NONE))
    assert "NaN" in verdict.reason


def test_10_a_model_with_a_memory_or_that_writes_into_its_images() -> None:
    """A stateful model was 100 % robust without a warning; a mutating one changed the caller's tensor."""
    asked = [0]

    def alternates(x: torch.Tensor) -> torch.Tensor:
        asked[0] += 1
        return scores(x) * (-1) ** asked[0]

    found = charpy.assess(alternates, IMAGES, LABELS, **L0).assessment
    assert all(threat.grade != "supported" for threat in found.threats)
    images = torch.from_numpy(IMAGES / np.float32(255))
    before = images.clone()
    charpy.assess(net(lambda x: scores(x.mul_(0.5) * 2)), images, LABELS, **L0)
    assert torch.equal(images, before)


def test_11_batch_norm_that_learns_while_it_is_attacked() -> None:
    """Running statistics of the caller's model changed in three of four."""
    module = torch.nn.Sequential(torch.nn.BatchNorm2d(1), torch.nn.Flatten(), torch.nn.Linear(36, 2)).train()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    found = charpy.assess(module, IMAGES, LABELS, **L0)
    assert found.assessment.dataset.samples == SIZE
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert module.training
    with pytest.raises(ModelError, match="changes itself"):
        charpy.assess(_Learns(), IMAGES, LABELS, **L0)


class _Learns(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.mean += images.mean()
        return scores(images)


def test_12_a_picture_file_that_is_no_longer_adversarial() -> None:
    """Saved as a PNG and read again, what had broken the model no longer did."""
    found = witnesses(charpy.assess(Net(), IMAGES, LABELS, **L0))
    assert found
    for sample, image in found:
        buffer = io.BytesIO()
        Image.fromarray(image[0]).save(buffer, format="PNG")
        read = np.asarray(Image.open(buffer))
        assert int(scores(torch.from_numpy(read / np.float32(255))[None, None]).argmax()) != LABELS[sample]


def test_13_l0_without_a_unit() -> None:
    """Some counted values, some pixels, and none said which."""
    metrics = {kind: Registry().create("metrics", kind) for kind in ("l0_pixels", "l0_features")}
    images = torch.zeros(1, 3, 4, 4)
    moved = images.clone()
    moved[:, :, 1, 2] = 1
    assert {kind: (metric(images, moved).item(), metric.unit) for kind, metric in metrics.items()} == {
        "l0_pixels": (1, "pixels"),
        "l0_features": (3, "features"),
    }


def test_14_a_resume_that_takes_another_models_scores(tmp_path: Path) -> None:
    """A cache key without the model's identity gave model B the scores of model A; or a resume never worked."""
    units = []

    class StopError(Exception):
        pass

    def stop(now: Any) -> None:
        if now.done > 1:
            raise StopError

    with pytest.raises(StopError):
        charpy.assess(Net(), IMAGES, LABELS, out=tmp_path, name="n", listen=stop, **L0)
    with RunFile.open(tmp_path / "run.charpy") as run:
        units = run.units(0)
    assert units
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    with pytest.raises(IdentityError, match=r"model\.n\."):
        charpy.assess(module, IMAGES, LABELS, out=tmp_path, name="n", **L0)
    found = charpy.assess(Net(), IMAGES, LABELS, out=tmp_path, name="n", **L0)
    with RunFile.open(found.path) as run:
        assert run.units(0)[: len(units)] == units
    fresh = charpy.assess(Net(), IMAGES, LABELS, name="n", **L0)
    assert [t.broken for t in found.assessment.threats] == [t.broken for t in fresh.assessment.threats]


def test_15_query_counts_that_leave_something_out(tmp_path: Path) -> None:
    """Counts were absent, averages, or without the probes for success; budgets were not kept."""

    class Counts(Mine):
        def run(self, task: Any) -> None:
            owner = torch.arange(len(task.images))
            for _ in range(5):
                task.oracle.labels(task.images, owner)
            task.oracle.scores(task.images.repeat(100, 1, 1, 1), owner.repeat(100))

    found = attacked(Counts, tmp_path / "a.charpy")
    assert found.attacks[0].queries_max == found.attacks[0].queries_mean == 40
    assert found.attacks[0].rows == 40 * SIZE


def test_16_one_image_at_a_time() -> None:
    """Black-box attacks asked about a single image in each call, minutes an image."""
    sizes = []

    def counted(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        return scores(images)

    many = {**L0, "levels": (1,), "queries": 100}
    charpy.assess(counted, np.repeat(IMAGES, 4, 0), np.repeat(LABELS, 4), **many)
    rows = sum(sizes)
    assert rows / len(sizes) > 12


def test_17_a_random_model_scored_once() -> None:
    """The figure of a randomised defence changed from run to run."""
    found = charpy.assess(net(lambda x: scores(x) + 3 * torch.randn(len(x), 2)), IMAGES, LABELS, **L0).assessment
    assert {threat.grade for threat in found.threats} == {"weak"}
    for part in found.redraws:
        assert part.draws >= 10
        assert part.interval[0] <= part.mean <= part.interval[1]


def test_18_a_proof_where_an_attack_exists_and_a_witness_outside_the_box() -> None:
    """A verifier said safe of what can be broken; witnesses 1e-4 outside the box counted; HWC was read as CHW."""
    from charpy.analysis.verdict import status_of

    assert status_of(SIZE, {}, 1, finished=True).value == "unsound"
    images = IMAGES / np.float32(255)
    images[0, 0, 0, 0] = 1
    outside = images[0].copy()
    outside[0, 0, 0] = 1 + 1e-4
    judge = Judge(SimpleNamespace(predict=lambda x: -scores(x), device=torch.device("cpu")), "logits", (1, 6, 6))  # type: ignore[arg-type]
    threat = ThreatModel.at_level(Norm.LINF, 8, grid=Grid.NONE)
    stored = [pack(torch.from_numpy(x), Grid.NONE) for x in (images[0], outside)]
    (verdict,) = judge.decide([Claim(*stored, 0)], threat)
    assert "outside the box" in verdict.reason
    with pytest.raises(DataError, match="look like"):
        ArrayDataset(np.zeros((4, 8, 8, 3), np.uint8), np.zeros(4, int))


def test_19_results_that_depend_on_the_batch_or_the_order() -> None:
    """The same images in other batches, or in another order, gave another figure."""
    order = np.random.default_rng(1).permutation(SIZE)
    ids = [f"image {n}" for n in range(SIZE)]

    def broken(rows: np.ndarray, batch: int) -> dict[str, float]:
        data = ArrayDataset(IMAGES[rows], LABELS[rows], ids=[ids[n] for n in rows])
        found = charpy.assess(Net(), data=data, batch_size=batch, name="n", **L0)
        with RunFile.open(found.path) as run:
            names = [row.id for row in run.samples(0)]
            return {names[row.sample]: row.distance for row in run.witnesses(0)}

    first = broken(np.arange(SIZE), 64)
    assert first
    assert broken(np.arange(SIZE), 1) == first
    assert broken(order, 64) == first


def test_20_a_name_that_ends_the_script() -> None:
    """A report page was broken by `</script>` inside a name."""
    name = "</script><script>alert(1)</script>"
    found = charpy.assess(Net(), IMAGES, LABELS, name=name, **L0)
    page = found.save(found.path.parent / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    assert "&lt;/script&gt;" in page
