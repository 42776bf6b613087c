"""Trains one network and measures it: `charpy train SPEC`, or of the zoo: `python -m charpy_models.train digits-cnn`.

Writes `NAME.safetensors` and its card `NAME.json`. The same command on the same data, machine kind and versions writes
the same bytes, on the CPU; one that was interrupted goes on after its last complete epoch.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import safetensors
import safetensors.torch
import torch
from cyclopts import App, Parameter
from cyclopts.validators import Number
from torch import nn

from charpy.errors import CharpyError, SpecError
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.defense import TrainingDefense
from charpy.lock import only_writer
from charpy.plugins import registry
from charpy.threads import threads as thread_count
from charpy_models.accuracy import count_correct, count_robust
from charpy_models.card import Accuracy, Card, DefenseCard, EmbeddingCard, RobustAccuracy, ValidationCard, describe
from charpy_models.checkpoint import Checkpoint, make_folder, write_whole
from charpy_models.data import Split, check_test, hold_out, open_reference, open_split, read_reference, read_split
from charpy_models.defenses import defenses_of, measured, robust_at, shape_behind
from charpy_models.fit import fit
from charpy_models.gan_training import as_gan
from charpy_models.generated import measure_generated
from charpy_models.progress import progress
from charpy_models.ranking import Embed, embeddings_of, rank
from charpy_models.recipe import Precision, Recipe
from charpy_models.recipes import recipe_for
from charpy_models.spec import TrainSpec
from charpy_models.training import Images, Trained
from charpy_plugins.wrappers.devices import pick_device

PGD_SAMPLES, PGD_STEPS = 1000, 20
"""What the robust accuracy on a card is measured with."""

app = App(name="python -m charpy_models.train", help_format="plaintext", version_flags=[])


def train(spec: TrainSpec, command: str) -> Card:
    """Carry out `spec`, which `command` stands for: weights and card are in its folder afterwards.

    Raises:
        CharpyError: the data, the network, the device or the checkpoint cannot be used, or the loss is not finite.
    """
    data_dir = spec.data_dir or os.environ.get("CHARPY_DATA")
    device = pick_device(spec.device)
    precision = spec.precision or _precision_on(device)
    with thread_count(spec.threads or torch.get_num_threads()):
        data = _split(spec, "train", data_dir)
        _check(spec.recipe, data)
        check_test(_open_test(spec, data_dir), data)
        kept, held_out = hold_out(data, spec.validation, spec.seed)
        folder = Path(spec.out)
        make_folder(folder)
        path = folder / f"{spec.name}.checkpoint"
        with only_writer(path), progress(spec.name) as listen:
            checkpoint = Checkpoint(path, _identity(spec, data, device, precision))
            trained = fit(
                spec.recipe,
                *kept,
                seed=spec.seed,
                held_out=held_out,
                device=device,
                precision=precision,
                checkpoint=checkpoint,
                listen=listen,
            )
            state = trained.module.state_dict()
            weights = safetensors.torch.save({name: value.cpu().contiguous() for name, value in state.items()})
            card = _card(spec, command, weights, trained, (data, held_out, _split(spec, "test", data_dir)))
            card = card.model_copy(update={"device": _name_of(device), "precision": precision})
            write_whole(folder / card.weights, weights)
            text = card.model_dump_json(indent=2, exclude_none=True)
            write_whole(folder / f"{spec.name}.json", f"{text}\n".encode())
            checkpoint.remove()
    return card


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
    precision: Precision = Precision.FLOAT32,
) -> int:
    """Train one network of the zoo on the CPU, measure it on the test split, and write its weights and its card.

    Args:
        kind: A kind of the zoo, such as digits-cnn.
        data_dir: Folder with the data sets; $CHARPY_DATA if not given.
        out: Folder for the two files.
        seed: Of the first weights, the order of the images, the augmentation and what the defences draw.
        epochs: Instead of the recipe's.
        threads: Of torch; another number gives other weights.
        precision: Of the passes; bfloat16 takes half of the time where the processor computes in it.
    """
    try:
        recipe = recipe_for(kind)
        if epochs is not None:
            recipe = recipe.model_copy(update={"epochs": epochs})
        spec = TrainSpec(
            name=kind,
            recipe=recipe,
            data_dir=data_dir,
            seed=seed,
            validation=0,
            threads=threads,
            device="cpu",
            precision=precision,
            out=str(out),
        )
        command = f"{app.name[0]} {kind} --seed {seed} --epochs {recipe.epochs} --threads {threads}"
        card = train(spec, command if precision is Precision.FLOAT32 else f"{command} --precision {precision}")
    except CharpyError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    print(describe(card))
    return 0


def _split(spec: TrainSpec, split: str, data_dir: str | None) -> Split:
    if spec.data is None:
        return read_split(spec.recipe.data, split, data_dir)
    return read_reference(getattr(spec.data, split), data_dir)


def _open_test(spec: TrainSpec, data_dir: str | None) -> Dataset:
    if spec.data is None:
        return open_split(spec.recipe.data, "test", data_dir)
    return open_reference(spec.data.test, data_dir)


def _check(recipe: Recipe, data: Split) -> None:
    """Refuse defences or a network that nothing can be trained with, before anything is."""
    defenses = defenses_of(recipe)
    shown = shape_behind(defenses, data.shape)
    if shown != data.shape and robust_at(defenses) is not None:
        raise SpecError(
            "a defence that attacks the network needs images of one shape",
            where="recipe.defenses",
            found=f"{', '.join(spec.kind for spec in recipe.defenses)}; (C, H, W) = {data.shape} becomes {shown}",
            hint="leave out the one that trains for a radius, or the one that changes the shape",
        )
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        network = recipe.build().eval()
        if recipe.gan is not None:
            as_gan(network, recipe)
        try:
            shape = tuple(network(torch.zeros(2, *shown)).shape)
        except Exception as cause:
            raise SpecError(
                "the network does not take the images",
                where=recipe.architecture,
                found=f"{type(cause).__name__}: {cause}",
                expected=f"images of shape {shown}"
                + f", which the defences make of {data.shape}" * (shown != data.shape),
                hint="set in_channels and image_size in architecture_params",
            ) from cause
    if len(shape) != 2 or shape[1] < data.num_classes:
        raise SpecError(
            "the network does not answer with a score for each class",
            where=recipe.architecture,
            found=f"answers of shape {shape} for 2 images",
            expected=f"(2, {data.num_classes})",
            hint="set num_classes in architecture_params",
        )
    if any(defense.replaces_loss for defense in defenses) and hasattr(network, "embed"):
        raise SpecError(
            "a network that is trained for its embedding needs its own loss",
            where="recipe.defenses",
            found=", ".join(spec.kind for spec in recipe.defenses),
            hint="leave out the one that replaces the loss, such as distillation",
        )


def _identity(spec: TrainSpec, data: Split, device: torch.device, precision: Precision) -> dict[str, Any]:
    """Everything that decides what the weights will be."""
    recipe = {f"recipe.{key}": json.dumps(value) for key, value in spec.recipe.model_dump(mode="json").items()}
    return {
        **recipe,
        **{f"defense.{card.kind}": card.package for card in _defense_cards(spec.recipe)},
        "data": data.card.fingerprint,
        "seed": spec.seed,
        "validation": spec.validation,
        "threads": torch.get_num_threads(),
        "device": _name_of(device),
        "precision": str(precision),
        "torch": str(torch.__version__),
    }


def _card(
    spec: TrainSpec, command: str, weights: bytes, trained: Trained, data: tuple[Split, Images | None, Split]
) -> Card:
    """The card of `weights`, measured on the test split."""
    whole, held_out, test = data
    module = trained.module
    defenses = defenses_of(spec.recipe)
    correct = count_correct(measured(module, defenses, test.images), test.images, test.labels)
    validation = None
    if held_out is not None and trained.correct is not None:
        validation = ValidationCard(samples=len(held_out.labels), epoch=trained.epoch, correct=trained.correct)
    return Card(
        kind=spec.name,
        weights=f"{spec.name}.safetensors",
        sha256=hashlib.sha256(weights).hexdigest(),
        bytes=len(weights),
        input_shape=shape_behind(defenses, test.shape),
        num_classes=whole.num_classes,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        accuracy=Accuracy(correct=correct, samples=test.card.samples, value=correct / test.card.samples),
        validation=validation,
        robust_accuracy=_robust_accuracy(spec.recipe, module, test, spec.seed),
        embedding=_embedding(module, defenses, test),
        generated=None if spec.recipe.gan is None else measure_generated(module, spec.recipe, test, spec.seed),
        train=whole.card,
        test=test.card,
        recipe=spec.recipe,
        defenses=_defense_cards(spec.recipe),
        seed=spec.seed,
        threads=torch.get_num_threads(),
        command=command,
        versions=_versions(),
    )


def _defense_cards(recipe: Recipe) -> tuple[DefenseCard, ...]:
    cards = []
    for spec, defense in zip(recipe.defenses, defenses_of(recipe), strict=True):
        entry = registry().find("defenses", spec.kind)
        params = defense.params.model_dump(mode="json")
        cards.append(DefenseCard(kind=spec.kind, params=params, package=f"{entry.package} {entry.version}".rstrip()))
    return tuple(cards)


def _robust_accuracy(recipe: Recipe, module: nn.Module, test: Split, seed: int) -> RobustAccuracy | None:
    radius, samples = robust_at(defenses_of(recipe)), min(PGD_SAMPLES, len(test.labels))
    if radius is None:
        return None
    correct = count_robust(
        module, test.images[:samples], test.labels[:samples], radius=radius, steps=PGD_STEPS, seed=seed
    )
    return RobustAccuracy(radius=radius, steps=PGD_STEPS, correct=correct, samples=samples, value=correct / samples)


def _embedding(module: nn.Module, defenses: Sequence[TrainingDefense], test: Split) -> EmbeddingCard | None:
    """None for a network that has none, or that takes no image of the data as it is."""
    embed: Embed | None = getattr(module, "embed", None)
    if embed is None or shape_behind(defenses, test.shape) != test.shape:
        return None
    embeddings = embeddings_of(embed, test.images, next(module.parameters()).device)
    found = rank(embeddings, test.labels)
    nearest = Accuracy(correct=found.nearest, samples=found.anchors, value=found.nearest / found.anchors)
    return EmbeddingCard(size=embeddings.shape[1], nearest=nearest, triplets=found.triplets, ordered=found.ordered)


def _precision_on(device: torch.device) -> Precision:
    if device.type != "cuda":
        return Precision.FLOAT32
    return Precision.BFLOAT16 if torch.cuda.is_bf16_supported() else Precision.FLOAT16


def _name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _versions() -> dict[str, Any]:
    return {"python": platform.python_version(), "torch": torch.__version__, "safetensors": safetensors.__version__}


if __name__ == "__main__":
    sys.exit(app())
