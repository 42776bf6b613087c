"""PGD0: projected steps on the L0 ball, in pixels."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.distortion.pgd0 import Pgd0


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def predict(self, images):
        self.seen.append(images.detach().clone())
        return super().predict(images)


def held(attack, attack_with, **rest):
    """PGD0 against a model that it cannot break; what it asked."""
    weight = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(5)) / 4
    watched = Recorder(weight, torch.tensor([12.0, 0.0, 0.0]))
    watched.seen = []
    given = torch.rand(4, 3, 6, 6, generator=torch.Generator().manual_seed(6))
    labels = torch.zeros(4, dtype=torch.int64)
    trial = attack_with(attack, watched, given, norm=Norm.L0, th=3, labels=labels, grid=Grid.NONE, **rest)
    return given, watched.seen, trial


def test_never_more_than_the_pixels_of_the_radius_and_never_outside_the_box(attack_with):
    given, seen, _ = held(Pgd0(Pgd0.Params(steps=10, restarts=2)), attack_with)
    for asked in seen:
        assert bool((norm_of(Norm.L0, asked - given) <= 3).all())
        assert bool(((asked >= 0) & (asked <= 1)).all())
    assert norm_of(Norm.L0, seen[0] - given).tolist() == [3.0] * 4, "the start uses all its pixels"


def test_steps_and_restarts_cost_what_they_say(attack_with):
    for steps, restarts in ((1, 1), (6, 1), (6, 2)):
        _, seen, trial = held(Pgd0(Pgd0.Params(steps=steps, restarts=restarts)), attack_with)
        assert trial.found.queries.tolist() == [(steps + 1) * restarts] * 4
        assert sum(len(asked) for asked in seen) == 4 * (steps + 1) * restarts
    assert not torch.equal(seen[0], seen[7]), "each restart has a start of its own"


def test_the_step_is_a_share_of_all_values(attack_with):
    """A tiny step leaves the pixels of the start; the published one finds others."""
    _, still, _ = held(Pgd0(Pgd0.Params(steps=1, restarts=1, step=1e-7)), attack_with)
    assert torch.allclose(still[0], still[1], atol=1e-4)
    _, moving, _ = held(Pgd0(Pgd0.Params(steps=1, restarts=1)), attack_with)
    assert not torch.allclose(moving[0], moving[1], atol=1e-2)


@pytest.mark.parametrize("seed", range(3))
def test_breaks_a_linear_model_at_twice_the_exact_number_of_pixels(seed, attack_with):
    """With twice the pixels of the optimum every sample falls, with fewer than the optimum none can."""
    generator = torch.Generator().manual_seed(seed)
    model = LinearClassifier(torch.randn(2, 3, 8, 8, generator=generator) / 4)
    given = torch.rand(6, 3, 8, 8, generator=generator)
    labels = model.predict(given).argmax(1)
    optimum = model.smallest(Norm.L0, given, labels)
    for row in range(6):
        one, th = slice(row, row + 1), int(optimum[row])
        fields = {"norm": Norm.L0, "queries": 2000, "grid": Grid.NONE}
        assert attack_with(Pgd0(), model, given[one], th=2 * th, **fields).broken == [True]
        if th > 1:
            assert attack_with(Pgd0(), model, given[one], th=th - 1, **fields).broken == [False]
