"""Pairs of an original and a changed image, in groups that were made in one way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import torch

from charpy.interfaces.dataset import Samples
from charpy.pixels import as_images, quantise
from charpy.threat import Grid

Images = tuple[torch.Tensor, torch.Tensor]
"""Originals and changed images, both float32 `(B, C, H, W)` in [0, 1]."""


class Look(StrEnum):
    """How the two images of a pair look to a person."""

    ALIKE = "alike"
    DIFFERENT = "different"


class Originals(NamedTuple):
    """Images that pairs are made of: float32 `(N, C, H, W)` in [0, 1], int64 labels `(N,)`, an id each."""

    name: str
    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]
    class_names: tuple[str, ...]
    grid: Grid

    @classmethod
    def of(cls, name: str, samples: Samples, class_names: Sequence[str], grid: Grid) -> Originals:
        """Samples of a dataset; on the grid every value is exactly k/255."""
        return cls(name, stored(samples.images, grid), samples.labels, samples.ids, tuple(class_names), grid)

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(C, H, W)`."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width


@dataclass(frozen=True, eq=False)
class PairGroup:
    """Pairs that were made, or found, in one way; images are read when they are wanted.

    Attributes:
        name: unique among the groups of a study.
        text: what was done, with its bounds.
        originals: the id of the original of each pair.
        changed: the name of the changed image of each pair; the group's own name where it has none.
        read: positions int64 `(B,)` -> the images of these pairs.
        look: how all its pairs look by the proxy; None where the proxy does not say.
    """

    name: str
    text: str
    originals: tuple[str, ...]
    changed: tuple[str, ...]
    read: Callable[[torch.Tensor], Images]
    look: Look | None = None

    def __len__(self) -> int:
        """How many pairs there are."""
        return len(self.originals)

    @property
    def pairs(self) -> tuple[str, ...]:
        """The id of each pair: `original|group`, or the file name of a pair of files of one name."""
        named = zip(self.originals, self.changed, strict=True)
        return tuple(first if first == second else f"{first}|{self.name}" for first, second in named)


def stored(images: torch.Tensor, grid: Grid) -> torch.Tensor:
    """`images` cut to [0, 1] and, on the 8-bit grid, rounded to k/255: what a PNG would keep."""
    return as_images(quantise(images)) if grid is Grid.EIGHT_BIT else images.clamp(0, 1)
