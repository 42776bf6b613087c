"""Capsules with dynamic routing (Sabour, Frosst, Hinton 2017, "Dynamic routing between capsules")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from charpy_models.architectures.normalise import Normalise

PRESENT, ABSENT, DOWN_WEIGHT = 0.9, 0.1, 0.5
"""m+, m- and lambda of the margin loss (equation 4)."""


def squash(vectors: torch.Tensor) -> torch.Tensor:
    """`vectors` `(..., D)`, their direction kept and their length n brought to n^2 / (1 + n^2) (equation 1).

    Written as s * n / (1 + n^2): nothing is divided by n, so that zero stays zero, with gradient zero.
    """
    length = _length(vectors)[..., None]
    return vectors * (length / (1 + length**2))


def _length(vectors: torch.Tensor) -> torch.Tensor:
    length: torch.Tensor = torch.linalg.vector_norm(vectors, dim=-1)
    return length


class Routed(NamedTuple):
    """Capsules `(N, J, E)`, and the coupling coefficients `(I, N, J)` that they were made with."""

    capsules: torch.Tensor
    coupling: torch.Tensor


def route(votes: torch.Tensor, iterations: int) -> Routed:
    """Routing by agreement (procedure 1) of `votes` `(I, N, J, E)`: what each of I capsules predicts for each of J.

    The coefficients of one lower capsule are positive and sum to 1 over J. Gradients pass through every iteration.
    """
    agreement = votes.new_zeros(votes.shape[:-1])
    for iteration in range(iterations):
        coupling = torch.softmax(agreement, dim=-1)
        capsules = squash((coupling[..., None] * votes).sum(0))
        if iteration < iterations - 1:
            agreement = agreement + (votes * capsules).sum(-1)
    return Routed(capsules, coupling)


class PrimaryCapsules(nn.Module):
    """One convolution whose maps are read as capsules: `kinds` of them at each place, of `size` numbers each."""

    def __init__(self, before: int, kinds: int, size: int, *, kernel: int, stride: int) -> None:
        super().__init__()
        self.kinds, self.size = kinds, size
        self.convolution = nn.Conv2d(before, kinds * size, kernel, stride=stride)

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """Capsules `(N, kinds * H' * W', size)` of `maps` `(N, before, H, W)`."""
        maps = self.convolution(maps)
        capsules = maps.reshape(-1, self.kinds, self.size, *maps.shape[2:])  # -1: a trace takes any number of images
        return squash(capsules.permute(0, 1, 3, 4, 2).flatten(1, 3))


class ClassCapsules(nn.Module):
    """A capsule per class, routed to from `before` capsules of `size` numbers; its length is the class's score."""

    def __init__(self, before: int, size: int, num_classes: int, class_size: int, iterations: int) -> None:
        super().__init__()
        self.num_classes, self.class_size, self.iterations = num_classes, class_size, iterations
        # Votes of about unit variance from capsules of length one; the paper does not say.
        self.transform = nn.Parameter(torch.randn(before, size, num_classes * class_size) * size**-0.5)

    def votes(self, capsules: torch.Tensor) -> torch.Tensor:
        """Votes `(I, N, num_classes, class_size)` of `capsules` `(N, I, size)`: each through a matrix of its own."""
        votes = torch.matmul(capsules.transpose(0, 1), self.transform)
        return votes.reshape(len(self.transform), -1, self.num_classes, self.class_size)

    def forward(self, capsules: torch.Tensor) -> torch.Tensor:
        """Lengths `(N, num_classes)` in [0, 1)."""
        return _length(route(self.votes(capsules), self.iterations).capsules)


class CapsNet(nn.Module):
    """A convolution, primary capsules, and one capsule a class: 6,804,224 parameters for 1x28x28 images, 10 classes.

    Scores are the lengths of the class capsules, each in [0, 1): neither logits nor shares of one. A length says that
    its class is there; two classes may be. It is trained with the margin loss.

    Differs from the paper: no decoder that draws the image again (its 1.4M parameters only help in training; the paper
    counts 6.8M without them). The routing's first logits are 0, as there.

    Args:
        in_channels: C of the images.
        num_classes: K of the scores.
        image_size: H and W.
        width: channels of the first convolution.
        kinds: of primary capsules at each place.
        size: numbers of a primary capsule.
        class_size: numbers of a class capsule.
        kernel: of both convolutions.
        strides: of the two convolutions.
        iterations: of the routing.
        mean: per channel, or one for all, in image values.
        std: like `mean`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        width: int = 256,
        kinds: int = 32,
        size: int = 8,
        class_size: int = 16,
        kernel: int = 9,
        strides: tuple[int, int] = (1, 2),
        iterations: int = 3,
        mean: Sequence[float] = (0.1307,),
        std: Sequence[float] = (0.3081,),
    ) -> None:
        super().__init__()
        self.normalise = Normalise(in_channels, mean, std)
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel, stride=strides[0]),
            nn.ReLU(),
            PrimaryCapsules(width, kinds, size, kernel=kernel, stride=strides[1]),
        )
        side = image_size
        for stride in strides:
            side = (side - kernel) // stride + 1
        self.classifier = ClassCapsules(kinds * side**2, size, num_classes, class_size, iterations)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Lengths `(N, num_classes)` of `images` `(N, in_channels, image_size, image_size)` in [0, 1]."""
        lengths: torch.Tensor = self.classifier(self.features(self.normalise(images)))
        return lengths

    @staticmethod
    def loss(lengths: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The margin loss (equation 4), summed over the classes, meaned over `labels` `(N,)`."""
        truth = nn.functional.one_hot(labels, lengths.shape[1]).to(lengths.dtype)
        missed = torch.relu(PRESENT - lengths) ** 2
        imagined = torch.relu(lengths - ABSENT) ** 2
        return (truth * missed + DOWN_WEIGHT * (1 - truth) * imagined).sum(1).mean()
