"""Whether the dataset is the one of the run, and the originals and labels in the run file are its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from charpy.errors import CharpyError, told_of
from charpy.interfaces.dataset import Dataset, Samples
from charpy.own_levels import digest_of, own_levels
from charpy.pixels import quantise, unpack
from charpy.plugins import Registry
from charpy.records import SampleRow
from charpy.runfile import RunFile
from charpy.specs import DataSpec, OwnLevels, RunSpec
from charpy.subjects import chosen_samples, open_dataset
from charpy.threat import Grid
from charpy.verification.document import Check, Tally

HERE = "say where it is now with --data, or --data-dir for a named one"


class Reopened:
    """The samples of a run, read from the dataset again; `same` says whether it is the very one.

    Raises:
        CharpyError: it cannot be opened, or has too few samples.
    """

    def __init__(self, spec: DataSpec, shard: int, registry: Registry) -> None:
        self.dataset: Dataset = open_dataset(spec, registry)
        self.indices = chosen_samples(self.dataset, spec)
        self.shard, self.same = shard, True

    def pieces(self) -> Iterator[tuple[range, Samples]]:
        """`(positions, samples)`, shard by shard, as the run reads them."""
        for start in range(0, len(self.indices), self.shard):
            part = self.indices[start : start + self.shard]
            yield range(start, start + len(part)), self.dataset.read(part)


def opened_data(run: RunFile, spec: RunSpec, place: DataSpec, registry: Registry, tally: Tally) -> Reopened | None:
    """The dataset at `place`; None, and said in `tally`, where it cannot be opened."""
    try:
        data = Reopened(place, spec.shard, registry)
        fingerprint = data.dataset.fingerprint()
    except CharpyError as cause:
        text = f"the data: {cause.what}" + (f" (found {cause.found})" if cause.found is not None else "")
        tally.missing(f"{text}; {HERE}")
        return None
    except Exception as cause:  # noqa: BLE001 - a stranger's dataset
        tally.missing(f"the data: {told_of(cause)}; {HERE}")
        return None
    stored = run.identity.get("data.fingerprint", "(none)")
    data.same = tally.equal(f"data {data.dataset.name}: fingerprint", fingerprint, stored)
    return data


def check_data(run: RunFile, spec: RunSpec, data: Reopened, tally: Tally) -> Check:
    """Ids, labels and stored originals against the samples of the dataset."""
    rows = {row.sample: row for row in run.samples(0)}
    tally.equal("samples", f"{len(rows)} in the run", f"{len(data.indices)} in the run")
    shape, expected = run.meta("dataset")["shape"], list(data.dataset.shape)
    if not tally.equal("data: shape", expected, shape):
        data.same = False
        return tally.check()
    for positions, piece in data.pieces():
        for i, position in enumerate(positions):
            if position in rows:
                _compare(rows[position], piece.ids[i], int(piece.labels[i]), tally)
        _originals(run, spec.grid, positions, piece, tally)
    _own_levels(run, spec, data, tally)
    return tally.check()


def _compare(row: SampleRow, name: str, label: int, tally: Tally) -> None:
    found, expected = f"{row.id}, label {row.label}", f"{name}, label {label}"
    tally.equal(f"samples (sample {row.sample})", found, expected)


def _originals(run: RunFile, grid: Grid, positions: range, piece: Samples, tally: Tally) -> None:
    stored = run.audit().originals(positions)
    images = quantise(piece.images) if grid is Grid.EIGHT_BIT else piece.images
    shape = (images.shape[1], images.shape[2], images.shape[3])
    for sample, data in stored.items():
        record, image = f"originals (sample {sample})", images[sample - positions.start].cpu()
        try:
            found = unpack(data, shape, grid)
        except CharpyError as cause:
            tally.wrong(record, cause.what, "an image")
            continue
        if torch.equal(found, image):
            tally.right()
        else:
            tally.wrong(
                record,
                f"{int((found != image).sum())} other values",
                f"the image of {piece.ids[sample - positions.start]}",
            )


def _own_levels(run: RunFile, spec: RunSpec, data: Reopened, tally: Tally) -> None:
    """Levels of their own, against the file that the spec names."""
    stored = run.meta("own_levels", {})
    for place, threat in enumerate(spec.threats):
        if not isinstance(threat.levels, OwnLevels):
            continue
        named, path = f"levels of {threat.norm}", Path(threat.levels.path)
        try:
            ids = (row.id for row in run.samples(0))
            found = list(own_levels(threat.norm, threat.levels, data.dataset, ids))
            digest = digest_of(threat.levels)
        except CharpyError as cause:
            tally.missing(f"the file of the {named} ({path.name}): {cause.what}")
            continue
        tally.equal(f"{named}: digest of the file", digest, run.identity.get(f"spec.threats.{place}.levels", "(none)"))
        tally.equal(f"meta (own_levels): {threat.norm}", stored.get(threat.norm.value), found)
