"""Linear classifiers: their exact minimal adversarial distances inside the box are known, for every norm."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from charpy.bounds.graph import Builder, Graph
from charpy.interfaces.model import Model, Output
from charpy.threat import Access, Norm

_HALVINGS = 60


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

    def graph(self) -> Graph | None:
        """One linear layer; None where only labels are given."""
        if self.output is Output.LABELS:
            return None
        weight = torch.stack([torch.zeros_like(self.weight), self.weight]).flatten(1)
        return _one_layer(self.weight.shape, weight, torch.tensor([0.0, self.bias]))

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


class LinearClassifier(Model):
    """K classes, scores `W x + b`.

    Args:
        weight: `(K, C, H, W)`.
        bias: `(K,)`; 0 if not given.
        output: logits, probabilities or labels.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, output: Output = Output.LOGITS) -> None:
        super().__init__()
        self.weight, self.output = weight, output
        self.bias = torch.zeros(len(weight)) if bias is None else bias
        self.access = Access.LABELS if output is Output.LABELS else Access.GRADIENTS
        self.num_classes = len(weight)
        self.input_shape = (weight.shape[1], weight.shape[2], weight.shape[3])
        self.rows = 0

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` or labels `(N,)`; counts its rows."""
        self.rows += len(images)
        scores = (images[:, None] * self.weight).flatten(2).sum(2) + self.bias
        if self.output is Output.LABELS:
            return scores.argmax(1)
        return scores.softmax(1) if self.output is Output.PROBABILITIES else scores

    def fingerprint(self) -> Mapping[str, str]:
        """The weights themselves."""
        return {"weight": str(self.weight.flatten().tolist()), "bias": str(self.bias.tolist())}

    def graph(self) -> Graph | None:
        """One linear layer; None where only labels are given."""
        if self.output is Output.LABELS:
            return None
        return _one_layer(self.weight.shape[1:], self.weight.flatten(1), self.bias)

    def smallest(
        self, norm: Norm, images: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None
    ) -> torch.Tensor:
        """`(N,)` exact distance to the nearest image of another class (of `targets`), inside the box; inf if none.

        Pixels for L0, where it is the number that reaches past the boundary; image values otherwise, where it is the
        distance of the boundary itself. Targeted with K > 2, it is a lower bound: only `labels` must be overtaken.
        """
        value = (images[:, None] * self.weight).flatten(2).sum(2) + self.bias
        others = range(len(self.weight))
        found = torch.full((len(images), len(self.weight)), torch.inf)
        for other in others:
            wanted = (labels != other) if targets is None else (targets == other)
            if bool(wanted.any()):
                push = (self.weight[other] - self.weight[labels])[wanted]
                need = (value.gather(1, labels[:, None])[:, 0] - value[:, other])[wanted]
                found[wanted, other] = smallest_push(norm, images[wanted], push, need).float()
        return found.amin(1)


def _one_layer(shape: Sequence[int], weight: torch.Tensor, bias: torch.Tensor) -> Graph:
    builder = Builder(tuple(shape))
    return builder.finish(builder.linear(builder.reshape(0, (weight.shape[1],)), weight, bias), "LinearClassifier")


def smallest_push(norm: Norm, images: torch.Tensor, push: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """`(N,)` least size of a change u inside the box with `push . u >= need` (`> need` for L0); inf where none is.

    Every value moves in the direction of its push, at most to the box. Linf: all by the same amount; L2: in proportion
    to the push (Lagrange); L1: the strongest first; L0: the pixels with the largest gains.
    """
    strength = push.abs().to(torch.float64)
    room = torch.where(push > 0, 1 - images, images).to(torch.float64)
    need = need.to(torch.float64)
    if norm is Norm.L0:
        gains = (strength * room).sum(1).flatten(1).sort(dim=1, descending=True).values.cumsum(1)
        count = (gains <= need[:, None]).sum(1) + 1.0
        return torch.where(count > gains.shape[1], torch.inf, count)
    strength, room = strength.flatten(1), room.flatten(1)
    possible = (strength * room).sum(1) >= need
    if norm is Norm.L1:
        order = strength.argsort(dim=1, descending=True)
        gains = (strength * room).gather(1, order)
        before = gains.cumsum(1) - gains
        part = ((need[:, None] - before) / gains.clamp_min(1e-300)).clamp(0, 1)
        return torch.where(possible, (part * room.gather(1, order)).sum(1), torch.inf)
    pace = torch.ones_like(strength) if norm is Norm.LINF else strength
    low, high = torch.zeros(len(images), dtype=torch.float64), (room / pace.clamp_min(1e-12)).amax(1)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = (strength * torch.minimum(room, middle[:, None] * pace)).sum(1) >= need
        low, high = torch.where(enough, low, middle), torch.where(enough, middle, high)
    moved = torch.minimum(room, high[:, None] * pace)
    size = moved.amax(1) if norm is Norm.LINF else moved.square().sum(1).sqrt()
    return torch.where(possible, size, torch.inf)
