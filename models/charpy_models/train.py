"""Trains one network of the zoo: `python -m charpy_models.train digits-cnn`.

Writes `KIND.safetensors` and its card `KIND.json`. The same command on the same data, machine kind and versions writes
the same bytes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import safetensors
import safetensors.torch
import torch
from cyclopts import App, Parameter
from cyclopts.validators import Number
from torch import nn

from charpy.errors import CharpyError, DataError
from charpy.interfaces.dataset import Dataset
from charpy.pixels import quantise
from charpy.plugins import registry
from charpy.threat import Grid
from charpy_models.card import Accuracy, Card, RobustAccuracy, SplitCard
from charpy_models.recipes import Recipe, recipe_for
from charpy_models.training import count_correct, count_robust, fit

CHUNK = 1000
"""Images read at once; they are kept as bytes, a quarter of what they take as float32."""

PGD_SAMPLES, PGD_STEPS = 1000, 20
"""What the robust accuracy on a card is measured with."""

app = App(name="python -m charpy_models.train", help_format="plaintext", version_flags=[])


class Split(NamedTuple):
    """One split in memory.

    `images` `(N, C, H, W)` are uint8, or float32 in [0, 1] off the 8-bit grid; `labels` are int64 `(N,)`.
    """

    images: torch.Tensor
    labels: torch.Tensor
    shape: tuple[int, int, int]
    num_classes: int
    card: SplitCard


def read_split(kind: str, split: str, data_dir: str | None) -> Split:
    """The whole `train` or `test` split of the dataset `kind`.

    Raises:
        DataError: the dataset is not in `data_dir`.
    """
    component = registry().load("datasets", kind)
    found = component.accepts(kind, data_dir)
    if found is None:
        raise DataError(
            f"dataset {kind!r} is not there", where=data_dir or "", hint="give --data-dir, or set CHARPY_DATA"
        )
    dataset: Dataset = registry().create("datasets", kind, {**found, "split": split})
    images, labels = [], []
    for start in range(0, len(dataset), CHUNK):
        samples = dataset.read(range(start, min(start + CHUNK, len(dataset))))
        images.append(quantise(samples.images) if dataset.grid is Grid.EIGHT_BIT else samples.images)
        labels.append(samples.labels)
    card = SplitCard(params={"split": split}, samples=len(dataset), fingerprint=dataset.fingerprint())
    return Split(torch.cat(images), torch.cat(labels), dataset.shape, len(dataset.class_names), card)


def train(kind: str, recipe: Recipe, *, data_dir: str | None, seed: int) -> tuple[bytes, Card]:
    """The weights as the bytes of a safetensors file, and their card; progress goes to stderr."""
    data = read_split(recipe.data, "train", data_dir)

    def progress(epoch: int, loss: float) -> None:
        print(f"{kind}: epoch {epoch}/{recipe.epochs}, mean loss {loss:.4f}", file=sys.stderr, flush=True)

    module = fit(recipe, data.images, data.labels, seed=seed, progress=progress)
    weights = safetensors.torch.save({name: value.contiguous() for name, value in module.state_dict().items()})
    test = read_split(recipe.data, "test", data_dir)
    correct = count_correct(module, test.images, test.labels)
    threads = torch.get_num_threads()
    card = Card(
        kind=kind,
        weights=f"{kind}.safetensors",
        sha256=hashlib.sha256(weights).hexdigest(),
        bytes=len(weights),
        input_shape=test.shape,
        num_classes=test.num_classes,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        accuracy=Accuracy(correct=correct, samples=test.card.samples, value=correct / test.card.samples),
        robust_accuracy=_robust_accuracy(recipe, module, test, seed),
        train=data.card,
        test=test.card,
        recipe=recipe,
        seed=seed,
        threads=threads,
        command=f"{app.name[0]} {kind} --seed {seed} --epochs {recipe.epochs} --threads {threads}",
        versions=_versions(),
    )
    return weights, card


@app.default
def main(
    kind: str,
    /,
    *,
    data_dir: str | None = None,
    out: Path = Path(),
    seed: Annotated[int, Parameter(validator=Number(gte=0, lt=2**63))] = 0,
    epochs: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    threads: Annotated[int, Parameter(validator=Number(gte=1))] = 2,
) -> int:
    """Train one network of the zoo, measure it on the test split, and write its weights and its card.

    Args:
        kind: A kind of the zoo, such as digits-cnn.
        data_dir: Folder with the data sets; $CHARPY_DATA if not given.
        out: Folder for the two files.
        seed: Of the first weights, the order of the images, the augmentation and the attack's random starts.
        epochs: Instead of the recipe's.
        threads: Of torch; another number gives other weights.
    """
    try:
        recipe = recipe_for(kind)
        if epochs is not None:
            recipe = recipe.model_copy(update={"epochs": epochs})
        torch.set_num_threads(threads)
        weights, card = train(kind, recipe, data_dir=data_dir or os.environ.get("CHARPY_DATA"), seed=seed)
        out.mkdir(parents=True, exist_ok=True)
        (out / card.weights).write_bytes(weights)
        text = card.model_dump_json(indent=2, exclude_none=True)
        (out / f"{kind}.json").write_text(text + "\n", encoding="utf-8")
    except CharpyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    measured = card.accuracy
    print(f"{kind}: {measured.value:.2%} of {measured.samples} test images, {card.parameters} parameters")
    if (robust := card.robust_accuracy) is not None:
        attack = f"PGD-{robust.steps}, Linf {robust.radius:.4g}"
        print(f"{kind}: {robust.value:.2%} of the first {robust.samples} under {attack}")
    return 0


def _robust_accuracy(recipe: Recipe, module: nn.Module, test: Split, seed: int) -> RobustAccuracy | None:
    if recipe.adversarial is None:
        return None
    radius, samples = recipe.adversarial.radius, min(PGD_SAMPLES, len(test.labels))
    correct = count_robust(
        module, test.images[:samples], test.labels[:samples], radius=radius, steps=PGD_STEPS, seed=seed
    )
    return RobustAccuracy(radius=radius, steps=PGD_STEPS, correct=correct, samples=samples, value=correct / samples)


def _versions() -> dict[str, Any]:
    return {"python": platform.python_version(), "torch": torch.__version__, "safetensors": safetensors.__version__}


if __name__ == "__main__":
    sys.exit(app())
