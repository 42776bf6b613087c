"""Which adversarial images feature squeezing detects that were made without a thought of it.

    export CHARPY_DATA=DIR                        # mnist/, cifar10/
    python benchmarks/detection.py                # prints and writes benchmarks/results/detection_NORM.md, each norm

Test images are drawn once and parted in three: clean ones that the threshold is chosen on, clean ones that the false
positives are counted on, and correctly classified ones that are attacked. The attacks see the model alone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from contest import DATA
from cyclopts import App
from page import Sheet, command

from charpy.analysis.detection import Detection, detection
from charpy.analysis.document import Share
from charpy.engine import QueryEngine
from charpy.interfaces.attack import Attack, Task
from charpy.interfaces.defense import Detector
from charpy.interfaces.model import Model, Output
from charpy.losses import Aim
from charpy.oracle import Oracle
from charpy.pixels import as_images, distances, inside, quantise
from charpy.plugins import registry
from charpy.random import Random, sample_keys
from charpy.threat import Access, Goal, Norm, ThreatModel

app = App(name="python benchmarks/detection.py", help_format="plaintext", version_flags=[])
HOW = """Detector: `feature_squeezing_detector` as it stands, the published sets of squeezers. Threshold: 5 % of the
first clean set exceed it; false positives: of the second one, all images whether classified correctly or not. Fooled:
adversarial images, on k/255, that the model misclassifies (targeted: as the target); failed: the last image that an
attack tried where it found none. Shares with their 95 % intervals (Clopper & Pearson); area: under the ROC curve of
fooled against clean images (interval: Newcombe). Distance: median of the fooled, pixels or image values. Confidence:
the margin in logits beyond the boundary that C&W goes on for; the paper attacks with 10 on MNIST and 5 on CIFAR-10."""


@dataclass(frozen=True)
class Setting:
    """An attack at one strength; `radius` None leaves it free."""

    kind: str
    norm: Norm
    radius: float | None = None
    confidence: float = 0.0
    targeted: bool = False

    @property
    def name(self) -> str:
        """As it stands in the table."""
        strength = f" {self.radius:.3g}" if self.radius is not None else f", confidence {self.confidence:g}"
        return f"{self.kind} {self.norm}{strength}{', targeted' * self.targeted}"


def settings_for(model: str, norm: Norm) -> list[Setting]:
    """C&W at the boundary and with the paper's confidence; FGSM (Linf) at the paper's radius and at half of it."""
    radius, confidence = (0.3, 10.0) if DATA[model] == "mnist" else (4 / 255, 5.0)
    found = [Setting("cw", norm), Setting("cw", norm, confidence=confidence)]
    found.append(Setting("cw", norm, confidence=confidence, targeted=True))
    fast = [Setting("fgm", norm, radius), Setting("fgm", norm, radius / 2)] if norm is Norm.LINF else []
    return fast + found


class Watched:
    """Every image that an attack shows the oracle: the nearest that reaches the goal by `confidence`, and the last."""

    def __init__(self, images: torch.Tensor, aim: Aim, threat: ThreatModel, confidence: float) -> None:
        self.originals, self.aim, self.threat, self.confidence = quantise(images.clone()), aim, threat, confidence
        self.last, self.nearest = self.originals.clone(), self.originals.clone()
        self.distance = torch.full((len(images),), torch.inf, dtype=torch.float64)

    def __call__(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """What an oracle calls with everything that it answers; the answers stay as they are."""
        pixels, scores = quantise(rows.detach().clone()), answers.detach()
        self.last[owner] = pixels
        reached = self.aim.margins(scores, owner) <= -self.confidence
        reached &= self.aim.reached(scores, owner) & inside(self.threat, self.originals[owner], pixels)
        size = distances(self.threat.norm, self.originals[owner], pixels).double().masked_fill(~reached, torch.inf)
        nearest = self.distance.scatter_reduce(0, owner, size, "amin")
        better = ((size == nearest[owner]) & (size < self.distance[owner])).nonzero()[:, 0]
        self.nearest[owner[better]] = pixels[better]
        self.distance = nearest
        return answers


def crafted(model: Model, engine: QueryEngine, samples: tuple[torch.Tensor, torch.Tensor], setting: Setting,
            queries: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, float]:  # fmt: skip
    """`(images, fooled, median distance)` of one attack on correctly classified `samples`."""
    images, labels = samples
    random = Random(seed, sample_keys([str(place) for place in range(len(images))]))
    step = random.fork("targets").integers(torch.arange(len(images)), 0, 9).view(-1)
    targets = (labels + 1 + step) % 10 if setting.targeted else None
    diameter = {Norm.L0: images[0, 0].numel(), Norm.L2: images[0].numel() ** 0.5, Norm.LINF: 1.0}[setting.norm]
    radius = diameter if setting.radius is None else setting.radius
    goal = Goal.TARGETED if setting.targeted else Goal.UNTARGETED
    threat = ThreatModel(norm=setting.norm, radius=radius, goal=goal, access=Access.GRADIENTS, queries=queries)
    watched = Watched(images, Aim(labels, targets), threat, setting.confidence)
    oracle = Oracle(engine, model, images, labels, targets, threat, minimise=True, plant=watched)
    params = {"confidence": setting.confidence} if setting.kind == "cw" else {}
    attack: Attack = registry().create("attacks", setting.kind, params)
    with torch.enable_grad():
        attack.run(Task(images, labels, targets, threat, oracle, random))
    found = watched.distance.isfinite()
    chosen = as_images(torch.where(found[:, None, None, None], watched.nearest, watched.last))
    with torch.no_grad():  # the model as it is has the last word
        fooled = Aim(labels, targets).reached(model.predict(chosen.clone()), torch.arange(len(labels)))
    scale = 1 if setting.norm is Norm.L0 else 255
    near = watched.distance[fooled & found] / scale
    return chosen, fooled, float(near.median()) if len(near) else float("nan")


@app.default
def main(
    *, models: str = "mnist-lenet", norms: str = "linf,l2,l0", clean: int = 1000, images: int = 60,
    one_step: int = 500, queries: int = 1000, seed: int = 0, page_name: str = "detection",
) -> None:  # fmt: skip
    """Measure the detector.

    Args:
        models: zoo models, separated by commas.
        norms: of the attacks, separated by commas; each has its page.
        clean: images in each of the two clean sets.
        images: correctly classified images that C&W attacks.
        one_step: correctly classified images that FGSM attacks.
        queries: of C&W, per image.
        seed: which images, targets.
        page_name: of the pages, before the norm.
    """
    torch.set_num_threads(1)
    for norm in map(Norm, norms.split(",")):
        page = Sheet(f"{page_name}_{norm}")
        for name in models.split(","):
            _measure(page, name, norm, clean, {"cw": images, "fgm": one_step}, queries, seed)
        head = [f"# Detection: feature squeezing against static attacks in {norm}", "", f"Written by `{command()}`."]
        text = "\n".join([*head, "", HOW, "", f"{page.machine}.", *page.lines, ""])
        (Path(__file__).parent / "results" / f"{page.stage}.md").write_text(text, encoding="utf-8")


def _measure(
    page: Sheet, name: str, norm: Norm, clean: int, counts: Mapping[str, int], queries: int, seed: int
) -> None:
    reference = registry().load("datasets", DATA[name]).accepts(DATA[name], os.environ.get("CHARPY_DATA"))
    data, model = registry().create("datasets", DATA[name], reference), registry().create("models", name)
    detector: Detector = registry().create("defenses", "feature_squeezing_detector")
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen_on, others = (
        detector.flag(model, data.read(order[part]).images) for part in (slice(clean), slice(clean, 2 * clean))
    )
    most = max(counts.values())
    pool = data.read(order[2 * clean : 2 * clean + 2 * most])
    with torch.no_grad():
        right = (model.predict(pool.images).argmax(1) == pool.labels).nonzero()[:most, 0]
    samples = pool.images[right], pool.labels[right]
    engine = QueryEngine.measure(model, Output.LOGITS, samples[0][:64], gradients=True)
    page.add("", f"## {name}", "")
    table = "attack | images | fooled | distance | flagged of fooled | flagged of failed | area under the curve | s"
    scored: list[np.ndarray] = []
    for number, setting in enumerate(settings_for(name, norm)):
        started = time.perf_counter()
        some = samples[0][: counts[setting.kind]], samples[1][: counts[setting.kind]]
        adversarial, fooled, distance = crafted(model, engine, some, setting, queries, seed)
        seconds = time.perf_counter() - started
        suspicion = detector.flag(model, adversarial)
        found = _detection(chosen_on, others, suspicion[fooled], suspicion[~fooled])
        scored.append(suspicion[fooled].numpy())
        if number == 0:
            rate = _share(found.false_positives)
            page.add(
                f"Threshold {found.threshold:.4g} (of {clean} clean images); false positives {rate} of {clean} others."
            )
            page.table(table)
        page.row(setting.name, len(adversarial), int(fooled.sum()), f"{distance:.3g}", *_cells(found), f"{seconds:.0f}")
    together = detection(chosen_on.numpy(), others.numpy(), np.concatenate(scored), [])
    total = len(np.concatenate(scored))
    page.row("all together", total, total, "", *_cells(together), "")


def _detection(chosen_on: torch.Tensor, clean: torch.Tensor, fooled: torch.Tensor, failed: torch.Tensor) -> Detection:
    return detection(*(scores.numpy() for scores in (chosen_on, clean, fooled, failed)))


def _cells(found: Detection) -> tuple[str, str, str]:
    area = "-" if found.area is None else f"{found.area.value:.4f} [{found.area.low:.4f}, {found.area.high:.4f}]"
    return _share(found.successful), _share(found.failed), area


def _share(found: Share) -> str:
    if found.value is None or found.low is None or found.high is None:
        return "-"
    return f"{found.value:.1%} [{found.low:.1%}, {found.high:.1%}]"


if __name__ == "__main__":
    app()
