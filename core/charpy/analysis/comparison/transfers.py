"""The transfer matrix over the models of all runs: each is shown the nearest witnesses of every row (Figure 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from charpy.analysis.comparison.document import TransferPart
from charpy.analysis.comparison.entries import Entry
from charpy.analysis.comparison.rates import rate
from charpy.analysis.transfer import Predict, TransferCell, crafted_by, transfer_matrix
from charpy.interfaces.model import Model
from charpy.plugins import Registry
from charpy.reopened import reopened
from charpy.threat import Norm


def transfer_parts(entries: Sequence[Entry], registry: Registry) -> tuple[TransferPart, ...]:
    """One cell per row and norm with a witness, and model; each model is opened once, through the spec of its run.

    Raises:
        ModelError: a model that cannot be opened here, or whose bytes have changed since its run.
        DataError: a model that answers NaN or infinity.
    """
    targets = _targets(entries, registry)
    cells: list[TransferCell] = []
    for entry in entries:
        for norm in map(Norm, entry.outcomes):
            crafted = crafted_by(entry.run, entry.index, norm, nearest=True, samples=entry.samples.keys())
            if crafted is not None:
                cells += transfer_matrix({(entry.title, norm): crafted}, targets)
    return tuple(
        TransferPart(
            source=cell.source, target=cell.target, norm=cell.norm, fooled=rate(cell.fooled.count, cell.fooled.total)
        )
        for cell in cells
    )


def _targets(entries: Sequence[Entry], registry: Registry) -> Mapping[str, Predict]:
    targets: dict[str, Predict] = {}
    for entry in entries:
        if entry.model not in targets:
            targets[entry.model] = _predict(_opened(entry, registry))
    return targets


def _opened(entry: Entry, registry: Registry) -> Model:
    return reopened(
        entry.spec.models[entry.index],
        entry.assessment.model.fingerprint,
        registry,
        where=f"{entry.run.path}: {entry.title}",
        otherwise="leave out --transfer",
    )


def _predict(model: Model) -> Predict:
    def predict(images: torch.Tensor) -> torch.Tensor:
        return model.predict(images.to(model.device))

    return predict
