"""Sets of images that bounds are computed over: boxes, and boxes of which only some pixels may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from typing_extensions import override


class Region(ABC):
    """B sets of images `(C, H, W)`."""

    @abstractmethod
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Smallest and largest value of each pixel, two times `(B, C, H, W)`."""

    @abstractmethod
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        """`(B, S)`: the least value of linear functions with coefficients `rows` `(B, S, C, H, W)`; exact."""

    @abstractmethod
    def take(self, index: torch.Tensor) -> Region:
        """The sets at `index`."""

    @abstractmethod
    def __len__(self) -> int:
        """B."""


@dataclass(frozen=True)
class Box(Region):
    """Every value between `low` and `high`, both `(B, C, H, W)`."""

    low: torch.Tensor
    high: torch.Tensor

    @classmethod
    def around(cls, images: torch.Tensor, radius: float) -> Box:
        """The Linf balls of that radius inside [0, 1]."""
        return cls((images - radius).clamp(0, 1), (images + radius).clamp(0, 1))

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.low, self.high

    @override
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        middle, half = ((self.high + self.low) / 2).flatten(1), ((self.high - self.low) / 2).flatten(1)
        flat = rows.flatten(2)
        value: torch.Tensor = torch.einsum("bsd,bd->bs", flat, middle) - torch.einsum("bsd,bd->bs", flat.abs(), half)
        return value

    @override
    def take(self, index: torch.Tensor) -> Box:
        return Box(self.low[index], self.high[index])

    def __len__(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class FewPixels(Region):
    """At most so many pixels of each group are anything in [0, 1]^C; all others are those of the image.

    Attributes:
        images: `(B, C, H, W)`.
        groups: bool `(B, G, H, W)`, disjoint sets of places.
        counts: int64 `(B, G)`, how many places of each may change.
    """

    images: torch.Tensor
    groups: torch.Tensor
    counts: torch.Tensor

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        free = (self.groups & (self.counts > 0)[:, :, None, None]).any(1, keepdim=True)
        return torch.where(free, 0.0, self.images), torch.where(free, 1.0, self.images)

    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        """The image's value and, of each group, the pixels that lower it most."""
        images = self.images[:, None]
        value = (rows * images).flatten(2).sum(2)
        gains = torch.minimum(-rows * images, rows * (1 - images)).sum(2).flatten(2)  # (B, S, places), never above 0
        for group in range(self.groups.shape[1]):
            most = int(self.counts[:, group].max())
            if most == 0:
                continue
            inside = torch.where(self.groups[:, None, group].flatten(2), gains, 0.0)
            if most == 1:
                best = inside.amin(2, keepdim=True)
            else:
                best = inside.topk(min(most, inside.shape[2]), dim=2, largest=False).values
            taken = torch.arange(best.shape[2], device=best.device) < self.counts[:, group, None, None]
            value = value + (best * taken).sum(2)
        return value

    @override
    def take(self, index: torch.Tensor) -> FewPixels:
        return FewPixels(self.images[index], self.groups[index], self.counts[index])

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class FewValues(Region):
    """d values of each image lie anywhere in intervals; all others are those of the image.

    Attributes:
        images: `(B, C, H, W)`.
        places: int64 `(B, d)`, positions of the free values in the flattened image, distinct in a row.
        low, high: `(B, d)`.
    """

    images: torch.Tensor
    places: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def at(self, values: torch.Tensor) -> torch.Tensor:
        """The images `(B, C, H, W)` with these values `(B, d)` at the free places."""
        return self.images.flatten(1).scatter(1, self.places, values).view_as(self.images)

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.at(self.low), self.at(self.high)

    @override
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        flat, middle = rows.flatten(2), self.at((self.low + self.high) / 2).flatten(1)
        free = flat.gather(2, self.places[:, None].expand(-1, flat.shape[1], -1))
        half = (self.high - self.low)[:, None] / 2
        value: torch.Tensor = torch.einsum("bsd,bd->bs", flat, middle) - (free.abs() * half).sum(2)
        return value

    @override
    def take(self, index: torch.Tensor) -> FewValues:
        return FewValues(self.images[index], self.places[index], self.low[index], self.high[index])

    def __len__(self) -> int:
        return len(self.images)
