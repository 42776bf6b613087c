"""One sample, attack by attack, from run files in which what happened is written down."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest

from charpy.analysis.read_sheet import read_sheet, worst_sample
from charpy.analysis.sheet import Row, Sheet
from charpy.errors import RunFileError, SpecError, UnknownNameError
from charpy.threat import Grid


@pytest.fixture
def run(synthetic: ModuleType, tmp_path):
    with synthetic.build(tmp_path / "run.charpy") as opened:
        yield opened


def rows(sheet: Sheet) -> dict[tuple[str, str, str], Row]:
    return {(section.model, section.norm, row.attack): row for section in sheet.sections for row in section.rows}


def test_every_attack_is_there_with_its_witness_or_the_reason_why_not(run) -> None:
    sheet = read_sheet([run], "id-3", model="frail")
    found = {key[1:]: (row.outcome, row.found is not None) for key, row in rows(sheet).items()}
    assert found == {
        ("l0", "few-de"): ("held", False),
        ("l0", "few-cma"): ("broken", True),
        ("linf", "thr-de"): ("held", False),
        ("linf", "thr-cma"): ("held", False),
    }
    named = rows(sheet)
    assert named["frail", "l0", "few-de"].reason == "not broken by this attack up to th = 3"
    assert named["frail", "linf", "thr-cma"].reason == "not broken by this attack up to th = 10"
    witness = named["frail", "l0", "few-cma"].found
    assert (witness.distance, witness.queries, witness.predicted_name) == (2.0, 20, "dog")
    assert witness.l2 == pytest.approx(100 * np.sqrt(2))
    assert (witness.image != sheet.original).sum() == 2
    assert (sheet.sample, sheet.label_name, sheet.dataset) == ("id-3", "cat", "by hand")


def test_an_attack_that_came_too_late_says_whose_turn_it_was(run) -> None:
    late = rows(read_sheet([run], "id-2"))["frail", "l0", "few-cma"]
    assert (late.outcome, late.reason) == ("not run", "few-de had broken the sample before it was this attack's turn")


def test_in_a_contest_no_attack_waits_for_another(run, monkeypatch) -> None:
    """An unfinished one: the attack has not come to the sample yet, whatever the others broke."""
    assert not read_sheet([run], "id-2").contest
    monkeypatch.setattr(type(run), "spec", {**run.spec, "contest": True})
    sheet = read_sheet([run], "id-2")
    late = rows(sheet)["frail", "l0", "few-cma"]
    assert (late.outcome, late.reason) == ("not run", "the run has no result of this attack on the sample")
    assert sheet.contest


def test_samples_that_were_not_attacked_are_named_as_such(synthetic: ModuleType, tmp_path) -> None:
    plans = (
        synthetic.Plan(
            "good", predictions=(0,) * 4 + (1,) * 4, finds=[synthetic.Find("l0", k, 1, 1) for k in range(7)]
        ),
        synthetic.SICK,
    )
    with synthetic.build(tmp_path / "run.charpy", plans) as run:
        wrong = rows(read_sheet([run], "id-0"))["sick", "linf", "thr-de"]
        assert (wrong.outcome, wrong.reason) == (
            "clean_error",
            "classified as dog before any attack: not attacked",
        )
        silent = rows(read_sheet([run], "id-1"))["sick", "l0", "few-de"]
        assert (silent.outcome, silent.reason) == ("invalid", "the model gave no valid answer to the original")
        broken_off = rows(read_sheet([run], "id-6"))["sick", "l0", "few-de"]
        assert (broken_off.outcome, broken_off.reason) == ("invalid", "NaN in the scores")


def test_all_models_and_norms_unless_narrowed(run) -> None:
    assert [(s.model, s.norm) for s in read_sheet([run], "id-2").sections] == [
        ("frail", "l0"), ("frail", "linf"), ("sick", "l0"), ("sick", "linf")
    ]  # fmt: skip
    assert [(s.model, s.norm) for s in read_sheet([run], "id-2", norm="linf", model="sick").sections] == [
        ("sick", "linf")
    ]


@pytest.mark.parametrize("grid", list(Grid))
def test_the_nearest_witness_of_each_attack_is_taken(synthetic: ModuleType, tmp_path, grid) -> None:
    finds = [synthetic.Find("linf", 2, 10, 8), synthetic.Find("linf", 2, 5, 4), synthetic.Find("linf", 2, 3, 3, step=1)]
    plan = synthetic.Plan("one", finds=finds)
    with synthetic.build(tmp_path / "run.charpy", [plan], norms=["linf"], carry=False, grid=grid) as run:
        found = rows(read_sheet([run], "id-2"))
        assert found["one", "linf", "thr-de"].found.distance == 4
        assert found["one", "linf", "thr-cma"].found.distance == 3
        image = found["one", "linf", "thr-de"].found.image
        assert image.dtype == (np.uint8 if grid is Grid.EIGHT_BIT else np.float32)
        assert np.allclose(image, 104 if grid is Grid.EIGHT_BIT else 104 / 255)


def test_runs_of_single_attacks_share_a_sheet(synthetic: ModuleType, tmp_path) -> None:
    for name, finds in (("a", [synthetic.Find("l0", 2, 1, 1)]), ("b", [synthetic.Find("l0", 2, 5, 4)])):
        (tmp_path / name).mkdir()
        synthetic.build(tmp_path / name / "run.charpy", [synthetic.Plan("m", finds=finds)], norms=["l0"]).close()
    from charpy.runfile import RunFile

    with RunFile.open(tmp_path / "a" / "run.charpy") as a, RunFile.open(tmp_path / "b" / "run.charpy") as b:
        (section,) = read_sheet([a, b], "id-2").sections
        found = [(row.run, row.attack, row.found.distance) for row in section.rows if row.found]
        assert found == [("synthetic (a)", "few-de", 1), ("synthetic (b)", "few-de", 4)]
        b.set_meta(dataset={**b.meta("dataset"), "fingerprint": "other"})
        with pytest.raises(RunFileError, match="different data"):
            read_sheet([a, b], "id-2")


def test_the_worst_is_the_farthest_of_that_attack(run) -> None:
    assert worst_sample([run], "few-de") == "id-4"
    assert worst_sample([run], "few-cma") == "id-3"
    assert worst_sample([run], "thr-de", norm="linf") == "id-4"
    assert worst_sample([run], "thr-cma", model="frail") == "id-5"


def test_distances_of_several_norms_are_not_compared(synthetic: ModuleType, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(synthetic.ATTACKS, "linf", ("few-de", "thr-cma"))
    with synthetic.build(tmp_path / "run.charpy") as run:
        with pytest.raises(SpecError, match="--norm l0 or --norm linf"):
            worst_sample([run], "few-de")
        assert worst_sample([run], "few-de", norm="l0") == "id-4"


def test_a_number_is_the_place_in_the_run_unless_it_is_an_id(run) -> None:
    assert read_sheet([run], "2").sample == "id-2"
    for wrong in ("8", "-1", "id", ""):
        with pytest.raises(SpecError, match=r"no such sample(.|\n)*an id such as id-[0-7](.|\n)*from 0 to 7"):
            read_sheet([run], wrong)


def test_what_cannot_be_drawn_is_refused_with_the_reason(run, synthetic: ModuleType, tmp_path) -> None:
    with pytest.raises(SpecError, match=r"no attack has a witness(.|\n)*clean_error(.|\n)*such as id-2, id-3, id-4"):
        read_sheet([run], "id-0", model="frail")
    with pytest.raises(SpecError, match=r"held: not broken by this attack up to th = 10"):
        read_sheet([run], "id-6", model="frail")
    with pytest.raises(SpecError, match=r"no attack ran under this norm(.|\n)*found: +l2(.|\n)*l0 or linf"):
        read_sheet([run], "id-2", norm="l2")
    with pytest.raises(UnknownNameError, match="did you mean frail"):
        read_sheet([run], "id-2", model="frial")
    with pytest.raises(UnknownNameError, match="did you mean few-de"):
        worst_sample([run], "few-d")
    with synthetic.build(tmp_path / "none.charpy", [synthetic.Plan("none")]) as none:
        with pytest.raises(SpecError, match="this attack found no witness"):
            worst_sample([none], "few-de")
        with pytest.raises(SpecError, match="a run that broke something"):
            read_sheet([none], "id-2")
        none.set_meta(dataset=None)
        with pytest.raises(RunFileError, match="nothing was assessed yet"):
            read_sheet([none], "id-2")
