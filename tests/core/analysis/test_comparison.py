"""The comparison of runs: hand-made runs, the paper's own tables, scipy, and the runs' own reports."""

from __future__ import annotations

import math
import sqlite3
from itertools import pairwise

import pytest
from scipy.stats import binomtest

from charpy.analysis.comparison.compare import compare
from charpy.analysis.comparison.dual_table import mark_of
from charpy.analysis.comparison.mcnemar import mcnemar
from charpy.analysis.comparison.rates import rate
from charpy.analysis.intervals import wilson
from charpy.analysis.summary import RunSummary
from charpy.errors import ModelError, RunFileError
from charpy.plugins import registry
from charpy.records import ProofKey, ProofRecord
from charpy.runfile import RunFile

TABLE_III = {
    "WideResNet": (11, 55, 75, 94, 15, 97, 98, 100),
    "DenseNet": (9, 43, 66, 78, 23, 68, 72, 74),
    "ResNet": (12, 52, 73, 85, 33, 71, 76, 83),
    "NIN": (18, 62, 81, 90, 11, 86, 88, 92),
    "AllConv": (11, 31, 57, 77, 9, 70, 73, 75),
    "CapsNet": (21, 37, 49, 57, 13, 34, 72, 97),
    "LeNet": (58, 86, 94, 99, 44, 96, 100, 100),
}
"""Adversarial accuracy in per cent, th = 1, 3, 5, 10 under L0, then under Linf (Kotyan & Vargas 2020)."""

TEN = (0, 0, 0, 0, 0, 1, 1, 1, 1, 1)


@pytest.fixture
def build(synthetic, tmp_path):
    """Builds a run file in a folder of its own."""
    opened: list[RunFile] = []

    def make(folder, *plans, **options):
        (tmp_path / folder).mkdir()
        opened.append(synthetic.build(tmp_path / folder / "run.charpy", plans, **options))
        return opened[-1]

    yield make
    for run in opened:
        run.close()


def breaks(synthetic, *samples, norm="l0", th=1, distance=1, name="net"):
    """A model that gets all of ten samples right, of which step 0 breaks `samples`."""
    finds = [synthetic.Find(norm, sample, th, distance) for sample in samples]
    return synthetic.Plan(name, predictions=TEN, finds=finds)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (0, 8), (3, 3), (5, 17), (40, 11), (500, 600)])
def test_mcnemar_is_the_two_sided_binomial_test(first, second):
    trials = first + second
    expected = binomtest(first, trials, 0.5).pvalue if trials else 1.0
    assert mcnemar(first, second) == pytest.approx(expected, rel=1e-10)
    assert mcnemar(first, second) == mcnemar(second, first)


def test_mcnemar_is_exact_where_floats_would_run_out_and_refuses_negative_counts():
    assert mcnemar(0, 1000) == pytest.approx(2.0**-999)
    with pytest.raises(ValueError, match="negative"):
        mcnemar(-1, 2)


@pytest.mark.parametrize(("count", "total"), [(0, 10), (10, 10), (5, 10), (81, 263), (1, 1), (38, 40)])
def test_wilson_is_scipys(count, total):
    interval = binomtest(count, total).proportion_ci(0.95, "wilson")
    assert wilson(count, total) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_wilson_of_nothing_and_of_too_much():
    assert wilson(0, 0) is None
    assert rate(0, 0).value is None
    with pytest.raises(ValueError, match="within 0"):
        wilson(3, 2)


def test_marks_of_the_papers_table_are_the_papers_bold():
    """Section V-C: CapsNet and AllConv are the most robust with five bold results, the third place has three."""
    counts = dict.fromkeys(TABLE_III, 0)
    for column in range(8):
        lowest = min(row[column] for row in TABLE_III.values()) / 100
        for name, row in TABLE_III.items():
            counts[name] += mark_of(rate(row[column], 100), lowest) != ""
    assert sorted(counts, key=counts.__getitem__)[-2:] == ["AllConv", "CapsNet"]
    assert sorted(counts.values())[-3:] == [3, 5, 5]


def test_the_figures_of_one_run_are_those_of_its_report(build, synthetic):
    run = build("both", synthetic.FRAIL, synthetic.Plan("other", finds=[synthetic.Find("linf", 6, 1, 1)]))
    found, reports = compare([run]), RunSummary.of(run).assessments
    assert [entry.title for entry in found.entries] == ["frail", "other"]
    assert [(e.clean.count, e.clean.total) for e in found.entries] == [(7, 8), (7, 8)]
    for report in reports:
        mine = [cell for cell in found.dual if cell.entry == report.model.name]
        assert [(c.norm, c.th, c.broken.count, c.broken.value, c.grade) for c in mine] == [
            (t.norm, t.th, t.broken, t.adversarial_accuracy, t.grade) for t in report.threats
        ]
        of_classes = [part for part in found.classes if part.entry == report.model.name]
        assert [part.model_dump(exclude={"entry"}) for part in of_classes] == [p.model_dump() for p in report.per_class]
        agreed = [part for part in found.agreement if part.entry == report.model.name]
        assert [part.model_dump(exclude={"entry"}) for part in agreed] == [p.model_dump() for p in report.agreement]
    curve = next(part for part in found.curves if (part.entry, part.norm) == ("frail", "l0"))
    assert [(point.th, point.broken.count) for point in curve.points] == [(1, 1), (3, 3), (5, 3), (10, 3)]
    marks = {(c.entry, c.th): c.mark for c in found.dual if c.norm == "linf"}
    assert (marks["frail", 10], marks["other", 10]) == ("", "lowest")
    assert {part.section for part in found.missing} == {"areas", "transfer", "duels"}


def test_each_attack_is_read_apart_and_the_second_of_a_battery_only_saw_survivors(build, synthetic):
    run = build("one", synthetic.FRAIL)
    found = compare([run])
    cells = {(cell.attack, cell.th): cell for cell in found.attacks if cell.norm == "l0"}
    first = [cells["few-de", th] for th in synthetic.LEVELS]
    assert [(c.success.count, c.success.total, c.complete) for c in first] == [
        (1, 7, True), (2, 7, True), (2, 6, False), (2, 6, False),  # sample 3 fell to the other one at th = 3
    ]  # fmt: skip
    second = [cells["few-cma", th] for th in synthetic.LEVELS]
    assert [(c.success.count, c.success.total, c.complete) for c in second][:2] == [(0, 6, False), (1, 6, False)]
    assert first[1].mean_l2 == pytest.approx((100 + 100 * math.sqrt(3)) / 2)  # pixels moved by 100: 1 and 3 of them
    assert second[0].mean_l2 is None
    assert any("few-cma" in note and "survivors" in note for note in found.notes)
    assert not found.duels


def test_without_carry_a_later_attack_still_only_saw_survivors(build, synthetic):
    finds = [synthetic.Find("l0", 2, th, 1) for th in (1, 3)]
    run = build("one", synthetic.Plan("net", predictions=TEN, finds=finds), labels=TEN, carry=False, levels=(1, 3))
    cells = {(c.attack, c.th): c for c in compare([run]).attacks if c.norm == "l0"}
    assert [(cells["few-de", th].success.total, cells["few-de", th].complete) for th in (1, 3)] == [(10, True)] * 2
    assert [(cells["few-cma", th].success.total, cells["few-cma", th].complete) for th in (1, 3)] == [(9, False)] * 2


def test_two_runs_of_one_model_are_a_duel_on_the_same_samples(build, synthetic):
    first = build("de", breaks(synthetic, *range(8)), labels=TEN, levels=(1, 3))
    second = build("cma", breaks(synthetic, 7, 8, th=3, distance=2), labels=TEN, levels=(1, 3))
    found = compare([first, second])
    assert [entry.title for entry in found.entries] == ["net (synthetic (de))", "net (synthetic (cma))"]
    assert {entry.model for entry in found.entries} == {"net"}
    one, three = (duel for duel in found.duels if duel.norm == "l0")
    assert (one.first, one.second) == ("few-de in synthetic (de)", "few-de in synthetic (cma)")
    assert (one.samples, one.both, one.only_first, one.only_second, one.neither) == (10, 0, 8, 0, 2)
    assert one.p_value == pytest.approx(binomtest(0, 8).pvalue)
    assert (three.both, three.only_first, three.only_second, three.neither) == (1, 7, 1, 1)
    assert three.p_value == pytest.approx(binomtest(1, 8).pvalue)
    assert one.winner == three.winner == one.first
    wins = {part.attack: (part.wins, part.significant, part.duels) for part in found.wins if part.norm == "l0"}
    assert wins == {one.first: (2, 1, 2), one.second: (0, 0, 2)}
    ties = [duel for duel in found.duels if duel.norm == "linf"]
    assert all(duel.winner is None and duel.p_value == 1 for duel in ties)


def test_models_of_one_name_but_other_weights_do_not_duel(build, synthetic):
    first = build("a", breaks(synthetic, 1), labels=TEN)
    models = [{**first.meta("models")[0], "fingerprint": {"weights": "beef"}}]
    second = build("b", breaks(synthetic, 2), labels=TEN, models=models)
    found = compare([first, second])
    assert not found.duels
    assert len({entry.model for entry in found.entries}) == 2


def test_only_shared_samples_count(build, synthetic):
    first = build("a", breaks(synthetic, 0, 8, name="a"), labels=TEN)
    second = build("b", breaks(synthetic, 1, name="b"), labels=TEN[:6])
    found = compare([first, second])
    assert found.samples == 6
    assert [c.broken.count for c in found.dual if c.norm == "l0" and c.th == 1] == [1, 1]  # 8 is not shared
    assert {c.broken.total for c in found.dual} == {6}
    assert all(c.success.total == 6 for c in found.attacks if c.complete)
    assert "6 samples" in found.notes[0]
    assert "has 10" in found.notes[0]


def test_the_area_is_the_trapezoid_over_every_level(build, synthetic):
    finds = [synthetic.Find("l0", 2, 8, 5), synthetic.Find("l0", 3, 2, 1), synthetic.Find("l0", 4, 4, 4)]
    run = build("min", synthetic.Plan("net", finds=finds), levels="minimal", norms=("l0",))
    (area,) = compare([run]).areas
    smallest = [5, 1, 4, *[math.inf] * 4]
    standing = [sum(s > th for s in smallest) for th in range(1, 17)]
    by_hand = sum((a + b) / 2 for a, b in pairwise(standing))
    assert (area.value, area.first, area.last, area.samples) == (by_hand, 1, 16, 7)
    assert area.normalised == pytest.approx(by_hand / (7 * 15))
    (curve,) = compare([run]).curves
    assert [(p.th, p.broken.count) for p in curve.points] == [(th, 7 - n) for th, n in enumerate(standing, 1)]


def test_proofs_stand_beside(build, synthetic):
    run = build("proven", synthetic.FRAIL)
    run.write_proof(ProofRecord(ProofKey(0, "linf", 1, "crown", 0), 1.0, {}, {6: True, 7: True, 1: False}))
    cells = {(c.norm, c.th): c for c in compare([run]).dual}
    assert (cells["linf", 1].proven.count, cells["linf", 1].proven.total) == (2, 7)
    assert cells["linf", 3].proven.count == 0
    assert cells["l0", 1].proven is None


def test_different_batteries_are_said(build, synthetic):
    one = build("a", breaks(synthetic, name="a"), labels=TEN)
    two = build("b", breaks(synthetic, name="b"), labels=TEN)
    assert not any("different batteries" in note for note in compare([one, two]).notes)
    spec = two.spec
    spec["threats"][1]["queries"] = 7
    two.set_meta(spec=spec)
    (note,) = (note for note in compare([one, two]).notes if "different batteries" in note)
    assert note.startswith("Under Linf")


def test_what_cannot_be_compared_is_refused(build, synthetic, tmp_path):
    run = build("a", synthetic.FRAIL)
    with pytest.raises(RunFileError, match="given twice"):
        compare([run, run])
    data = {**run.meta("dataset"), "fingerprint": "other"}
    with pytest.raises(RunFileError, match="different data"):
        compare([run, build("b", synthetic.FRAIL, dataset=data)])
    targeted = build("c", synthetic.FRAIL)
    spec = targeted.spec
    spec["threats"][0]["goal"] = "targeted"
    targeted.set_meta(spec=spec)
    with pytest.raises(RunFileError, match="different goals under l0"):
        compare([run, targeted])
    strange = build("d", synthetic.FRAIL)
    strange._db.execute("UPDATE samples SET id = 'x' || id")
    with pytest.raises(RunFileError, match="no sample in common"):
        compare([run, strange])
    half = build("e", synthetic.FRAIL, synthetic.SICK)
    for table in ("results", "witnesses", "rejected", "units"):
        half._db.execute(f"DELETE FROM {table}")
    half._db.execute("DELETE FROM samples WHERE model = 1")
    with pytest.raises(RunFileError, match="before it had looked at every model"):
        compare([half])


@pytest.mark.parametrize("harm", ["DROP TABLE results", "UPDATE meta SET value = '{' WHERE key = 'dataset'"])
def test_a_damaged_run_is_one_error(build, synthetic, harm):
    run = build("a", synthetic.FRAIL)
    with sqlite3.connect(run.path) as other:
        other.execute("PRAGMA foreign_keys = OFF")
        other.execute(harm)
    with pytest.raises(RunFileError, match="damaged") as error:
        compare([run])
    assert str(run.path) in str(error.value)


def test_a_model_that_cannot_be_opened_again_is_named(build, synthetic):
    with pytest.raises(ModelError, match="cannot be opened again") as error:
        compare([build("a", synthetic.FRAIL)], transfer_with=registry())
    assert "frail" in str(error.value)
    assert "--transfer" in error.value.hint


def test_bold_is_for_valid_rows_and_for_a_models_worst_row(build, synthetic):
    """A weak attack makes a model that another run breaks no better; a run that is no evidence wins nothing."""
    strong = build("strong", breaks(synthetic, *range(5)), breaks(synthetic, 0, 1, name="other"), labels=TEN)
    models = strong.meta("models")
    models[1]["fingerprint"] = {"weights": "beef"}
    strong.set_meta(models=models)
    weak = build("weak", breaks(synthetic), labels=TEN)
    sick = synthetic.Plan("sick", predictions=(None, *TEN[1:]))
    ill = build("ill", sick, labels=TEN, models=[{**models[1], "name": "sick", "fingerprint": {"weights": "11"}}])
    found = compare([strong, weak, ill])
    assert [entry.status for entry in found.entries] == ["valid", "valid", "valid", "invalid"]
    cells = {cell.entry: (cell.broken.count, cell.mark) for cell in found.dual if (cell.norm, cell.th) == ("l0", 1)}
    assert list(cells.values()) == [(5, ""), (2, "lowest"), (0, ""), (0, "")]
    assert [entry.marks for entry in found.entries] == [4, 8, 4, 0]  # under Linf nothing breaks
    alone = compare([weak, build("again", breaks(synthetic, 1), labels=TEN)])
    assert not any(cell.mark for cell in alone.dual)  # one model has no rival


@pytest.mark.parametrize("carry", [True, False])
def test_of_an_unfinished_run_only_levels_that_every_sample_reached_have_figures(build, synthetic, carry):
    """What the lower levels broke is broken at those that were not reached, and nothing is known of the rest."""
    plan = breaks(synthetic, 1, 2)
    whole = build("whole", plan, labels=TEN, levels=(1, 3))
    half = build("half", plan, labels=TEN, levels=(1, 3), carry=carry, finished=False, stop_after=6)
    found = compare([whole, half])
    title = found.entries[1].title
    rates = {(c.norm, c.th): c.broken for c in found.dual if c.entry == title}
    assert rates["l0", 1].value == 0.2
    for column in (("l0", 3), ("linf", 1), ("linf", 3)):
        assert (rates[column].value, rates[column].low, rates[column].high) == (None, None, None)
    assert rates["l0", 3].count == 2 * carry
    assert not any(c.adversarial_accuracy for c in found.classes if (c.entry, c.th) == (title, 3))
    assert not any(part.entry == title for part in found.agreement)
    assert not any(cell.entry == title and cell.th == 3 for cell in found.attacks)
    assert not any(curve.entry == title for curve in found.curves)
    assert {(duel.norm, duel.th) for duel in found.duels} == {("l0", 1)}
    assert not any("half" in note and "left standing" in note for note in found.notes)
    assert found.entries[1].finished is False


def test_an_unfinished_search_has_no_figures(build, synthetic):
    finds = [synthetic.Find("l0", 2, 8, 5), synthetic.Find("l0", 3, 8, 1)]
    run = build(
        "min", synthetic.Plan("net", finds=finds), levels="minimal", norms=("l0",), finished=False, stop_after=8
    )
    found = compare([run])
    assert not any((found.areas, found.curves, found.attacks, found.duels))
    assert [cell.broken.value for cell in found.dual] == [None] * 4
    assert [cell.broken.count for cell in found.dual] == [1, 1, 2, 2]
    assert {part.section for part in found.missing} >= {"areas", "curves", "attacks"}
    assert any("unfinished" in warning for warning in found.warnings)


def test_a_sample_without_an_answer_is_no_part_of_the_area(build, synthetic):
    """It is neither broken at the first level nor standing."""
    finds = [synthetic.Find("l0", 2, 8, 5)]
    plan = synthetic.Plan("net", finds=finds, invalid={("l0", 6, 64): "NaN in the scores"})
    (area,) = compare([build("min", plan, levels="minimal", norms=("l0",))]).areas
    assert (area.samples, area.value) == (6, 5 - 1 - 0.5 + 5 * 15)
    assert area.normalised == pytest.approx(area.value / (6 * 15))
    levels = tuple(range(1, 17))
    plan = synthetic.Plan("net", invalid={("l0", 6, 3): "NaN in the scores"})
    (area,) = compare([build("all", plan, levels=levels, norms=("l0",))]).areas
    assert (area.samples, area.value, area.normalised) == (6, 6 * 15, 1)
