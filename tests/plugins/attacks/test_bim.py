"""BIM: the published schedule, step by step."""

from __future__ import annotations

import pytest
import torch

from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.distortion.bim import Bim, published_steps


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def predict(self, images):
        if images.requires_grad or self.keep:
            self.seen.append(images.detach().clone())
        return super().predict(images)


def model() -> Recorder:
    generator = torch.Generator().manual_seed(5)
    made = Recorder(torch.randn(3, 1, 4, 4, generator=generator), torch.tensor([9.0, 0.0, 0.0]))
    made.seen, made.keep = [], True
    return made


def images() -> torch.Tensor:
    return torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(6)).mul(255).round().div(255)


@pytest.mark.parametrize(("levels", "steps"), [(1, 2), (2, 3), (8, 10), (16, 20), (17, 21), (30, 34), (0.0, 1)])
def test_the_published_number_of_steps(levels, steps):
    """min(radius + 4, 1.25 radius), rounded up."""
    assert published_steps(levels / 255) == steps


@pytest.mark.parametrize(("params", "step", "steps"), [({}, 1, 10), ({"step": 3.0}, 3, 10), ({"steps": 4}, 1, 4)])
def test_each_step_follows_the_sign_of_the_gradient(params, step, steps, attack_with):
    """Against the published formula, with the gradient by hand."""
    watched, given = model(), images()
    labels = torch.zeros(2, dtype=torch.int64)
    attack = Bim(Bim.Params(**params))
    trial = attack_with(attack, watched, given, norm=Norm.LINF, th=8, labels=labels, grid=Grid.NONE)
    assert trial.found.queries.tolist() == [steps + 1] * 2
    expected = given.clone()
    for asked in watched.seen:
        assert torch.allclose(asked, expected, atol=1e-6)
        scores = (expected[:, None] * watched.weight).flatten(2).sum(2) + watched.bias
        others = scores[:, 1:].double().softmax(1)[:, :, None, None, None]
        slope = (others * watched.weight[1:].double()).sum(1) - watched.weight[0].double()
        expected = (expected + step / 255 * slope.sign().float()).clamp(given - 8 / 255, given + 8 / 255).clamp(0, 1)


def test_it_begins_at_the_image_and_stops_where_it_is_broken(attack_with):
    watched, given = model(), images()
    watched.bias = torch.tensor([0.0, 0.0, 0.0])
    labels = watched.predict(given).argmax(1)
    watched.seen.clear()
    optimum = watched.smallest(Norm.LINF, given, labels)
    trial = attack_with(Bim(Bim.Params(steps=200)), watched, given, norm=Norm.LINF, radius=0.9, grid=Grid.NONE)
    assert torch.equal(watched.seen[0], given)
    assert all(trial.broken)
    assert bool((trial.found.queries <= (optimum * 255).ceil() * 2 + 2).all())
