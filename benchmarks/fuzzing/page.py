"""The result page, from what each run of the fuzzer left in the corpus folder, and from the cases that are kept."""

from __future__ import annotations

import json
import platform
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from fuzzing.door import Door
from fuzzing.watch import LONGEST, look

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "fuzzing.md"
CASES = ROOT / "tests" / "hostile" / "fuzzed"
"""Inputs that were findings once, as `DOOR/CASE`; `findings.json` says what each did, and what it gets now."""


def findings() -> list[dict[str, str]]:
    """`door`, `case`, `was`, `now` of each."""
    found: list[dict[str, str]] = json.loads((CASES / "findings.json").read_text(encoding="utf-8"))
    return found


def write_page(corpus: Path, doors: Mapping[str, Door]) -> None:
    """Write the page; every case is opened again for it."""
    RESULTS.write_text("\n".join(_lines(corpus, doors)) + "\n", encoding="utf-8")
    print(RESULTS)


def _lines(corpus: Path, doors: Mapping[str, Door]) -> Iterator[str]:
    parts = {name: _parts(corpus / name) for name in doors}
    total = sum(part["seconds"] for runs in parts.values() for part in runs) / 60
    yield "# Fuzzing the front doors"
    yield ""
    yield (
        f"`python benchmarks/fuzz.py`, {total:.0f} minutes in all, one process on a core that other work shared "
        f"(Python {platform.python_version()}, {_guide(parts)}). An input must get a result or one of charpy's own "
        "errors, which names what and where. A finding is everything else: another exception, an error that does not "
        f"say where, the end of the process, more than {LONGEST:.0f} s of processor time, more memory than below, a "
        "file written or a connection made outside the input's folder, a changed run file that nobody notices or that "
        "is verified, a proof that does not hold."
    )
    yield ""
    yield "| door | how inputs are made | inputs | minutes | memory | findings | still |"
    yield "|---|---|---|---|---|---|---|"
    known = findings()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        folder = Path(scratch).resolve() / "open"
        state = {
            (row["door"], row["case"]): _still(doors[row["door"]], row, folder) for row in known if row["door"] in doors
        }
    for name, door in doors.items():
        of_door = [row for row in known if row["door"] == name]
        left = sum(state[name, row["case"]] for row in of_door)
        inputs, seconds = (sum(part[key] for part in parts[name]) for key in ("inputs", "seconds"))
        blind = sum(part["inputs"] for part in parts[name] if not part["guided"])
        led = f" ({blind:,} of them not guided)" if blind else ""
        figures = (f"{inputs:,}{led}", f"{seconds / 60:.0f}", f"{door.memory_gib:.0f} GiB", len(of_door), left)
        yield f"| {door.title} | {door.ways} | {' | '.join(map(str, figures))} |"
    yield ""
    yield (
        "Distinct findings, by kind of error and place; most of those of specs, and the views in run files, were seen "
        "while the door was written. `still`: opened again for this page, the kept input shows it."
    )
    yield ""
    yield "| door | input | before | now |"
    yield "|---|---|---|---|"
    for row in known:
        still = " **(still)**" if state.get((row["door"], row["case"])) else ""
        place = f"../../tests/hostile/fuzzed/{row['door']}/{row['case']}"
        yield f"| {row['door']} | [{row['case']}]({place}) | {row['was']} | {row['now']}{still} |"


def _still(door: Door, row: dict[str, str], folder: Path) -> bool:
    return look(door, (CASES / row["door"] / row["case"]).read_bytes(), folder) is not None


def _parts(folder: Path) -> list[dict[str, Any]]:
    done = folder / "done"
    found: list[dict[str, Any]] = json.loads(done.read_text(encoding="utf-8")) if done.exists() else []
    return found


def _guide(parts: Mapping[str, list[dict[str, Any]]]) -> str:
    if not any(part["guided"] for runs in parts.values() for part in runs):
        return "changes of the seeds, not guided"
    try:
        return f"guided by atheris {version('atheris')}"
    except PackageNotFoundError:
        return "guided by atheris"
