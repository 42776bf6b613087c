"""Whether `background_change` detects PGD on MNIST, and whether it detects an attack that knows of it.

    export CHARPY_DATA=DIR                        # mnist/
    python benchmarks/background.py               # prints and writes benchmarks/results/background_change.md

Test images are drawn once and parted in three, as `benchmarks/detection.py` does.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import torch
from cyclopts import App
from detection import Setting, crafted
from page import Sheet, command

from charpy.analysis.detection import Detection, detection
from charpy.analysis.document import Share
from charpy.engine import QueryEngine
from charpy.interfaces.defense import Detector
from charpy.interfaces.model import Model, Output
from charpy.plugins import registry
from charpy.threat import Norm

app = App(name="python benchmarks/background.py", help_format="plaintext", version_flags=[])
HOW = """Detector: `background_change` as it stands; its score is a number of pixels. Threshold: at most 5 % of the
first clean set exceed it; false positives: of the second one. `foreground_pgd` knows the detector and its parameters,
`pgd` does not. Fooled: adversarial images, on k/255, that the model misclassifies; failed: the last image tried
where none was found; both: fooled and not flagged, of the attacked. Shares with their 95 % intervals (Clopper &
Pearson)."""
RADII = (0.3, 0.1)


@app.default
def main(
    *, models: str = "mnist-lenet,mnist-robust", clean: int = 1000, images: int = 100, steps: int = 40, seed: int = 0
) -> None:
    """Measure the detector.

    Args:
        models: zoo models for MNIST, separated by commas.
        clean: images in each of the two clean sets.
        images: correctly classified images that are attacked.
        steps: of PGD; both kinds make one descent.
        seed: which images.
    """
    torch.set_num_threads(1)
    page = Sheet("background_change")
    for name in models.split(","):
        _measure(page, name, clean, images, steps, seed)
    head = ["# Detection: changes to an empty background", "", f"Written by `{command()}`."]
    text = "\n".join([*head, "", HOW, "", f"{page.machine}.", *page.lines, ""])
    (Path(__file__).parent / "results" / f"{page.stage}.md").write_text(text, encoding="utf-8")


def _measure(page: Sheet, name: str, clean: int, images: int, steps: int, seed: int) -> None:
    reference = registry().load("datasets", "mnist").accepts("mnist", os.environ.get("CHARPY_DATA"))
    data = registry().create("datasets", "mnist", reference)
    model: Model = registry().create("models", name)
    detector: Detector = registry().create("defenses", "background_change")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen_on, others = (
        detector.flag(model, data.read(order[part]).images) for part in (slice(clean), slice(clean, 2 * clean))
    )
    pool = data.read(order[2 * clean : 2 * clean + 2 * images])
    with torch.no_grad():
        right = (model.predict(pool.images).argmax(1) == pool.labels).nonzero()[:images, 0]
    samples = pool.images[right], pool.labels[right]
    engine = QueryEngine.measure(model, Output.LOGITS, samples[0][:64], gradients=True)
    page.add("", f"## {name}", "")
    for number, (kind, radius) in enumerate((kind, r) for r in RADII for kind in ("pgd", "foreground_pgd")):
        started = time.perf_counter()
        setting = Setting(kind, Norm.LINF, radius)
        adversarial, fooled, _ = crafted(model, engine, samples, setting, steps + 1, seed)
        seconds = time.perf_counter() - started
        suspicion = detector.flag(model, adversarial)
        found = _detection(chosen_on, others, suspicion[fooled], suspicion[~fooled])
        if number == 0:
            rate = _share(found.false_positives)
            page.add(
                f"Threshold {found.threshold:.0f} (of {clean} clean images); false positives {rate} of {clean} others. "
                f"Of the attacked images as they are, {_flagged(detector, model, samples[0], found)}."
            )
            page.table("attack | images | fooled | flagged of fooled | flagged of failed | both | median score | s")
        both = int((fooled & (suspicion <= found.threshold)).sum())
        middle = f"{float(suspicion.median()):.0f}"
        cells = (_share(found.successful), _share(found.failed), both, middle, f"{seconds:.0f}")
        page.row(f"{kind} {radius:g}", len(adversarial), int(fooled.sum()), *cells)


def _flagged(detector: Detector, model: Model, images: torch.Tensor, found: Detection) -> str:
    return f"{float((detector.flag(model, images) > found.threshold).float().mean()):.1%}"


def _detection(chosen_on: torch.Tensor, clean: torch.Tensor, fooled: torch.Tensor, failed: torch.Tensor) -> Detection:
    return detection(*(scores.numpy() for scores in (chosen_on, clean, fooled, failed)))


def _share(found: Share) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


if __name__ == "__main__":
    app()
