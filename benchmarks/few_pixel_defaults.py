"""Why the black-box battery's few_pixel has the settings it has: success against queries, beside the paper's settings.

    python benchmarks/few_pixel_defaults.py

Writes benchmarks/results/few_pixel_defaults.md.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch
from dual_vs_art import LEVELS, ours, stage

from charpy.environment import environment
from charpy.threat import Norm

SMALL: dict[str, Any] = {"optimiser": "de", "fitness": "margin", "population": 10, "recombination": 0.3, "patience": 40}
SETTINGS: dict[str, dict[str, Any]] = {
    "paper, CMA-ES": {},
    "paper, DE": {"optimiser": "de"},
    "DE, fitness margin": {"optimiser": "de", "fitness": "margin"},
    "population 10, CR 0.3, patience 40": SMALL,
    "the same, clip (standard)": {**SMALL, "repair": "clip"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="digits-cnn,cifar10-cnn")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--seed", type=int, default=5, help="which images; the settings were chosen on those of 5")
    parser.add_argument("--queries", type=int, default=3000)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/few_pixel_defaults.md"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = ", ".join(f"{key} {value}" for key, value in environment().items())
    lines = [
        "# few_pixel: success against queries",
        "",
        f"Written by `python {' '.join(sys.argv)}`: {options.images} correctly classified images a model,",
        f"at most {options.queries:,} queries an image; broken, and queries an image on average.",
        "",
        f"Machine: {machine}.",
        "",
        "| model | settings | th 1 | th 3 | th 5 | th 10 |",
        "|---|---|---|---|---|---|",
    ]
    for model in options.models.split(","):
        at = stage(model, options.images, options.seed)
        for name, params in SETTINGS.items():
            runs = [ours(at, Norm.L0, th, params, options.queries, options.images) for th in LEVELS]
            cells = " | ".join(f"{run.broken:.0%} / {run.rows // run.images:,}" for run in runs)
            lines.append(f"| {model} | {name} | {cells} |")
            print(lines[-1], flush=True)
    options.out.write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
