"""One or more runs as one comparison document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

from charpy.analysis.comparison.attempts import Attempt, attack_cells, read_attempts
from charpy.analysis.comparison.document import Comparison, EntryPart, RunPart
from charpy.analysis.comparison.dual_table import DEFINITION, dual_cells
from charpy.analysis.comparison.duels import duel_parts, win_parts
from charpy.analysis.comparison.entries import Entry, read_entries, readable
from charpy.analysis.comparison.missing import missing_parts
from charpy.analysis.comparison.per_model import agreement, areas, classes, curves
from charpy.analysis.comparison.rates import rate
from charpy.analysis.comparison.transfers import transfer_parts
from charpy.analysis.verdict import SPOKEN
from charpy.errors import RunFileError
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specs import ThreatSpec
from charpy.threat import Norm

NAMED = 4
"""Of more runs than these, the title counts the others."""


def compare(runs: Sequence[RunFile], *, transfer_with: Registry | None = None) -> Comparison:
    """The comparison of every model of open run files, on the samples that all of them share.

    Args:
        runs: one or more, finished or not.
        transfer_with: opens the models again and shows each the witnesses of the others; None: no transfer matrix.

    Raises:
        RunFileError: a run file given twice, damaged, or without a result; runs over different data, without a sample
            in common, or with different goals under one norm.
        ModelError: see `transfer_parts`.
    """
    _refuse_twice(runs)
    entries = read_entries(runs)
    _refuse_goals(entries)
    with ExitStack() as stack:
        for run in runs:
            stack.enter_context(readable(run))
        attempts = read_attempts(entries)
        transfer = transfer_parts(entries, transfer_with) if transfer_with is not None else ()
    dual, duels = dual_cells(entries), duel_parts(attempts)
    attacks, whole, agreed, lines = attack_cells(attempts), areas(entries), agreement(entries), curves(entries)
    by_class = classes(entries)
    return Comparison(
        name=_name(list(dict.fromkeys(entry.run_title for entry in entries))),
        definition=DEFINITION,
        dataset=entries[0].assessment.dataset,
        samples=len(entries[0].labels),
        runs=_runs(entries),
        entries=tuple(_entry(entry, sum(c.entry == entry.title and c.mark != "" for c in dual)) for entry in entries),
        notes=tuple(_notes(entries, attempts)),
        warnings=tuple(f"{entry.title}: {warning}" for entry in entries for warning in entry.assessment.warnings),
        dual=dual,
        duels=duels,
        wins=win_parts(duels),
        attacks=attacks,
        areas=whole,
        classes=by_class,
        transfer=transfer,
        agreement=agreed,
        curves=lines,
        missing=missing_parts(
            {
                "duels": duels,
                "attacks": attacks,
                "areas": whole,
                "classes": [part for part in by_class if part.samples],
                "transfer": transfer,
                "agreement": agreed,
                "curves": lines,
            },
            asked_transfer=transfer_with is not None,
        ),
    )


def _name(titles: Sequence[str]) -> str:
    if len(titles) <= NAMED:
        return " and ".join(titles)
    return f"{', '.join(titles[: NAMED - 1])} and {len(titles) - NAMED + 1} other runs"


def _refuse_twice(runs: Sequence[RunFile]) -> None:
    seen: dict[object, RunFile] = {}
    for run in runs:
        with readable(run):
            key = run.meta("run_id") or run.path.resolve()
        if key in seen:
            raise RunFileError(
                "a run is given twice, and would be compared with itself",
                where=str(run.path),
                found=f"the same run as {seen[key].path}",
                hint="give each run once",
            )
        seen[key] = run


def _refuse_goals(entries: Sequence[Entry]) -> None:
    for norm in Norm:
        goals = {str(entry.found[norm].threat.goal): entry for entry in entries if norm in entry.found}
        if len(goals) > 1:
            raise RunFileError(
                f"the runs have different goals under {norm}, so that being broken is not the same thing in them",
                where="charpy compare",
                found="; ".join(f"{entry.run.path}: {goal}" for goal, entry in goals.items()),
                expected="one goal for each norm",
                hint="compare the targeted runs on their own",
            )


def _runs(entries: Sequence[Entry]) -> tuple[RunPart, ...]:
    firsts = [entry for entry in entries if entry.index == 0]
    return tuple(
        RunPart(
            title=entry.run_title,
            file=str(entry.run.path),
            samples=entry.assessment.clean.total,
            seed=entry.spec.seed,
            carry=entry.spec.carry,
        )
        for entry in firsts
    )


def _entry(entry: Entry, marks: int) -> EntryPart:
    return EntryPart(
        title=entry.title,
        run=entry.run_title,
        model=entry.model,
        defenses=entry.assessment.model.defenses,
        status=entry.assessment.status,
        status_reason=entry.assessment.status_reason,
        finished=entry.finished,
        clean=rate(int(entry.correct.sum()), len(entry.labels)),
        marks=marks,
    )


def _notes(entries: Sequence[Entry], attempts: Sequence[Attempt]) -> Iterator[str]:
    """What a reader must know before holding two figures against each other."""
    shared = len(entries[0].labels)
    sizes = {entry.run_title: entry.assessment.clean.total for entry in entries}
    if any(size != shared for size in sizes.values()):
        listed = ", ".join(f"{title} has {size}" for title, size in sizes.items())
        yield (
            f"Restricted to the {shared} samples that all runs share ({listed}); the report of each run is over all of "
            "its own."
        )
    for norm in dict.fromkeys(norm for entry in entries for norm in entry.found):
        means = {_means(entry, norm) for entry in entries if norm in entry.found}
        if len(means) > 1:
            yield (
                f"Under {SPOKEN[Norm(norm)]} the rows were attacked by different batteries or with different "
                "budgets: between them a lower adversarial accuracy may be a weaker attack instead of a stronger model."
            )
    if len({entry.spec.carry for entry in entries}) > 1:
        yield "Some runs have `carry: false`: there a witness found at one level does not count at a larger one."
    if len({entry.spec.grid for entry in entries}) > 1:
        yield "Some runs have `grid: none`: their witnesses are real-valued and may not survive a PNG."
    later = dict.fromkeys(
        attempt.label
        for attempt in attempts
        if not all(attempt.complete[th] for th in attempt.entry.reached(attempt.norm) & attempt.complete.keys())
    )
    if later:
        yield (
            f"{', '.join(later)}: asked only about what the attacks before in the battery had left standing (a sample "
            "that is broken is not attacked again), at some level at least. Such figures are of survivors, and are in "
            "no pairing of attacks; for independent figures give every attack a run of its own."
        )


def _means(entry: Entry, norm: str) -> str:
    """What attacked a model under `norm`; a named battery depends on what the model gives."""
    threat: ThreatSpec = entry.found[norm].threat
    battery = threat.model_dump(mode="json")["battery"]
    access = entry.assessment.model.access if isinstance(battery, str) else ""
    return json.dumps([battery, access, threat.queries], sort_keys=True)
