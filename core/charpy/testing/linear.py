"""A linear classifier: its exact minimal adversarial distances are closed forms."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from charpy.interfaces.model import Model, Output
from charpy.threat import Access


class LinearModel(Model):
    """Two classes, scores `(0, w . x + b)`: class 1 where `w . x + b > 0`.

    Ignoring the box, the boundary is at Linf |w . x + b| / ||w||_1 and at L2 |w . x + b| / ||w||_2;
    inside the box, k free pixels change `w . x` by at most the sum of the k largest pixel gains (`pixel_gains`).

    Args:
        weight: `(C, H, W)`.
        bias: b.
        output: logits, probabilities or labels.
    """

    num_classes = 2

    def __init__(self, weight: torch.Tensor, bias: float = 0.0, output: Output = Output.LOGITS) -> None:
        super().__init__()
        self.weight, self.bias, self.output = weight, bias, output
        self.access = Access.LABELS if output is Output.LABELS else Access.GRADIENTS
        self.input_shape = (weight.shape[0], weight.shape[1], weight.shape[2])
        self.rows = 0

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, 2)` or labels `(N,)`; counts its rows."""
        self.rows += len(images)
        value = (images * self.weight).flatten(1).sum(1) + self.bias
        scores = torch.stack([torch.zeros_like(value), value], 1)
        if self.output is Output.LABELS:
            return scores.argmax(1)
        return scores.softmax(1) if self.output is Output.PROBABILITIES else scores

    def fingerprint(self) -> Mapping[str, str]:
        """The weights themselves."""
        return {"weight": str(self.weight.flatten().tolist()), "bias": str(self.bias)}

    def pixel_gains(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, H * W)`: how far one free pixel in [0, 1]^C can push `w . x + b` towards the other class."""
        sign = (self.predict(images)[:, 1] > 0).float().mul(2).sub(1)[:, None, None, None]
        push = -sign * self.weight
        best = torch.where(push > 0, push * (1 - images), -push * images)
        return best.sum(1).flatten(1)

    def smallest_l0(self, images: torch.Tensor) -> torch.Tensor:
        """`(N,)` exact number of pixels that suffices to reach the decision boundary; H * W + 1 where none does."""
        gains = self.pixel_gains(images).sort(dim=1, descending=True).values.cumsum(1)
        need = self.predict(images)[:, 1].abs()[:, None]
        return (gains <= need).sum(1) + 1
