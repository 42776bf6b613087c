"""The dataset contract: images, labels and stable ids, read in pieces."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from charpy.interfaces.component import Component
from charpy.threat import Grid

if TYPE_CHECKING:
    import torch


class Samples(NamedTuple):
    """A piece of a dataset: `images` float32 `(N, C, H, W)` in [0, 1], `labels` int64 `(N,)`, `ids` one per row."""

    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]


class Dataset(Component, ABC):
    """A labelled set of images.

    Attributes:
        name: for the report.
        class_names: one per class, in the order of the labels.
        shape: `(C, H, W)` of every image.
        grid: `8bit` when every image lies on k/255.
        notes: what the reader of a report must know about how images were read (conversions, policies, warnings).
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    grid: Grid = Grid.EIGHT_BIT
    notes: tuple[str, ...] = ()

    @abstractmethod
    def __len__(self) -> int:
        """How many samples there are."""

    @abstractmethod
    def read(self, indices: Sequence[int]) -> Samples:
        """The samples at `indices`, in that order. Reads no more than it returns where the format allows."""

    @abstractmethod
    def fingerprint(self) -> str:
        """SHA-256 of all images and labels in order."""

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """The parameters with which this component opens a command-line reference, or None if it is not for it.

        `data_dir` is `--data-dir` or `$CHARPY_DATA`, where data sets that are not given by a path are found.
        """
        return None
