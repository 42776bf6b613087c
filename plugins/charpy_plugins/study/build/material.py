"""What runs hold that a study can be made of: one model, the samples it classifies correctly, their witnesses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch

from charpy.analysis.comparison.entries import check_same_data, distinct, readable
from charpy.analysis.perception.witnesses import attack_names
from charpy.errors import DataError, RunFileError, SpecError, unknown_name
from charpy.interfaces.model import Output
from charpy.pixels import quantise, unpack
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specs import DataSpec, ModelSpec, RunSpec, parse
from charpy.subjects import chosen_samples, open_dataset
from charpy.threat import Grid

Shape = tuple[int, int, int]


class Witness(NamedTuple):
    """A witness of a run: which run, of which original (its id), within which level.

    `attack` is its attack's own name, or kind and mode; `called` as the run has it.
    """

    run: int
    original: str
    attack: str
    called: str
    norm: str
    level: float
    image: bytes
    grid: Grid


class Subject(NamedTuple):
    """The model of the study, as the first run has it."""

    title: str
    spec: ModelSpec
    fingerprint: Mapping[str, str]
    output: Output
    deterministic: bool


@dataclass(frozen=True)
class Material:
    """Several runs over the same data, and one model of theirs.

    Attributes:
        runs: open run files.
        titles: of the runs, told apart.
        run_ids: of the runs.
        dataset: what the first run says of its data.
        subject: the model.
        labels: original -> true class, of the samples that the model classifies correctly.
        witnesses: of these, in the order of the runs.
    """

    runs: Sequence[RunFile]
    titles: tuple[str, ...]
    run_ids: tuple[str, ...]
    dataset: Mapping[str, Any]
    subject: Subject
    labels: dict[str, int] = field(default_factory=dict)
    witnesses: list[Witness] = field(default_factory=list)
    _kept: dict[str, tuple[bytes, Grid]] = field(default_factory=dict)
    _places: dict[str, tuple[DataSpec, int]] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """`(C, H, W)` of the images."""
        channels, height, width = self.dataset["shape"]
        return channels, height, width

    def images(self, witnesses: Iterable[Witness]) -> torch.Tensor:
        """uint8 `(N, C, H, W)`: what a PNG keeps of `witnesses`."""
        return torch.stack([quantise(unpack(item.image, self.shape, item.grid)) for item in witnesses])

    def kept(self, ids: Sequence[str]) -> torch.Tensor:
        """uint8 `(N, C, H, W)`: what a PNG keeps of originals that have a witness."""
        stored = [self._kept[name] for name in ids]
        return torch.stack([quantise(unpack(image, self.shape, grid)) for image, grid in stored])

    def originals(self, ids: Sequence[str], registry: Registry, data_dir: Path | None = None) -> torch.Tensor:
        """uint8 `(N, C, H, W)`: what a PNG keeps of originals; those that no run keeps are read from the data.

        Raises:
            DataError: the data of the run is not there, or not what it was.
        """
        found = torch.zeros(len(ids), *self.shape, dtype=torch.uint8)
        for names, read in (
            ([name for name in ids if name in self._kept], self.kept),
            ([name for name in ids if name not in self._kept], lambda absent: self._read(absent, registry, data_dir)),
        ):
            if names:
                own = set(names)
                found[[place for place, name in enumerate(ids) if name in own]] = read(names)
        return found

    def _read(self, ids: Sequence[str], registry: Registry, data_dir: Path | None) -> torch.Tensor:
        spec = self._places[ids[0]][0]
        if data_dir is not None and "data_dir" in registry.load("datasets", spec.kind).Params.model_fields:
            spec = spec.model_copy(update={"params": {**spec.params, "data_dir": str(data_dir)}})
        data = open_dataset(spec, registry)
        if (found := data.fingerprint()) != self.dataset["fingerprint"]:
            raise DataError(
                "the data is not that of the run any more, and the run keeps the originals of broken samples only",
                where=str(self.dataset["name"]),
                found=f"data {found}",
                expected=f"data {self.dataset['fingerprint']}",
                hint="put the data of the run back: --data-dir FOLDER",
            )
        images: dict[str, torch.Tensor] = {}
        for of_run in {id(self._places[name][0]): self._places[name][0] for name in ids}.values():
            indices = chosen_samples(data, of_run)
            own = [name for name in ids if self._places[name][0] is of_run]
            samples = data.read([indices[self._places[name][1]] for name in own])
            if samples.ids != tuple(own):
                raise DataError("the samples of the data have other ids than in the run", where=data.name)
            images |= dict(zip(own, quantise(samples.images), strict=True))
        return torch.stack([images[name] for name in ids])


def read_material(runs: Sequence[RunFile], model: str | None) -> Material:
    """What `runs` hold about the model with the title `model`, or about their only one.

    Raises:
        RunFileError: a run that is not finished or is damaged, or runs over different data.
        UnknownNameError: a run has no such model.
        SpecError: several models and none is named, or models of one title that differ.
    """
    specs, chosen = [], []
    for run in runs:
        with readable(run):
            check_same_data(run, runs[0], "build a study of each on its own")
            specs.append(parse(RunSpec, run.spec, where=str(run.path)))
            if not run.meta("finished", False):
                raise RunFileError(
                    "the run is not finished: what it found may still grow",
                    where=str(run.path),
                    hint="run its own command again first, it goes on where it stands",
                )
            chosen.append(_model(run, model))
            _check_same_model(run, chosen[-1], runs[0], chosen[0])
    material = Material(
        runs,
        tuple(distinct([spec.name for spec in specs], [run.path.absolute().parent.name for run in runs])),
        tuple(str(run.meta("run_id")) for run in runs),
        runs[0].meta("dataset"),
        _subject(runs[0], specs[0], chosen[0]),
    )
    for number, (run, spec, index) in enumerate(zip(runs, specs, chosen, strict=True)):
        with readable(run):
            _read(run, number, spec, index, material)
    return material


def _model(run: RunFile, title: str | None) -> int:
    titles = [str(part["name"]) for part in run.meta("models")]
    if title is None and len(titles) > 1:
        found = ", ".join(titles)
        raise SpecError("which model?", where=str(run.path), found=found, expected="one of them: --model TITLE")
    if title is not None and title not in titles:
        raise unknown_name("model", title, titles, where=str(run.path))
    return 0 if title is None else titles.index(title)


def _check_same_model(run: RunFile, index: int, first: RunFile, index_there: int) -> None:
    part, expected = run.meta("models")[index], first.meta("models")[index_there]
    if part["fingerprint"] != expected["fingerprint"]:
        raise SpecError(
            "the runs are of different models",
            where=str(run.path),
            found=f"{part['name']} {part['fingerprint']}",
            expected=f"{expected['name']} {expected['fingerprint']}, as in {first.path}",
            hint="build a study of each on its own",
        )


def _subject(run: RunFile, spec: RunSpec, index: int) -> Subject:
    with readable(run):
        part = run.meta("models")[index]
        output, deterministic = Output(part["output"]), bool(part["deterministic"])
        return Subject(str(part["name"]), spec.models[index], part["fingerprint"], output, deterministic)


def _read(run: RunFile, number: int, spec: RunSpec, index: int, material: Material) -> None:
    rows = {row.sample: row for row in run.samples(index) if row.valid and row.prediction == row.label}
    for row in rows.values():
        material.labels.setdefault(row.id, row.label)
        material._places.setdefault(row.id, (spec.data, row.sample))
    names = attack_names(run, index)
    for found in run.witnesses(index):
        if found.sample not in rows:
            continue
        original = rows[found.sample].id
        level = float(found.th or math.ceil(found.distance))
        name = names[found.norm, found.step]
        material.witnesses.append(
            Witness(number, original, name, found.attack, found.norm, level, found.image, spec.grid)
        )
        if original not in material._kept:
            material._kept[original] = run.original(found.sample), spec.grid
