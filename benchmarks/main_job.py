"""What the main job costs a user: the help screen, 1,000 digits under both norms, and memory against samples.

    python benchmarks/main_job.py --out benchmarks/results/main_job.md

Each figure is that of a whole process, as the operating system accounts for it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from charpy.environment import environment

SPEC = """\
name: {samples} digits
data: {{kind: digits, params: {{split: all}}, samples: {samples}}}
models: [{{reference: digits-cnn}}]
threats:
  - norm: l0
    levels: [1, 3, 5, 10]
    battery:
      - kind: few_pixel
        params: {{optimiser: de, fitness: margin, population: 10, recombination: 0.3, repair: clip, patience: 40}}
  - norm: linf
    levels: [1, 3, 5, 10]
    battery: [{{kind: threshold, params: {{optimiser: cma-es, fitness: margin, population: 16}}}}]
"""


def measured(*arguments: str) -> tuple[float, float]:
    """Wall seconds and peak memory in MiB of `charpy ARGUMENTS`."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "charpy", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begin
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"charpy {' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}")
    return seconds, usage.ru_maxrss / 1024


def digits(samples: int) -> tuple[float, float]:
    """The main job on so many digits: both norms, four levels, one evolutionary attack each."""
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.yaml"
        spec.write_text(SPEC.format(samples=samples), encoding="utf-8")
        return measured("run", str(spec), "--out", str(Path(folder) / "out"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/main_job.md"))
    parser.add_argument("--samples", type=int, nargs="*", default=[250, 500, 1000])
    options = parser.parse_args()
    before = environment()
    helps = [measured("--help")[0] for _ in range(7)]
    rows = []
    for samples in options.samples:
        seconds, memory = digits(samples)
        rows.append(f"| {samples:,} | {seconds:.0f} s | {memory:.0f} MiB |")
        print(rows[-1], flush=True)
    page = [
        "# What the main job costs",
        "",
        "Written by `python benchmarks/main_job.py`.",
        "",
        "Machine: " + ", ".join(f"{key} {value}" for key, value in before.items()) + ".",
        "",
        f"`charpy --help`: median {statistics.median(helps):.2f} s of {len(helps)} runs, largest {max(helps):.2f} s.",
        "",
        "`digits-cnn` on digits, both norms, th 1, 3, 5, 10, few_pixel by DE and threshold by CMA-ES, 5,000 queries:",
        "",
        "| samples | wall | peak memory |",
        "|---|---|---|",
        *rows,
        "",
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(page), encoding="utf-8")
    print("\n".join(page))


if __name__ == "__main__":
    main()
