"""Opening what a run is about: the dataset, and the models with their defences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from charpy.errors import DataError, ModelError, unknown_name
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.defense import Defense, Detector, TrainingDefense
from charpy.interfaces.model import Model
from charpy.plugins import Registry
from charpy.specs import Attackers, ComponentSpec, DataSpec, ModelSpec


@dataclass(frozen=True)
class Subject:
    """A model of the run: its title, its kind, and how to open it. Every call of `open` gives a fresh model.

    `undefended` opens it without its defences, for attackers that overlook them; `redrawn(n)` with its randomised
    defences seeded n higher, None where it has none.
    """

    title: str
    kind: str
    open: Callable[[], Model]
    defenses: tuple[str, ...] = ()
    attackers: Attackers = Attackers.ADAPTIVE
    undefended: Callable[[], Model] | None = None
    redrawn: Callable[[int], Model] | None = None

    def facing(self, defended: Model, shape: tuple[int, int, int]) -> Model:
        """What the attacks ask: `defended`, or for a static attacker the model inside.

        Raises:
            ModelError: the model inside does not take images `shape` `(C, H, W)`, those of the data.
        """
        if self.attackers is not Attackers.STATIC or self.undefended is None:
            return defended
        inside = self.undefended()
        if inside.input_shape not in {None, shape}:
            raise ModelError(
                "a static attack needs a model that takes the same images without its defences",
                where=self.title,
                found=f"(C, H, W) = {inside.input_shape} without, {shape} with them",
                hint="leave `static` out of its `attackers`",
            )
        return inside


def subject_of(spec: ModelSpec, registry: Registry) -> Subject:
    """The model that `spec` names, not opened yet.

    Raises:
        UnknownNameError: no wrapper recognises the reference.
    """
    kind, params = resolved(spec, registry)

    def undefended() -> Model:
        model: Model = registry.create("models", kind, params)
        return model

    def redrawn(more: int) -> Model:
        defenses = [_defense(defense, registry, more) for defense in spec.defenses]
        _check_draws([(item.kind, made) for item, made in zip(spec.defenses, defenses, strict=True)])
        model = undefended()
        for defense in defenses:
            model = defense.wrap(model)
        return model

    kinds = tuple(defense.kind for defense in spec.defenses)
    drawn = any(_is_drawn(defense, registry) for defense in spec.defenses)
    return Subject(
        spec.title, kind, lambda: redrawn(0), kinds, spec.attackers[0], undefended, redrawn if drawn else None
    )


def _is_drawn(spec: ComponentSpec, registry: Registry) -> bool:
    """Whether a defence draws at random, by a `seed` among its parameters."""
    component = registry.load("defenses", spec.kind)
    return bool(getattr(component, "randomised", False)) and "seed" in component.Params.model_fields


def _check_draws(defenses: Sequence[tuple[str, Defense]]) -> None:
    """Refuse two defences of a kind that would draw the same: the second changes what the first changed already.

    Raises:
        ModelError: a kind and its seed stand twice.
    """
    drawn = [
        (kind, defense.params.seed)
        for kind, defense in defenses
        if defense.randomised and hasattr(defense.params, "seed")
    ]
    for kind, seed in drawn:
        if drawn.count((kind, seed)) > 1:
            raise ModelError(
                f"defence {kind!r} stands twice and would draw the same both times",
                where="defenses",
                found=f"seed {seed} twice",
                hint="give one of them another `seed`, or leave it out",
            )


def _defense(spec: ComponentSpec, registry: Registry, more: int) -> Defense:
    """The defence; one that draws at random is seeded `more` higher."""
    if issubclass(registry.load("defenses", spec.kind), TrainingDefense):
        raise ModelError(
            f"defence {spec.kind!r} is a way to train: it does not stand before a trained model",
            where="defenses",
            found=registry.load("defenses", spec.kind).__name__,
            expected="a defence that stands between image and model",
            hint="put it into `recipe.defenses` of a training spec, `charpy train SPEC`, and open the weights instead",
        )
    defense = registry.create("defenses", spec.kind, spec.params)
    if more and _is_drawn(spec, registry):
        defense = registry.create("defenses", spec.kind, {**spec.params, "seed": defense.params.seed + more})
    if not isinstance(defense, Defense):
        raise ModelError(
            f"defence {spec.kind!r} does not wrap a model",
            where="defenses",
            found=f"a {'detector' if isinstance(defense, Detector) else 'component'}: {type(defense).__name__}",
            expected="a defence that stands between image and model",
            hint="`charpy describe defense KIND` says what one is",
        )
    return defense


def resolved(spec: ModelSpec, registry: Registry) -> tuple[str, dict[str, Any]]:
    """The kind of the model that `spec` names, and its parameters.

    Raises:
        UnknownNameError: no wrapper recognises the reference.
    """
    if spec.kind is not None:
        return spec.kind, spec.params
    reference = spec.reference or ""
    entries = registry.entries("models")
    if any(entry.kind == reference for entry in entries):
        return reference, spec.params
    for entry, component in registry.usable("models"):
        accepted = component.accepts(reference)
        if accepted is not None:
            return entry.kind, {**accepted, **spec.params}
    if any(entry.kind == reference for entry in registry.entries("generators")):
        raise ModelError(
            f"{reference!r} is a generator of images, not a classifier",
            where="models",
            expected="a model that gives scores or labels",
            hint=f"give it to an attack that searches it: `acgan` with `generator: {reference}`",
        )
    raise unknown_name(
        "model",
        reference,
        [entry.kind for entry in entries],
        where="models",
        hint="give a zoo name, FILE.onnx, package.module:callable, weights.safetensors@architecture or http://HOST/v2/models/NAME",
    )


def wrap_object(subject: object, registry: Registry) -> Model:
    """A Python object (a torch module, an ONNX path, a callable, a `Model`) as a model.

    Raises:
        ModelError: no wrapper takes this object.
    """
    if isinstance(subject, Model):
        return subject
    for _, component in registry.usable("models"):
        model: Model | None = component.wrap(subject)
        if model is not None:
            return model
    raise ModelError(
        "no model wrapper takes this object",
        found=type(subject).__name__,
        expected="a torch module, a path, a callable, or a charpy Model",
        hint="wrap it in a function from images to scores or labels",
    )


def open_dataset(spec: DataSpec, registry: Registry) -> Dataset:
    """The dataset that `spec` names."""
    dataset: Dataset = registry.create("datasets", spec.kind, spec.params)
    return dataset


def chosen_samples(dataset: Dataset, spec: DataSpec) -> list[int]:
    """Indices of the samples of the run: all in order, or a draw without replacement keyed by `spec.seed` alone."""
    total = len(dataset)
    if spec.samples is None:
        return list(range(total))
    if spec.samples > total:
        raise DataError(
            "more samples are asked for than there are",
            where=dataset.name,
            found=spec.samples,
            expected=f"at most {total}",
            hint="ask for fewer, or for `all`",
        )
    generator = torch.Generator().manual_seed(spec.seed)
    return torch.randperm(total, generator=generator)[: spec.samples].tolist()


def digest(values: Mapping[str, str]) -> str:
    """SHA-256 of a mapping."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()
