"""The stimuli of a condition while they are chosen: none is left out without a reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch

from charpy_plugins.study.build.spec import ConditionSpec

Values = tuple[float, ...]
Item = TypeVar("Item")


@dataclass(frozen=True, eq=False)
class Draft:
    """N stimuli, one an original.

    Attributes:
        name: of the condition.
        rule: by which they are chosen, with what follows from its name.
        text: what they are.
        ids: of the originals, `(N,)`.
        pixels: uint8 `(N, C, H, W)`.
        labels: int64 `(N,)`, the true classes.
        attacks: what made each; '' for a benign image.
        distances: from the original under the norm of the condition; empty for benign images.
        metrics: values of the pairs by kind, `(N,)` each.
        predictions: int64 `(N,)`, what the model says of the PNG; empty before that is known.
        files: for every size, the PNG of each stimulus.
        losses: original -> why its stimulus was left out.
    """

    name: str
    rule: ConditionSpec
    text: str
    ids: tuple[str, ...]
    pixels: torch.Tensor
    labels: torch.Tensor
    attacks: tuple[str, ...]
    distances: Values = ()
    metrics: Mapping[str, Values] = field(default_factory=dict)
    predictions: tuple[int, ...] = ()
    files: tuple[tuple[bytes, ...], ...] = ()
    losses: Mapping[str, str] = field(default_factory=dict)

    @property
    def candidates(self) -> int:
        """How many originals could have given a stimulus."""
        return len(self.ids) + len(self.losses)

    def without(self, lost: Mapping[str, str]) -> Draft:
        """The same but for the stimuli of some originals, with the reason for each."""
        kept = [place for place, name in enumerate(self.ids) if name not in lost]
        if len(kept) == len(self.ids):
            return self
        return replace(
            self,
            ids=_of(self.ids, kept),
            pixels=self.pixels[kept],
            labels=self.labels[kept],
            attacks=_of(self.attacks, kept),
            distances=_of(self.distances, kept),
            metrics={kind: _of(values, kept) for kind, values in self.metrics.items()},
            predictions=_of(self.predictions, kept),
            files=tuple(_of(files, kept) for files in self.files),
            losses={**self.losses, **{name: lost[name] for name in self.ids if name in lost}},
        )


def _of(values: Sequence[Item], kept: Sequence[int]) -> tuple[Item, ...]:
    return tuple(values[place] for place in kept) if values else ()
