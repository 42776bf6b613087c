"""The rows of a comparison: every model of every run, told apart, on the samples that all runs share."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from sqlite3 import DatabaseError

import numpy as np
from pydantic import ValidationError

from charpy.analysis.document import Assessment
from charpy.analysis.findings import NormFindings
from charpy.analysis.outcomes import Evidence, Ints, Outcomes
from charpy.analysis.reading import Reading
from charpy.analysis.summary import RunSummary
from charpy.errors import RunFileError
from charpy.records import SampleRow
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse

Identity = tuple[str, str, str, str]
"""What makes two rows about the same model: its kind, its fingerprint, its defences with their parameters; and its name
where a run has several that are equal in these (a callable may show little of itself)."""


@dataclass(frozen=True)
class Entry:
    """One model of one run, restricted to the T samples that all runs share, which have the same rows everywhere.

    Attributes:
        title: its name, told apart from others of that name by the run.
        model: the name of the model, the same for every row about the same one.
        run_title: the name of its run, told apart likewise.
        index: its number in the run.
        shared: int64 `(T,)`, the positions of the shared samples in the run.
        samples: run index of a sample -> its row, shared samples only.
        labels: int64 `(T,)`.
        correct: bool `(T,)`, as in each `Evidence`.
        outcomes, evidence, found: by norm, in the order of the spec.
        finished: whether every unit of the run is done.
    """

    title: str
    model: str
    run_title: str
    run: RunFile
    spec: RunSpec
    index: int
    identity: Identity
    assessment: Assessment
    shared: Ints
    samples: Mapping[int, int]
    labels: Ints
    outcomes: Mapping[str, Outcomes]
    evidence: Mapping[str, Evidence]
    found: Mapping[str, NormFindings]
    correct: np.ndarray[tuple[int], np.dtype[np.bool_]]
    finished: bool

    def own(self, norm: str) -> tuple[int, ...]:
        """The level of each shared sample where each has its own; empty where levels are given for all."""
        own = self.evidence[norm].own
        return () if own is None else tuple(own.tolist())

    def reached(self, norm: str) -> frozenset[int]:
        """The levels of `outcomes` at which every sample was attacked, so that shares of them mean something.

        None of a search that was interrupted: it goes through the levels in any order, and may still lower each.
        """
        outcomes = self.outcomes[norm]
        if self.found[norm].search and not self.finished:
            return frozenset()
        return frozenset(
            th for th, missing in zip(outcomes.levels, outcomes.unattacked.T, strict=True) if not missing.any()
        )


@dataclass(frozen=True)
class _Opened:
    run: RunFile
    spec: RunSpec
    summary: RunSummary
    readings: tuple[Reading, ...]

    @property
    def rows(self) -> list[SampleRow]:
        return self.readings[0].rows


@contextmanager
def readable(run: RunFile) -> Iterator[None]:
    """Whatever is wrong inside a run file becomes one error that names it."""
    try:
        yield
    except (DatabaseError, ValidationError, json.JSONDecodeError, KeyError, UnicodeDecodeError) as cause:
        raise RunFileError(
            "the run file is damaged, or was not written by charpy",
            where=str(run.path),
            found=f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}",
            hint="make it again with `charpy assess` or `charpy run`, or leave it out",
        ) from cause


def check_same_data(run: RunFile, first: RunFile, hint: str) -> None:
    """Refuse a run that has assessed nothing, or is over other data than the first; `hint` is what to do then.

    Raises:
        RunFileError: either.
    """
    dataset = run.meta("dataset")
    if dataset is None or not run.meta("models"):
        raise RunFileError(
            "nothing was assessed yet: the run stopped before its data and models were recorded",
            where=str(run.path),
            hint="run the same command again, it goes on from here",
        )
    expected = first.meta("dataset")["fingerprint"]
    if dataset["fingerprint"] != expected:
        raise RunFileError(
            "the runs are over different data, so no sample is the same in both",
            where=str(run.path),
            found=f"data {dataset['fingerprint']}",
            expected=f"{expected}, as in {first.path}",
            hint=hint,
        )


def read_entries(runs: Sequence[RunFile]) -> tuple[Entry, ...]:
    """Every model of every run, in order.

    Raises:
        RunFileError: a run that has assessed nothing yet or is damaged; runs over different data, or without a sample
            in common.
    """
    opened = [_open(run) for run in runs]
    shared = _shared(opened)
    run_titles = distinct(
        [part.summary.name for part in opened], [part.run.path.absolute().parent.name for part in opened]
    )
    places = [(number, index) for number, part in enumerate(opened) for index in range(len(part.readings))]
    assessments = [opened[number].summary.assessments[index] for number, index in places]
    names = [part.model.name for part in assessments]
    identities = _identities([opened[number].spec for number, _ in places], places, assessments)
    titles = distinct(names, [run_titles[number] for number, _ in places])
    models = _model_names(names, titles, identities)
    return tuple(
        _entry(opened[number], index, shared[number], titles[i], models[i], run_titles[number], identities[i])
        for i, (number, index) in enumerate(places)
    )


def distinct(names: Sequence[str], further: Sequence[str]) -> list[str]:
    """`names`, those that occur more than once with what `further` says of them, and a number if even that recurs."""
    often = Counter(names)
    fuller = [
        f"{name} ({more})" if often[name] > 1 and more else name for name, more in zip(names, further, strict=True)
    ]
    again = Counter(fuller)
    seen: Counter[str] = Counter()
    titles = []
    for name in fuller:
        seen[name] += 1
        titles.append(f"{name} #{seen[name]}" if again[name] > 1 else name)
    return titles


def _open(run: RunFile) -> _Opened:
    with readable(run):
        summary = RunSummary.of(run)
        spec = parse(RunSpec, run.spec, where=str(run.path))
        # A run that stopped may not have reached its later models.
        ready = [index for index in range(len(summary.assessments)) if run.samples(index)]
        if len(ready) < len(summary.assessments):
            raise RunFileError(
                "the run stopped before it had looked at every model",
                where=str(run.path),
                found=f"{len(ready)} of {len(summary.assessments)} models",
                hint="run the same command again, it goes on from here",
            )
        return _Opened(run, spec, summary, tuple(Reading.of(run, index, spec) for index in ready))


def _shared(opened: Sequence[_Opened]) -> list[Ints]:
    """For each run, the positions `(T,)` of the samples that all runs have, in the order of the first."""
    data = {
        f"{part.run.path}: {dataset.name} {dataset.fingerprint}": dataset.fingerprint
        for part in opened
        for dataset in [part.summary.assessments[0].dataset]
    }
    if len(set(data.values())) > 1:
        raise RunFileError(
            "the runs are over different data, so that no sample of one is a sample of another",
            where="charpy compare",
            found="; ".join(data),
            expected="one data set, with one fingerprint",
            hint="compare the runs of each data set on their own",
        )
    places = [{row.id: place for place, row in enumerate(part.rows)} for part in opened]
    common = [name for name in places[0] if all(name in others for others in places[1:])]
    if not common:
        raise RunFileError(
            "the runs have no sample in common",
            where="charpy compare",
            found="; ".join(f"{part.run.path}: {len(part.rows)} samples" for part in opened),
            expected="the same `samples` and the same `seed` under `data` in every spec",
            hint="run them again over the same samples",
        )
    return [np.array([place[name] for name in common], np.int64) for place in places]


def _identities(
    specs: Sequence[RunSpec], places: Sequence[tuple[int, int]], assessments: Sequence[Assessment]
) -> list[Identity]:
    found = []
    for spec, (number, index), assessment in zip(specs, places, assessments, strict=True):
        model = assessment.model
        defenses = json.dumps([part.model_dump(mode="json") for part in spec.models[index].defenses], sort_keys=True)
        found.append((number, model.kind, json.dumps(model.fingerprint, sort_keys=True), defenses))
    often = Counter(found)
    return [
        (*look[1:], assessment.model.name if often[look] > 1 else "")
        for look, assessment in zip(found, assessments, strict=True)
    ]


def _model_names(names: Sequence[str], titles: Sequence[str], identities: Sequence[Identity]) -> list[str]:
    """One name a model: the plain one, or the title of its first row where another model has that name."""
    first = {identity: place for place, identity in reversed(list(enumerate(identities)))}
    plain = Counter(names[place] for place in first.values())
    chosen = {
        identity: names[place] if plain[names[place]] == 1 else titles[place] for identity, place in first.items()
    }
    return [chosen[identity] for identity in identities]


def _entry(
    part: _Opened, index: int, shared: Ints, title: str, model: str, run_title: str, identity: Identity
) -> Entry:
    reading = part.readings[index]
    evidence = {norm: found.of(shared) for norm, found in reading.evidence.items()}
    return Entry(
        title=title,
        model=model,
        run_title=run_title,
        run=part.run,
        spec=part.spec,
        index=index,
        identity=identity,
        assessment=part.summary.assessments[index],
        shared=shared,
        samples={reading.rows[place].sample: row for row, place in enumerate(shared.tolist())},
        labels=reading.population.labels[shared],
        outcomes={norm: outcomes.of(shared) for norm, outcomes in reading.outcomes.items()},
        evidence=evidence,
        found=reading.found,
        correct=reading.population.correct[shared],
        finished=bool(part.run.meta("finished", False)),
    )
