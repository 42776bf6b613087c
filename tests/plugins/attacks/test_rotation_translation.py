"""Rotations and translations: brute force over the same ones, the budget, the bounds, and the descent."""

from __future__ import annotations

import itertools

import pytest
import torch

from charpy.interfaces.model import Output
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy.warp import affine
from charpy_plugins.attacks.unrestricted.rotation_translation import RotationTranslation
from charpy_plugins.attacks.unrestricted.rotation_translation_gradient import RotationTranslationGradient

SHAPE = (3, 8, 12)
GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.rand(12, *SHAPE, generator=GENERATOR).mul(255).round().div(255)
ANYWHERE = {"norm": Norm.L2, "radius": 18.0}
SMALL = {"rotations": 5, "translations": 3}


def classifier(shape=SHAPE, output=Output.LOGITS):
    weight = torch.randn(4, *shape, generator=torch.Generator().manual_seed(6))
    return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1), output)


def smooth(count=6, shape=(1, 8, 8)):
    """Blots on black, whose scores turn smoothly with them."""
    rows, columns = (torch.arange(size) for size in shape[1:])
    centre = 2 + 4 * torch.rand(count, 2, generator=torch.Generator().manual_seed(8))
    squared = (rows[:, None] - centre[:, :1, None]) ** 2 + (columns - centre[:, 1:, None]) ** 2
    return torch.exp(-squared[:, None] / 6).expand(count, *shape).clone()


@pytest.mark.parametrize("grid", Grid)
def test_the_grid_finds_what_brute_force_finds_and_the_nearest_of_it(grid, attack_with):
    model, rotation, translation = classifier(), 40.0, 0.125
    trial = attack_with(
        RotationTranslation(RotationTranslation.Params(rotation=rotation, translation=translation, **SMALL)),
        model, IMAGES, grid=grid, **ANYWHERE,
    )  # fmt: skip
    labels, nearest = model.predict(IMAGES).argmax(1), torch.full((len(IMAGES),), torch.inf)
    for angle, down, right in itertools.product((-40, -20, 0, 20, 40), (-1, 0, 1), (-1.5, 0, 1.5)):
        moved = affine(IMAGES, torch.full((12,), float(angle)), torch.tensor([[down, right]]).repeat(12, 1))
        moved = moved.mul(255).round().div(255) if grid is Grid.EIGHT_BIT else moved
        wrong = model.predict(moved).argmax(1) != labels
        distance = (moved - IMAGES).flatten(1).norm(dim=1)
        nearest = torch.where(wrong & (distance < nearest), distance, nearest)
    assert sum(trial.broken) > 0
    assert trial.broken == nearest.isfinite().tolist()
    images = trial.found.images / 255 if grid is Grid.EIGHT_BIT else trial.found.images
    found = (images - IMAGES).flatten(1).norm(dim=1)[trial.found.found]
    assert torch.allclose(found, nearest[trial.found.found], atol=1e-5)
    assert trial.found.queries.tolist() == [45] * 12


def test_the_papers_grid_has_775_transformations_and_the_budget_takes_a_part_of_them(attack_with):
    for queries, spent in ((1000, 775), (100, 100)):
        trial = attack_with(RotationTranslation(), classifier(), IMAGES[:2], queries=queries, **ANYWHERE)
        assert trial.found.queries.tolist() == [spent] * 2


def test_worst_of_draws_as_many_as_it_says_inside_the_bounds(attack_with):
    asked = []

    class Watched(LinearClassifier):
        def predict(self, images):
            asked.append(images)
            return super().predict(images)

    point = torch.zeros(1, 1, 17, 17)
    point[..., 8, 14] = 1  # 6 pixels to the right of the middle
    params = RotationTranslation.Params(search="worst_of", draws=40, rotation=30, translation=2 / 17)
    trial = attack_with(
        RotationTranslation(params), Watched(torch.zeros(2, 1, 17, 17)), point, labels=torch.zeros(1).long(),
        norm=Norm.L2, radius=18.0, grid=Grid.NONE,
    )  # fmt: skip
    assert trial.found.queries.tolist() == [40]
    seen = torch.cat(asked)[:, 0]
    mass = seen.flatten(1).sum(1)
    down = (seen.sum(2) * torch.arange(17)).sum(1) / mass - 8
    right = (seen.sum(1) * torch.arange(17)).sum(1) / mass - 8
    assert len({round(float(value), 4) for value in down}) == 40
    assert float(down.abs().max()) <= 6 * 0.5 + 2 + 0.05  # 6 sin 30 up or down, and the shift
    assert float(right.max()) <= 6 + 2 + 0.05
    assert float(right.min()) >= 6 * 0.866 - 2 - 0.05
    assert float(down.abs().max()) > 2
    assert float(right.max()) > 6


def test_labels_are_enough(attack_with):
    asked = [
        attack_with(
            RotationTranslation(RotationTranslation.Params(**SMALL)), classifier(output=output), IMAGES, **ANYWHERE
        )
        for output in (Output.LABELS, Output.LOGITS)
    ]
    assert sum(asked[0].broken) > 0
    assert torch.equal(asked[0].found.images, asked[1].found.images)


@pytest.mark.parametrize("kind", [RotationTranslation, RotationTranslationGradient])
def test_what_may_not_move_is_itself(kind, attack_with):
    """At no bounds nothing is found, even where every other image is misclassified."""

    class Anything(LinearClassifier):
        def predict(self, images):
            moved = (images - IMAGES[:1]).flatten(1).abs().amax(1) > 1e-5
            return super().predict(images) * 0 + torch.stack([~moved, moved], 1)

    few = SMALL if kind is RotationTranslation else {"steps": 5}
    still, free = (
        attack_with(
            kind(kind.Params(rotation=rotation, translation=0, **few)), Anything(torch.zeros(2, *SHAPE)), IMAGES[:1],
            grid=Grid.NONE, **ANYWHERE,
        )
        for rotation in (0, 20)
    )  # fmt: skip
    assert still.broken == [False]
    assert free.broken == [True]


@pytest.mark.parametrize(
    ("kind", "changed"),
    [
        (RotationTranslation, {"search": "worst_of"}),
        (RotationTranslation, {"rotation": 5}),
        (RotationTranslation, {"translation": 0.01}),
        (RotationTranslation, {"rotations": 2}),
        (RotationTranslation, {"translations": 2}),
        (RotationTranslation, {"outside": "border"}),
        (RotationTranslationGradient, {"rotation": 5}),
        (RotationTranslationGradient, {"translation": 0.01}),
        (RotationTranslationGradient, {"steps": 3}),
        (RotationTranslationGradient, {"step": 0.1}),
        (RotationTranslationGradient, {"restarts": 3}),
        (RotationTranslationGradient, {"outside": "border"}),
    ],
)
def test_every_parameter_changes_the_result(kind, changed, attack_with):
    base = SMALL if kind is RotationTranslation else {"steps": 20}
    usual, other = (
        attack_with(kind(kind.Params(**{**base, **given})), classifier(), IMAGES, **ANYWHERE).found
        for given in ({}, changed)
    )
    assert not torch.equal(usual.images, other.images)


@pytest.mark.parametrize("kind", [RotationTranslation, RotationTranslationGradient])
def test_the_seed_decides(kind, attack_with):
    params = {"search": "worst_of"} if kind is RotationTranslation else {"steps": 10}
    first, same, other = (
        attack_with(kind(kind.Params(**params)), classifier(), IMAGES, seed=seed, **ANYWHERE).found.images
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_the_descent_lowers_the_margin_of_what_it_began_with(attack_with):
    images, model = smooth(), classifier((1, 8, 8))
    labels = model.predict(images).argmax(1)
    params = RotationTranslationGradient.Params(steps=30, step=0.02)
    free = {"grid": Grid.NONE, "norm": Norm.L2, "radius": 18.0}
    trial = attack_with(RotationTranslationGradient(params), model, images, labels=labels, **free)
    course = trial.course.flatten(0, 1)
    scores = model.predict(course)
    odds = scores.gather(1, labels.repeat(30)[:, None])[:, 0]
    odds = (odds - scores.scatter(1, labels.repeat(30)[:, None], -torch.inf).logsumexp(1)).view(30, -1)
    assert bool((odds[-5:].amin(0) < odds[0] - 0.1).sum() >= 5)
    assert trial.found.queries.tolist() == [30] * len(images)


def test_the_gradient_reaches_what_the_grid_reaches_of_smooth_scores(attack_with):
    images, model = smooth(10), classifier((1, 8, 8))
    free = {"grid": Grid.NONE, "norm": Norm.L2, "radius": 18.0, "queries": 300}
    bounds = {"rotation": 60, "translation": 0.3}
    grid = attack_with(RotationTranslation(RotationTranslation.Params(**bounds)), model, images, **free).broken
    params = RotationTranslationGradient.Params(restarts=3, steps=50, step=0.03, **bounds)
    descent = attack_with(RotationTranslationGradient(params), model, images, **free).broken
    assert sum(grid) >= 5
    assert sum(descent) >= sum(grid) - 1


def test_restarts_and_steps_count(attack_with):
    params = RotationTranslationGradient.Params(steps=7, restarts=3)
    trial = attack_with(RotationTranslationGradient(params), classifier(), IMAGES, **ANYWHERE)
    assert trial.found.queries.tolist() == [21] * 12
