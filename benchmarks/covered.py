"""What the tests reach, group by group: lines and branches of the parts that everything rests on, held to their limits.

python benchmarks/covered.py [--group "run file"]... [--workers 2]    writes benchmarks/results/coverage.md

Groups, their tests and the limits stand in pyproject.toml, `[tool.charpy.coverage]`. Processes that the tests start
are measured, too. With --group only these groups are measured, and no page is written. Exit code 1 below a limit, or
where a test fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charpy.environment import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "coverage.md"
REPORT = ROOT / "build" / "coverage" / "report.json"


@dataclass(frozen=True)
class Covered:
    """Lines and branches of a file or a group: how many there are, how many were reached."""

    lines: int = 0
    lines_reached: int = 0
    branches: int = 0
    branches_reached: int = 0

    @classmethod
    def of(cls, summary: Mapping[str, int]) -> Covered:
        """One file of coverage's JSON report."""
        return cls(
            summary["num_statements"], summary["covered_lines"], summary["num_branches"], summary["covered_branches"]
        )

    def __add__(self, other: Covered) -> Covered:
        return Covered(
            self.lines + other.lines,
            self.lines_reached + other.lines_reached,
            self.branches + other.branches,
            self.branches_reached + other.branches_reached,
        )

    @property
    def shares(self) -> tuple[float, float]:
        """Reached lines and branches, in percent; of nothing, all is reached."""
        return (
            100 * self.lines_reached / self.lines if self.lines else 100.0,
            100 * self.branches_reached / self.branches if self.branches else 100.0,
        )

    def row(self, name: str) -> str:
        """Of a table."""
        lines, branches = self.shares
        return (
            f"| {name} | {self.lines_reached} of {self.lines} | {lines:.1f} % "
            f"| {self.branches_reached} of {self.branches} | {branches:.1f} % |"
        )


HEAD = ("| | lines | | branches | |", "|---|---|---|---|---|")


def measure(tests: Sequence[str], workers: int) -> int:
    """Run the tests, those of real data left out, and write coverage's report; returns their exit code."""
    command = [
        sys.executable, "-m", "pytest", "-q", "--cov", "--cov-branch", f"--cov-report=json:{REPORT}",
        "-m", "not slow and not data", "-p", "no:cacheprovider", *(("-n", str(workers)) if workers else ()),
        *dict.fromkeys(tests),
    ]  # fmt: skip
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.unlink(missing_ok=True)
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def files_of(patterns: Sequence[str]) -> list[str]:
    """The files of a group, as the report names them; a pattern without any is refused."""
    found = {pattern: sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, files in found.items() if not files]:
        raise SystemExit(f"no such file, see [tool.charpy.coverage] in pyproject.toml: {', '.join(missing)}")
    return list(dict.fromkeys(name for files in found.values() for name in files))


def parts_of(report: Mapping[str, Any], groups: Mapping[str, Any]) -> dict[str, dict[str, Covered]]:
    """Of each group, what was reached of each of its files."""
    return {
        name: {file: Covered.of(report["files"][file]["summary"]) for file in files_of(group["files"])}
        for name, group in groups.items()
    }


def below(totals: Mapping[str, Covered], limits: tuple[float, float]) -> list[str]:
    """The groups that lack lines or branches."""
    return [
        name
        for name, total in totals.items()
        if any(share < limit for share, limit in zip(total.shares, limits, strict=True))
    ]


def main() -> None:
    """Measure, print, write the page, and fail below a limit."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["charpy"]["coverage"]
    limits = (settings["lines"], settings["branches"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", action="append", choices=list(settings["groups"]))
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    groups = {name: settings["groups"][name] for name in asked.group or settings["groups"]}
    began = time.monotonic()
    failed = measure([test for group in groups.values() for test in group["tests"]], asked.workers) != 0
    if not REPORT.is_file():
        raise SystemExit("the tests broke off: nothing was measured")
    parts = parts_of(json.loads(REPORT.read_text(encoding="utf-8")), groups)
    totals = {name: sum(files.values(), Covered()) for name, files in parts.items()}
    table = [*HEAD, *(total.row(name) for name, total in totals.items())]
    print("\n".join(table))
    if asked.group is None:
        lines = page(table, parts, limits, time.monotonic() - began, failed=failed)
        RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if lacking := below(totals, limits):
        print(f"below {limits[0]} % of lines or {limits[1]} % of branches: {', '.join(lacking)}")
    sys.exit(1 if failed or lacking else 0)


def page(
    table: Sequence[str],
    parts: Mapping[str, Mapping[str, Covered]],
    limits: tuple[float, float],
    seconds: float,
    *,
    failed: bool,
) -> list[str]:
    """The table of the groups, and one of the files of each."""
    machine = ", ".join(f"{key} {value}" for key, value in environment().items())
    return [
        "# What the tests reach",
        "",
        "`make coverage`: lines and branches that the tests of the groups in pyproject.toml reach, in their own "
        f"process and in those that they start. Limits: {limits[0]} % of lines and {limits[1]} % of branches a group.",
        "",
        f"{machine}; {seconds:.0f} s{'; SOME TESTS FAILED' if failed else ''}.",
        "",
        *table,
        *(
            line
            for name, files in parts.items()
            for line in ("", f"## {name.capitalize()}", "", *HEAD, *(of.row(f"`{file}`") for file, of in files.items()))
        ),
    ]


if __name__ == "__main__":
    main()
