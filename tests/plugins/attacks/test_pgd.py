"""PGD: projected steps from random starts; every parameter has its effect."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.interfaces.model import Model, Output
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Grid, Norm
from charpy_plugins.attacks.distortion.pgd import Pgd

RADII = {Norm.LINF: 0.05, Norm.L2: 0.5, Norm.L1: 2.0}


class Watched(Model):
    """A linear model that keeps every image it was asked about."""

    num_classes, access, output, input_shape = 4, Access.GRADIENTS, Output.LOGITS, (3, 6, 6)

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(4)
        self.weight = torch.randn(108, 4, generator=generator) / 4
        self.bias = torch.tensor([9.0, 0.0, 0.0, 0.0])
        self.seen: list[torch.Tensor] = []
        self.rows = 0

    def predict(self, images):
        self.seen.append(images.detach().clone())
        self.rows += len(images)
        return images.flatten(1) @ self.weight + self.bias

    def fingerprint(self):
        return {}


def images(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(2))


def shown(attack, norm, attack_with, **rest):
    """The images that PGD shows a model that it cannot break, one call after the other."""
    model, given = Watched(), images()
    labels = torch.zeros(3, dtype=torch.int64)
    fields = {"radius": RADII[norm], "grid": Grid.NONE, "labels": labels, **rest}
    trial = attack_with(attack, model, given, norm=norm, **fields)
    assert not any(trial.broken)
    return given, model, trial


@pytest.mark.parametrize("norm", sorted(RADII))
def test_every_step_stays_in_the_ball_and_in_the_box_and_ends_on_the_sphere(norm, attack_with):
    given, model, _ = shown(Pgd(Pgd.Params(steps=30)), norm, attack_with)
    assert len(model.seen) == 31
    for asked in model.seen:
        assert bool((norm_of(norm, asked - given) <= RADII[norm] + 1e-6).all())
        assert bool(((asked >= 0) & (asked <= 1)).all())
    assert norm_of(norm, model.seen[-1] - given).tolist() == pytest.approx([RADII[norm]] * 3, rel=1e-4)


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_the_first_step_goes_its_length_down_the_gradient(norm, attack_with):
    """The loss is linear but for the softmax: it must fall in each of the first steps."""
    _, model, _ = shown(Pgd(Pgd.Params(steps=3, step=0.1)), norm, attack_with)
    step = norm_of(norm, model.seen[1] - model.seen[0])
    assert bool((step <= 0.1 * RADII[norm] * (1 + 1e-4)).all())
    margins = [(x.flatten(1) @ model.weight + model.bias).log_softmax(1)[:, 0] for x in model.seen]
    assert bool((margins[1] <= margins[0] + 1e-4).all())


@pytest.mark.parametrize("norm", sorted(RADII))
def test_steps_and_restarts_cost_what_they_say(norm, attack_with):
    for steps, restarts in ((1, 1), (5, 1), (5, 3)):
        _, model, trial = shown(Pgd(Pgd.Params(steps=steps, restarts=restarts)), norm, attack_with)
        assert trial.found.queries.tolist() == [(steps + 1) * restarts] * 3
        assert model.rows == 3 * (steps + 1) * restarts


def test_restarts_begin_at_other_points(attack_with):
    given, model, _ = shown(Pgd(Pgd.Params(steps=2, restarts=2)), Norm.LINF, attack_with)
    starts = [model.seen[0], model.seen[3]]
    assert all(bool((norm_of(Norm.LINF, start - given) > 0).all()) for start in starts)
    assert not torch.equal(*starts)


def test_the_step_has_an_effect(attack_with):
    _, short, _ = shown(Pgd(Pgd.Params(steps=1, step=0.01)), Norm.L2, attack_with)
    _, long, _ = shown(Pgd(Pgd.Params(steps=1, step=0.9)), Norm.L2, attack_with)
    assert torch.equal(short.seen[0], long.seen[0])
    moved = [norm_of(Norm.L2, m.seen[1] - m.seen[0]) for m in (short, long)]
    assert bool((moved[0] * 3 < moved[1]).all())


@pytest.mark.parametrize(("share", "count"), [(0.01, 1), (0.1, 11)])
def test_the_share_is_that_of_the_values_an_l1_step_moves(share, count, attack_with):
    _, model, _ = shown(Pgd(Pgd.Params(steps=1, step=0.01, share=share)), Norm.L1, attack_with, radius=500.0)
    changed = (model.seen[1] != model.seen[0]).flatten(1).sum(1)
    assert changed.tolist() == [count] * 3


def test_the_loss_has_an_effect(attack_with):
    seen = []
    for loss in ("cross_entropy", "margin", "dlr"):
        _, model, _ = shown(Pgd(Pgd.Params(steps=6, loss=loss)), Norm.L2, attack_with)
        seen.append(model.seen[-1])
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])


def test_of_two_classes_the_ratio_gives_way_to_the_margin(attack_with):
    """The DLR of two classes is constant: without a gradient nothing would be found."""
    generator = torch.Generator().manual_seed(0)
    model = LinearModel(torch.randn(3, 5, 5, generator=generator), 0.0)
    given = torch.rand(4, 3, 5, 5, generator=generator)
    model.bias = -float((given * model.weight).flatten(1).sum(1).mean()) + 0.5
    reach = float(((given * model.weight).flatten(1).sum(1) + model.bias).abs().max() / model.weight.abs().sum())
    trial = attack_with(Pgd(Pgd.Params(loss="dlr")), model, given, norm=Norm.LINF, radius=2 * reach, grid=Grid.NONE)
    assert all(trial.broken)


@pytest.mark.parametrize("norm", sorted(RADII))
def test_other_seeds_other_starts_same_seed_same_bits(norm, attack_with):
    runs = [shown(Pgd(Pgd.Params(steps=2)), norm, attack_with, seed=seed)[1].seen for seed in (0, 0, 1)]
    assert all(torch.equal(a, b) for a, b in zip(runs[0], runs[1], strict=True))
    assert not torch.equal(runs[0][0], runs[2][0])


@pytest.mark.parametrize("norm", sorted(RADII))
def test_breaks_what_lies_just_outside_the_optimum(norm, attack_with):
    generator = torch.Generator().manual_seed(3)
    model = LinearClassifier(torch.randn(3, 1, 7, 7, generator=generator))
    given = torch.rand(6, 1, 7, 7, generator=generator)
    labels = model.predict(given).argmax(1)
    optimum = model.smallest(norm, given, labels)
    for row in range(6):
        one, radius = slice(row, row + 1), float(optimum[row])
        found = [
            attack_with(Pgd(), model, given[one], norm=norm, radius=radius * factor, grid=Grid.NONE).broken[0]
            for factor in (0.98, 1.1)
        ]
        assert found == [False, True]
