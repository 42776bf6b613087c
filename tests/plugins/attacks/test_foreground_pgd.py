"""PGD in the foreground: it leaves the background as it is, keeps the strokes, and finds what is there."""

from __future__ import annotations

import pytest
import torch

from charpy.foreground import ForegroundParams, unseen_box
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm


def made(**params):
    return registry().create("attacks", "foreground_pgd", params)


def pictures() -> torch.Tensor:
    """A stroke of two rows on black, its soft edge, and empty rows above and below."""
    images = torch.zeros(4, 1, 8, 8)
    images[:, :, 3:5] = 0.8
    images[:, :, 5] = 0.2
    images[1, 0, 3, 4] = 0.6
    return images.mul(255).round().div(255)


def problem() -> tuple[LinearClassifier, torch.Tensor, torch.Tensor]:
    weight = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    model = LinearClassifier(weight, torch.zeros(3))
    images = pictures()
    return model, images, model.predict(images).argmax(1)


@pytest.mark.parametrize("grid", list(Grid))
def test_no_image_that_it_tries_raises_the_score(grid, attack_with):
    model, images, labels = problem()
    detector = registry().create("defenses", "background_change")
    before = detector.flag(None, images)
    far = LinearClassifier(model.weight, torch.tensor([0.0, 0, 0]).index_fill(0, labels[:1], 99.0))
    labels = far.predict(images).argmax(1)
    trial = attack_with(made(), far, images, norm=Norm.LINF, radius=0.3, labels=labels, grid=grid)
    assert len(trial.asked) == 40
    moved = 0.0
    for rows, owner in trial.asked:
        assert bool((detector.flag(None, rows) <= before[owner]).all())
        assert float((rows - images[owner]).abs().max()) <= 0.3 + 1e-6
        assert torch.equal(rows[:, :, :2], images[owner, :, :2])
        assert torch.equal(rows[:, :, 6:], images[owner, :, 6:])
        assert float(rows[:, :, 3:5].min()) >= 0.5
        moved = max(moved, float((rows - images[owner]).abs().max()))
    assert moved > 0.29


def test_it_ends_in_the_corner_of_the_box_where_a_linear_model_is_weakest(attack_with):
    """Two classes: the worst point of a box is a corner, by the sign of the weights."""
    direction = torch.randn(1, 8, 8, generator=torch.Generator().manual_seed(6))
    images = pictures()
    box = unseen_box(images, 0.2, ForegroundParams())
    worst = torch.where(direction > 0, box.low, box.high)
    margins = [(part * direction).flatten(1).sum(1) for part in (images, worst)]
    for gap, broken in ((0.01, True), (-0.01, False)):
        bias = -float(margins[1].max()) - gap
        model = LinearClassifier(torch.stack([direction, 0 * direction]), torch.tensor([bias, 0.0]))
        keep = (margins[0] + bias > 0).nonzero()[:, 0]
        keep = keep[margins[1][keep] == margins[1].max()][:1]
        assert len(keep) == 1
        trial = attack_with(
            made(), model, images[keep], norm=Norm.LINF, radius=0.2, labels=torch.zeros(1, dtype=torch.int64),
            grid=Grid.NONE,
        )  # fmt: skip
        assert trial.broken == [broken]


@pytest.mark.parametrize(
    ("params", "other"),
    [
        ({}, {"steps": 3}),
        ({}, {"step": 0.05}),
        ({}, {"restarts": 2}),
        ({}, {"reach": 0}),
        ({}, {"stroke": 0.1}),
        ({}, {"support": 8}),
        ({}, {"background": 0.8}),
    ],
)
def test_every_parameter_has_its_effect(params, other, attack_with):
    model, images, _ = problem()
    far = LinearClassifier(model.weight, torch.tensor([99.0, 0, 0]))
    labels = torch.zeros(4, dtype=torch.int64)
    courses = [
        attack_with(made(**chosen), far, images, norm=Norm.LINF, radius=0.2, labels=labels, grid=Grid.NONE).asked
        for chosen in (params, other)
    ]
    one, two = (torch.cat([rows for rows, _ in course]) for course in courses)
    assert one.shape != two.shape or not torch.equal(one, two)
