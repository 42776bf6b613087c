"""Sets of images that bounds are computed over: boxes, and boxes of which only some pixels may change."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from typing_extensions import override

from charpy.threat import Norm, ThreatModel


class Region(ABC):
    """B sets of images `(C, H, W)`.

    Attributes:
        boxed: whether a set is all of its hull, so that intervals lose nothing at the image.
    """

    boxed: ClassVar[bool] = False

    @abstractmethod
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Smallest and largest value of each pixel, two times `(B, C, H, W)`."""

    @abstractmethod
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        """`(B, S)`: the least value of linear functions with coefficients `rows` `(B, S, C, H, W)`, or less."""

    @abstractmethod
    def __len__(self) -> int:
        """B."""


@dataclass(frozen=True)
class Box(Region):
    """Every value between `low` and `high`, both `(B, C, H, W)`."""

    boxed: ClassVar[bool] = True

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

    def __len__(self) -> int:
        return len(self.low)


@dataclass(frozen=True)
class Ball(Region):
    """Images in [0, 1] at an L1 or L2 distance of at most `radius` from `images` `(B, C, H, W)`."""

    images: torch.Tensor
    radius: float
    norm: Norm

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        return (self.images - self.radius).clamp(0, 1), (self.images + self.radius).clamp(0, 1)

    @override
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        """The better of two bounds: that of the ball by the dual norm, and that of its hull. Not exact in a corner."""
        flat = rows.flatten(2)
        dual = flat.norm(dim=2) if self.norm is Norm.L2 else flat.abs().amax(2)
        ball = torch.einsum("bsd,bd->bs", flat, self.images.flatten(1)) - self.radius * dual
        return torch.maximum(ball, Box(*self.hull()).lowest(rows))

    def __len__(self) -> int:
        return len(self.images)


def region_of(images: torch.Tensor, threat: ThreatModel) -> Region:
    """What an Linf, L2 or L1 threat may make of each of `images` `(B, C, H, W)`."""
    if threat.norm is Norm.LINF:
        return Box.around(images, threat.radius)
    return Ball(images, threat.radius, threat.norm)


class Narrow(Region):
    """Sets of images of which only d values differ from one image; forward propagation follows these d.

    An image of the set is `base` plus d changes, at `places`: int64 `(B, d)`, positions in the flattened image.
    """

    places: torch.Tensor

    @property
    @abstractmethod
    def base(self) -> torch.Tensor:
        """`(B, C, H, W)`: the image without any change."""

    @abstractmethod
    def least(self, slopes: torch.Tensor) -> torch.Tensor:
        """`(B, *)`: the least sum of slopes `(B, d, *)` times changes that the set allows; exact."""

    @override
    def lowest(self, rows: torch.Tensor) -> torch.Tensor:
        flat = rows.flatten(2)
        free = flat.gather(2, self.places[:, None].expand(-1, flat.shape[1], -1))
        return torch.einsum("bsd,bd->bs", flat, self.base.flatten(1)) + self.least(free.transpose(1, 2))


@dataclass(frozen=True)
class FewValues(Narrow):
    """d values of each image lie anywhere in intervals.

    Attributes:
        images: `(B, C, H, W)`.
        places: as of every narrow region; distinct in a row.
        low, high: `(B, d)`.
    """

    boxed: ClassVar[bool] = True

    images: torch.Tensor
    places: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor

    def at(self, values: torch.Tensor) -> torch.Tensor:
        """The images `(B, C, H, W)` with these values `(B, d)` at the free places."""
        return self.images.flatten(1).scatter(1, self.places, values).view_as(self.images)

    @property
    @override
    def base(self) -> torch.Tensor:
        return self.at((self.low + self.high) / 2)

    @override
    def least(self, slopes: torch.Tensor) -> torch.Tensor:
        half = (self.high - self.low) / 2
        return -(slopes.abs() * half.view(*half.shape, *[1] * (slopes.ndim - 2))).sum(1)

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.at(self.low), self.at(self.high)

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class FewPixels(Narrow):
    """At most so many pixels of each of G groups are anything in [0, 1]^C.

    Attributes:
        images: `(B, C, H, W)`.
        groups: per group, int64 `(B, s)` positions of its pixels, in 0..H W - 1; -1 stands for none.
        counts: per group, how many of its pixels may change, the same for every row.
    """

    images: torch.Tensor
    groups: tuple[torch.Tensor, ...]
    counts: tuple[int, ...]

    @property
    @override
    def base(self) -> torch.Tensor:
        return self.images

    @property
    def places(self) -> torch.Tensor:  # type: ignore[override]
        """The values of all groups' pixels, channel by channel; of a pixel that is none, those of pixel 0."""
        channels, size = self.images.shape[1], self.images[0, 0].numel()
        pixels = torch.cat(self.groups, 1).clamp_min(0)
        return (pixels[:, None] + size * torch.arange(channels, device=pixels.device)[:, None]).flatten(1)

    @override
    def least(self, slopes: torch.Tensor) -> torch.Tensor:
        """Of each group, the pixels that lower the sum most, each at the corner that does."""
        channels, pixels = self.images.shape[1], torch.cat(self.groups, 1)
        own = self.images.flatten(1).gather(1, self.places).view(len(self), -1, *[1] * (slopes.ndim - 2))
        gains = torch.minimum(-slopes * own, slopes * (1 - own))  # never above 0: a pixel may stay as it is
        gains = gains.view(len(self), channels, -1, *slopes.shape[2:]).sum(1)
        gains = gains * (pixels >= 0).view(len(self), -1, *[1] * (slopes.ndim - 2))
        total = torch.zeros_like(gains[:, 0])
        for part, count in zip(
            torch.split(gains, [group.shape[1] for group in self.groups], 1), self.counts, strict=True
        ):
            few = min(count, part.shape[1])
            total += part.amin(1) if few == 1 else part.topk(few, dim=1, largest=False).values.sum(1)
        return total

    @override
    def hull(self) -> tuple[torch.Tensor, torch.Tensor]:
        size, channels = self.images[0, 0].numel(), self.images.shape[1]
        free = torch.zeros(len(self), size + 1, dtype=torch.bool, device=self.images.device)
        pixels = torch.cat(self.groups, 1)
        free.scatter_(1, torch.where(pixels < 0, size, pixels), True)
        whole = free[:, :size].view(-1, 1, *self.images.shape[2:]).expand(-1, channels, -1, -1)
        return torch.where(whole, 0.0, self.images), torch.where(whole, 1.0, self.images)

    def __len__(self) -> int:
        return len(self.images)
