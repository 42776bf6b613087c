"""Small random networks for the tests of bounds."""

from __future__ import annotations

import pytest
import torch
from torch import nn


class Residual(nn.Module):
    """Convolutions with batch normalisation and a sum around them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.inner = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4))
        self.last = nn.Linear(4, 3)

    def forward(self, x):
        x = self.first(x - 0.5)
        x = torch.relu(x + self.inner(x))
        return self.last(x.mean((2, 3)))


class Joined(nn.Module):
    """Two branches, concatenated; padding, leaky ReLU, average pooling and constants."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(2, 3, 3, stride=2), nn.Conv2d(2, 2, 3, stride=2, groups=2)
        self.last = nn.Linear(5, 3)

    def forward(self, x):
        x = nn.functional.pad(2 * x / 3 - 0.1, (1, 1, 1, 1), value=0.25)
        x = torch.cat([nn.functional.leaky_relu(self.left(x), 0.1), torch.tanh(self.right(x))], 1)
        return self.last(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def pooled(activation: type[nn.Module], pool: nn.Module) -> nn.Module:
    layers = [nn.Conv2d(2, 4, 3, padding=1), activation(), pool, nn.Flatten()]
    size = nn.Sequential(*layers)(torch.zeros(1, 2, 6, 6)).shape[1]
    return nn.Sequential(*layers, nn.Linear(size, 8), activation(), nn.Linear(8, 3))


def network_of(kind: str, seed: int) -> nn.Module:
    """One of `KINDS`, for images `(2, 6, 6)` and 3 classes, with random weights and batch statistics."""
    torch.manual_seed(seed)
    made = KINDS[kind]()
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
            part.weight.data.normal_(1, 0.3)
    return made.eval()


KINDS = {
    "dense": lambda: nn.Sequential(nn.Flatten(), nn.Linear(72, 12), nn.ReLU(), nn.Linear(12, 3)),
    "max pool": lambda: pooled(nn.ReLU, nn.MaxPool2d(2)),
    "max pool of three": lambda: pooled(nn.ReLU, nn.MaxPool2d(3, 2, 1)),
    "max pool below no relu": lambda: pooled(nn.Tanh, nn.MaxPool2d(2)),
    "average pool": lambda: pooled(nn.Sigmoid, nn.AvgPool2d(2)),
    "residual": Residual,
    "joined": Joined,
}


@pytest.fixture
def network():
    """`network(kind, seed)`: a random network of a kind."""
    return network_of
