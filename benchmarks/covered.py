"""What the tests reach, group by group: lines and branches of the parts that everything rests on, held to their limits.

python benchmarks/covered.py [--group "run file"]... [--workers 2]    writes benchmarks/results/coverage.md

Groups, their tests and the limits stand in pyproject.toml, `[tool.charpy.coverage]`. Each group is measured by its own
tests alone, processes that they start included; groups that are not asked for keep what was measured last. Exit code 1
below a limit, or where a test fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from charpy.environment import environment

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "coverage.md"
MEASURED = ROOT / "build" / "coverage"


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


def measure(name: str, group: Mapping[str, Any], workers: int) -> bool:
    """Run the tests of a group, those of real data left out, and write coverage's report; whether all passed."""
    report = report_of(name)
    report.parent.mkdir(parents=True, exist_ok=True)
    report.unlink(missing_ok=True)
    command = [
        sys.executable, "-m", "pytest", "-q", "--cov", "--cov-branch", f"--cov-report=json:{report}",
        "-m", "not slow and not data", "-p", "no:cacheprovider", *(("-n", str(workers)) if workers else ()),
        *(f"--deselect={test}" for test in group.get("deselect", ())), *group["tests"],
    ]  # fmt: skip
    code = subprocess.run(command, cwd=ROOT, check=False).returncode
    if not report.is_file():
        raise SystemExit(f"{name}: the tests broke off, nothing was measured")
    return code == 0


def report_of(name: str) -> Path:
    """Where what was measured of a group is kept."""
    return MEASURED / f"{name.replace(' ', '_')}.json"


def files_of(patterns: Sequence[str]) -> list[str]:
    """The files of a group, as the report names them; a pattern without any is refused."""
    found = {pattern: sorted(str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)) for pattern in patterns}
    if missing := [pattern for pattern, files in found.items() if not files]:
        raise SystemExit(f"no such file, see [tool.charpy.coverage] in pyproject.toml: {', '.join(missing)}")
    return list(dict.fromkeys(name for files in found.values() for name in files))


def parts_of(report: Mapping[str, Any], group: Mapping[str, Any]) -> dict[str, Covered]:
    """What was reached of each file of a group."""
    return {file: Covered.of(report["files"][file]["summary"]) for file in files_of(group["files"])}


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
    groups, limits = settings["groups"], (settings["lines"], settings["branches"])
    parser = argparse.ArgumentParser()
    parser.add_argument("--group", action="append", choices=list(groups))
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    failed = [name for name in asked.group or groups if not measure(name, groups[name], asked.workers)]
    parts = {
        name: parts_of(json.loads(report_of(name).read_text(encoding="utf-8")), group)
        for name, group in groups.items()
        if report_of(name).is_file()
    }
    totals = {name: sum(files.values(), Covered()) for name, files in parts.items()}
    table = [*HEAD, *(total.row(name) for name, total in totals.items())]
    print("\n".join(table))
    if len(parts) == len(groups):
        RESULTS.write_text("\n".join(page(table, parts, limits)) + "\n", encoding="utf-8")
    lacking = below(totals, limits)
    if lacking:
        print(f"below {limits[0]} % of lines or {limits[1]} % of branches: {', '.join(lacking)}")
    if failed:
        print(f"tests failed: {', '.join(failed)}")
    sys.exit(1 if failed or lacking else 0)


def page(table: Sequence[str], parts: Mapping[str, Mapping[str, Covered]], limits: tuple[float, float]) -> list[str]:
    """The table of the groups, and one of the files of each."""
    return [
        "# What the tests reach",
        "",
        "`make coverage`: lines and branches of each group in pyproject.toml that its own tests reach, in their own "
        f"process and in those that they start. Limits: {limits[0]} % of lines and {limits[1]} % of branches a group.",
        "",
        ", ".join(f"{key} {value}" for key, value in environment().items()),
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
