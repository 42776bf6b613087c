"""samples, results, witnesses, units and proofs of a run, each with its columns; the rows come from the run file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from charpy.outcome import Outcome
from charpy.reports.table import Column, Kind, Table, Value
from charpy.runfile import RunFile
from charpy.runfile.streams import ProofLine, ResultLine, SampleLine, UnitLine, WitnessLine

DISTANCE = "pixels (l0), 1/255 steps (l1, l2, linf), 0 or 1 (unrestricted)"
LEVEL = "th: pixels (l0), 1/255 steps (l1, l2, linf)"
NO_ANSWER = "the model gave no valid answer"


class Names:
    """What the numbers in a run file stand for."""

    def __init__(self, run: RunFile) -> None:
        self.models = [str(part["name"]) for part in run.meta("models", [])]
        self.classes = [str(name) for name in (run.meta("dataset") or {}).get("class_names", [])]
        self.own: Mapping[str, list[int]] = run.meta("own_levels", {})
        spec = run.spec["metrics"]
        self.metrics = [str(item["kind"]) for item in spec] or _measured(run)

    def model(self, number: int) -> str:
        """The name in the report."""
        return self.models[number] if number < len(self.models) else str(number)

    def of_class(self, number: int | None) -> str | None:
        """The name of a class."""
        return self.classes[number] if number is not None and 0 <= number < len(self.classes) else None


def _measured(run: RunFile) -> list[str]:
    """The metrics of the first witness; every witness of a run has the same."""
    return sorted(next((line.metrics for line in run.streams().witnesses()), {}))


def tables(run: RunFile, names: Names) -> list[Table[Any]]:
    """All five."""
    streams = run.streams()
    return [
        Table("samples", "One row for every sample and model: what the model says of the unperturbed image.",
              _of_samples(names), _Again(streams.samples)),
        Table("results", "One row for every sample of every unit of work (a shard of samples through one attack at one "
              "level).", _of_results(names), _Again(streams.results)),
        Table("witnesses", "One row for every witness: an image inside the threat model that the model gets wrong, "
              "confirmed by the judge.", _of_witnesses(names), _Again(streams.witnesses)),
        Table("units", "One row for every unit of work, in the order in which they were done.", _of_units(names),
              _Again(streams.units)),
        Table("proofs", "One row for every sample that a certifier was asked about, or for one that could not be "
              "asked.", _of_proofs(names), _Again(streams.proofs)),
    ]  # fmt: skip


@dataclass(frozen=True)
class _Again(Iterable[Any]):
    """Rows that are read anew each time they are gone through."""

    rows: Callable[[], Iterator[Any]]

    def __iter__(self) -> Iterator[Any]:
        return self.rows()


def _model(names: Names) -> Column[Any]:
    return Column("model", lambda row: names.model(row.model), "name in the report")


def _whole(name: str, value: Callable[[Any], Value], meaning: str, unit: str = "", missing: str = "never",
           kind: Kind = "whole") -> Column[Any]:  # fmt: skip
    return Column(name, value, meaning, unit, "0 or more", missing, kind)


def _place(names: Names) -> list[Column[Any]]:
    return [
        _whole("unit", lambda row: row.unit, "number of the unit, as in units"),
        _model(names),
        Column("norm", lambda row: row.norm, "of the threat", range="l0, l1, l2, linf, unrestricted"),
        _whole("th", lambda row: row.th, "level that was attacked", LEVEL),
        Column("attack", lambda row: row.attack, "name in the report"),
    ]


def _sample() -> list[Column[Any]]:
    return [
        _whole("sample", lambda row: row.sample, "number of the sample in the run"),
        Column("id", lambda row: row.id, "of the sample in its dataset"),
    ]


def _class(
    name: str, names: Names, value: Callable[[Any], int | None], meaning: str, missing: str
) -> list[Column[Any]]:
    last = f"0 to {len(names.classes) - 1}"
    return [
        Column(name, value, meaning, "class number", last, missing, "whole"),
        Column(f"{name}_name", lambda row: names.of_class(value(row)), "the same in words", missing=missing),
    ]


def _of_samples(names: Names) -> list[Column[SampleLine]]:
    def own(norm: str, levels: list[int]) -> Column[SampleLine]:
        def value(row: SampleLine) -> Value:
            return levels[row.sample] if row.sample < len(levels) else None

        return _whole(
            f"own_level_{norm}", value, f"the sample's own level under {norm}; 0: no change is allowed", LEVEL
        )

    return [
        _model(names),
        *_sample(),
        *_class("label", names, lambda row: row.label, "true class", "never"),
        *_class("prediction", names, lambda row: row.prediction, "what the model says", NO_ANSWER),
        Column("valid", lambda row: row.valid, "the model gave a valid answer", range="yes, no", kind="yes or no"),
        Column("correct", lambda row: row.valid and row.prediction == row.label, "the prediction is the true class",
               range="yes, no", kind="yes or no"),
        *(own(norm, levels) for norm, levels in sorted(names.own.items())),
    ]  # fmt: skip


def _of_results(names: Names) -> list[Column[ResultLine]]:
    outcomes = ", ".join((Outcome.BROKEN, Outcome.HELD, Outcome.INVALID))
    return [
        *_place(names),
        *_sample(),
        Column("outcome", lambda row: row.outcome, "broken: there is a witness; held: this attack found none; invalid: "
               "it shows nothing", range=outcomes),
        _whole("queries", lambda row: row.queries, "model rows that the attack spent on it", "rows"),
        _whole("queries_to_success", lambda row: row.queries_to_success, "the row that was the first witness", "rows",
               "not broken, or by an image that the attack returned without asking"),
        Column("reason", lambda row: row.reason or None, "why it is invalid", missing="there is nothing to say"),
    ]  # fmt: skip


def _of_witnesses(names: Names) -> list[Column[WitnessLine]]:
    def metric(kind: str) -> Column[WitnessLine]:
        def value(row: WitnessLine) -> Value:
            found = row.metrics.get(kind)
            return None if found is None else float(found)

        return Column(f"metric_{kind}", value, f"`{kind}` of original and witness", "see `charpy describe metric`", "",
                      "not measured", "number")  # fmt: skip

    return [
        *_place(names),
        *_sample(),
        *_class("label", names, lambda row: row.label, "true class", "never"),
        *_class("prediction", names, lambda row: row.prediction, "what the model says of the witness", "never"),
        Column("distance", lambda row: float(row.distance), "from the original, exact", DISTANCE, "0 or more",
               kind="number"),
        _whole("queries_to_success", lambda row: row.queries_to_success, "the row that was the first witness", "rows",
               "the attack returned the image without asking"),
        *(metric(kind) for kind in names.metrics),
    ]  # fmt: skip


def _of_units(names: Names) -> list[Column[UnitLine]]:
    counted = {"attacked": "samples with a result", "broken": "of these", "held": "of these", "invalid": "of these",
               "rejected": "claims of the attack that the judge refused"}  # fmt: skip
    return [
        *_place(names),
        Column("kind", lambda row: row.kind, "of the attack, as `charpy plugins` lists it"),
        _whole("step", lambda row: row.step, "place of the attack in its battery, from 0"),
        _whole("shard", lambda row: row.shard, "which samples, from 0"),
        _whole("round", lambda row: row.round, "probe of a search for smallest levels"),
        *(_count(name, meaning) for name, meaning in counted.items()),
        _whole("queries", lambda row: row.queries, "model rows, over all samples", "rows"),
        _whole("rows", lambda row: row.rows, "model rows that were computed", "rows"),
        Column("seconds", lambda row: float(row.seconds), "that the attack took", "s", "0 or more", kind="number"),
        Column("params", lambda row: json.dumps(row.detail.get("params", {}), sort_keys=True), "JSON, of the attack"),
        Column("engine", _detail("engine"), "what answered its queries", missing="not known"),
        Column("failure", _detail("failure"), "why it was given up, or what it raised", missing="it did not fail"),
    ]  # fmt: skip


def _count(name: str, meaning: str) -> Column[UnitLine]:
    return _whole(name, lambda row: getattr(row, name), meaning, "samples")


def _detail(key: str) -> Callable[[Any], Value]:
    def value(row: UnitLine | ProofLine) -> Value:
        found = row.detail.get(key)
        return None if found is None else str(found)

    return value


def _of_proofs(names: Names) -> list[Column[ProofLine]]:
    nobody = "the certifier could not be asked"
    return [
        _whole("proof", lambda row: row.proof, "number of the call of the certifier"),
        _model(names),
        Column("norm", lambda row: row.norm, "of the threat", range="l0, l1, l2, linf"),
        _whole("th", lambda row: row.th, "level that it was asked about; 0: it could not be asked", LEVEL),
        Column("certifier", lambda row: row.certifier, "kind, as `charpy plugins` lists it"),
        _whole("sample", lambda row: row.sample, "number of the sample in the run", missing=nobody),
        Column("id", lambda row: row.id, "of the sample in its dataset", missing=nobody),
        Column("proven", lambda row: row.holds, "no image within the level changes the class", range="yes, no",
               missing=nobody, kind="yes or no"),
        Column("of", _detail("of"), "what the proof is of", missing="not known"),
        Column("arithmetic", _detail("arithmetic"), "real numbers, or the program in floating point",
               range="real, float-sound", missing="not known"),
        Column("reason", _detail("reason"), "why nothing is proven", missing="there is nothing to say"),
    ]  # fmt: skip
