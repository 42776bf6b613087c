"""The whole summary against figures worked out by hand from the plan in synthetic.py."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from charpy.analysis.document import Assessment
from charpy.analysis.summary import RunSummary
from charpy.errors import RunFileError
from charpy.runfile import RunFile
from charpy.threat import Grid


def counts(assessment: Assessment, norm: str) -> list[tuple[int, ...]]:
    """(th, clean error, broken, held, proven, invalid) of each level."""
    return [(t.th, t.clean_error, t.broken, t.held, t.proven, t.invalid) for t in assessment.threats if t.norm == norm]


def test_counts_of_the_frail_model(summary: RunSummary) -> None:
    frail = summary.assessments[0]
    assert counts(frail, "l0") == [(1, 1, 1, 6, 0, 0), (3, 1, 3, 4, 0, 0), (5, 1, 3, 4, 0, 0), (10, 1, 3, 4, 0, 0)]
    assert counts(frail, "linf") == [(1, 1, 1, 6, 0, 0), (3, 1, 2, 5, 0, 0), (5, 1, 2, 5, 0, 0), (10, 1, 3, 4, 0, 0)]
    assert frail.status == "valid"
    assert frail.status_reason == ""


def test_shares_of_the_frail_model(summary: RunSummary) -> None:
    frail = summary.assessments[0]
    assert (frail.name, frail.model.name, frail.seed) == ("synthetic", "frail", 3)
    assert frail.clean_accuracy == 7 / 8
    assert (frail.clean.count, frail.clean.total, frail.invalid.count) == (7, 8, 0)
    third = frail.threats[1]
    assert third.adversarial_accuracy == 3 / 7
    assert third.robust_accuracy.proven == 0.0
    assert third.robust_accuracy.not_broken == 0.5
    assert third.interval.not_broken == pytest.approx((0.15701, 0.84299), abs=2e-4)  # 4 of 8, tabulated
    assert third.queries == 100


def test_costs_include_the_attacks_that_failed_before(summary: RunSummary) -> None:
    # Two attacks of 100 queries a level: sample 2 cost 10, sample 3 cost 200 + 100 + 20, sample 4 cost 400 + 30.
    l0 = [t for t in summary.assessments[0].threats if t.norm == "l0"]
    assert [t.queries_to_success_median for t in l0] == [10, 320, 320, 320]
    assert [t.metrics for t in l0] == [{"l2": 10.0}, {"l2": 20.0}, {"l2": 20.0}, {"l2": 20.0}]


def test_attacks(summary: RunSummary) -> None:
    parts = {(a.norm, a.th, a.name): a for a in summary.assessments[0].attacks}
    assert [(a.norm, a.th, a.name) for a in summary.assessments[0].attacks] == [
        (norm, th, name)
        for norm, names in (("l0", ("few-de", "few-cma")), ("linf", ("thr-de", "thr-cma")))
        for th in (1, 3, 5, 10)
        for name in names
    ]
    fifth = parts["l0", 5, "few-de"]
    assert (fifth.attacked, fifth.broken, fifth.queries_mean, fifth.queries_max) == (5, 1, 86.0, 100)
    assert (fifth.queries_to_success_median, fifth.rows, fifth.budget) == (30, 430, 100)
    assert fifth.seconds == pytest.approx(430 * 2e-5)
    assert fifth.overhead == pytest.approx(2.0)
    assert fifth.kind == "few_pixel"
    assert fifth.params == {"popsize": 4}
    assert parts["l0", 3, "few-de"].rejected_claims == 1
    assert parts["l0", 10, "few-cma"].attacked == 4
    rejected = summary.assessments[0].rejected
    assert [(r.attack, r.norm, r.count) for r in rejected] == [("few-de", "l0", 1)]


def test_area_agreement_and_classes(summary: RunSummary) -> None:
    frail = summary.assessments[0]
    assert {a.norm: a.value for a in frail.auc} == {"l0": 38.0, "linf": 43.5}
    assert [(a.th, a.only_l0, a.only_linf, a.both, a.neither, a.samples) for a in frail.agreement] == [
        (1, 0, 0, 1, 6, 7),
        (3, 1, 0, 2, 4, 7),
        (5, 1, 0, 2, 4, 7),
        (10, 1, 1, 2, 3, 7),
    ]
    classes = {(c.norm, c.th, c.name): (c.broken, c.samples) for c in frail.per_class}
    assert classes["l0", 1, "cat"] == (1, 3)
    assert classes["l0", 3, "cat"] == (2, 3)
    assert classes["l0", 3, "dog"] == (1, 4)
    assert classes["linf", 10, "dog"] == (2, 4)
    assert len(classes) == 16


def test_verdict_of_the_frail_model(summary: RunSummary) -> None:
    assert summary.assessments[0].verdict == (
        "7 of 8 images are classified correctly; changing one pixel breaks 1 of them (14 %) and changing every value "
        "by at most 1/255 breaks 1 (14 %), so the model is neither 1-pixel-safe nor 1-threshold-safe."
    )


def test_the_sick_model_supports_no_verdict(summary: RunSummary) -> None:
    sick = summary.assessments[1]
    assert counts(sick, "l0") == [(1, 1, 1, 5, 0, 1), (3, 1, 3, 2, 0, 2), (5, 1, 3, 2, 0, 2), (10, 1, 3, 2, 0, 2)]
    assert counts(sick, "linf")[-1] == (10, 1, 3, 3, 0, 1)
    assert sick.status == "invalid"
    assert sick.status_reason == (
        "2 of 8 samples are invalid (1 x NaN in the scores; 1 x no valid answer to the unperturbed image)"
    )
    assert sick.verdict.startswith("No verdict: 2 of 8")
    assert sick.clean_accuracy == 6 / 8
    assert sick.threats[1].adversarial_accuracy == 3 / 5  # an invalid sample is in no denominator of the attack
    assert sick.agreement[1].samples == 5
    assert not any(part.safe for part in sick.safe)


def test_independent_levels(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], carry=False) as run:
        only = RunSummary.of(run).assessments[0]
    # Sample 4 is broken by the search at th = 5 only, and its cost is that of this level alone.
    assert [c[2] for c in counts(only, "l0")] == [1, 1, 1, 0]
    assert [t.queries_to_success_median for t in only.threats if t.norm == "l0"] == [10, 120, 30, None]


def test_levels_at_which_nobody_was_left_still_stand(synthetic: ModuleType, tmp_path: Path) -> None:
    everyone = synthetic.Plan("glass", finds=[synthetic.Find("l0", i, 1, 1) for i in range(1, 8)])
    with synthetic.build(tmp_path / "run.charpy", [everyone], norms=["l0"]) as run:
        glass = RunSummary.of(run).assessments[0]
    assert counts(glass, "l0") == [(th, 1, 7, 0, 0, 0) for th in (1, 3, 5, 10)]
    assert {a.th for a in glass.attacks} == {1}
    assert glass.status == "valid"
    assert glass.agreement == ()


def test_a_search_for_the_smallest_level(synthetic: ModuleType, tmp_path: Path) -> None:
    finds = [synthetic.Find("l0", 2, 64, 12), synthetic.Find("l0", 3, 2, 2), synthetic.Find("l0", 4, 1, 1)]
    with synthetic.build(
        tmp_path / "run.charpy", [synthetic.Plan("deep", finds=finds)], levels="minimal", norms=["l0"], carry=False
    ) as run:
        summary = RunSummary.of(run)
        deep = summary.assessments[0]
        shown = [item.level for item in summary.gallery(0, "l0", 9)]
    assert counts(deep, "l0") == [(1, 1, 1, 6, 0, 0), (3, 1, 2, 5, 0, 0), (5, 1, 2, 5, 0, 0), (10, 1, 2, 5, 0, 0)]
    assert deep.minimal[0].counts == {1: 1, 2: 1, 12: 1}
    assert (deep.minimal[0].broken, deep.minimal[0].median, deep.minimal[0].quartiles) == (3, None, (2.0, None))
    # 6 stand at th = 1, 5 at 2..11, 4 at 12..127.
    assert deep.auc[0].value == (6 + 5) / 2 + 9 * 5 + (5 + 4) / 2 + 4 * 4  # a 4 x 4 image has 16 levels
    assert deep.auc[0].whole_range
    assert {a.th for a in deep.attacks} == {1, 2, 4, 8, 64}
    assert shown == [1, 3, 16]


def test_a_run_that_stopped_calls_nothing_held_that_was_not_attacked(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], finished=False, stop_after=1) as run:
        stopped = RunSummary.of(run).assessments[0]
    # Only samples 1, 2, 3 were attacked, only at th = 1 under L0.
    assert counts(stopped, "l0")[0] == (1, 1, 1, 2, 0, 4)
    assert counts(stopped, "l0")[1] == (3, 1, 1, 0, 0, 6)
    assert counts(stopped, "linf")[0] == (1, 1, 0, 0, 0, 7)
    assert stopped.status == "invalid"
    assert "not attacked yet" in stopped.status_reason
    assert "unfinished" in stopped.status_reason
    assert any("unfinished" in warning for warning in stopped.warnings)


def test_levels_that_a_stopped_run_did_not_reach_have_no_adversarial_accuracy(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    """What th = 1 broke is broken at th = 3, and would be all that was counted there: 100 %."""
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], finished=False, stop_after=2) as run:
        first, second, *_ = (part for part in RunSummary.of(run).assessments[0].threats if part.norm == "l0")
    assert first.adversarial_accuracy == first.broken / (first.broken + first.held) > 0
    assert second.broken > 0
    assert (second.adversarial_accuracy, second.adversarial_interval) == (None, None)


def test_a_run_that_stopped_after_its_last_unit_is_valid_but_says_so(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], finished=False) as run:
        late = RunSummary.of(run).assessments[0]
    assert late.status == "valid"
    assert late.verdict.startswith("Unfinished run, so far: 7 of 8")


def test_certificates_raise_the_lower_edge_and_can_be_contradicted(synthetic: ModuleType, tmp_path: Path) -> None:
    proven = np.zeros(8, np.int64)
    proven[[6, 7]] = 3
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL]) as run:
        proved = RunSummary.of(run, {(0, "l0"): proven}).assessments[0]
        proven[4] = 5
        unsound = RunSummary.of(run, {(0, "l0"): proven}).assessments[0]
    assert counts(proved, "l0")[:3] == [(1, 1, 1, 4, 2, 0), (3, 1, 3, 2, 2, 0), (5, 1, 3, 4, 0, 0)]
    assert proved.threats[0].robust_accuracy.proven == 2 / 8
    assert proved.threats[0].robust_accuracy.not_broken == 6 / 8
    assert proved.status == "valid"
    assert unsound.status == "unsound"
    assert unsound.verdict.startswith("This run is unsound")


def test_a_run_that_recorded_nothing_is_refused(tmp_path: Path) -> None:
    spec = {"data": {"kind": "digits"}, "models": [{"reference": "x"}]}
    with (
        RunFile.create(tmp_path / "run.charpy", spec, {}) as run,
        pytest.raises(RunFileError, match="run the same command again"),
    ):
        RunSummary.of(run)


def test_gallery_shows_the_nearest_witness_with_its_original(summary: RunSummary) -> None:
    items = summary.gallery(0, "l0", 10)
    assert [(i.sample, i.level, i.distance, i.label_name, i.predicted_name) for i in items] == [
        (2, 1, 1.0, "cat", "dog"),
        (3, 3, 2.0, "cat", "dog"),
        (4, 3, 3.0, "dog", "cat"),
    ]
    third = items[2]
    assert (third.id, third.attack, third.queries, third.norm) == ("id-4", "few-de", 30, "l0")
    assert third.original.dtype == np.uint8
    assert (third.original != third.witness).sum() == 3
    assert third.l2 == pytest.approx(100 * 3**0.5)


def test_gallery_off_the_grid(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], grid=Grid.NONE) as run:
        items = RunSummary.of(run).gallery(0, "linf", 10)
    assert items[1].original.dtype == np.float32
    assert items[1].l2 == pytest.approx(3 * 4, rel=1e-4)  # 16 values, 3 steps each


def test_four_norms_with_levels_of_their_own(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FOUR], levels=synthetic.FOUR_LEVELS) as run:
        summary = RunSummary.of(run)
        four = summary.assessments[0]
        shown = [(item.level, item.distance) for item in summary.gallery(0, "l2", 9)]
    assert counts(four, "l2") == [(32, 1, 1, 6, 0, 0), (64, 1, 2, 5, 0, 0), (128, 1, 3, 4, 0, 0), (255, 1, 3, 4, 0, 0)]
    assert counts(four, "l1") == [(510, 1, 2, 5, 0, 0), (1530, 1, 2, 5, 0, 0), (3060, 1, 2, 5, 0, 0)]
    assert shown == [(32, 28.5), (64, 60.0), (128, 100.25)]
    assert [part.name for part in four.safe if part.th in (128, 510)] == ["128-l2-safe", "510-l1-safe"]
    areas = {a.norm: (a.value, a.first, a.last, a.whole_range) for a in four.auc}
    assert areas["l2"] == ((6 + 5) / 2 * 32 + (5 + 4) / 2 * 64 + 4 * 127, 32, 255, False)
    assert areas["l1"] == (5 * 2550, 510, 3060, False)
    assert [part.th for part in four.agreement] == [1, 3, 5, 10], "L0 and Linf are still held against each other"
    assert {(c.norm, c.th) for c in four.per_class} >= {("l2", 128), ("l1", 3060)}


@pytest.mark.parametrize("norms", [("l0", "l2"), ("linf", "l1"), ("l1", "l2")])
def test_only_l0_and_linf_are_held_against_each_other(synthetic: ModuleType, tmp_path: Path, norms: tuple) -> None:
    levels = {norm: synthetic.FOUR_LEVELS[norm] for norm in norms}
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FOUR], levels=levels) as run:
        two = RunSummary.of(run).assessments[0]
    assert two.agreement == ()
    assert list(dict.fromkeys(threat.norm for threat in two.threats)) == list(norms)


def test_a_search_under_l2_over_every_level_of_the_image(synthetic: ModuleType, tmp_path: Path) -> None:
    finds = [synthetic.Find("l2", 2, 64, 40.3), synthetic.Find("l2", 3, 8, 8.0), synthetic.Find("l2", 4, 2, 1.5)]
    plan = synthetic.Plan("deep", finds=finds)
    proven = np.zeros(8, np.int64)
    proven[5] = 128
    with synthetic.build(tmp_path / "run.charpy", [plan], levels={"l2": "minimal"}) as run:
        deep = RunSummary.of(run).assessments[0]
        certified = RunSummary.of(run, {(0, "l2"): proven}).assessments[0]
    assert counts(deep, "l2") == [(32, 1, 2, 5, 0, 0), (64, 1, 3, 4, 0, 0), (128, 1, 3, 4, 0, 0), (255, 1, 3, 4, 0, 0)]
    assert deep.minimal[0].counts == {2: 1, 8: 1, 41: 1}
    # 255 * sqrt(16) = 1020 levels: 7 stand at th = 1, one each falls on the way to 2, 8 and 41.
    assert deep.auc[0].value == 4 * 1019 + 0.5 + 6.5 + 39.5
    assert (deep.auc[0].last, deep.auc[0].whole_range) == (1020, True)
    assert [c[4] for c in counts(certified, "l2")] == [1, 1, 1, 0]


def test_an_image_that_is_too_small_for_the_default_levels_shows_its_last(
    synthetic: ModuleType, tmp_path: Path
) -> None:
    plan = synthetic.Plan("tiny", finds=[synthetic.Find("l1", 2, 64, 40.0)])
    with synthetic.build(tmp_path / "run.charpy", [plan], levels={"l1": "minimal"}, shape=(1, 1, 1)) as run:
        tiny = RunSummary.of(run).assessments[0]
    assert counts(tiny, "l1") == [(255, 1, 1, 6, 0, 0)]
