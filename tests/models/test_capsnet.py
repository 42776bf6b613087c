"""Capsules: squash, routing and loss against the paper's formulas, and the gradients at zero."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy_models.architectures.capsnet import CapsNet, route, squash
from charpy_plugins.wrappers.torch_module import TorchModel


def test_squash_keeps_the_direction_and_shortens():
    vectors = torch.randn(50, 6, dtype=torch.float64) * torch.logspace(-8, 8, 50, dtype=torch.float64)[:, None]
    squashed, length = squash(vectors), vectors.norm(dim=1)
    torch.testing.assert_close(squashed.norm(dim=1), length**2 / (1 + length**2))
    torch.testing.assert_close(torch.cosine_similarity(squashed, vectors, eps=0), torch.ones(50, dtype=torch.float64))


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-15])
def test_squash_is_safe_at_zero(size):
    vectors = torch.full((2, 4), size, requires_grad=True)
    squash(vectors).sum().backward()
    assert bool(torch.isfinite(vectors.grad).all())
    assert float(vectors.grad.abs().max()) < 1e-10


def test_routing_by_hand():
    """One loop over the capsules, written from procedure 1 in numpy."""
    votes = torch.randn(5, 1, 3, 4, dtype=torch.float64)
    u = votes[:, 0].numpy()
    b = np.zeros((5, 3))
    for _ in range(3):
        c = np.exp(b) / np.exp(b).sum(1, keepdims=True)
        s = np.stack([sum(c[i, j] * u[i, j] for i in range(5)) for j in range(3)])
        n = np.linalg.norm(s, axis=1, keepdims=True)
        v = n**2 / (1 + n**2) * s / n
        b = b + np.array([[u[i, j] @ v[j] for j in range(3)] for i in range(5)])
    routed = route(votes, 3)
    np.testing.assert_allclose(routed.capsules[0].numpy(), v, rtol=1e-10)
    np.testing.assert_allclose(routed.coupling[:, 0].numpy(), c, rtol=1e-10)


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_a_lower_capsule_shares_itself_out(iterations):
    coupling = route(torch.randn(7, 2, 4, 3), iterations).coupling
    assert coupling.shape == (7, 2, 4)
    assert bool((coupling > 0).all())
    torch.testing.assert_close(coupling.sum(-1), torch.ones(7, 2))
    even = bool((coupling == 0.25).all())
    assert even == (iterations == 1)


def test_the_gradient_passes_every_iteration_of_the_routing():
    votes = torch.randn(3, 1, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda given: route(given, 3).capsules, (votes,))


def test_routing_follows_agreement():
    """Three capsules vote alike for class 0 and against one another for class 1: class 0 wins them."""
    votes = torch.zeros(3, 1, 2, 2)
    votes[:, 0, 0] = torch.tensor([2.0, 0.0])
    votes[:, 0, 1] = torch.tensor([[2.0, 0.0], [-1.0, 1.7], [-1.0, -1.7]])
    routed = route(votes, 3)
    assert bool((routed.coupling[:, 0, 0] > 0.6).all())
    assert float(routed.capsules[0, 0].norm()) > 0.7 > 0.1 > float(routed.capsules[0, 1].norm())


def test_answers_of_capsules_are_lengths():
    answers = CapsNet(width=8, kinds=2)(100 * torch.rand(4, 1, 28, 28))
    assert bool(((answers >= 0) & (answers < 1)).all())


def test_a_black_image_breaks_no_gradient():
    module = CapsNet(width=8, kinds=2, mean=(0.0,), std=(1.0,))
    with torch.no_grad():
        for part in (module.features[0], module.features[2].convolution):
            part.bias.zero_()
    images = torch.zeros(2, 1, 28, 28, requires_grad=True)
    answers = module(images)
    assert bool((answers == 0).all())  # every capsule is exactly zero
    module.loss(answers, torch.tensor([0, 1])).backward()
    assert all(bool(torch.isfinite(part.grad).all()) for part in (images, *module.parameters()))


def test_capsules_are_exported_for_any_number_of_images():
    module = CapsNet(width=8, kinds=2).eval()
    images = torch.rand(5, 1, 28, 28)
    answers = TorchModel.from_module(module, input_shape=(1, 28, 28)).forwards()["onnxruntime"]()(images)
    torch.testing.assert_close(answers, module(images).detach())


def test_margin_loss_by_hand():
    lengths = torch.tensor([[0.95, 0.05, 0.3], [0.2, 0.4, 0.1]])
    loss = CapsNet.loss(lengths, torch.tensor([0, 2]))
    first = 0.0 + 0.5 * 0.2**2  # found; the second is short enough, the third too long by 0.2
    second = 0.8**2 + 0.5 * (0.1**2 + 0.3**2)
    assert float(loss) == pytest.approx((first + second) / 2)
