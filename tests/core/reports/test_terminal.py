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
