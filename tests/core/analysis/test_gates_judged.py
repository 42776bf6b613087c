"""Gates against runs made by hand: on which bound, on which evidence, on which models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from charpy.analysis.document import GatePart
from charpy.analysis.gates import judged
from charpy.analysis.summary import RunSummary
from charpy.errors import UnknownNameError
from charpy.gates import read_gate
from charpy.runfile import RunFile

Judge = Callable[..., GatePart]


@pytest.fixture
def judge(synthetic: ModuleType, tmp_path: Path) -> Iterator[Judge]:
    """The part of one gate on a run of one model, FRAIL unless the options of `build` say otherwise."""
    runs: list[RunFile] = []

    def of(
        gate: str, plan: str = "FRAIL", proven: dict[tuple[int, str], np.ndarray] | None = None, **options
    ) -> GatePart:
        run = synthetic.build(tmp_path / f"{len(runs)}.charpy", (getattr(synthetic, plan),), **options)
        runs.append(run)
        (assessment,) = RunSummary.of(run, proven, gates=[read_gate(gate)]).assessments
        (part,) = assessment.gates
        return part

    yield of
    for run in runs:
        run.close()


@pytest.mark.parametrize(
    ("gate", "count", "total", "bound", "passed"),
    [  # bounds from tables of the exact interval: 4 of 8, 7 of 8, 3 of 7, 0 of 8
        ("l0 th=3 robust_accuracy >= 0.15", 4, 8, 0.15701, True),
        ("l0 th=3 robust_accuracy >= 0.16", 4, 8, 0.15701, False),
        ("l0 th=3 robust_accuracy >= 0.5", 4, 8, 0.15701, False),  # the figure itself would pass
        ("l0 th=3 robust_accuracy upper bound >= 0.84", 4, 8, 0.84299, True),
        ("l0 th=3 robust_accuracy < 0.85", 4, 8, 0.84299, True),
        ("clean_accuracy > 47 %", 7, 8, 0.47349, True),
        ("clean_accuracy > 48 %", 7, 8, 0.47349, False),
        ("l0 th=3 adversarial_accuracy <= 0.82", 3, 7, 0.81595, True),
        ("l0 th=3 adversarial_accuracy <= 0.81", 3, 7, 0.81595, False),
        ("l0 th=3 proven >= 0.01", 0, 8, 0.0, False),
        ("invalid <= 0.37", 0, 8, 0.36942, True),
        ("l0 th=3 invalid <= 0.36", 0, 8, 0.36942, False),
        ("invalid lower bound <= 0", 0, 8, 0.0, True),
    ],
)
def test_the_bound_decides(judge: Judge, gate: str, count: int, total: int, bound: float, passed: bool) -> None:
    part = judge(gate)
    assert (part.share.count, part.share.total) == (count, total)
    assert part.measured == pytest.approx(bound, abs=2e-5)
    assert part.passed is passed
    assert f"of {count} of {total} {'is' if passed else 'is not'} " in part.reason


def test_what_is_proven_is_the_lower_edge(judge: Judge) -> None:
    certificates = {(0, "l0"): np.array([0, 1, 0, 0, 0, 1, 1, 1])}
    part = judge("l0 th=1 proven >= 0.15", proven=certificates)
    assert (part.share.count, part.share.total, part.passed) == (4, 8, True)
    assert judge("l0 th=1 robust_accuracy >= 0.3", proven=certificates).share.count == 6


def test_too_few_samples_are_named(judge: Judge) -> None:
    assert "8 samples are too few: the best that they can show is 63 %" in judge("clean_accuracy >= 0.7").reason
    assert "too few" not in judge("clean_accuracy >= 0.6").reason
    assert "the best that they can show is 37 %" in judge("invalid <= 0.1").reason


def test_weak_evidence_passes_only_where_the_gate_says_so(judge: Judge, synthetic: ModuleType) -> None:
    weak = {"drills": synthetic.DRILLS}  # under linf the attacks do not find what was planted
    failed = judge("linf th=3 robust_accuracy >= 0.1", **weak)
    assert not failed.passed
    assert failed.reason.startswith("weak evidence (lower bound 24.5 % of 5 of 8 is at least 10 %): ")
    allowed = judge("linf th=3 robust_accuracy >= 0.1 even if weak", **weak)
    assert allowed.passed
    assert "allowed by the gate" in allowed.reason
    assert not judge("linf th=3 robust_accuracy >= 0.3 even if weak", **weak).passed
    assert not judge("linf th=3 adversarial_accuracy <= 0.9", **weak).passed
    for gate in ("l0 th=3 robust_accuracy >= 0.1", "linf th=3 invalid <= 0.5", "clean_accuracy >= 0.1"):
        assert judge(gate, **weak).passed, gate


def test_what_is_proven_needs_no_trust_in_an_attack(judge: Judge, synthetic: ModuleType) -> None:
    certificates = {(0, "linf"): np.array([0, 1, 0, 0, 0, 0, 1, 1])}
    assert judge("linf th=1 proven >= 0.05", proven=certificates, drills=synthetic.DRILLS).passed


def test_a_model_that_answers_at_random_is_weak_whatever_the_figure(judge: Judge, synthetic: ModuleType) -> None:
    model = {**synthetic._model("frail", synthetic.SHAPE, ("cat", "dog")), "deterministic": False}
    for gate in ("clean_accuracy >= 0.1", "l0 th=3 invalid <= 0.9", "l0 th=3 robust_accuracy >= 0.1"):
        assert not judge(gate, models=[model]).passed
        assert judge(f"{gate} even if weak", models=[model]).passed


def test_a_model_whose_answers_depend_on_the_batch_passes_nothing_under_attack(
    judge: Judge, synthetic: ModuleType
) -> None:
    model = {**synthetic._model("frail", synthetic.SHAPE, ("cat", "dog")), "batch_invariant": False}
    part = judge("l0 th=3 robust_accuracy >= 0.1 even if weak", models=[model])
    assert not part.passed
    assert part.reason.startswith("the figure is invalid evidence: ")


@pytest.mark.parametrize(
    "gate", ["invalid lower bound <= 0.9", "clean_accuracy > 0.1 even if weak", "l0 th=1 proven < 1"]
)
def test_a_run_that_is_no_evidence_passes_no_gate(judge: Judge, gate: str) -> None:
    part = judge(gate, plan="SICK")
    assert not part.passed
    assert part.reason.startswith("the run is invalid: ")
    unsound = judge(gate, proven={(0, "l0"): np.array([0, 0, 10, 0, 0, 0, 0, 0])})
    assert not unsound.passed
    assert unsound.reason.startswith("the run is unsound: ")


def test_an_unfinished_run_passes_no_gate(judge: Judge) -> None:
    part = judge("clean_accuracy >= 0.1", finished=False)
    assert (part.passed, part.reason) == (False, "the run is unfinished")
    assert part.share.count == 7


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ("l0 th=2 robust_accuracy >= 0.1", "the run has no level 2 of l0; it has 1, 3, 5, 10"),
        ("l2 th=64 robust_accuracy >= 0.1", "the run does not assess l2; it assesses l0, linf"),
    ],
)
def test_a_level_that_is_missing_fails_and_is_named(judge: Judge, gate: str, reason: str) -> None:
    part = judge(gate)
    assert (part.passed, part.share, part.measured, part.reason) == (False, None, None, reason)


def test_nothing_classified_correctly_is_no_share(judge: Judge, synthetic: ModuleType, monkeypatch) -> None:
    wrong = synthetic.Plan("wrong", predictions=(1, 1, 1, 1, 0, 0, 0, 0))
    monkeypatch.setattr(synthetic, "WRONG", wrong, raising=False)
    part = judge("l0 th=1 adversarial_accuracy <= 0.9", plan="WRONG")
    assert (part.passed, part.share) == (False, None)
    assert "no sample" in part.reason
    assert not judge("l0 th=1 robust_accuracy >= 0.1", plan="WRONG").passed


def test_a_gate_is_about_every_model_or_the_one_it_names(summary: RunSummary) -> None:
    gates = [read_gate("clean_accuracy >= 0.1"), read_gate("clean_accuracy >= 0.2 of sick")]
    frail, sick = judged(summary.assessments, [*gates, *gates], finished=True)
    assert [part.gate for part in frail.gates] == [str(gates[0])]
    assert [part.gate for part in sick.gates] == [str(gate) for gate in gates]
    with pytest.raises(UnknownNameError, match="did you mean frail"):
        judged(summary.assessments, [read_gate("clean_accuracy >= 0.1 of frial")], finished=True)


def test_the_static_row_of_a_defended_model_is_only_judged_by_its_name(summary: RunSummary) -> None:
    frail = summary.assessments[0]
    rows = [
        frail.model_copy(
            update={
                "model": frail.model.model_copy(
                    update={"name": f"m ({attackers})", "attackers": attackers, "defenses": ("jpeg",)}
                )
            }
        )
        for attackers in ("static", "adaptive", "black-box")
    ]

    def rows_of(model: str) -> list[int]:
        gate = read_gate("clean_accuracy >= 0.1" + (f" of {model}" if model else ""))
        return [len(part.gates) for part in judged(rows, [gate], finished=True)]

    assert rows_of("") == rows_of("m") == [0, 1, 1]
    assert rows_of("m (static)") == [1, 0, 0]
    assert rows_of("m (adaptive)") == [0, 1, 0]
    (alone,) = judged(rows[:1], [read_gate("clean_accuracy >= 0.1")], finished=True)
    assert len(alone.gates) == 1


def test_the_gates_of_the_spec_are_judged_unless_others_are_given(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy") as run:
        run.set_meta(spec={**run.spec, "gates": ["clean_accuracy >= 0.1"]})
        assert [len(part.gates) for part in RunSummary.of(run).assessments] == [1, 1]
        assert [len(part.gates) for part in RunSummary.of(run, gates=()).assessments] == [0, 0]
