"""What `make coverage` measures is there, and a group below a limit is told."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]


@pytest.fixture
def covered(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import covered

    return covered


@pytest.mark.parametrize(
    "group", SETTINGS["charpy"]["coverage"]["groups"].values(), ids=lambda group: group["files"][0]
)
def test_the_files_and_tests_of_each_group_are_there(covered, group):
    assert len(covered.files_of(group["files"])) >= len(group["files"])
    assert [test for test in group["tests"] if not (ROOT / test).exists()] == []
    for test in group.get("deselect", ()):
        path, _, name = test.partition("::")
        assert path in group["tests"]
        assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_a_file_that_was_moved_is_told_and_not_left_out(covered):
    with pytest.raises(SystemExit, match=r"core/charpy/moved\.py"):
        covered.files_of(["core/charpy/judge.py", "core/charpy/moved.py"])


def test_processes_that_end_at_once_are_measured():
    assert {"subprocess", "_exit"} <= set(SETTINGS["coverage"]["run"]["patch"])
    assert SETTINGS["coverage"]["run"]["branch"]


def test_lines_and_branches_are_added_up_and_held_to_their_own_limits(covered):
    def summary(*counts):
        names = ("num_statements", "covered_lines", "num_branches", "covered_branches")
        return {"summary": dict(zip(names, counts, strict=True))}

    report = {"files": {"core/charpy/judge.py": summary(90, 90, 10, 7), "core/charpy/oracle.py": summary(10, 5, 0, 0)}}
    parts = covered.parts_of(report, {"files": ["core/charpy/judge.py", "core/charpy/oracle.py"]})
    total = sum(parts.values(), covered.Covered())
    assert total.shares == (95.0, 70.0)
    assert total.row("both") == "| both | 95 of 100 | 95.0 % | 7 of 10 | 70.0 % |"
    assert covered.below({"both": total}, (95, 70)) == []
    assert covered.below({"both": total}, (95, 71)) == ["both"]
    assert covered.below({"both": total}, (96, 70)) == ["both"]
