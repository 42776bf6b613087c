"""Every parameter of every attack that sees labels only changes what it does."""

from __future__ import annotations

import pytest
import torch

from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Grid, Norm

EFFECTS = [
    # kind, norm, parameter, another value, what else is set
    ("boundary", Norm.L2, "steps", 20, {}),
    ("boundary", Norm.L2, "spherical_step", 0.2, {}),
    ("boundary", Norm.L2, "source_step", 0.2, {}),
    ("boundary", Norm.L2, "convergence", 0.005, {}),
    ("boundary", Norm.L2, "step_adaptation", 3.0, {}),
    ("boundary", Norm.L2, "check_every", 3, {}),
    ("hopskipjump", Norm.L2, "steps", 1, {}),
    ("hopskipjump", Norm.L2, "initial_evaluations", 10, {}),
    ("hopskipjump", Norm.L2, "max_evaluations", 20, {}),
    ("hopskipjump", Norm.L2, "gamma", 30.0, {}),
    ("hopskipjump", Norm.LINF, "gamma", 30.0, {"grid_noise": 0.0}),
    ("hopskipjump", Norm.L2, "grid_noise", 3.0, {}),
    ("hopskipjump", Norm.LINF, "grid_noise", 3.0, {}),
    ("rays", Norm.LINF, "dither", 2, {}),
    ("rays", Norm.LINF, "restart_level", 0, {}),
    ("rays", Norm.LINF, "restarts", 0, {}),
    ("pointwise", Norm.L0, "restarts", 1, {}),
    ("pointwise", Norm.L0, "initial_share", 0.5, {}),
    ("pointwise", Norm.L0, "largest_group", 1, {}),
    ("sparse_eda", Norm.L0, "population", 4, {}),
    ("sparse_eda", Norm.L0, "learning_rate", 1.0, {}),
    ("sparse_eda", Norm.L0, "success_rate", 0.2, {}),
    ("sparse_eda", Norm.L0, "size_rate", 1.0, {}),
    ("sparse_eda", Norm.L0, "initial_share", 0.9, {}),
    ("sparse_eda", Norm.L0, "contrast", 0.0, {}),
    ("sparse_eda", Norm.L0, "patience", 50, {}),
    ("sparse_eda", Norm.L0, "heat", 0.0, {"patience": 50}),
]
KINDS = sorted({kind for kind, *_ in EFFECTS})
COUNT = 3


class Watched(LinearClassifier):
    """Remembers every image that it was asked about."""

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        self.asked = [*getattr(self, "asked", []), images.clone()]
        return super().predict(images)


def problem():
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(3, 3, 4, 4, generator=generator)
    model = Watched(weight, -0.5 * weight.flatten(1).sum(1), Output.LABELS)
    noise = torch.randn(COUNT, 3, 4, 4, generator=generator) * 0.1
    images = (0.5 + noise + 0.1 * weight[torch.arange(COUNT)]).clamp(0.1, 0.9).mul(255).round().div(255)
    return model, images


def trial(attack_with, kind, norm, params, **fields):
    model, images = problem()
    attack = registry().create("attacks", kind, params)
    radius = {Norm.L0: 16.0, Norm.LINF: 1.0, Norm.L2: 48**0.5}[norm]
    run = attack_with(attack, model, images, **{"norm": norm, "radius": radius, "queries": 300, **fields})
    return run.found, torch.cat(model.asked)


@pytest.mark.parametrize(("kind", "norm", "name", "value", "rest"), EFFECTS, ids=lambda value: str(value)[:20])
def test_changes_what_is_asked(kind, norm, name, value, rest, attack_with):
    _, usual = trial(attack_with, kind, norm, rest)
    _, other = trial(attack_with, kind, norm, {**rest, name: value})
    assert usual.shape != other.shape or not torch.equal(usual, other)


def test_the_tolerance_of_rays_is_its_accuracy_off_the_grid(attack_with):
    fine, _ = trial(attack_with, "rays", Norm.LINF, {}, grid=Grid.NONE)
    coarse, _ = trial(attack_with, "rays", Norm.LINF, {"tolerance": 0.5}, grid=Grid.NONE)
    _, images = problem()
    size = [(found.images - images).flatten(1).abs().amax(1) for found in (fine, coarse)]
    assert bool((size[0] < size[1]).all())


@pytest.mark.parametrize("kind", ["boundary", "hopskipjump", "rays", "sparse_eda"])
def test_no_more_starting_points_than_tries(kind, attack_with):
    """No image of class 1 exists: the walks ask their tries and end; the two that need no start go on."""
    model, images = problem()
    model.bias[1] = -1e6
    attack = registry().create("attacks", kind, {"tries": 7})
    norm = next(iter(sorted(attack.norms)))
    labels = model.predict(images)
    fields = {"radius": 5.0, "targets": torch.ones_like(labels), "labels": labels, "queries": 40}
    spent = attack_with(attack, model, images, norm=norm, **fields).found.queries.tolist()
    assert spent == [40 if kind in ("rays", "sparse_eda") else 7] * COUNT


@pytest.mark.parametrize(("kind", "norm"), [("rays", Norm.LINF), ("sparse_eda", Norm.L0)])
def test_with_more_tries_another_start_is_found(kind, norm, attack_with):
    model, images = problem()
    fields = {"queries": 100, "targets": (model.predict(images) + 1) % 3}
    asked = [trial(attack_with, kind, norm, {"tries": tries}, **fields)[1] for tries in (1, 30)]
    assert asked[0].shape != asked[1].shape or not torch.equal(*asked)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_in_the_table(kind):
    tested = {name for other, _, name, *_ in EFFECTS if other == kind}
    assert set(registry().load("attacks", kind).Params.model_fields) - tested <= {"tries", "tolerance"}


@pytest.mark.parametrize(("kind", "norm"), sorted({(kind, norm) for kind, norm, *_ in EFFECTS}))
def test_labels_are_enough_and_the_seed_decides(kind, norm, attack_with):
    assert registry().load("attacks", kind).access is Access.LABELS
    (found, first), (_, again), (_, other) = (trial(attack_with, kind, norm, {}, seed=seed) for seed in (0, 0, 1))
    assert bool(found.found.all())
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)
