"""PGD in embedding space: its projection against closed forms, what it asks about, and what its parameters do."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from scipy.optimize import brentq, minimize
from torch import nn

from charpy.errors import CharpyError
from charpy.evaluator import evaluate
from charpy.geometry import project
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import AttackSpec, DataSpec, ModelSpec, RunSpec, ThreatSpec
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.unrestricted.embedding_pgd import Ball, EmbeddingPgd

SIZE = 12
SCALES = torch.linspace(0.5, 2.0, SIZE)
TOLERANCE = 1e-5
"""How far float32 sums of another batch may take a distance beyond the radius."""


def linear() -> nn.Module:
    return nn.Sequential(OrderedDict(flat=nn.Flatten(), embedding=nn.Linear(SIZE, SIZE, bias=False)))


class Steps(nn.Module):
    """An embedding that jumps, and whose gradient is 0 everywhere."""

    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.tensor(10.0))
        self.embedding = nn.Identity()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.embedding(self.height * (0 * images + (images > 0.5).float()).flatten(1))


def saved(path: Path, module: nn.Module, architecture: str) -> str:
    safetensors.torch.save_file(module.state_dict(), path)
    return f"{path}@{__name__}:{architecture}"


@pytest.fixture
def scaled(tmp_path: Path):
    """`scaled(scales)`: the reference of an embedding that multiplies each value."""

    def make(scales: torch.Tensor) -> str:
        module = linear()
        with torch.no_grad():
            module.embedding.weight.copy_(scales.diag())
        return saved(tmp_path / "linear.safetensors", module, "linear")

    return make


def images(count: int = 6, seed: int = 0) -> torch.Tensor:
    draws = torch.rand(count, 1, 3, 4, generator=torch.Generator().manual_seed(seed))
    return draws.mul(255).round() / 255


def classifier() -> LinearClassifier:
    weight = torch.randn(4, 1, 3, 4, generator=torch.Generator().manual_seed(3))
    return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))


def made(**params) -> EmbeddingPgd:
    return EmbeddingPgd(EmbeddingPgd.Params(**params))


@pytest.fixture
def against(attack_with):
    """A trial of the attack, with the images that it asked about: `(calls, N, C, H, W)`."""

    def run(attack, model=None, given=None, **fields):
        model, given = model or classifier(), images() if given is None else given
        return attack_with(attack, model, given, norm=Norm.UNRESTRICTED, radius=1.0, **{"queries": 50, **fields})

    return run


def ball(embed, base: torch.Tensor, radius: float) -> Ball:
    return Ball(embed, base, radius, 4)


@pytest.mark.parametrize("radius", [0.05, 0.4, 1.0])
def test_in_the_image_itself_it_is_the_projection_onto_the_l2_ball_inside_the_box(radius):
    base = images(20)
    asked = base + 0.7 * torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    found = ball(lambda x: x.flatten(1), base, radius).project(asked, torch.arange(20), 60)
    torch.testing.assert_close(found, project(Norm.L2, base, asked.clamp(0, 1), radius), atol=1e-4, rtol=0)


def test_in_a_scaled_image_it_is_the_projection_onto_an_ellipsoid():
    """The nearest z with |S z| = r to d is d / (1 + m s^2), with the m that |S z| = r wants."""
    base = torch.full((8, 1, 3, 4), 0.5)
    delta = 0.1 * torch.randn(base.shape, generator=torch.Generator().manual_seed(2))
    s, radius = SCALES.double().numpy(), 0.3
    found = ball(lambda x: x.flatten(1) * SCALES, base, radius).project(base + delta, torch.arange(8), 60)
    outside = 0
    for d, x in zip(delta.flatten(1).double().numpy(), (found - base).flatten(1).numpy(), strict=True):
        expected = d
        if np.linalg.norm(s * d) > radius:
            m = brentq(lambda m, d=d: np.linalg.norm(s * d / (1 + m * s**2)) - radius, 0, 1e3, xtol=1e-12)
            expected, outside = d / (1 + m * s**2), outside + 1
        np.testing.assert_allclose(x, expected, atol=1e-4)
    assert outside > 4


def test_where_the_box_matters_it_is_what_a_general_solver_finds():
    generator = torch.Generator().manual_seed(4)
    mix = torch.randn(SIZE, SIZE, generator=generator)
    base = torch.where(torch.rand(4, 1, 3, 4, generator=generator) < 0.5, 0.0, 0.6)
    asked = (base + 0.3 * torch.randn(base.shape, generator=generator)).clamp(0, 1)
    found = ball(lambda x: x.flatten(1) @ mix, base, 0.5).project(asked, torch.arange(4), 300)
    assert bool(((found == 0) & (asked > 0)).any())
    m = mix.double().numpy()
    for b, z, x in zip(*(part.flatten(1).double().numpy() for part in (base, asked, found)), strict=True):
        inside = {"type": "ineq", "fun": lambda u, b=b: 0.25 - ((u - b) @ m) @ ((u - b) @ m)}
        solved = minimize(
            lambda u, z=z: 0.5 * (u - z) @ (u - z),
            b,
            bounds=[(0, 1)] * SIZE,
            constraints=inside,
            options={"ftol": 1e-12},
        )
        np.testing.assert_allclose(x, solved.x, atol=2e-4)


def test_what_is_inside_stays_to_the_bit():
    base = images(5)
    inside = (base + 0.01).clamp(0, 1)
    assert torch.equal(ball(lambda x: x.flatten(1), base, 1.0).project(inside, torch.arange(5), 5), inside)


def test_settled_images_lie_on_the_grid_and_inside_and_give_back_little():
    base, rows, radius = images(30), torch.arange(30), 0.2
    there = ball(lambda x: x.flatten(1) * SCALES, base, radius)
    asked = base + 0.1 * torch.randn(base.shape, generator=torch.Generator().manual_seed(1))
    x = there.project(asked, rows, 200)
    found = there.settle(x, rows, Grid.EIGHT_BIT)
    levels = found.shown * 255
    assert float((levels - levels.round()).abs().max()) < 1e-4
    assert bool((found.distance <= radius).all())
    torch.testing.assert_close(found.distance, there.distance(found.shown, rows))
    assert float(found.distance.median()) > 0.95 * radius
    assert 0 < float(found.residual.max()) < 2 * SIZE**0.5 / 255  # half a step in every value, doubled by the scales
    real = there.settle(x, rows, Grid.NONE)
    assert torch.equal(real.x, real.shown)
    assert float(real.residual.max()) < 1e-4


@pytest.mark.parametrize("radius", [0.01, 0.5])
def test_every_image_asked_about_is_inside_and_so_are_the_witnesses(scaled, against, radius):
    given = images()
    trial = against(made(model=scaled(SCALES), radius=radius, start=0.5, step=0.5), given=given, queries=30)
    for asked, owner in trial.asked:
        distance = ((asked - given[owner]).flatten(1) * SCALES).norm(dim=1)
        assert bool((distance <= radius + TOLERANCE).all())
    found = trial.found.found
    gap = (trial.found.images.float() / 255 - given).flatten(1) * SCALES
    assert bool((gap[found].norm(dim=1) <= radius + TOLERANCE).all())
    assert bool(found.any()) == (radius == 0.5)


def test_breaks_what_lies_just_inside_the_optimum_and_nothing_further(scaled, against):
    """With S the identity the ball is that of L2, and the smallest distance of a linear classifier is known."""
    model, given = classifier(), images()
    labels = model.predict(given).argmax(1)
    optimum = model.smallest(Norm.L2, given, labels)
    for row in range(len(given)):
        for factor, expected in ((0.97, False), (1.25, True)):
            attack = made(model=scaled(torch.ones(SIZE)), radius=float(optimum[row]) * factor, step=0.1)
            trial = against(attack, model, given[row : row + 1], grid=Grid.NONE)
            assert trial.broken == [expected]


def test_where_the_embedding_jumps_the_model_is_asked_about_nothing_outside(tmp_path, against):
    reference = saved(tmp_path / "steps.safetensors", Steps(), "Steps")
    given = images()
    trial = against(made(model=reference, radius=1.0, step=2.0, start=1.0), given=given)
    for asked, owner in trial.asked:
        assert torch.equal(asked > 0.5, given[owner] > 0.5)  # one value across is a distance of 10


def test_a_target_is_reached(scaled, against):
    model, given = classifier(), images()
    targets = (model.predict(given).argmax(1) + 1) % 4
    trial = against(made(model=scaled(0.01 * SCALES), radius=1.0), model, given, targets=targets)
    assert all(trial.broken)
    assert torch.equal(model.predict(trial.found.images.float() / 255).argmax(1), targets)


@pytest.mark.parametrize(("steps", "restarts"), [(1, 1), (5, 1), (5, 3)])
def test_steps_and_restarts_cost_what_they_say(scaled, against, steps, restarts):
    trial = against(made(model=scaled(SCALES), radius=0.01, steps=steps, restarts=restarts))
    assert trial.found.queries.tolist() == [(steps + 1) * restarts] * 6
    assert trial.rows == 6 * (steps + 1) * restarts


@pytest.mark.parametrize("queries", [1, 2, 7])
def test_spends_no_row_beyond_the_budget(scaled, against, queries):
    trial = against(made(model=scaled(SCALES), radius=0.01), queries=queries)
    assert trial.found.queries.tolist() == [queries] * 6


@pytest.mark.parametrize(
    "changed",
    [{"radius": 0.2}, {"step": 0.5}, {"start": 0.1}, {"rounds": 1}, {"loss": "margin"}, {"restarts": 2}, {"steps": 6}],
)
def test_every_parameter_has_an_effect(scaled, against, changed):
    params = {"model": scaled(SCALES), "radius": 0.1, "steps": 5, "step": 0.2, "start": 0.3, "rounds": 3}
    plain, other = (against(made(**{**params, **more})).asked for more in ({}, changed))
    same = len(plain) == len(other) and all(torch.equal(a, b) for (a, _), (b, _) in zip(plain, other, strict=True))
    assert not same


def test_the_layer_is_the_one_that_is_named(scaled, against):
    """In what is fed to the scaling the ball is that of L2; scaled a hundred times it is that much smaller."""
    reference, given = scaled(torch.full((SIZE,), 100.0)), images()
    moved = []
    for layer in ("embedding", "flat"):
        trial = against(made(model=reference, layer=layer, radius=0.5, step=1.0), given=given, grid=Grid.NONE)
        moved.append(max(float((x - given[owner]).flatten(1).norm(dim=1).max()) for x, owner in trial.asked))
    assert moved[0] == pytest.approx(0.005, rel=0.01)
    assert moved[1] == pytest.approx(0.5, rel=0.01)


def test_same_seed_same_bits_other_seed_other_images(scaled, against):
    attack = made(model=scaled(SCALES), radius=0.1)
    first, again, other = (against(attack, seed=seed).asked for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(first, again, strict=True))
    assert not torch.equal(first[0][0], other[0][0])


def test_a_sample_does_not_depend_on_the_others(scaled, against):
    names, keep = tuple("abcdef"), [4, 1]
    attack = made(model=scaled(SCALES), radius=0.3)
    whole = against(attack, ids=names).found
    part = against(attack, given=images()[keep], ids=tuple(names[i] for i in keep), batch=1).found
    assert part.queries.tolist() == whole.queries[keep].tolist()
    assert torch.equal(part.images, whole.images[keep])


@pytest.mark.parametrize("scale", [0.0, 1e-4, 1e3, 1e30])
def test_flat_and_steep_models_break_nothing_in_the_attack(scaled, against, scale):
    plain = classifier()
    model = LinearClassifier(scale * plain.weight, scale * plain.bias)
    labels = plain.predict(images()).argmax(1) if scale else torch.zeros(6, dtype=torch.int64)
    trial = against(made(model=scaled(SCALES), radius=1.0, steps=10), model, labels=labels)
    assert not bool(trial.found.invalid.any())
    assert trial.broken == [scale > 0] * 6


def test_without_samples_there_is_nothing_to_do(scaled, against):
    assert against(made(model=scaled(SCALES)), given=images()[:0]).rows == 0


def run_spec(samples: int = 12, **params) -> RunSpec:
    attack = AttackSpec(kind="embedding_pgd", params={"model": "digits-embedding", **params})
    return RunSpec(
        data=DataSpec(kind="digits", samples=samples),
        models=(ModelSpec(reference="digits-cnn"),),
        threats=(ThreatSpec(norm=Norm.UNRESTRICTED, battery=(attack,), queries=50),),
        metrics=({"kind": "embedding", "params": {"model": "digits-embedding"}},),
    )


def test_a_run_has_witnesses_inside_by_the_metric_and_notes_of_the_projections(tmp_path):
    evaluate(run_spec(radius=0.6, steps=20), tmp_path / "run")
    with RunFile.open(tmp_path / "run") as run:
        units, witnesses = list(run.units(0)), list(run.witnesses(0))
    assert len(witnesses) > 3
    assert all(0 < witness.metrics["embedding"] <= 0.6 + TOLERANCE for witness in witnesses)
    notes = units[0]["detail"]["notes"]
    assert notes["projections"] >= 12
    assert 0 < notes["largest distance"] <= 0.6
    assert 0 <= notes["missed"] <= 1
    assert 0 <= notes["mean residual"] <= notes["largest residual"]


def test_images_of_another_shape_are_refused_before_the_run(tmp_path):
    with pytest.raises(CharpyError, match=r"mnist-embedding[\s\S]*\(1, 8, 8\)"):
        evaluate(run_spec(model="mnist-embedding"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_network_is_in_the_fingerprint(scaled):
    first = made(model=scaled(SCALES)).fingerprint()
    assert first == made(model=scaled(SCALES)).fingerprint()
    assert first != made(model=scaled(2 * SCALES)).fingerprint()
    assert registry().find("attacks", "embedding_pgd").package == "charpy"
