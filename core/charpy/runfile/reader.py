"""What a run file holds, as the rest of charpy asks for it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from charpy.errors import RunFileError
from charpy.outcome import Outcome
from charpy.records import MeasuredWitness, ProofKey, ProofRecord, ResultRow, SampleRow, UnitKey, WitnessRow


class Reader:
    """The tables of an open run file: what it is about, its samples, units, results, witnesses and proofs."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._db = connection

    @property
    def identity(self) -> dict[str, str]:
        """What the run is about: spec, model bytes, data, plugin versions."""
        return dict(self._db.execute("SELECT key, value FROM identity"))

    @property
    def spec(self) -> dict[str, Any]:
        """The run's spec, as parsed."""
        spec: dict[str, Any] = self.meta("spec")
        return spec

    def meta(self, key: str, default: Any = None) -> Any:
        """A stored JSON value: `spec`, `run_id`, `dataset`, `models`, `environment`, `notes`, `finished`."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return default if row is None else json.loads(row[0])

    def samples(self, model: int) -> list[SampleRow]:
        """The samples of one model, by index."""
        query = "SELECT sample, id, label, prediction, valid FROM samples WHERE model = ? ORDER BY sample"
        return [SampleRow(s, i, lab, p, bool(v)) for s, i, lab, p, v in self._db.execute(query, (model,))]

    def finished(self) -> set[UnitKey]:
        """The units that are done."""
        return {UnitKey(*row) for row in self._db.execute("SELECT model, norm, th, step, shard, round FROM units")}

    def distances_of(self, key: UnitKey) -> dict[int, float]:
        """The distance of each witness of one finished unit, by sample."""
        query = """
            SELECT w.sample, w.distance FROM witnesses w JOIN units u ON u.unit = w.unit WHERE u.model = ?
            AND u.norm = ? AND u.th = ? AND u.step = ? AND u.shard = ? AND u.round = ?"""
        return dict(self._db.execute(query, tuple(key)))

    def units(self, model: int) -> list[dict[str, Any]]:
        """One mapping per unit of `model`, in the order they were written, with its counts.

        Keys: norm, th, step, shard, round, attack, kind, rows, seconds, detail, attacked, broken, held, invalid,
        queries_sum, queries_max, rejected.
        """
        query = """
            SELECT u.norm, u.th, u.step, u.shard, u.round, u.attack, u.kind, u.rows, u.seconds, u.detail,
                COUNT(r.sample) AS attacked, COALESCE(SUM(r.outcome = 'broken'), 0) AS broken,
                COALESCE(SUM(r.outcome = 'held'), 0) AS held, COALESCE(SUM(r.outcome = 'invalid'), 0) AS invalid,
                COALESCE(SUM(r.queries), 0) AS queries_sum, COALESCE(MAX(r.queries), 0) AS queries_max,
                (SELECT COUNT(*) FROM rejected j WHERE j.unit = u.unit) AS rejected
            FROM units u LEFT JOIN results r ON r.unit = u.unit WHERE u.model = ? GROUP BY u.unit ORDER BY u.unit"""
        cursor = self._db.execute(query, (model,))
        names = [column[0] for column in cursor.description]
        rows = [dict(zip(names, row, strict=True)) for row in cursor]
        return [{**row, "detail": json.loads(row["detail"])} for row in rows]

    def results(self, model: int, sample: int | None = None) -> Iterator[tuple[UnitKey, str, ResultRow]]:
        """Every (unit key, attack name, result) of `model`, or of one of its samples, streamed."""
        query = """
            SELECT u.model, u.norm, u.th, u.step, u.shard, u.round, u.attack,
                r.sample, r.outcome, r.queries, r.queries_to_success, r.reason
            FROM results r JOIN units u ON u.unit = r.unit WHERE u.model = ? AND (? IS NULL OR r.sample = ?)
            ORDER BY u.unit, r.sample"""
        for row in self._db.execute(query, (model, sample, sample)):
            yield UnitKey(*row[:6]), row[6], ResultRow(row[7], Outcome(row[8]), *row[9:])

    def witness_distances(self, model: int, norm: str) -> list[tuple[int, int, float]]:
        """`(sample, th, distance)` of every witness of `model` under `norm`."""
        query = "SELECT sample, th, distance FROM witnesses WHERE model = ? AND norm = ? ORDER BY sample, th, unit"
        return list(self._db.execute(query, (model, norm)))

    def witness_steps(self, model: int) -> Iterator[tuple[str, int, int, int, float]]:
        """`(norm, step, th, sample, distance)` of every witness of `model`, streamed."""
        query = """
            SELECT w.norm, u.step, u.th, w.sample, w.distance FROM witnesses w JOIN units u ON u.unit = w.unit
            WHERE w.model = ? ORDER BY w.unit, w.sample"""
        yield from self._db.execute(query, (model,))

    def nearest_of(self, model: int, attack: str) -> list[tuple[str, int, float]]:
        """`(norm, sample, distance)` of the nearest witness that an attack of this name found of each sample."""
        query = """
            SELECT w.norm, w.sample, MIN(w.distance) FROM witnesses w JOIN units u ON u.unit = w.unit
            WHERE w.model = ? AND u.attack = ? GROUP BY w.norm, w.sample ORDER BY w.norm, w.sample"""
        return list(self._db.execute(query, (model, attack)))

    def witnesses(
        self, model: int, norm: str | None = None, *, sample: int | None = None, smallest: bool = False
    ) -> Iterator[WitnessRow]:
        """The witnesses of `model`, by sample and distance, streamed; with `smallest`, only each sample's nearest."""
        query = """
            SELECT w.sample, w.distance, w.prediction, w.image, w.metrics, w.norm, w.th, u.attack,
                r.queries_to_success, u.step
            FROM witnesses w JOIN units u ON u.unit = w.unit JOIN results r ON r.unit = w.unit AND r.sample = w.sample
            WHERE w.model = ? AND (? IS NULL OR w.norm = ?) AND (? IS NULL OR w.sample = ?)
            ORDER BY w.norm, w.sample, w.distance, w.unit"""
        last: tuple[str, int] | None = None
        for row in self._db.execute(query, (model, norm, norm, sample, sample)):
            of, distance, prediction, image, metrics, norm_, *found = row
            if smallest and last == (norm_, of):
                continue
            last = (norm_, of)
            yield WitnessRow(of, distance, prediction, image, json.loads(metrics), norm_, *found)

    def witness_metrics(self, model: int) -> Iterator[MeasuredWitness]:
        """What every witness of `model` measures, streamed."""
        query = """
            SELECT w.norm, u.step, w.th, w.sample, w.distance, w.metrics
            FROM witnesses w JOIN units u ON u.unit = w.unit WHERE w.model = ? ORDER BY w.unit, w.sample"""
        for norm, step, th, sample, distance, metrics in self._db.execute(query, (model,)):
            yield MeasuredWitness(norm, step, th, sample, distance, json.loads(metrics))

    def proofs_finished(self) -> set[ProofKey]:
        """The calls of certifiers that are done."""
        return {ProofKey(*row) for row in self._db.execute("SELECT model, norm, th, certifier, first FROM proofs")}

    def proof_of(self, key: ProofKey) -> dict[int, bool]:
        """What one finished call proved, by sample."""
        query = """
            SELECT p.sample, p.holds FROM proven p JOIN proofs c ON c.proof = p.proof WHERE c.model = ? AND c.norm = ?
            AND c.th = ? AND c.certifier = ? AND c.first = ?"""
        return {sample: bool(holds) for sample, holds in self._db.execute(query, tuple(key))}

    def proofs(self, model: int) -> list[ProofRecord]:
        """Every call of a certifier about `model`, in the order they were written."""
        query = "SELECT model, norm, th, certifier, first, seconds, detail FROM proofs WHERE model = ? ORDER BY proof"
        rows = self._db.execute(query, (model,)).fetchall()
        return [ProofRecord(key := ProofKey(*row[:5]), row[5], json.loads(row[6]), self.proof_of(key)) for row in rows]

    def original(self, sample: int) -> bytes:
        """The stored original of a sample that has a witness."""
        row = self._db.execute("SELECT image FROM originals WHERE sample = ?", (sample,)).fetchone()
        if row is None:
            raise RunFileError(f"no original stored for sample {sample}", where=str(self.path))
        return bytes(row[0])

    def rejected(self, model: int) -> list[dict[str, Any]]:
        """Claims that the judge refused: norm, th, attack, sample, reason."""
        query = """
            SELECT u.norm, u.th, u.attack, j.sample, j.reason FROM rejected j JOIN units u ON u.unit = j.unit
            WHERE u.model = ? ORDER BY u.unit, j.sample"""
        names = ("norm", "th", "attack", "sample", "reason")
        return [dict(zip(names, row, strict=True)) for row in self._db.execute(query, (model,))]
