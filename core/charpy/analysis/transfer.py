"""How far the witnesses of one model fool others (Kotyan & Vargas 2020, section V-F, Figure 4)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch

from charpy.analysis.document import Share
from charpy.analysis.intervals import share
from charpy.errors import DataError
from charpy.pixels import as_images, unpack
from charpy.runfile import RunFile
from charpy.threat import DISTANCE_TOLERANCE, Grid, Norm

Predict = Callable[[torch.Tensor], torch.Tensor]
"""float32 images `(N, C, H, W)` in [0, 1] -> labels `(N,)`, or scores `(N, K)`."""

BATCH = 64


@dataclass(frozen=True)
class Crafted:
    """The witnesses of one model under one norm.

    Attributes:
        originals, images: `(M, C, H, W)`, uint8 or float32 in [0, 1].
        labels: int64 `(M,)`, the true classes.
        distances: float64 `(M,)`, pixels for L0, 1/255 steps otherwise.
    """

    originals: torch.Tensor
    images: torch.Tensor
    labels: torch.Tensor
    distances: torch.Tensor

    def within(self, th: float) -> Crafted:
        """Those at most `th` away from their originals."""
        near = self.distances <= th + DISTANCE_TOLERANCE
        return Crafted(self.originals[near], self.images[near], self.labels[near], self.distances[near])


@dataclass(frozen=True)
class TransferCell:
    """One cell of the figure: of the witnesses of `source` whose originals `target` gets right, those that fool it."""

    source: str
    target: str
    norm: Norm
    fooled: Share


def crafted_by(
    run: RunFile, model: int, norm: Norm, *, nearest: bool = False, samples: Collection[int] | None = None
) -> Crafted | None:
    """The witnesses of model number `model` under `norm`; None where there is none.

    Args:
        nearest: only the nearest of each sample.
        samples: only those of these samples, by their number in the run.
    """
    dataset = run.meta("dataset")
    shape, grid = (dataset["shape"][0], dataset["shape"][1], dataset["shape"][2]), Grid(dataset["grid"])
    labels = {row.sample: row.label for row in run.samples(model)}
    found = run.witnesses(model, norm, smallest=nearest)
    rows = [row for row in found if samples is None or row.sample in samples]
    if not rows:
        return None
    return Crafted(
        torch.stack([unpack(run.original(row.sample), shape, grid) for row in rows]),
        torch.stack([unpack(row.image, shape, grid) for row in rows]),
        torch.tensor([labels[row.sample] for row in rows]),
        torch.tensor([row.distance for row in rows], dtype=torch.float64),
    )


def transfer_matrix(
    crafted: Mapping[tuple[str, Norm], Crafted], targets: Mapping[str, Predict]
) -> tuple[TransferCell, ...]:
    """Every target shown every source's witnesses: one cell per (source, norm) and target, in their order.

    A witness whose original the target misclassifies shows nothing of the perturbation and is not counted; a model
    shown its own witnesses is fooled by all of them.

    Args:
        crafted: (title of the source, norm) -> its witnesses.
        targets: title -> what it predicts.

    Raises:
        DataError: a target that answers NaN or infinity.
    """
    return tuple(
        TransferCell(source, target, norm, _fooled(images, target, predict))
        for (source, norm), images in crafted.items()
        for target, predict in targets.items()
    )


def _fooled(crafted: Crafted, target: str, predict: Predict) -> Share:
    tried = _labels(crafted.originals, target, predict) == crafted.labels
    fooled = tried & (_labels(crafted.images, target, predict) != crafted.labels)
    return share(int(fooled.sum()), int(tried.sum()))


@torch.no_grad()
def _labels(images: torch.Tensor, target: str, predict: Predict) -> torch.Tensor:
    answers = torch.cat([predict(as_images(piece).clone()).cpu() for piece in torch.split(images, BATCH)])
    if answers.ndim == 1:
        return answers.to(torch.int64)
    if not bool(answers.isfinite().all()):
        raise DataError("the model answers NaN or infinity, which is no class", where=target)
    return answers.argmax(1)
