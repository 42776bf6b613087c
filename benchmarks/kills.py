"""SIGKILL at random instants over one evaluation: nothing that was acknowledged is lost, and the results are the same.

python benchmarks/kills.py [--kills 200]    writes benchmarks/results/kills.md

The command that computes is killed and started again until it has been killed so often, then left to finish. Two of
three kills hit the supervisor (the process that computes then ends itself), one the process that computes. Kills are a
Poisson process: on average four in the time that the first start needs until its first unit. A unit is acknowledged
once it can be read from the run file; before every start the units of all earlier looks must be there.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results" / "kills.md"
SPEC = """
name: killed
data: {kind: digits, samples: 360}
models: [{reference: digits-cnn}]
threats:
  - {norm: l0, levels: [1, 3, 5, 10], battery: [{kind: few_pixel, queries: 300}]}
  - {norm: linf, levels: [1, 3, 5, 10], battery: [{kind: pgd}, {kind: square, queries: 300}]}
shard: 4
"""
UNIT = "model, norm, th, step, shard, round"


def start(folder: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "charpy", "run", str(folder / "spec.yaml"), "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def undisturbed(folder: Path, out: Path) -> tuple[float, float]:
    """Seconds until the first unit, and until the end."""
    began, process = time.monotonic(), start(folder, out)
    while process.poll() is None and not units(out / "run.charpy"):
        time.sleep(0.1)
    first = time.monotonic() - began
    process.wait()
    return first, time.monotonic() - began


def units(path: Path) -> set[tuple[object, ...]]:
    """The units that a reader sees."""
    if not path.exists():
        return set()
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=30)) as db:
        made = db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'units'").fetchone()[0]
        return set(db.execute(f"SELECT {UNIT} FROM units")) if made else set()


def table(path: Path) -> tuple[str, int, int]:
    """SHA-256 of the result table, its rows, and units that are there twice."""
    query = """
        SELECT u.model, u.norm, u.th, u.step, u.shard, u.round, r.sample, r.outcome, r.queries, r.queries_to_success,
            r.reason, w.distance, w.prediction, w.image, w.metrics
        FROM results r JOIN units u ON u.unit = r.unit LEFT JOIN witnesses w ON w.unit = r.unit AND w.sample = r.sample
        ORDER BY u.model, u.norm, u.th, u.step, u.shard, u.round, r.sample"""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
        rows = db.execute(query).fetchall()
        keys = db.execute(f"SELECT {UNIT} FROM units").fetchall()
    return hashlib.sha256(repr(rows).encode()).hexdigest(), len(rows), len(keys) - len(set(keys))


def killed(folder: Path, out: Path, kills: int, mean: float, draw: random.Random) -> Iterator[str]:
    """Kill the command `kills` times, `mean` seconds apart on average, and let it end; yields what was lost."""
    path, known, number, hit = out / "run.charpy", set[tuple[object, ...]](), 0, ""
    process = start(folder, out)
    while number < kills:
        time.sleep(draw.expovariate(1 / mean))
        if process.poll() is not None:
            break  # it was faster: the evaluation is over
        children = psutil.Process(process.pid).children()
        if hit != "child" and children and draw.random() < 0.5:
            hit = "child"
            children[0].send_signal(signal.SIGKILL)
        else:
            hit = "supervisor"
            process.kill()
            process.wait()
            psutil.wait_procs(children, timeout=30)
        number += 1
        now = units(path)
        yield from (str(unit) for unit in known - now)
        known |= now
        if hit == "supervisor":
            process = start(folder, out)
    process.wait()
    yield from (str(unit) for unit in known - units(path))
    print(f"{number} kills, {len(known)} units seen before the last start, exit code {process.returncode}")
    yield f"only {number} kills" if number < kills else ""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=200)
    wanted = parser.parse_args().kills
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "spec.yaml").write_text(SPEC, encoding="utf-8")
        first, alone = undisturbed(folder, folder / "whole")
        whole = table(folder / "whole" / "run.charpy")
        began = time.monotonic()
        draw = random.Random(0)
        lost = [unit for unit in killed(folder, folder / "killed", wanted, first / 4, draw) if unit]
        seconds = time.monotonic() - began
        again = table(folder / "killed" / "run.charpy")
    same = "byte-identical" if again[0] == whole[0] else "DIFFERENT"
    lines = [
        "# SIGKILL at random instants over one evaluation",
        "",
        f"`python benchmarks/kills.py --kills {wanted}`: 360 digits, two norms, four levels, 3 attacks, shards of 4; "
        "two of three kills hit the supervisor, the others the process that computes.",
        "",
        "| what | undisturbed | killed |",
        "|---|---|---|",
        f"| seconds | {alone:.0f} | {seconds:.0f} |",
        f"| rows of the result table | {whole[1]:,} | {again[1]:,} |",
        f"| units twice | {whole[2]} | {again[2]} |",
        f"| acknowledged units lost | - | {len(lost)} {'' if not lost else lost[:3]} |",
        f"| SHA-256 of results and witnesses | {whole[0][:16]} | {again[0][:16]} ({same}) |",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
