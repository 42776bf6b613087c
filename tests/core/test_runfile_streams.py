"""The tables of a run file row by row: every row once, in order, with the names that belong to it."""

from __future__ import annotations

import pytest

from charpy.outcome import Outcome
from charpy.records import ProofKey, ProofRecord, ResultRow, SampleRow, UnitKey, UnitRecord, WitnessRow
from charpy.runfile import RunFile
from charpy.runfile.streams import ProofLine, ResultLine, SampleLine, UnitLine, WitnessLine

NAMES = ("cat 0", "dog 1", "owl 2")


@pytest.fixture
def run(tmp_path):
    """Two models of three samples; the second model answers nothing to the last one."""
    with RunFile.create(tmp_path / "run.charpy", {"seed": 1}, {}) as made:
        for model in range(2):
            answers = (0, 1, None) if model else (0, 1, 2)
            rows = zip(NAMES, answers, strict=True)
            made.write_samples(
                model, [SampleRow(i, name, i, answer, answer is not None) for i, (name, answer) in enumerate(rows)]
            )
        made.write_unit(unit(0, "l0", 3))
        made.write_unit(unit(1, "linf", 8))
        made.write_proof(ProofRecord(ProofKey(1, "l0", 1, "sure", 0), 0.5, {"of": "the model"}, {0: True, 1: False}))
        made.write_proof(ProofRecord(ProofKey(0, "l0", 1, "sure", -1), 0.0, {"refused": "too deep"}, {}))
        yield made


def unit(model, norm, th):
    """Sample 0 held, sample 1 broken with a witness, sample 2 invalid with a refused claim."""
    results = [
        ResultRow(0, Outcome.HELD, 60),
        ResultRow(1, Outcome.BROKEN, 40, 12),
        ResultRow(2, Outcome.INVALID, 1, None, "NaN"),
    ]
    return UnitRecord(
        UnitKey(model, norm, th, 0, 0), "few", "few_pixel", rows=101, seconds=0.5, detail={"queries": 60},
        results=results, witnesses=[WitnessRow(1, 2.0, 7, b"image %d" % model, {"l2": 3.5})],
        originals={1: b"original"}, rejected={2: "off the grid"},
    )  # fmt: skip


def test_samples_by_model(run):
    found = list(run.streams().samples())
    assert found[:3] == [SampleLine(0, i, name, i, i, True) for i, name in enumerate(NAMES)]
    assert found[5] == SampleLine(1, 2, "owl 2", 2, None, False)
    assert len(found) == 6


def test_results_with_the_sample_of_their_own_model(run):
    assert list(run.streams().results()) == [
        ResultLine(number, model, norm, th, "few", sample, NAMES[sample], outcome, queries, first, reason)
        for number, model, norm, th in ((1, 0, "l0", 3), (2, 1, "linf", 8))
        for sample, outcome, queries, first, reason in (
            (0, "held", 60, None, ""),
            (1, "broken", 40, 12, ""),
            (2, "invalid", 1, None, "NaN"),
        )
    ]


def test_witnesses_with_and_without_their_images(run):
    expected = [
        WitnessLine(number, model, norm, th, "few", 1, "dog 1", 1, 7, 2.0, 12, {"l2": 3.5})
        for number, model, norm, th in ((1, 0, "l0", 3), (2, 1, "linf", 8))
    ]
    assert list(run.streams().witnesses()) == expected
    assert list(run.streams().witness_images()) == list(zip(expected, (b"image 0", b"image 1"), strict=True))


def test_an_original_that_two_models_share_comes_once(run):
    assert list(run.streams().originals()) == [(SampleLine(0, 1, "dog 1", 1, 1, True), b"original")]


def test_units_with_their_counts(run):
    counts = {"attacked": 3, "broken": 1, "held": 1, "invalid": 1, "queries": 101, "rejected": 1}
    (first, second) = run.streams().units()
    assert first == UnitLine(1, 0, "l0", 3, 0, 0, 0, "few", "few_pixel", 101, 0.5, {"queries": 60}, **counts)
    assert second == first._replace(unit=2, model=1, norm="linf", th=8)


def test_proofs_by_sample_and_the_reason_where_a_certifier_was_not_asked(run):
    made = {"of": "the model"}
    assert list(run.streams().proofs()) == [
        ProofLine(1, 1, "l0", 1, "sure", made, 0, "cat 0", True),
        ProofLine(1, 1, "l0", 1, "sure", made, 1, "dog 1", False),
        ProofLine(2, 0, "l0", 1, "sure", {"refused": "too deep"}, None, None, None),
    ]
