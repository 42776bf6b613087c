"""What a verification asks of a run file, unit by unit: nothing here grows with the run."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

from charpy.records import UnitKey
from charpy.runfile.schema import COLUMNS, KEYS, SCHEMA
from charpy.threat import DISTANCE_TOLERANCE


class StoredWitness(NamedTuple):
    """A witness with what it was made of. `original`, `id` and `label` are None where the file has no such row."""

    unit: int
    sample: int
    distance: float
    prediction: int
    image: bytes
    metrics: Mapping[str, Any]
    original: bytes | None
    id: str | None
    label: int | None

    @property
    def record(self) -> str:
        """Which record it is."""
        return f"witnesses (unit {self.unit}, sample {self.sample})"


class Contradiction(NamedTuple):
    """A proof and a witness within what is proven."""

    norm: str
    th: int
    certifier: str
    of: str
    sample: int
    unit: int
    distance: float


class Audit:
    """Reads the tables of an open run file."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def counts(self) -> dict[str, int]:
        """Rows of each table."""
        return {table: int(self._db.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0]) for table in COLUMNS}

    def strangers(self) -> list[str]:
        """Tables, indices, views and triggers that are not those of the schema, by name."""
        with closing(sqlite3.connect(":memory:")) as fresh:
            fresh.executescript(SCHEMA)
            query = "SELECT type, name, sql FROM sqlite_master"
            differing = set(self._db.execute(query)) ^ set(fresh.execute(query))
        return sorted({f"{kind} {name}" for kind, name, _ in differing})

    def units(self, model: int | None = None) -> list[tuple[int, UnitKey, str, str, Mapping[str, Any]]]:
        """`(number, key, attack, kind, detail)` of every unit, of one model or of all, as they were written."""
        query = """
            SELECT unit, model, norm, th, step, shard, round, attack, kind, detail FROM units
            WHERE ? IS NULL OR model = ? ORDER BY unit"""
        rows = self._db.execute(query, (model, model))
        return [(row[0], UnitKey(*row[1:7]), row[7], row[8], json.loads(row[9])) for row in rows]

    def samples_of(self, unit: int) -> list[int]:
        """The samples that have a result in a unit."""
        return [
            row[0] for row in self._db.execute("SELECT sample FROM results WHERE unit = ? ORDER BY sample", (unit,))
        ]

    def witnesses(self, model: int) -> int:
        """How many witnesses there are of a model."""
        query = "SELECT COUNT(*) FROM witnesses w JOIN units u ON u.unit = w.unit WHERE u.model = ?"
        return int(self._db.execute(query, (model,)).fetchone()[0])

    def witnesses_of(self, unit: int) -> Iterator[StoredWitness]:
        """The witnesses of a unit, by sample."""
        query = """
            SELECT w.unit, w.sample, w.distance, w.prediction, w.image, w.metrics, o.image, s.id, s.label
            FROM witnesses w LEFT JOIN originals o ON o.sample = w.sample
            LEFT JOIN samples s ON s.model = w.model AND s.sample = w.sample WHERE w.unit = ? ORDER BY w.sample"""
        for unit_, sample, distance, prediction, image, metrics, *of in self._db.execute(query, (unit,)):
            yield StoredWitness(unit_, sample, distance, prediction, image, json.loads(metrics), *of)

    def originals(self, samples: range) -> dict[int, bytes]:
        """The stored originals of these samples, as far as there are any."""
        query = "SELECT sample, image FROM originals WHERE sample >= ? AND sample < ?"
        return dict(self._db.execute(query, (samples.start, samples.stop)))

    def first_originals(self, most: int) -> list[bytes]:
        """At most so many originals."""
        return [row[0] for row in self._db.execute("SELECT image FROM originals ORDER BY sample LIMIT ?", (most,))]

    def contradictions(self, model: int) -> Iterator[Contradiction]:
        """Every witness of a sample within a level at which it is proven."""
        query = """
            SELECT c.norm, c.th, c.certifier, c.detail, p.sample, w.unit, w.distance
            FROM proven p JOIN proofs c ON c.proof = p.proof
            JOIN witnesses w ON w.model = c.model AND w.norm = c.norm AND w.sample = p.sample
            WHERE p.holds = 1 AND c.model = ? AND w.distance <= c.th + ? ORDER BY c.proof, p.sample, w.unit"""
        for norm, th, certifier, detail, *rest in self._db.execute(query, (model, DISTANCE_TOLERANCE)):
            yield Contradiction(norm, th, certifier, json.loads(detail).get("of", ""), *rest)

    def malformed(self) -> Iterator[tuple[str, str, str]]:
        """`(record, found, expected)` of each value that should be a JSON mapping, and is none."""
        self._db.create_function("is_mapping", 1, _is_mapping, deterministic=True)
        for table, column in (("units", "detail"), ("witnesses", "metrics"), ("proofs", "detail")):
            keys = COLUMNS[table][: KEYS[table]]
            for key in self._db.execute(f"SELECT {', '.join(keys)} FROM {table} WHERE NOT is_mapping({column})"):
                named = ", ".join(f"{name} {value}" for name, value in zip(keys, key, strict=True))
                yield f"{table} ({named}): {column}", "none", "a JSON mapping"

    def misfits(self) -> Iterator[tuple[str, str, str]]:
        """`(record, found, expected)` of every row that does not fit the others."""
        for query, record, found, expected in _MISFITS:
            for row in self._db.execute(query):
                yield record.format(*row), found.format(*row), expected.format(*row)


def _is_mapping(text: object) -> bool:
    try:
        return isinstance(text, str) and isinstance(json.loads(text), dict)
    except ValueError:
        return False


_MISFITS = (
    (
        "SELECT r.unit, r.sample FROM results r LEFT JOIN witnesses w ON w.unit = r.unit AND w.sample = r.sample "
        "WHERE r.outcome = 'broken' AND w.unit IS NULL",
        "results (unit {}, sample {})", "broken, without a witness", "a witness in the same unit",
    ),
    (
        "SELECT w.unit, w.sample, COALESCE(r.outcome, 'no result') FROM witnesses w "
        "LEFT JOIN results r ON r.unit = w.unit AND r.sample = w.sample WHERE r.outcome IS NOT 'broken'",
        "witnesses (unit {}, sample {})", "a witness of a sample with the result: {2}", "the result broken",
    ),
    (
        "SELECT unit FROM units WHERE NOT EXISTS (SELECT 1 FROM results r WHERE r.unit = units.unit)",
        "units (unit {})", "no result", "one for each sample that was attacked",
    ),
    (
        "SELECT unit, sample, outcome FROM results WHERE outcome NOT IN ('broken', 'held', 'invalid')",
        "results (unit {}, sample {})", "{2}", "broken, held or invalid",
    ),
    (
        "SELECT unit, sample FROM results WHERE outcome = 'invalid' AND reason = ''",
        "results (unit {}, sample {})", "invalid, without a reason", "a reason",
    ),
    (
        "SELECT unit, sample, queries, queries_to_success FROM results "
        "WHERE queries < 0 OR queries_to_success < 1 OR queries_to_success > queries",
        "results (unit {}, sample {})", "{2} queries, {3} to success", "whole numbers, the second not above the first",
    ),
    (
        "SELECT r.unit, r.sample, r.queries, json_extract(u.detail, '$.queries') AS most FROM results r "
        "JOIN units u ON u.unit = r.unit WHERE r.queries > most",
        "results (unit {}, sample {})", "{2} queries", "at most {3}, the budget of its unit",
    ),
    (
        "SELECT MIN(unit), COUNT(*) FROM units GROUP BY model, norm, th, step, shard, round HAVING COUNT(*) > 1",
        "units (unit {})", "there {1} times", "once",
    ),
    (
        "SELECT w.unit, w.sample, w.model, w.norm, w.th, u.model, u.norm, u.th FROM witnesses w "
        "JOIN units u ON u.unit = w.unit WHERE (w.model, w.norm, w.th) IS NOT (u.model, u.norm, u.th)",
        "witnesses (unit {}, sample {})", "model {2}, {3} th={4}", "those of its unit: model {5}, {6} th={7}",
    ),
    (
        "SELECT o.sample FROM originals o WHERE NOT EXISTS (SELECT 1 FROM witnesses w WHERE w.sample = o.sample)",
        "originals (sample {})", "an original without a witness", "one for each sample that has a witness",
    ),
    (
        "SELECT DISTINCT w.sample FROM witnesses w LEFT JOIN originals o ON o.sample = w.sample "
        "WHERE o.sample IS NULL",
        "originals (sample {})", "none", "one for each sample that has a witness",
    ),
    *(
        (
            f"SELECT t.{key}, t.sample FROM {table} t LEFT JOIN {parent} p ON p.{key} = t.{key} WHERE p.{key} IS NULL",
            f"{table} ({key} {{}}, sample {{}})", f"no such {key}", f"a row of {parent}",
        )
        for table, parent, key in (
            ("results", "units", "unit"), ("witnesses", "units", "unit"), ("rejected", "units", "unit"),
            ("proven", "proofs", "proof"),
        )
    ),
    (
        "SELECT r.unit, r.sample, u.model FROM results r JOIN units u ON u.unit = r.unit "
        "LEFT JOIN samples s ON s.model = u.model AND s.sample = r.sample WHERE s.sample IS NULL",
        "results (unit {}, sample {})", "no such sample of model {2}", "a row of samples",
    ),
    (
        "SELECT p.proof, p.sample, c.model FROM proven p JOIN proofs c ON c.proof = p.proof LEFT JOIN samples s "
        "ON s.model = c.model AND s.sample = p.sample WHERE s.valid IS NOT 1 OR s.prediction IS NOT s.label",
        "proven (proof {}, sample {})", "no correctly classified sample of model {2}", "one that is",
    ),
    (
        "SELECT j.unit, j.sample FROM rejected j LEFT JOIN results r ON r.unit = j.unit AND r.sample = j.sample "
        "WHERE r.sample IS NULL",
        "rejected (unit {}, sample {})", "a claim about a sample that was not attacked", "a result in the same unit",
    ),
    (
        "SELECT a.model, a.sample, a.id, a.label, b.id, b.label FROM samples a JOIN samples b ON b.model = 0 "
        "AND b.sample = a.sample WHERE (a.id, a.label) IS NOT (b.id, b.label)",
        "samples (model {}, sample {})", "{2}, label {3}", "as of model 0: {4}, label {5}",
    ),
    (
        "SELECT model, sample, valid, prediction FROM samples WHERE (valid = 1) IS NOT (prediction IS NOT NULL)",
        "samples (model {}, sample {})", "valid {2}, prediction {3}", "a prediction where the answer is valid",
    ),
    (
        "SELECT model, MIN(sample), MAX(sample), COUNT(*), COUNT(DISTINCT id) FROM samples GROUP BY model "
        "HAVING MIN(sample) <> 0 OR MAX(sample) <> COUNT(*) - 1 OR COUNT(DISTINCT id) <> COUNT(*)",
        "samples (model {})", "{3} samples from {1} to {2}, with {4} ids", "0, 1, 2, ... each with an id of its own",
    ),
)  # fmt: skip
"""Queries for rows that do not fit, and how they are told."""
