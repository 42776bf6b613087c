"""mi_fgsm: its steps by hand, its maps against torch's own, and what each parameter changes."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from charpy.errors import SpecError
from charpy.interfaces.model import Model, Output
from charpy.plugins import registry
from charpy.random import Random, sample_keys
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Grid, Norm
from charpy_plugins.attacks.transfer.mi_fgsm import MiFgsm, _blur, _resizing

GENERATOR = torch.Generator().manual_seed(5)
WEIGHT = torch.randn(3, 2, 8, 6, generator=GENERATOR)
IMAGES = torch.rand(6, 2, 8, 6, generator=GENERATOR) * 0.6 + 0.2
LABELS = LinearClassifier(WEIGHT).predict(IMAGES).argmax(1)


class Stubborn(Model):
    """A smooth two-layer network that always gives `IMAGES` their label, and remembers every image it is shown."""

    access, output, num_classes, input_shape = Access.GRADIENTS, Output.LOGITS, 3, (2, 8, 6)

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.first = torch.randn(96, 16, generator=generator) / 5
        self.second = torch.randn(16, 3, generator=generator) / 4
        self.seen = []

    def predict(self, images):
        self.seen.append(images.detach().clone())
        return (images.flatten(1) @ self.first).tanh() @ self.second + 9 * functional.one_hot(LABELS, 3)

    def fingerprint(self):
        return {"weights": "stubborn"}


def made(**params) -> MiFgsm:
    return registry().create("attacks", "mi_fgsm", params)


def images_asked(attack_with, params, norm=Norm.LINF, radius=0.05, seed=0):
    """What the model is shown, `(6, 2, 8, 6)` each, and the trial: no sample is ever done."""
    model = Stubborn()
    trial = attack_with(
        made(**params), model, IMAGES, norm=norm, radius=radius, labels=LABELS, grid=Grid.NONE, seed=seed
    )
    return model.seen, trial


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_the_iterates_are_those_of_equations_6_and_7(norm, attack_with):
    steps, decay, radius = 4, 0.7, 0.2 if norm is Norm.LINF else 0.9
    wanted, momentum = [IMAGES], torch.zeros_like(IMAGES)
    for _ in range(steps):
        leaf = wanted[-1].clone().requires_grad_(True)
        loss = functional.cross_entropy(Stubborn().predict(leaf), LABELS, reduction="sum")
        gradient = torch.autograd.grad(loss, leaf)[0]
        momentum = decay * momentum + gradient / gradient.abs().sum((1, 2, 3), keepdim=True)
        length = momentum.square().sum((1, 2, 3), keepdim=True).sqrt()
        moved = leaf.detach() + radius / steps * (momentum.sign() if norm is Norm.LINF else momentum / length)
        wanted.append(moved.clamp(0, 1))
    asked, _ = images_asked(attack_with, {"steps": steps, "decay": decay}, norm=norm, radius=radius)
    assert len(asked) == steps + 1
    for images, expected in zip(asked, wanted, strict=True):
        assert torch.allclose(images, expected, atol=1e-5)


def test_the_resizing_is_torchs_bilinear_one_padded_with_zeros():
    images = torch.rand(1, 2, 9, 9, generator=torch.Generator().manual_seed(1))
    draws = torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.5, 0.99], [0.0, 0.99, 0.5], [0.9, 0.5, 0.5]])
    maps = _resizing(9, 0.6, 0.5, draws)  # sides 5, 7 and 8 at 0, 2 and 1; the last row is left as it is
    for index, (side, begin) in enumerate([(5, 0), (7, 2), (8, 1)]):
        small = functional.interpolate(images, size=(side, side), mode="bilinear", align_corners=False)
        end = 9 - side - begin
        expected = functional.pad(small, (begin, end, begin, end))
        assert torch.allclose(maps[index] @ images @ maps[index].mT, expected, atol=1e-6), side
    assert torch.equal(maps[3], torch.eye(9))


def test_the_blur_is_a_convolution_with_the_gaussian():
    values = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(1))
    line = torch.exp(-0.5 * torch.linspace(-3, 3, 7).square())
    expected = functional.conv2d(values, torch.outer(line, line)[None, None], padding=3)
    assert torch.allclose(_blur(12, 7, values) @ values @ _blur(10, 7, values), expected, atol=1e-5)


def test_the_gradient_passes_back_through_the_resizing(attack_with):
    asked, _ = images_asked(attack_with, {"steps": 1, "diversity": 1.0, "resize": 0.5}, norm=Norm.L2, radius=0.3)
    resized, moved = asked
    probe = torch.eye(8 * 6).view(48, 1, 8, 6).expand(-1, 2, -1, -1)
    draw = Random(0, sample_keys([f"sample {i}" for i in range(6)])).fork("diversity").uniform(torch.arange(6), 0, 4)
    down = _resizing(8, 0.5, 1.0, draw[:, [0, 1, 2]])
    across = _resizing(6, 0.5, 1.0, draw[:, [0, 1, 3]])
    for i in range(6):
        assert torch.allclose(down[i] @ IMAGES[i] @ across[i].mT, resized[i], atol=1e-6)
        forward = (down[i] @ probe[:, 0] @ across[i].mT).flatten(1)  # the linear map, one pixel at a time
        leaf = resized.clone().requires_grad_(True)
        loss = functional.cross_entropy(Stubborn().predict(leaf), LABELS, reduction="sum")
        slope = torch.autograd.grad(loss, leaf)[0][i].flatten(1)
        gradient = (slope @ forward.T).view(2, 8, 6)
        assert torch.allclose(moved[i], (IMAGES[i] + 0.3 * gradient / gradient.norm()).clamp(0, 1), atol=1e-5)


def test_what_a_step_costs(attack_with):
    for params, each in (({}, 1), ({"scales": 3}, 3), ({"diversity": 1.0}, 1)):
        _, trial = images_asked(attack_with, {"steps": 5, **params})
        assert trial.found.queries.tolist() == [5 * each + 1] * len(IMAGES), params


@pytest.mark.parametrize(("params", "queries", "spent"), [({"diversity": 1.0}, 4, 4), ({"scales": 3}, 9, 7)])
def test_the_last_row_of_the_budget_is_for_the_image_itself(params, queries, spent, attack_with):
    model = Stubborn()
    trial = attack_with(
        made(**params), model, IMAGES, norm=Norm.L2, radius=0.5, labels=LABELS, grid=Grid.NONE, queries=queries
    )
    assert trial.found.queries.tolist() == [spent] * len(IMAGES)
    moved = (model.seen[-1] - IMAGES).flatten(1).norm(dim=1)
    assert float(moved.max()) <= 0.5 + 1e-5, "a resized or darkened image lies far outside the ball"
    assert float(moved.min()) > 0


@pytest.mark.parametrize(
    "changed",
    [
        {"steps": 5},
        {"decay": 0.2},
        {"step_size": 0.31},
        {"loss": "margin"},
        {"diversity": 1.0},
        {"kernel": 3},
        {"scales": 2},
    ],
    ids=str,
)
def test_every_parameter_has_an_effect(changed, attack_with):
    (*_, before), _ = images_asked(attack_with, {}, norm=Norm.L2, radius=0.5)
    (*_, after), _ = images_asked(attack_with, changed, norm=Norm.L2, radius=0.5)
    assert not torch.allclose(before, after, atol=1e-5)


def test_the_smallest_side_has_an_effect_and_the_seed_too(attack_with):
    def last(seed=0, **params):
        return images_asked(attack_with, {"diversity": 1.0, **params}, seed=seed)[0][-1]

    assert torch.equal(last(), last())
    assert not torch.equal(last(), last(resize=0.5))
    assert not torch.equal(last(), last(seed=1))


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2])
def test_with_every_invariance_a_sample_still_stands_alone_and_ends_inside_its_ball(norm, attack_with):
    params = {"diversity": 0.6, "kernel": 3, "scales": 2, "resize": 0.6}
    model = LinearClassifier(WEIGHT)
    radius = 0.9 * float(model.smallest(norm, IMAGES, LABELS).max())
    names = tuple(f"image {i}" for i in range(len(IMAGES)))
    whole = attack_with(made(**params), model, IMAGES, norm=norm, radius=radius, ids=names).found
    part = attack_with(
        made(**params), model, IMAGES[[3, 1]], norm=norm, radius=radius, ids=(names[3], names[1]), batch=1
    ).found
    assert torch.equal(part.images, whole.images[[3, 1]])
    assert part.queries.tolist() == whole.queries[[3, 1]].tolist()


def test_a_blur_without_a_middle_is_refused():
    with pytest.raises(SpecError, match="4 is even"):
        made(kernel=4)
