"""Adversarial training: the batch that a network learns from is attacked first."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from charpy_models.recipes import AdversarialTraining


def pgd(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, radius: float, steps: int, step_size: float
) -> torch.Tensor:
    """Images `(N, C, H, W)` in the Linf ball of `radius` around `images`, of high cross-entropy (Madry et al. 2018).

    x_0 is uniform in the ball; x_{t+1} = P(x_t + step_size * sign grad CE(x_t)), P the projection onto ball and box.
    The last step's image is returned, as training wants it. Drawn from torch's global generator; the module's
    parameters get no gradient.
    """
    low, high = (images - radius).clamp_(min=0), (images + radius).clamp_(max=1)
    adversarial = torch.empty_like(images).uniform_(-radius, radius).add_(images).clamp_(0, 1)
    for _ in range(steps):
        adversarial.requires_grad_()
        # The sum, not the mean: a row's gradient must not shrink with the batch until float32 rounds it to zero.
        loss = functional.cross_entropy(module(adversarial), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, adversarial)
        adversarial = torch.clamp(adversarial.detach() + step_size * gradient.sign(), low, high)
    return adversarial


def attacked(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, training: AdversarialTraining, done: float
) -> torch.Tensor:
    """The batch that a network is trained on when the share `done` of its training lies behind it."""
    share = 1.0 if done >= training.ramp else done / training.ramp
    # The attack faces the network as it will be used; so too, its images do not move the batch normalisation.
    module.eval()
    batch = pgd(
        module,
        images,
        labels,
        radius=training.radius * share,
        steps=training.steps,
        step_size=training.step_size * share,
    )
    module.train()
    return batch
