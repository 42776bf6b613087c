"""PGD2: the L2 version of I-FGSM."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of, project
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.distortion.pgd2 import Pgd2


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def predict(self, images):
        self.seen.append(images.detach().clone())
        return super().predict(images)


def model() -> Recorder:
    made = Recorder(torch.randn(2, 1, 5, 5, generator=torch.Generator().manual_seed(5)) / 2, torch.tensor([9.0, 0.0]))
    made.seen = []
    return made


@pytest.mark.parametrize(("params", "step", "steps"), [({}, 0.6, 10), ({"step": 0.1}, 0.1, 10), ({"steps": 3}, 0.6, 3)])
def test_each_step_follows_the_normalised_gradient(params, step, steps, attack_with):
    """Eq. 11 by hand; with two classes the gradient of the cross-entropy points along w_1 - w_0 everywhere."""
    watched = model()
    given = torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(6))
    labels = torch.zeros(3, dtype=torch.int64)
    attack, radius = Pgd2(Pgd2.Params(**params)), 0.8
    trial = attack_with(attack, watched, given, norm=Norm.L2, radius=radius, labels=labels, grid=Grid.NONE)
    assert trial.found.queries.tolist() == [steps + 1] * 3
    slope = watched.weight[1] - watched.weight[0]
    expected = given
    for asked in watched.seen:
        assert torch.allclose(asked, expected, atol=1e-5)
        expected = project(Norm.L2, given, expected + step * radius * slope / slope.norm(), radius)


def test_no_length_is_lost_at_the_box(attack_with):
    """On black and white images, rescaling and then clipping would leave about 0.7 of the radius."""
    watched = model()
    given = (torch.rand(3, 1, 5, 5, generator=torch.Generator().manual_seed(6)) > 0.5).float()
    labels = torch.zeros(3, dtype=torch.int64)
    attack_with(Pgd2(), watched, given, norm=Norm.L2, radius=0.8, labels=labels, grid=Grid.NONE)
    assert norm_of(Norm.L2, watched.seen[-1] - given).tolist() == pytest.approx([0.8] * 3, rel=1e-4)
