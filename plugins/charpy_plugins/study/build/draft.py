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
        failed: original -> how many better witnesses of it did not pass the check as shown, where some did not.
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
    failed: Mapping[str, int] = field(default_factory=dict)

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
            failed={name: count for name, count in self.failed.items() if name not in lost},
        )

    def joined(self, other: Draft) -> Draft:
        """The stimuli of both, of other originals of the same condition, by the id of their original; no losses."""
        ids = self.ids + other.ids
        order = sorted(range(len(ids)), key=ids.__getitem__)
        return replace(
            self,
            ids=_of(ids, order),
            pixels=torch.cat([self.pixels, other.pixels])[order],
            labels=torch.cat([self.labels, other.labels])[order],
            attacks=_of(self.attacks + other.attacks, order),
            distances=_of(self.distances + other.distances, order),
            metrics={kind: _of(values + other.metrics[kind], order) for kind, values in self.metrics.items()},
            predictions=_of(self.predictions + other.predictions, order),
            files=tuple(_of(one + two, order) for one, two in zip(self.files, other.files, strict=True)),
            losses={},
        )

    @property
    def whole_text(self) -> str:
        """What the stimuli are, and of how many a better witness did not pass the check."""
        if not self.failed:
            return self.text
        better = sum(self.failed.values())
        return (
            f"{self.text}; of {len(self.failed)} originals the best that passed the check, after {better} that did not"
        )


def _of(values: Sequence[Item], kept: Sequence[int]) -> tuple[Item, ...]:
    return tuple(values[place] for place in kept) if values else ()
