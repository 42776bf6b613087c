"""The tables of a run file row by row, with the names that belong to them: nothing is kept between two rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple


class SampleLine(NamedTuple):
    """One sample as one model sees it unperturbed."""

    model: int
    sample: int
    id: str
    label: int
    prediction: int | None
    valid: bool


class ResultLine(NamedTuple):
    """How one sample came out of one unit."""

    unit: int
    model: int
    norm: str
    th: int
    attack: str
    sample: int
    id: str
    outcome: str
    queries: int
    queries_to_success: int | None
    reason: str


class WitnessLine(NamedTuple):
    """A witness, without its image."""

    unit: int
    model: int
    norm: str
    th: int
    attack: str
    sample: int
    id: str
    label: int
    prediction: int
    distance: float
    queries_to_success: int | None
    metrics: Mapping[str, Any]


class UnitLine(NamedTuple):
    """One unit of work, with its counts."""

    unit: int
    model: int
    norm: str
    th: int
    step: int
    shard: int
    round: int
    attack: str
    kind: str
    rows: int
    seconds: float
    detail: Mapping[str, Any]
    attacked: int
    broken: int
    held: int
    invalid: int
    queries: int
    rejected: int


class ProofLine(NamedTuple):
    """What one call of a certifier says of one sample; without a sample, why it was not asked."""

    proof: int
    model: int
    norm: str
    th: int
    certifier: str
    detail: Mapping[str, Any]
    sample: int | None
    id: str | None
    holds: bool | None


class Streams:
    """Reads an open run file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def samples(self) -> Iterator[SampleLine]:
        """By model and sample."""
        query = "SELECT model, sample, id, label, prediction, valid FROM samples ORDER BY model, sample"
        for *row, valid in self._db.execute(query):
            yield SampleLine._make((*row, bool(valid)))

    def results(self) -> Iterator[ResultLine]:
        """By unit and sample."""
        query = """
            SELECT r.unit, u.model, u.norm, u.th, u.attack, r.sample, s.id, r.outcome, r.queries,
                r.queries_to_success, r.reason
            FROM units u CROSS JOIN results r ON r.unit = u.unit
            CROSS JOIN samples s ON s.model = u.model AND s.sample = r.sample ORDER BY u.unit, r.sample"""
        yield from map(ResultLine._make, self._db.execute(query))

    def witnesses(self) -> Iterator[WitnessLine]:
        """By unit and sample."""
        for row in self._db.execute(_WITNESSES.format(more="")):
            yield WitnessLine._make((*row[:-1], json.loads(row[-1])))

    def witness_images(self) -> Iterator[tuple[WitnessLine, bytes]]:
        """The same, each with its stored image."""
        for *row, image, metrics in self._db.execute(_WITNESSES.format(more="w.image, ")):
            yield WitnessLine._make((*row, json.loads(metrics))), image

    def originals(self) -> Iterator[tuple[SampleLine, bytes]]:
        """The stored originals, by sample, as the first model sees them."""
        query = """
            SELECT s.model, s.sample, s.id, s.label, s.prediction, s.valid, o.image
            FROM originals o CROSS JOIN samples s ON s.model = 0 AND s.sample = o.sample ORDER BY o.sample"""
        for *row, valid, image in self._db.execute(query):
            yield SampleLine._make((*row, bool(valid))), image

    def units(self) -> Iterator[UnitLine]:
        """As they were written."""
        query = """
            SELECT u.unit, u.model, u.norm, u.th, u.step, u.shard, u.round, u.attack, u.kind, u.rows, u.seconds,
                u.detail, COUNT(r.sample), COALESCE(SUM(r.outcome = 'broken'), 0),
                COALESCE(SUM(r.outcome = 'held'), 0), COALESCE(SUM(r.outcome = 'invalid'), 0),
                COALESCE(SUM(r.queries), 0), (SELECT COUNT(*) FROM rejected j WHERE j.unit = u.unit)
            FROM units u LEFT JOIN results r ON r.unit = u.unit GROUP BY u.unit ORDER BY u.unit"""
        for row in self._db.execute(query):
            yield UnitLine._make((*row[:11], json.loads(row[11]), *row[12:]))

    def proofs(self) -> Iterator[ProofLine]:
        """By call and sample."""
        query = """
            SELECT c.proof, c.model, c.norm, c.th, c.certifier, c.detail, p.sample, s.id, p.holds
            FROM proofs c LEFT JOIN proven p ON p.proof = c.proof
            LEFT JOIN samples s ON s.model = c.model AND s.sample = p.sample ORDER BY c.proof, p.sample"""
        for *row, detail, sample, name, holds in self._db.execute(query):
            yield ProofLine._make((*row, json.loads(detail), sample, name, None if holds is None else bool(holds)))


_WITNESSES = """
    SELECT w.unit, u.model, u.norm, u.th, u.attack, w.sample, s.id, s.label, w.prediction, w.distance,
        r.queries_to_success, {more}w.metrics
    FROM units u CROSS JOIN witnesses w ON w.unit = u.unit CROSS JOIN results r ON r.unit = w.unit
        AND r.sample = w.sample CROSS JOIN samples s ON s.model = u.model AND s.sample = w.sample
    ORDER BY u.unit, w.sample"""
