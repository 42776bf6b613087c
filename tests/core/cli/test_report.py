"""`charpy report`: the reports of a run file."""

from __future__ import annotations

import shutil


def test_it_writes_the_same_bytes_again_and_prints_the_same(charpy, finished, tmp_path):
    done = charpy("report", finished, "--out", "again")
    assert done.code == 0
    for name in ("report.json", "report.html"):
        assert (tmp_path / "again" / name).read_bytes() == (finished / name).read_bytes()
    assert "L0 (pixels)" in done.out


def test_the_run_file_itself_may_be_given_and_its_folder_is_the_default(charpy, finished, tmp_path):
    shutil.copy(finished / "run.charpy", tmp_path)
    assert charpy("report", "run.charpy").code == 0
    assert {path.name for path in tmp_path.glob("report.*")} == {"report.json", "report.html"}


def test_only_the_formats_that_are_asked_for(charpy, finished, tmp_path):
    assert charpy("report", finished, "--format", "json", "--out", "only").code == 0
    assert [path.name for path in (tmp_path / "only").iterdir()] == ["report.json"]


def test_what_it_refuses(charpy, finished, tmp_path):
    (tmp_path / "not.charpy").write_text("not a run file " * 100)
    (tmp_path / "empty").mkdir()
    for arguments, expected in (
        (["nowhere.charpy"], "no such run file"),
        (["empty"], "no such run file"),
        (["not.charpy"], "not a charpy run file"),
        ([finished, "--format", "htm", "--out", "x"], "did you mean html"),
        ([finished, "--format", ",", "--out", "x"], "--format"),
    ):
        done = charpy("report", *arguments)
        assert done.code == 2, arguments
        assert expected in done.err
        assert "Traceback" not in done.err
    assert not (tmp_path / "nowhere.charpy").exists()
    assert (tmp_path / "not.charpy").read_text().startswith("not a run file")


LINES = """
    from charpy.interfaces.report import Report

    class Lines(Report):
        "One line a model."
        suffix = ".lines"
        def render(self, run):
            return "; ".join(f"{part.model.name}: {part.status}" for part in run.assessments).encode()

    def charpy_reports():
        return {"lines": Lines}
"""


def test_a_format_of_a_stranger(stranger, program, finished, tmp_path):
    stranger("lines", LINES)
    done = program("report", finished, "--format", "lines", "--out", "out")
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "report.lines").read_text() == "digits-cnn: valid"
