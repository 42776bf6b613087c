"""The sheet of one sample, read from run files, attack by attack."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.analysis.comparison.entries import check_same_data, distinct, readable
from charpy.analysis.per_class import class_name
from charpy.analysis.sheet import Found, Row, Section, Sheet
from charpy.errors import RunFileError, SpecError, unknown_name
from charpy.outcome import Outcome
from charpy.pixels import distances, unpack
from charpy.records import ResultRow, SampleRow, UnitKey, WitnessRow
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.threat import Grid, Norm

NEAR_NAMES = 3
"""Samples that an error message names."""


class _Model(NamedTuple):
    """A model of an open run that was asked for."""

    run: RunFile
    run_title: str
    number: int
    title: str
    rows: list[SampleRow]


def read_sheet(runs: Sequence[RunFile], sample: str, *, norm: str | None = None, model: str | None = None) -> Sheet:
    """The sheet of `sample`: an id, as reports write it, or else its number in the first run.

    Args:
        runs: open run files over the same data.
        norm, model: only these; otherwise all.

    Raises:
        RunFileError: runs over other data, one that is damaged, or that has assessed nothing yet.
        SpecError, UnknownNameError: no such sample, norm or model, or nothing that could be drawn.
    """
    models = _models(runs, model)
    wanted = _id_of(models, sample)
    sections: dict[tuple[str, str], list[Row]] = {}
    for item in models:
        with readable(item.run):
            for of_norm, row in _rows(item, wanted, norm):
                sections.setdefault((item.title, of_norm), []).append(row)
    if norm is not None and not sections:
        raise _no_norm(models, norm)
    if not any(row.found for rows in sections.values() for row in rows):
        raise _nothing_drawn(models, wanted, [row for rows in sections.values() for row in rows])
    dataset = runs[0].meta("dataset")
    original, label = _original(models, wanted)
    return Sheet(
        name=" and ".join(dict.fromkeys(str(run.spec["name"]) for run in runs)),
        dataset=dataset["name"],
        sample=wanted,
        label_name=class_name(label, dataset["class_names"]),
        original=original,
        runs=tuple(dict.fromkeys(item.run_title for item in models)),
        sections=tuple(Section(title, of_norm, tuple(rows)) for (title, of_norm), rows in sections.items()),
        contest=all(_is_contest(item.run) for item in models),
    )


def worst_sample(runs: Sequence[RunFile], attack: str, *, norm: str | None = None, model: str | None = None) -> str:
    """The id of the sample whose nearest witness of `attack` is the farthest away; of equals the first.

    Raises:
        UnknownNameError: no attack of that name.
        SpecError: it found nothing, or witnesses under several norms, whose distances cannot be compared.
    """
    models = _models(runs, model)
    farthest: dict[str, tuple[float, str]] = {}
    for item in models:
        ids = {row.sample: row.id for row in item.rows}
        with readable(item.run):
            for of_norm, number, distance in item.run.nearest_of(item.number, attack):
                if norm in (None, of_norm) and distance > farthest.get(of_norm, (-1.0, ""))[0]:
                    farthest[of_norm] = distance, ids[number]
    if len(farthest) > 1:
        raise SpecError(
            "the distances of several norms cannot be compared",
            where=f"--worst {attack}",
            found=f"witnesses under {', '.join(farthest)}",
            expected=" or ".join(f"--norm {of_norm}" for of_norm in farthest),
        )
    if not farthest:
        known = {name for item in models for name in _attacks(item).values()}
        if attack not in known:
            raise unknown_name("attack", attack, known, where="--worst", hint="these are the attacks of the runs")
        under = f" under {norm}" if norm else ""
        raise SpecError(f"this attack found no witness{under}", where=f"--worst {attack}", hint="name another attack")
    return next(iter(farthest.values()))[1]


def _models(runs: Sequence[RunFile], wanted: str | None) -> list[_Model]:
    """The models of all runs, or those of one name."""
    found: list[_Model] = []
    for run, title in zip(runs, _titles(runs), strict=True):
        with readable(run):
            check_same_data(run, runs[0], "draw each run on its own")
            parts = enumerate(run.meta("models"))
            found += [_Model(run, title, number, part["name"], run.samples(number)) for number, part in parts]
    chosen = [item for item in found if wanted in (None, item.title)]
    if not chosen:
        raise unknown_name("model", str(wanted), {item.title for item in found}, where="--model")
    return chosen


def _titles(runs: Sequence[RunFile]) -> list[str]:
    names = []
    for run in runs:
        with readable(run):
            names.append(str(run.spec["name"]))
    return distinct(names, [run.path.absolute().parent.name for run in runs])


def _id_of(models: Sequence[_Model], sample: str) -> str:
    """The id that `sample` is, or whose number in the first run it is."""
    ids = list(dict.fromkeys(row.id for item in models for row in item.rows))
    if sample in ids:
        return sample
    numbers = {str(row.sample): row.id for row in models[0].rows}
    if sample in numbers:
        return numbers[sample]
    near = difflib.get_close_matches(sample, ids, n=NEAR_NAMES, cutoff=0.5) or ids[:NEAR_NAMES]
    raise SpecError(
        "no such sample",
        where="--sample",
        found=repr(sample),
        expected=f"an id such as {', '.join(near)}, or a number from 0 to {len(models[0].rows) - 1}",
        hint="the report names the samples of its witnesses; --worst ATTACK chooses one",
    )


def _attacks(item: _Model) -> dict[tuple[str, int], str]:
    """(norm, step) -> the name of every attack that ran, or was tried on planted examples."""
    names = {(unit["norm"], unit["step"]): str(unit["attack"]) for unit in item.run.units(item.number)}
    for row in item.run.meta("drills", []):
        if row["model"] == item.number:
            names.setdefault((row["norm"], row["step"]), str(row["attack"]))
    order = list(Norm)
    return {key: names[key] for key in sorted(names, key=lambda key: (order.index(Norm(key[0])), key[1]))}


def _rows(item: _Model, sample: str, wanted: str | None) -> Iterator[tuple[str, Row]]:
    """(norm, row) of every attack on the sample, in the order of the battery."""
    at = next((row for row in item.rows if row.id == sample), None)
    attacks = {key: name for key, name in _attacks(item).items() if wanted in (None, key[0])}
    nearest: dict[tuple[str, int], WitnessRow] = {}
    results: dict[tuple[str, int], list[tuple[UnitKey, ResultRow]]] = {}
    if at is not None:
        for witness in item.run.witnesses(item.number, wanted, sample=at.sample):
            nearest.setdefault((witness.norm, witness.step), witness)
        for unit, _, result in item.run.results(item.number, at.sample):
            results.setdefault((unit.norm, unit.step), []).append((unit, result))
    names = item.run.meta("dataset")["class_names"]
    for key, attack in attacks.items():
        if at is None:
            yield key[0], Row(item.run_title, attack, "not run", "this run is over other samples", None)
        elif key in nearest:
            found = _found(item.run, nearest[key], names)
            yield key[0], Row(item.run_title, attack, Outcome.BROKEN, "", found)
        else:
            others = [name for other, name in attacks.items() if other[0] == key[0] and other in nearest]
            earlier = [] if _is_contest(item.run) else others
            outcome, reason = _without(at, results.get(key, []), earlier, names)
            yield key[0], Row(item.run_title, attack, outcome, reason, None)


def _without(
    at: SampleRow, results: Sequence[tuple[UnitKey, ResultRow]], others: Sequence[str], names: Sequence[str]
) -> tuple[str, str]:
    """Outcome and reason of an attack that has no witness of the sample; `others` of its battery have one."""
    if not at.valid or at.prediction is None:
        return Outcome.INVALID, "the model gave no valid answer to the original"
    if at.prediction != at.label:
        return Outcome.CLEAN_ERROR, f"classified as {class_name(at.prediction, names)} before any attack: not attacked"
    if reasons := [result.reason for _, result in results if result.outcome is Outcome.INVALID]:
        return Outcome.INVALID, reasons[0] or "no reason was given"
    if results:
        return Outcome.HELD, f"not broken by this attack up to th = {max(unit.th for unit, _ in results)}"
    if others:
        return "not run", f"{', '.join(dict.fromkeys(others))} had broken the sample before it was this attack's turn"
    return "not run", "the run has no result of this attack on the sample"


def _found(run: RunFile, witness: WitnessRow, names: Sequence[str]) -> Found:
    shape, grid = _format(run)
    original, image = unpack(run.original(witness.sample), shape, grid), unpack(witness.image, shape, grid)
    return Found(
        image=np.asarray(image),
        predicted_name=class_name(witness.prediction, names),
        distance=witness.distance,
        l2=float(distances(Norm.L2, original[None], image[None])[0]),
        queries=witness.queries_to_success,
    )


def _original(models: Sequence[_Model], sample: str) -> tuple[NDArray[Any], int]:
    """The image and label of a sample that some run has a witness of; a run keeps the originals of those only."""
    for item in models:
        for row in item.rows:
            if row.id == sample and next(item.run.witnesses(item.number, sample=row.sample), None) is not None:
                shape, grid = _format(item.run)
                return np.asarray(unpack(item.run.original(row.sample), shape, grid)), row.label
    raise RunFileError("no original stored", where=str(models[0].run.path), found=sample)


def _is_contest(run: RunFile) -> bool:
    return bool(run.spec.get("contest", False))


def _format(run: RunFile) -> tuple[tuple[int, int, int], Grid]:
    channels, height, width = run.meta("dataset")["shape"]
    return (channels, height, width), parse(RunSpec, run.spec, where=str(run.path)).grid


def _no_norm(models: Sequence[_Model], norm: str) -> SpecError:
    known = dict.fromkeys(of_norm for item in models for of_norm, _ in _attacks(item))
    return SpecError("no attack ran under this norm", where="--norm", found=norm, expected=" or ".join(known))


def _nothing_drawn(models: Sequence[_Model], sample: str, rows: Sequence[Row]) -> SpecError:
    said = dict.fromkeys(f"{row.outcome}: {row.reason}" for row in rows)
    broken: list[str] = []
    for item in models:
        numbers = {number for norm in Norm for number, _, _ in item.run.witness_distances(item.number, norm)}
        broken += [row.id for row in item.rows if row.sample in numbers]
    some = ", ".join(list(dict.fromkeys(broken))[:NEAR_NAMES])
    return SpecError(
        "no attack has a witness of this sample, so there is nothing to draw",
        where=f"--sample {sample}",
        found="; ".join(said) or "no attack ran",
        expected=f"a sample that was broken, such as {some}" if some else "a run that broke something",
        hint="--worst ATTACK chooses the sample of the farthest witness of an attack" if some else "",
    )
