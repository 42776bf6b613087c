from __future__ import annotations

from pathlib import Path
from types import ModuleType

from charpy.analysis.summary import RunSummary
from charpy.reports.terminal import dual_table, plain_table


def test_both_norms_stand_side_by_side(summary: RunSummary) -> None:
    lines = plain_table(summary.assessments[0]).splitlines()
    assert lines[0].strip() == "frail on by hand: 7 of 8 correctly classified"
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    third = next(row for row in rows if row[0] == "3")
    assert third == ["3", "3/7", "43 % [10..82]", "0..50 %", "2/7", "29 % [4..71]", "0..62 %"]


def test_invalid_samples_get_a_column_and_the_status_a_line(summary: RunSummary) -> None:
    text = plain_table(summary.assessments[1])
    assert "invalid" in text
    assert "INVALID: 2 of 8 samples are invalid" in text
    assert dual_table(summary.assessments[1]).columns[4].header.plain.strip() == "invalid"


def test_plain_text_is_ascii_without_control_characters(summary: RunSummary) -> None:
    text = plain_table(summary.assessments[0])
    assert text.replace("\n", "").isprintable()
    assert text.isascii()


def test_names_are_neither_markup_nor_escape_sequences(synthetic: ModuleType, tmp_path: Path) -> None:
    plan = synthetic.Plan("[bold red]x[/] \x1b[31m\u202e", finds=synthetic.FRAIL.finds)
    with synthetic.build(tmp_path / "run.charpy", [plan]) as run:
        text = plain_table(RunSummary.of(run).assessments[0])
    assert "[bold red]x[/] [U+001B][31m[U+202E]" in text
    assert "\x1b" not in text


def test_levels_of_one_norm_only_leave_cells_empty(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], norms=["l0"]) as run:
        table = dual_table(RunSummary.of(run).assessments[0])
    assert len(table.columns) == 4


def test_a_run_without_samples_has_dashes(synthetic: ModuleType, tmp_path: Path) -> None:
    plan = synthetic.Plan("nothing", predictions=[])
    with synthetic.build(tmp_path / "run.charpy", [plan], labels=()) as run:
        text = plain_table(RunSummary.of(run).assessments[0])
    assert "INVALID: no sample was assessed" in text
    assert "nan" not in text


def test_norms_with_levels_of_their_own_stand_one_below_another(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FOUR], levels=synthetic.FOUR_LEVELS) as run:
        four = RunSummary.of(run).assessments[0]
    text = plain_table(four, width=80)
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    cells = [row for row in rows if row[1].isdecimal()]
    assert [row[1] for row in cells] == ["1", "3", "5", "10"] * 2 + ["32", "64", "128", "255", "510", "1530", "3060"]
    assert [row[0] for row in cells if row[0]] == ["L0 (pixels)", "Linf (1/255)", "L2 (1/255)", "L1 (1/255)"]
    assert cells[10] == ["", "128", "3/7", "43 % [10..82]", "0..50 %"]
    assert max(len(line) for line in text.splitlines()) <= 80
    assert text.isascii()


def test_weak_figures_are_marked_and_the_reason_stands_below(synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], drills=synthetic.DRILLS) as run:
        text = plain_table(RunSummary.of(run).assessments[0])
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    third = next(row for row in rows if row[0] == "3")
    assert third == ["3", "3/7", "43 % [10..82]", "0..50 %", "2/7", "29 % [4..71]", "0..62 % ?"]
    below = " ".join(line.strip() for line in text.splitlines() if line[:1] not in "|+")
    assert "? weak evidence, Linf th = 1, 3, 5, 10: of 8 planted adversarial examples the best attack, " in below
    assert "thr-de, found 3; and 2 more in the report" in below
    assert text.isascii()
