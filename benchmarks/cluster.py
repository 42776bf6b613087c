"""The executor `ray` on this machine: two workers beside one, and how many tiny units a second a driver can hand out.

python benchmarks/cluster.py    writes benchmarks/results/cluster.md
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from pathlib import Path

from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse

RESULTS = Path(__file__).parent / "results" / "cluster.md"
ROUNDS = 2
TINY = 10_000
SPEC = {
    "data": {"kind": "digits", "samples": 320},
    "models": [{"reference": "digits-cnn"}],
    "threats": [
        {"norm": "l0", "levels": [3], "battery": [{"kind": "few_pixel", "queries": 3000}]},
        {"norm": "linf", "levels": [10], "battery": [{"kind": "square", "queries": 3000}]},
    ],
    "shard": 20,
}


def results_of(workers: int, folder: Path) -> list[object]:
    """The results of a run."""
    spec = parse(RunSpec, {**SPEC, "executor": {"kind": "ray", "params": {"workers": workers}}})
    path = folder / f"{workers}-{time.monotonic_ns()}.charpy"
    evaluate(spec, path)
    with RunFile.open(path) as run:
        return list(run.results(0))


def main() -> None:
    """Measure, and write the page."""
    import ray

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        for workers in (1, 2):
            results_of(workers, folder)  # everything is loaded once
        timed: dict[int, list[float]] = {1: [], 2: []}
        results = []
        for _ in range(ROUNDS):
            for workers in (1, 2):
                began = time.monotonic()
                results.append(results_of(workers, folder))
                timed[workers].append(time.monotonic() - began)
        executor = registry().create("executors", "ray", {"workers": 2})
        list(executor.map(abs, range(100)))
        began = time.monotonic()
        done = list(executor.map(abs, range(TINY)))
        rate = TINY / (time.monotonic() - began)
        executor.close()
        ray.shutdown()
    one, two = (statistics.median(timed[workers]) for workers in (1, 2))
    same = all(result == results[0] for result in results)
    lines = [
        "# The executor `ray`, on one machine",
        "",
        f"`python benchmarks/cluster.py`: {os.cpu_count()} cores, one torch thread a worker, median of {ROUNDS} runs "
        "each, in turn, in one process. A run opens the model in every worker anew, which is in the time.",
        "",
        "| what | one worker | two workers | ratio |",
        "|---|---|---|---|",
        f"| {SPEC['data']['samples']} digits, `few_pixel` and `square`, 3,000 queries, shards of {SPEC['shard']} "
        f"| {one:.1f} s | {two:.1f} s | {one / two:.2f} |",
        "",
        f"- Results of all {len(results)} runs: {'the same' if same else 'DIFFERENT'}.",
        f"- {TINY:,} units that cost nothing, on two workers: {rate:,.0f} units/s through the driver, "
        f"{'none lost, all in order' if [value for _, value in done] == list(range(TINY)) else 'OUT OF ORDER'}.",
    ]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
