"""What smoothing costs: one solution at 299 x 299, its memory, and what it adds to C&W.

export CHARPY_DATA=DIR                        # mnist/
python benchmarks/smoothing_cost.py --out benchmarks/results
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import contest
import torch
from contest import Case, assess_at, bench_of
from cyclopts import App
from page import Sheet, command

from charpy.errors import CharpyError
from charpy.interfaces.attack import Step
from charpy.plugins import registry
from charpy.smoothing import Smoother, Solver
from charpy.threat import Grid, Norm

app = App(name="python benchmarks/smoothing_cost.py", help_format="plaintext", version_flags=[])
CODE = "import sys, smoothing_cost; print(smoothing_cost.peak(int(sys.argv[1])))"
LARGEST = 28.0
"""L2 radius that holds every MNIST image."""


def guides(count: int, side: int) -> torch.Tensor:
    """`(count, 3, side, side)` images that are smooth in places: random ones, averaged over 5 x 5."""
    torch.manual_seed(0)
    return torch.nn.functional.avg_pool2d(torch.rand(count, 3, side, side), 5, 1, 2)


def peak(side: int) -> float:
    """MiB that smoothing 16 images of `side` x `side` adds to the process at its peak, images and answer included."""
    smooth(guides(1, 8))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far is forgotten (Linux)
    before = _status("VmRSS")
    smooth(guides(16, side))
    return _status("VmHWM") - before


def _status(name: str) -> float:
    """A field of this process's status in MiB."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def smooth(images: torch.Tensor) -> torch.Tensor:
    """Noise, smoothed like the images in 50 iterations of conjugate gradients (none of them is spared)."""
    smoother = Smoother(images, 0.997, solver=Solver.CG, iterations=50, tolerance=0.0)
    return smoother(torch.randn_like(images))


def median_of(run: Callable[[], object], turns: int) -> tuple[float, float, float]:
    """Least, median and largest seconds of `turns` turns, after one that warms up."""
    run()
    seconds = []
    for _ in range(turns):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return min(seconds), statistics.median(seconds), max(seconds)


@app.default
def main(
    *, out: Path = Path("benchmarks/results"), turns: int = 7, images: int = 64, large: int = 4, threads: int = 2
) -> None:
    """Measure and write the page.

    Args:
        out: folder of the page.
        turns: of each measurement.
        images: MNIST images for C&W against sC&W.
        large: images of 299 x 299 for the four attacks on Inception v3 (random weights); left out without timm.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    sheet = Sheet("smoothing")
    _solution(sheet, turns)
    _memory(sheet)
    contest.DATA["mnist-c4"] = "mnist"
    _overhead(sheet, contest.load_case("mnist-c4", images, 0, drawn=False), turns)
    _large(sheet, large)
    text = [
        "# What smoothing costs",
        "",
        f"Written by `{command()}`, {threads} thread(s). {sheet.machine}; load at the end {os.getloadavg()[0]:.2f}.",
        *sheet.lines,
        "",
    ]
    (out / "smoothing_cost.md").write_text("\n".join(text), encoding="utf-8")


def _solution(sheet: Sheet, turns: int) -> None:
    sheet.add(
        "", "## One solution", "", "16 images of 3 x 299 x 299, alpha 0.997, 50 iterations of conjugate gradients."
    )
    sheet.table("what | least s | median s | largest s")
    guide, noise = guides(16, 299), torch.randn(16, 3, 299, 299)
    smoother = Smoother(guide, 0.997, solver=Solver.CG, iterations=50, tolerance=0.0)
    make = lambda: Smoother(guide, 0.997, solver=Solver.CG, iterations=50, tolerance=0.0)  # noqa: E731
    sheet.row("the graph, and the smoothing of 1", *(f"{s:.3f}" for s in median_of(make, turns)))
    sheet.row("one smoothing", *(f"{s:.3f}" for s in median_of(lambda: smoother.solve(noise), turns)))


def _memory(sheet: Sheet) -> None:
    sheet.add("", "## Memory", "", "Peak of a process of its own, over what it had before; 16 images of 3 channels.")
    sheet.table("side | pixels of an image | MiB | bytes a pixel and image")
    for side in (150, 299, 598):
        found = subprocess.run(
            [sys.executable, "-c", CODE, str(side)],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
        size = float(found.stdout)
        sheet.row(side, side**2, f"{size:.0f}", f"{size * 2**20 / (16 * side**2):.0f}")


def _overhead(sheet: Sheet, case: Case, turns: int) -> None:
    sheet.add(
        "",
        "## sC&W beside C&W",
        "",
        f"{len(case.labels)} MNIST images, C4, one descent of 60 steps, none ends early; turn by turn, the attack "
        "without the judge.",
    )
    sheet.table("attack | median s | over C&W")
    fixed = {"steps": 60, "searches": 1, "abort_early": False, "line_search": 0, "learning_rate": 0.1, "constant": 15.0}
    attacks = {
        "C&W": Step("cw", fixed),
        "sC&W, elimination": Step("scw", {**fixed, "solver": "exact"}),
        "sC&W, conjugate gradients": Step("scw", {**fixed, "solver": "cg"}),
        "smoothness penalty": Step("scw", {**fixed, "form": "penalty"}),
    }
    seconds: dict[str, list[float]] = {name: [] for name in attacks}
    for turn in range(turns + 1):
        for name, step in attacks.items():
            done = assess_at(case, Norm.L2, LARGEST, [step], Grid.NONE, queries=60)
            if turn:
                seconds[name].append(done.attack_seconds)
    for name, found in seconds.items():
        ratio = statistics.median(mine / bare for mine, bare in zip(found, seconds["C&W"], strict=True))
        sheet.row(name, f"{statistics.median(found):.2f}", f"{ratio:.2f}")


def _large(sheet: Sheet, count: int) -> None:
    sheet.add("", "## At 299 x 299, end to end", "")
    plugins = registry()
    try:
        model, again = (plugins.create("models", "inception_v3", {"weights": "random"}) for _ in range(2))
    except CharpyError as cause:
        sheet.add(f"Left out: {str(cause).splitlines()[0]}.")
        return
    images = guides(count, 299)
    with torch.no_grad():
        labels = model.predict(images).argmax(1)
    ids = tuple(map(str, range(count)))
    case = Case("inception_v3", model, bench_of(model, again, images, 0), images, labels, ids, count)
    sheet.add(
        f"{count} generated images, Inception v3 with random weights (its answers mean nothing, but its time and "
        "memory are those of any weights), 10 steps each; the peak is that of the whole process so far."
    )
    sheet.table("attack | s | over its plain form | gradients | peak MiB")
    smooth = {"alpha": 0.997, "solver": "cg"}
    descent = {"steps": 10, "searches": 1, "abort_early": False, "line_search": 0}
    before = 0.0
    for name, step in {
        "PGD2": Step("pgd2", {"steps": 10}),
        "sPGD2": Step("spgd2", {"steps": 10, **smooth}),
        "C&W": Step("cw", descent),
        "sC&W": Step("scw", {**descent, **smooth}),
    }.items():
        done = assess_at(case, Norm.L2, 1e-3, [step], Grid.NONE, queries=10)
        ratio = f"{done.attack_seconds / before:.2f}" if name.startswith("s") else ""
        before = done.attack_seconds
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sheet.row(name, f"{done.attack_seconds:.1f}", ratio, done.rows, f"{used:,.0f}")


if __name__ == "__main__":
    sys.exit(app())
