"""Mutation testing of the judge and the oracle: do the tests notice when a line of these says something else?

make mutation, or: python benchmarks/mutation.py      writes benchmarks/results/mutation.md
    --file oracle.py       only this one; may be given again
    --again                only what survived last time, after tests were added

Each mutant (`mutants.py`) meets the tests that run its function, the quickest first, in a process of its own that has
torch already (`forked_tests.py`). One that the clock or a signal ends is killed, too. The exit code is 1 where the
share falls below 80 % for one of the two.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from forked_tests import fates, load
from mutants import Mutant, mutants

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "core" / "charpy"
PAGE = ROOT / "benchmarks" / "results" / "mutation.md"
EQUIVALENT = ROOT / "benchmarks" / "equivalent_mutants.toml"
LAST = ROOT / ".cache" / "mutation.json"
LEAST = 0.8

PARTS = {
    "judge": ("judge.py", "measured.py", "pixels.py"),
    "oracle": ("oracle.py", "recorder.py", "differentiation.py", "ledger.py", "attached.py", "losses.py"),
}
"""The judge decides with `pixels` (stored bytes, distances, the inside of a ball) and `measured` (metrics). The oracle
counts and keeps with `recorder` and `ledger`, gives slopes by `differentiation` and `attached`, and `losses` says what
is minimised and when it is done."""

FILES = [file for files in PARTS.values() for file in files]
ABOUT = "judge measured pixels oracle oracle_batches oracle_devices ledger attached losses planted"
TESTS = tuple(f"tests/core/test_{name}.py" for name in ABOUT.split())


@dataclass(frozen=True)
class Result:
    """A mutant and what became of it: killed, time or survived."""

    mutant: Mutant
    fate: str


def reasons() -> dict[str, str]:
    """Why no test can tell a mutant from the program, by the mutant's name."""
    if not EQUIVALENT.exists():
        return {}
    groups = tomllib.loads(EQUIVALENT.read_text(encoding="utf-8"))["because"]
    return {name: group["reason"] for group in groups for name in group["mutants"]}


def share(found: Sequence[Result]) -> float:
    """Of all mutants those that were noticed; equivalent ones count as survivors."""
    return sum(result.fate != "survived" for result in found) / max(1, len(found))


def page(found: Sequence[Result], missing: int, tests: int, why: Mapping[str, str]) -> str:
    """The Markdown page."""
    lines = [
        "# Mutation testing of the judge and the oracle",
        "",
        "Written by `python benchmarks/mutation.py` (`make mutation`). mutmut's operators, each applied once at each",
        "place; a mutant is killed if one of the tests fails, runs out of time or crashes. Only the wording of errors,",
        "annotations and decorators are left alone. Equivalent mutants count as survivors in `killed`; the last column",
        "leaves them out.",
        "",
        f"{tests} tests in {', '.join(f'`{test}`' for test in TESTS)}. Not measured: {missing} mutants.",
        "",
        "| file | mutants | killed | of these by the clock | survived | of these equivalent | killed | of the others |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for part, files in PARTS.items():
        for title, names in [*((f"`{file}`", (file,)) for file in files), (f"**{part}**", files)]:
            those = [result for result in found if result.mutant.path.name in names]
            left = [result for result in those if result.fate == "survived"]
            same = sum(result.mutant.name in why for result in left)
            late = sum(result.fate == "time" for result in those)
            rest = (len(those) - len(left)) / max(1, len(those) - same)
            lines.append(
                f"| {title} | {len(those)} | {len(those) - len(left)} | {late} | {len(left)} | {same} |"
                f" {share(those):.1%} | {rest:.1%} |"
            )
    lines += ["", "## Survivors", ""]
    for result in found:
        if result.fate == "survived":
            mutant = result.mutant
            reason = why.get(mutant.name, "No test noticed.")
            lines.append(f"- `{mutant.path.name}:{mutant.line}` {mutant.function}: `` {mutant.change} ``. {reason}")
    return "\n".join([*lines, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--file", action="append", choices=FILES)
    parser.add_argument("--again", action="store_true")
    options = parser.parse_args()
    files = options.file or FILES
    every = [mutant for name in FILES for mutant in mutants(SOURCE / name)]
    last = json.loads(LAST.read_text()) if LAST.exists() else {"fates": {}}
    wanted = [mutant for mutant in every if mutant.path.name in files]
    if options.again:
        wanted = [mutant for mutant in wanted if last["fates"].get(mutant.name, "survived") == "survived"]
    started = time.monotonic()
    load()
    answers = fates(TESTS, [SOURCE / file for file in FILES], wanted)
    last["tests"] = len(next(answers))
    for number, (mutant, fate) in enumerate(answers, 1):
        last["fates"][mutant.name] = fate
        if fate != "killed":
            print(f"{fate}: {mutant.line} {mutant.name}", flush=True)
        if number % 50 == 0 or number == len(wanted):
            print(f"{number} of {len(wanted)}, {time.monotonic() - started:.0f} s", flush=True)
            LAST.parent.mkdir(exist_ok=True)
            LAST.write_text(json.dumps(last))
    found = [Result(mutant, last["fates"][mutant.name]) for mutant in every if mutant.name in last["fates"]]
    missing = len(every) - len(found)
    PAGE.write_text(page(found, missing, last["tests"], reasons()), encoding="utf-8")
    parts = [[result for result in found if result.mutant.path.name in names] for names in PARTS.values()]
    return int(missing > 0 or min(share(part) for part in parts) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
