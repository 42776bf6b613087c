"""acgan: what a search finds with a generator whose reach is known, and that every witness is of the class."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.errors import DataError, ModelError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.generators import open_generator
from charpy.interfaces.dataset import Samples
from charpy.interfaces.generator import Generator
from charpy.pixels import as_images
from charpy.plugins import Registry, registry
from charpy.random import Random, sample_keys
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearClassifier
from charpy.threat import Goal, Grid, Norm
from charpy_plugins.attacks.unrestricted.acgan import Acgan

COUNT = 24
LABELS = torch.arange(COUNT) % 3
IMAGES = torch.zeros(COUNT, 1, 2, 2)
EVERY = torch.arange(COUNT)


class Toy(Generator):
    """Pixels: sigmoid(first latent value), the class as 0, 1/2 or 1 moved by tanh(second) / 3, 1/2, and 1/2.

    The auxiliary classifier reads the second pixel: the class is left where |tanh| > 3/4.
    """

    latent_size, num_classes, image_shape = 2, 3, (1, 2, 2)

    def generate(self, latent, labels):
        half = torch.full_like(latent[:, 0], 0.5)
        second = (labels / 2 + latent[:, 1].tanh() / 3).clamp(0, 1)
        return torch.stack([latent[:, 0].sigmoid(), second, half, half], 1).view(-1, 1, 2, 2)

    def classify(self, images):
        return -20 * (images.flatten(1)[:, 1:2] - torch.tensor([0.0, 0.5, 1.0])).square()

    def fingerprint(self):
        return {"weights": "toy"}


def made(**params) -> Acgan:
    attack = registry().create("attacks", "acgan", {"generator": "toy", **params})
    attack.__dict__["generator"] = Toy()
    return attack


def looks_at(pixel: int, beyond: float, classes: int = 3) -> LinearClassifier:
    """Calls an image the last class where the pixel is above `beyond`, and the first where not."""
    weight, bias = torch.zeros(classes, 1, 2, 2), torch.full((classes,), -100.0)
    weight[-1].view(-1)[pixel] = 20.0
    bias[0], bias[-1] = 0.0, -20.0 * beyond
    return LinearClassifier(weight, bias)


def starts(seed: int = 0, run: int = 0) -> torch.Tensor:
    """`(COUNT, 2)`: where the searches begin."""
    keys = sample_keys(tuple(f"sample {i}" for i in range(COUNT)))
    return Random(seed, keys).fork("latent").normal(EVERY, run, 2)


@pytest.fixture
def trial(attack_with):
    def run(attack, model, labels=LABELS, **rest):
        fields = {"norm": Norm.UNRESTRICTED, "th": 1, "queries": 60, **rest}
        return attack_with(attack, model, IMAGES, labels=labels, **fields)

    return run


def test_what_lies_within_eps_of_a_start_is_found_and_nothing_else(trial):
    """With nothing but the way to go, the farthest that a search gets is its start + eps: the optimum is known."""
    attack = made(starts=1, steps=60, eps=0.5, lambda1=1e6, lambda2=0, step_size=0.02)
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    found = torch.tensor(trial(attack, looks_at(0, 0.6), zeros, grid=Grid.NONE).broken)
    needed = torch.logit(torch.tensor(0.6)) - starts()[:, 0]
    sure = (needed - 0.5).abs() > 0.05  # two steps and a half
    stays = starts()[:, 1].tanh() < 0.75  # else the start is none of the class, and stays so
    assert 5 < int((needed < 0.5).sum()) < COUNT - 5
    assert torch.equal(found[sure], ((needed < 0.5) & stays)[sure])


def test_a_way_straight_to_the_boundary(trial):
    """Adam's steps down a slope that keeps its sign are as long as `step_size`: the queries are known, too."""
    attack = made(starts=1, steps=60, lambda1=0, lambda2=0, step_size=0.1)
    done = trial(attack, looks_at(0, 0.6), torch.zeros(COUNT, dtype=torch.int64), grid=Grid.NONE)
    needed = ((torch.logit(torch.tensor(0.6)) - starts()[:, 0]) / 0.1).clamp_min(0)
    found = torch.tensor(done.broken)
    assert torch.equal(found, starts()[:, 1].tanh() < 0.75)
    assert bool(((done.oracle.queries - 1 - needed)[found].abs() <= 1 + 0.2 * needed[found]).all())


@pytest.mark.parametrize("grid", Grid)
def test_every_witness_is_of_its_class_as_it_is_stored(trial, grid):
    """The model is wrong just where the auxiliary classifier is, and a little before: most of what fools it is none."""
    attack, model = made(starts=20, steps=5, lambda1=0, lambda2=0.1, step_size=0.3), looks_at(1, 0.23)
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    done = trial(attack, model, zeros, grid=grid)
    assert sum(done.broken) > COUNT // 2
    stored = as_images(done.found.images[done.found.found])
    assert bool((Toy().classify(stored).argmax(1) == 0).all())
    assert bool((model.predict(stored).argmax(1) == 2).all())
    shown = torch.cat([as_images(rows) for rows, _ in done.asked])
    fools = model.predict(shown).argmax(1) == 2
    assert int((fools & (Toy().classify(shown).argmax(1) != 0)).sum()) > 10  # there was much to be kept out


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.94])
def test_a_witness_is_as_sure_as_it_has_to_be(trial, confidence):
    """The auxiliary classifier is less sure the nearer an image is to where the model is wrong."""
    rest = {"starts": 20, "steps": 5, "lambda1": 0, "lambda2": 0.1, "step_size": 0.3}
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    done = trial(made(confidence=confidence, **rest), looks_at(1, 0.1), zeros)
    stored = as_images(done.found.images[done.found.found])
    sure = Toy().classify(stored).softmax(1)[:, 0]
    assert len(stored) > 5
    assert sure.min() >= confidence
    loose = trial(made(**rest), looks_at(1, 0.1), zeros).found
    least = Toy().classify(as_images(loose.images[loose.found])).softmax(1)[:, 0].min()
    assert least < 0.9


def test_what_the_auxiliary_classifier_never_confirms_is_no_witness(trial):
    attack = made(starts=20, steps=5, lambda1=0, lambda2=0)
    done = trial(attack, looks_at(1, 0.26), torch.zeros(COUNT, dtype=torch.int64))  # beyond 1/4 it is another class
    assert not any(done.broken)
    assert set(done.oracle.queries.tolist()) == {60}


def test_the_auxiliary_loss_keeps_to_the_class(trial):
    def strayed(weight: float) -> float:
        attack = made(starts=1, steps=60, lambda1=0, lambda2=weight)
        done = trial(attack, looks_at(1, 2.0), torch.zeros(COUNT, dtype=torch.int64))
        rows = as_images(done.asked[-1][0])
        return float(rows.flatten(1)[:, 1].mean())

    assert strayed(100.0) < 0.1 < 0.3 < strayed(0.0)


@pytest.mark.parametrize("queries", [1, 7, 23])
def test_spends_its_budget_and_no_row_more(trial, queries):
    done = trial(made(steps=5), looks_at(0, 2.0), torch.zeros(COUNT, dtype=torch.int64), queries=queries)
    assert done.oracle.queries.tolist() == [queries] * COUNT
    assert done.rows == queries * COUNT
    assert done.oracle.gradient_rows == done.rows


def test_starts_and_steps_end_it(trial):
    done = trial(made(steps=5, starts=3), looks_at(0, 2.0), torch.zeros(COUNT, dtype=torch.int64), queries=100)
    assert done.oracle.queries.tolist() == [15] * COUNT
    first = torch.cat([rows for rows, _ in done.asked if len(rows)])
    assert len(first) == 15 * COUNT


def test_another_run_begins_elsewhere(trial):
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    done = trial(made(steps=1, starts=4), looks_at(0, 2.0), zeros, grid=Grid.NONE, batch=COUNT)
    rows = torch.cat([images for images, _ in done.asked])[
        torch.cat([owner for _, owner in done.asked]).argsort(stable=True)
    ]
    expected = torch.stack([Toy().generate(starts(run=run), zeros) for run in range(4)], 1)
    assert torch.allclose(rows.view_as(expected), expected)


def test_the_seed_decides_and_the_batch_does_not(trial):
    attack, model = made(), looks_at(0, 0.6)
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    first, again, other = (trial(attack, model, zeros, seed=seed).found for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    narrow = trial(attack, model, zeros, batch=5).found
    assert torch.equal(first.images, narrow.images)
    assert torch.equal(first.queries, narrow.queries)


def test_a_targeted_witness_is_of_the_target_for_the_model_and_of_the_class_for_the_generator(trial):
    zeros, last = torch.zeros(COUNT, dtype=torch.int64), torch.full((COUNT,), 2)
    attack = made(lambda1=0, steps=60)
    assert sum(trial(attack, looks_at(0, 0.6), zeros, targets=last).broken) > COUNT // 2
    assert not any(trial(attack, looks_at(0, 0.6), zeros, targets=last - 1).broken)  # the model never says 1


def test_noise_is_bounded_and_reaches_what_the_generator_cannot(trial):
    zeros = torch.zeros(COUNT, dtype=torch.int64)
    model = looks_at(3, 0.6)  # that pixel is 1/2 in every image of the generator
    assert not any(trial(made(steps=60), model, zeros).broken)
    assert not any(trial(made(steps=60, noise=0.09), model, zeros).broken)
    done = trial(made(steps=60, noise=0.2), model, zeros)
    assert sum(done.broken) > COUNT // 2
    changed = (as_images(done.found.images[done.found.found]).flatten(1)[:, 2:] - 0.5).abs()
    assert 0.1 < float(changed.max()) <= 0.2 + 1 / 255


@pytest.mark.parametrize(
    "change", [{"steps": 7}, {"step_size": 0.2}, {"eps": 0.3}, {"lambda1": 3.0}, {"lambda2": 3.0}, {"noise": 0.1}]
)
def test_every_parameter_has_an_effect(trial, change):
    def course(**params):
        done = trial(made(**{"lambda1": 1.0, "lambda2": 1.0, **params}), looks_at(0, 2.0), grid=Grid.NONE)
        return torch.cat([rows for rows, _ in done.asked])

    assert not torch.equal(course(), course(**change))


def samples(shape=(1, 2, 2), highest=2):
    return [Samples(torch.zeros(2, *shape), torch.tensor([0, least]), ("a", "b")) for least in (0, highest)]


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        (samples(shape=(1, 3, 2)), ["another shape", "(1, 3, 2)", "(1, 2, 2)", "charpy train"]),
        (samples(shape=(3, 2, 2)), ["another shape", "(3, 2, 2)"]),
        (samples(highest=3), ["label 3", "below 3"]),
    ],
)
def test_images_that_the_generator_does_not_make_are_refused(pieces, words):
    with pytest.raises(DataError) as refused:
        made().prepare(Norm.UNRESTRICTED, Goal.UNTARGETED, iter(pieces))
    for word in words:
        assert word in str(refused.value)
    made().prepare(Norm.UNRESTRICTED, Goal.UNTARGETED, iter(samples()))


MODULE = """
import torch

class Small(torch.nn.Module):
    latent_size, num_classes, image_shape = 3, 2, (1, 2, 2)

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(3, 4))

    def generate(self, latent, labels):
        return (latent @ self.weight + labels[:, None]).sigmoid().view(-1, 1, 2, 2)

    def classify(self, images):
        return torch.zeros(len(images), 2) + images.mean() * 0

small = Small()
changed = Small()
changed.weight.data *= 2

class Flat(Small):
    def generate(self, latent, labels):
        return latent

class Loud(Small):
    def generate(self, latent, labels):
        return 3 * super().generate(latent, labels)

class Half(Small):
    latent_size = None
    classify = None
    def __init__(self):
        super().__init__()

class Blind(torch.nn.Module):
    def generate(self, latent, labels):
        return latent
"""


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A module of somebody's with generators, importable in the working directory."""
    name = f"stranger_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    return name


def opened(reference: str) -> Acgan:
    return registry().create("attacks", "acgan", {"generator": reference})


def test_a_strangers_module_is_a_generator_and_part_of_the_identity(stranger):
    small, factory, changed = (opened(f"{stranger}:{name}").fingerprint() for name in ("small", "Small", "changed"))
    assert small == factory
    assert small.keys() == {"generator.weights", "generator.source", "generator.torch"}
    assert small["generator.weights"] != changed["generator.weights"]


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        ("Flat", ModelError, ["one image for each", "(2, 1, 2, 2)"]),
        ("Loud", ModelError, ["leave the box", "sigmoid"]),
        ("Blind", ModelError, ["no generator", "latent_size", "classify"]),
        ("torch", ModelError, ["no torch module"]),
        ("Smal", UnknownNameError, ["Small"]),
    ],
)
def test_what_is_no_generator_is_refused_by_name(stranger, name, error, words):
    with pytest.raises(error) as refused:
        opened(f"{stranger}:{name}").generator.generate(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64))
    for word in words:
        assert word in str(refused.value)


def test_a_strangers_kind_and_its_references_are_found():
    class Reading(Toy):
        @classmethod
        def accepts(cls, reference):
            return {} if reference == "a toy" else None

    found = Registry([])
    found.add(SimpleNamespace(charpy_generators=lambda: {"toy": Toy, "reading": Reading}), "stranger")
    assert type(open_generator("toy", found)) is Toy
    assert type(open_generator("a toy", found)) is Reading
    with pytest.raises(UnknownNameError, match="did you mean toy"):
        open_generator("tyo", found)


def test_an_unknown_generator_is_refused_with_what_could_be_given():
    with pytest.raises(UnknownNameError, match=r"package\.module:object"):
        opened("mnist-acgann").fingerprint()


def test_a_run_breaks_judges_and_keeps_the_generator_in_its_identity(stranger, tmp_path):
    """The auxiliary classifier of `small` calls everything 0: samples of class 0 alone can be broken."""

    def run(name: str, images: torch.Tensor) -> RunFile:
        """One run of four samples, whose bright ones are of class 1."""
        threat = {
            "norm": "unrestricted",
            "battery": [{"kind": "acgan", "params": {"generator": f"{stranger}:{name}", "lambda1": 0}}],
            "queries": 50,
        }
        spec = parse(RunSpec, {"data": {"kind": "arrays"}, "models": [{"reference": "it"}], "threats": [threat]})
        weight = torch.stack([torch.zeros(images.shape[1:]), torch.ones(images.shape[1:])])
        subject = Subject("it", "test", lambda: LinearClassifier(weight, torch.tensor([0.0, -2.2])))
        data = ArrayDataset(images, [0, 0, 1, 1])
        evaluate(spec, tmp_path / f"{name}.charpy", subjects=[subject], dataset=data, registry=registry())
        return RunFile.open(tmp_path / f"{name}.charpy")

    images = torch.tensor([0.0, 0.1, 0.9, 1.0])[:, None, None, None].expand(4, 1, 2, 2).mul(255).byte()
    small, changed = (run(name, images).identity for name in ("small", "changed"))
    (key,) = (key for key in small if key.endswith("generator.weights"))
    assert small[key] != changed[key]
    with pytest.raises(DataError, match="another shape"):
        run("Small", images.repeat(1, 3, 1, 1))
    assert not (tmp_path / "Small.charpy").exists()
