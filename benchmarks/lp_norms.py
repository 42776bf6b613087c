"""What Sharif, Bauer & Reiter 2018 and "Rethinking the definition" measure, but for the answers of people.

    export CHARPY_DATA=DIR                       # mnist/ and cifar10/
    python benchmarks/lp_norms.py --out FOLDER   # runs what FOLDER lacks, then fills in its page

Each part is one `charpy` command, which resumes. The same command again goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cyclopts import App
from lp_norms_page import blocks
from reproduction import command, fill, run

app = App(name="python benchmarks/lp_norms.py", help_format="plaintext", version_flags=[])
PAGE = Path(__file__).parent.parent / "docs" / "reproductions" / "lp-norms.md"

IMAGES = {"jsma": 75, "l2": 100, "linf": 100}
"""Sections 4.3 to 4.5: of each condition."""

SHARE = 0.15
"""Section 4.3: of the pixels, that JSMA may change."""

PUBLISHED = {"theta": 1.0, "both_ways": False, "restore": False, "gamma": SHARE}
"""JSMA as in CleverHans: pixels go up, and what is changed stays."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "as published, one target": {**PUBLISHED, "targets": 1},
    "as published, every class in turn": {**PUBLISHED, "targets": 9},
    "both ways, with pixels restored": {"gamma": SHARE, "targets": 9},
}
MODES = ("imperceptible", "perceptible")

MNIST, CIFAR10 = ("mnist-robust", "mnist-lenet-at"), ("cifar10-resnet-at", "cifar10-resnet8-robust")
"""The authors attacked the two adversarially trained networks of Madry et al. 2018; these are ours, much smaller."""

MEASURED = [{"kind": "l0_pixels"}, {"kind": "l2"}, {"kind": "linf"}, {"kind": "ssim"}]

METRICS = (
    "--metrics",
    "l0_pixels,l0_features,l1,l2,linf,ssim,uqi,psnr,ciede2000,perceptual_diff,fourier,edges,gradients,alignment",
)

BOUNDS = ("--rotation", "30", "--shift", "3")
"""Of Engstrom et al. 2019, whose images the paper shows, on 32 x 32 pixels."""

COMMANDS: Mapping[str, tuple[str, Sequence[str]]] = {
    "distances": (
        "distances.json",
        ("distances", "mnist", "--split", "train", "--metrics", "l2,linf", "--per-class", "100"),
    ),
    "eps": (
        "distances.json",
        (
            "distances",
            "mnist",
            "--metrics",
            "linf",
            "--eps-norm",
            "linf",
            "--rule",
            "combination",
        ),
    ),
    "perceive-cifar10": ("perceive.json", ("perceive", "--data", "cifar10", "--samples", "1000", *METRICS)),
    "perceive-engstrom": (
        "perceive.json",
        ("perceive", "--data", "cifar10", "--samples", "1000", "--metrics", "l0_features,l2,linf,ssim", *BOUNDS),
    ),
    "perceive-mnist": ("perceive.json", ("perceive", "--data", "mnist", "--samples", "1000", *METRICS)),
}
"""By folder: what it writes last, and the command."""


def of_witnesses(out: Path) -> tuple[str, Sequence[str]]:
    """What `perceive` makes of the images of sections 4.4 and 4.5, taken for what they were made to be."""
    runs = [str(out / part / CIFAR10[0]) for part in ("l2", "linf")]
    stated = ("--alike", "imperceptible", "--different", "perceptible")
    return "perceive.json", ("perceive", *runs, *METRICS, *stated)


def specs(samples: int | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every run, by its folder."""
    for model in MNIST:
        battery = [{"kind": "jsma", "name": name, "params": dict(params)} for name, params in SETTINGS.items()]
        threat = {"norm": "l0", "levels": [int(SHARE * 28 * 28)], "queries": 3000, "battery": battery}
        yield f"jsma/{model}", _spec("mnist", model, samples or IMAGES["jsma"], [threat])
    for model in CIFAR10:
        for part, norm, kind, level in (("l2", "l2", "ssim_sphere", 6 * 255), ("linf", "linf", "ssim_pgd", 25)):
            battery = [{"kind": kind, "name": mode, "params": {"mode": mode}} for mode in MODES]
            threat = {"norm": norm, "levels": [level], "queries": 500, "battery": battery}
            yield f"{part}/{model}", _spec("cifar10", model, samples or IMAGES[part], [threat])


def _spec(data: str, model: str, samples: int, threats: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {
        "name": f"Lp norms, {model}",
        "data": {"kind": data, "params": {"split": "test"}, "samples": samples},
        "models": [{"reference": model}],
        "threats": list(threats),
        "metrics": MEASURED,
        "contest": True,
    }


@app.default
def main(*, out: Path, samples: int | None = None, workers: int = 2) -> int:
    """Run what is missing and fill in the page.

    Args:
        out: folder of the runs.
        samples: images of each run; the paper's 75 and 100 if not given.
        workers: runs at once, of one thread each.
    """
    made = dict(specs(samples))
    with ThreadPoolExecutor(workers) as pool:
        jobs = {folder: pool.submit(run, made[folder], out, Path(folder)) for folder in made}
        jobs |= {
            folder: pool.submit(command, arguments, out, Path(folder), last)
            for folder, (last, arguments) in COMMANDS.items()
        }
    failed = [folder for folder, job in jobs.items() if job.result()]
    last, arguments = of_witnesses(out)
    if command(arguments, out, Path("perceive-witnesses"), last):
        failed.append("perceive-witnesses")
    fill(PAGE, blocks(out, [folder for folder in (*jobs, "perceive-witnesses") if folder not in failed]))
    if failed:
        print("without a result:", ", ".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(app())
