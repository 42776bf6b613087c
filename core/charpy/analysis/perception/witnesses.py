"""The pairs that runs hold: originals, and of each attack its nearest witness of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch

from charpy.analysis.comparison.entries import check_same_data, distinct, readable
from charpy.analysis.verdict import SPOKEN
from charpy.errors import RunFileError
from charpy.interfaces.dataset import Samples
from charpy.perception.groups import Images, Originals, PairGroup, stored
from charpy.pixels import as_images, unpack
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.threat import Grid, Norm


class Attempt(NamedTuple):
    """What made a witness: where it stands in the runs, the attack by its name (or kind and mode), and the norm."""

    run: int
    model: int
    norm: str
    step: int
    attack: str


@dataclass(frozen=True)
class _Read:
    """What was read so far: originals by id, in order, and the witnesses of each attempt by the id of the original."""

    grid: Grid
    originals: dict[str, tuple[torch.Tensor, int]] = field(default_factory=dict)
    witnesses: dict[Attempt, dict[str, torch.Tensor]] = field(default_factory=dict)
    models: dict[tuple[int, int], str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)


def read_runs(runs: Sequence[RunFile]) -> tuple[Originals, list[PairGroup], tuple[str, ...]]:
    """The originals that some attack has a witness of, a group of pairs an attack, and the names of the runs.

    Raises:
        RunFileError: runs over different data, one that is damaged or has assessed nothing, or no witness in any.
    """
    specs = []
    for run in runs:
        with readable(run):
            check_same_data(run, runs[0], "look at each on its own")
            specs.append(parse(RunSpec, run.spec, where=str(run.path)))
    grid = Grid.NONE if any(spec.grid is Grid.NONE for spec in specs) else Grid.EIGHT_BIT
    found = _Read(grid)
    found.titles.extend(distinct([spec.name for spec in specs], [run.path.absolute().parent.name for run in runs]))
    for number, (run, spec) in enumerate(zip(runs, specs, strict=True)):
        with readable(run):
            _read(run, number, spec.grid, found)
    if not found.originals:
        raise RunFileError(
            "no attack found a witness, and a run keeps the originals of those only",
            where=", ".join(str(run.path) for run in runs),
            hint="make pairs of the data itself: charpy perceive --data DATASET",
        )
    dataset = runs[0].meta("dataset")
    samples = Samples(
        torch.stack([image for image, _ in found.originals.values()]),
        torch.tensor([label for _, label in found.originals.values()]),
        tuple(found.originals),
    )
    originals = Originals.of(dataset["name"], samples, dataset["class_names"], grid)
    return originals, _groups(found, originals), tuple(found.titles)


def attack_names(run: RunFile, model: int) -> dict[tuple[str, int], str]:
    """What each attack is called, by norm and step: its own name, or its kind and its mode."""
    names = {}
    for unit in run.units(model):
        mode = unit["detail"].get("params", {}).get("mode") if unit["attack"] == unit["kind"] else None
        names[unit["norm"], unit["step"]] = f"{unit['attack']}, {mode}" if isinstance(mode, str) else unit["attack"]
    return names


def _read(run: RunFile, number: int, grid: Grid, found: _Read) -> None:
    channels, height, width = run.meta("dataset")["shape"]
    shape = (channels, height, width)
    for model, part in enumerate(run.meta("models")):
        found.models[number, model] = str(part["name"])
        rows = {row.sample: row for row in run.samples(model)}
        names = attack_names(run, model)
        for witness in run.witnesses(model):
            row, attack = rows[witness.sample], names[witness.norm, witness.step]
            of_attempt = found.witnesses.setdefault(Attempt(number, model, witness.norm, witness.step, attack), {})
            if row.id in of_attempt:
                continue  # the nearest comes first
            of_attempt[row.id] = as_images(unpack(witness.image, shape, grid))
            if row.id not in found.originals:
                found.originals[row.id] = as_images(unpack(run.original(witness.sample), shape, grid)), row.label


def _groups(found: _Read, originals: Originals) -> list[PairGroup]:
    """Named by attack and norm, and by model, run and step as far as these tell two apart."""
    place = {name: row for row, name in enumerate(originals.ids)}
    attempts = sorted(found.witnesses, key=lambda of: (of.run, of.model, list(Norm).index(Norm(of.norm)), of.step))
    names = _names(attempts, found)
    groups = []
    for attempt, name in zip(attempts, names, strict=True):
        witnesses = found.witnesses[attempt]
        text = f"the nearest witness of {attempt.attack} under {SPOKEN[Norm(attempt.norm)]}"
        rows = torch.tensor([place[original] for original in witnesses])
        images = stored(torch.stack(list(witnesses.values())), originals.grid)
        groups.append(_group(name, text, tuple(witnesses), originals, rows, images))
    return groups


def _group(
    name: str, text: str, ids: tuple[str, ...], originals: Originals, places: torch.Tensor, images: torch.Tensor
) -> PairGroup:
    def read(rows: torch.Tensor) -> Images:
        return originals.images[places[rows]], images[rows]

    return PairGroup(name, text, ids, (name,) * len(ids), read)


def _names(attempts: Sequence[Attempt], found: _Read) -> list[str]:
    names = [f"{of.attack} ({SPOKEN[Norm(of.norm)]})" for of in attempts]
    for more in (
        [found.models[of.run, of.model] for of in attempts],
        [found.titles[of.run] for of in attempts],
        [f"attack {of.step + 1}" for of in attempts],
    ):
        if len(set(names)) < len(names) and len(set(more)) > 1:
            names = [f"{name}, {part}" for name, part in zip(names, more, strict=True)]
    return names
