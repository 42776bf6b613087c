"""Learned similarity on MNIST: distances within and between classes, in L2 and in an embedding, and attacks in it.

export CHARPY_DATA=DIR                        # mnist/
python benchmarks/embedding.py --out benchmarks/results
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import torch
from cyclopts import App
from page import Sheet, command

from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import AttackSpec, ComponentSpec, DataSpec, ModelSpec, RunSpec, ThreatSpec
from charpy.threat import Norm

app = App(name="python benchmarks/embedding.py", help_format="plaintext", version_flags=[])
NETWORK = "mnist-embedding"
EACH = 100
"""Images of a class, as in the blog post."""
RADII = (0.02, 0.05, 0.2)
CONTROL = 383
"""Level of the L2 attack beside it: a radius of 1.5."""


@app.default
def main(*, out: Path = Path("benchmarks/results"), images: int = 100, seed: int = 0, threads: int = 1) -> None:
    """Measure, and write embedding.md.

    Args:
        out: folder of the page.
        images: of the test split, attacked.
        seed: which images.
        threads: of torch.
    """
    torch.set_num_threads(threads)
    sheet = Sheet("embedding")
    train, test = (_split(split) for split in ("train", "test"))
    distances(sheet, train, seed)
    neighbours(sheet, train, test)
    attacks(sheet, images, seed)
    text = ["# Learned similarity on MNIST", "", f"Written by `{command()}`. {sheet.machine}.", *sheet.lines, ""]
    (out / "embedding.md").write_text("\n".join(text), encoding="utf-8")


def distances(sheet: Sheet, data: tuple[torch.Tensor, torch.Tensor], seed: int) -> None:
    """Mean distance of two images, by class."""
    images, labels = data
    draw = torch.Generator().manual_seed(seed)
    rows = [(labels == k).nonzero()[:, 0] for k in range(10)]
    rows = [found[torch.randperm(len(found), generator=draw)[:EACH]] for found in rows]
    for name, features in (("L2", _flat(images)), ("Embedding", _embedded(images[torch.cat(rows)]))):
        chosen = torch.cat(rows) if name == "L2" else torch.arange(10 * EACH)
        apart = torch.cdist(features[chosen].double(), features[chosen].double()).view(10, EACH, 10, EACH)
        means = apart.sum((1, 3)) / EACH**2
        means.diagonal().mul_(EACH / (EACH - 1))  # no image is compared with itself
        sheet.add("", f"## {name}: mean distances, {EACH} training images a class")
        sheet.table("class|" + "|".join(map(str, range(10))) + "|nearest class")
        for k, row in enumerate(means):
            sheet.row(k, *(f"{value:.2f}" for value in row), int(row.argmin()))
        own, others = means.diag().mean(), means[~torch.eye(10, dtype=torch.bool)].mean()
        sheet.add("", f"Within a class {own:.2f} on average, between two {others:.2f}.")


def neighbours(sheet: Sheet, train: tuple[torch.Tensor, torch.Tensor], test: tuple[torch.Tensor, torch.Tensor]) -> None:
    """How good a classifier the nearest training images are, and how near test images are to each other."""
    sheet.add("", "## Nearest neighbours of the test images")
    sheet.table("distance|neighbours|gallery|right")
    for name, features in (("L2", _flat), ("embedding", _embedded)):
        count = len(test[1]) if name == "embedding" else 2000
        gallery, asked = features(train[0]), features(test[0][:count])
        for k in (1, 5):
            nearest = [torch.cdist(part, gallery).topk(k, largest=False).indices for part in asked.split(250)]
            right = int((train[1][torch.cat(nearest)].mode(1).values == test[1][:count]).sum())
            sheet.row(name, k, "train split", f"{right} of {count}")
    sheet.table("distance in the embedding, over 2,000 test images|1 %|10 %|50 %|90 %|99 %")
    embedded = _embedded(test[0])
    apart = torch.cdist(embedded[:2000], embedded).fill_diagonal_(torch.inf)
    alike = test[1][:2000, None] == test[1]
    for name, others in (("to the nearest of the class", ~alike), ("to the nearest of another class", alike)):
        shares = apart.masked_fill(others, torch.inf).amin(1).quantile(torch.tensor([0.01, 0.1, 0.5, 0.9, 0.99]))
        sheet.row(name, *(f"{value:.3f}" for value in shares))


def attacks(sheet: Sheet, images: int, seed: int) -> None:
    """What breaks two networks within a radius of the embedding, and how far PGD in L2 goes in it."""
    sheet.add("", "## Attacks", "", "Medians over the images that each attack broke; missed: see `embedding_pgd`.")
    sheet.table("model|attack|broken|embedding|L2|Linf|SSIM|missed")
    metrics = tuple(ComponentSpec(kind=kind) for kind in ("embedding", "l2", "linf", "ssim"))
    within = [
        AttackSpec(kind="embedding_pgd", name=f"embedding_pgd, radius {radius}", params={"radius": radius})
        for radius in RADII
    ]
    spec = RunSpec(
        data=DataSpec(kind="mnist", samples=images, seed=seed),
        models=(ModelSpec(reference="mnist-lenet"), ModelSpec(reference="mnist-robust")),
        threats=(
            ThreatSpec(norm=Norm.UNRESTRICTED, battery=tuple(within), queries=100),
            ThreatSpec(norm=Norm.L2, levels=(CONTROL,), battery=(AttackSpec(kind="pgd", name="pgd, L2 1.5"),)),
        ),
        contest=True,
        metrics=metrics,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.charpy"
        evaluate(spec, path)
        with RunFile.open(path) as run:
            for index, model in enumerate(spec.models):
                right = sum(sample.prediction == sample.label for sample in run.samples(index))
                for unit in run.units(index):
                    found = [w.metrics for w in run.witnesses(index) if w.attack == unit["attack"]]
                    medians = [f"{statistics.median(w[m.kind] for w in found):.3f}" if found else "-" for m in metrics]
                    missed = unit["detail"].get("notes", {}).get("missed")
                    share = "-" if missed is None else f"{missed:.0%}"
                    sheet.row(model.title, unit["attack"], f"{len(found)} of {right}", *medians, share)


def _split(split: str) -> tuple[torch.Tensor, torch.Tensor]:
    params = {**(registry().load("datasets", "mnist").accepts("mnist", None) or {}), "split": split}
    data = registry().create("datasets", "mnist", params)
    samples = data.read(range(len(data)))
    return samples.images, samples.labels


def _flat(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1)


@torch.inference_mode()
def _embedded(images: torch.Tensor) -> torch.Tensor:
    network = registry().create("models", NETWORK, {}).module
    return torch.cat([network.embed(part) for part in images.split(500)])


if __name__ == "__main__":
    app()
