"""The card beside a weight file: what was trained on what, how, and how well it was measured to do."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from charpy.specs import ComponentSpec, Spec
from charpy_models.recipe import Precision, Recipe


class SplitCard(Spec):
    """One split of a dataset, as it was used."""

    params: dict[str, Any] = Field(description="parameters of the dataset, without the folder it was read from")
    samples: int = Field(ge=1)
    fingerprint: str = Field(description="SHA-256 of all images and labels, as the dataset gives it")


class Accuracy(Spec):
    """Clean accuracy (or a recall), measured on the whole test split with the weights as they are stored.

    It is that of the network alone, also where it was trained on changed images. Only where a defence of the recipe
    changes the shape of an image, so that the network alone takes no image of the data, is it measured behind the
    defences that change images: what a run spec with the same `defenses` would find.
    """

    correct: int = Field(ge=0)
    samples: int = Field(ge=1)
    value: float = Field(ge=0, le=1, description="correct / samples")


class ValidationCard(Spec):
    """The part of the train split that was held out, and what it decided."""

    samples: int = Field(ge=1, description="held out, drawn by the seed")
    epoch: int = Field(ge=1, description="whose weights these are: the one that got most of them right")
    correct: int = Field(
        ge=0, description="of these, as for the accuracy; of a training for an Linf radius, also under PGD there"
    )


class RobustAccuracy(Spec):
    """What one run of PGD left standing: an upper bound of the robust accuracy, for comparing trainings, no more."""

    attack: Literal["pgd"] = Field(default="pgd", description="random start, sign steps of 2.5 * radius / steps")
    norm: Literal["linf"] = "linf"
    radius: float = Field(gt=0, description="in image values; the training's")
    steps: int = Field(ge=1)
    restarts: Literal[1] = 1
    grid: Literal["none"] = Field(default="none", description="real-valued images")
    correct: int = Field(ge=0, description="right before and after the attack")
    samples: int = Field(ge=1, description="the first of the test split")
    value: float = Field(ge=0, le=1, description="correct / samples")


class EmbeddingCard(Spec):
    """How the embedding ranks the images of the test split, by L2 distance, each of them an anchor once."""

    size: int = Field(ge=1, description="numbers of an embedding")
    nearest: Accuracy = Field(description="recall at 1: anchors whose nearest other image is of their class")
    triplets: int = Field(ge=0, description="anchor, positive of its class, negative of another: all that there are")
    ordered: int = Field(ge=0, description="of these, with the positive nearer than the negative")


class GeneratedCard(Spec):
    """Images of a finished generator, as many of each class, rounded to the 8-bit grid."""

    samples: int = Field(ge=1)
    auxiliary: int = Field(ge=0, description="its own auxiliary classifier names the class that was asked for")
    judge: str | None = Field(default=None, description="a classifier that had no part in the training")
    judged: int | None = Field(default=None, ge=0, description="that one names the class that was asked for")
    spread: float = Field(
        ge=0, description="mean L2 distance of two images of a class: of all pairs of the first 200, over the classes"
    )
    spread_of_test: float = Field(ge=0, description="the same of the test split")


class DefenseCard(ComponentSpec):
    """One way to train, with every parameter as it was."""

    package: str = Field(description="that it comes from, with its version")


class Card(Spec):
    """Everything that a reader of a weight file must know."""

    schema_name: Literal["charpy.card/1"] = "charpy.card/1"
    kind: str = Field(description="name in the zoo")
    weights: str = Field(description="file name of the weights")
    sha256: str = Field(pattern="^[0-9a-f]{64}$", description="of that file")
    bytes: int = Field(ge=1, description="of that file")
    input_shape: tuple[int, int, int] = Field(description="(C, H, W) of what the network itself takes, in [0, 1]")
    num_classes: int = Field(ge=2)
    parameters: int = Field(ge=1, description="trained numbers")
    accuracy: Accuracy = Field(
        description="of the network alone, or behind the recipe's defences where they change the shape of an image"
    )
    validation: ValidationCard | None = Field(default=None, description="if the best epoch's weights were kept")
    robust_accuracy: RobustAccuracy | None = Field(default=None, description="of networks trained for an Linf radius")
    embedding: EmbeddingCard | None = Field(default=None, description="of networks trained for their embedding")
    generated: GeneratedCard | None = Field(
        default=None, description="of a generator, whose accuracy is that of its auxiliary classifier"
    )
    train: SplitCard
    test: SplitCard
    recipe: Recipe
    defenses: tuple[DefenseCard, ...] = Field(default=(), description="those of the recipe, in order")
    seed: int
    threads: int = Field(ge=1, description="other thread counts add up in another order and give other weights")
    device: str = Field(default="cpu", description="what it was trained on; only the CPU gives the same bytes again")
    precision: Precision = Field(default=Precision.FLOAT32, description="of the passes in training")
    command: str = Field(description="what makes these weights again")
    versions: dict[str, str]


def describe(card: Card) -> str:
    """What was measured, a line each."""
    alone = "" if card.generated is None else " by the auxiliary classifier"
    lines = [f"{card.accuracy.value:.2%} of {card.accuracy.samples} test images{alone}, {card.parameters} parameters"]
    if card.defenses:
        lines.append(f"trained with {', '.join(defense.kind for defense in card.defenses)}")
    if (robust := card.robust_accuracy) is not None:
        attack = f"PGD-{robust.steps}, Linf {robust.radius:.4g}"
        lines.append(f"{robust.value:.2%} of the first {robust.samples} under {attack}")
    if (embedding := card.embedding) is not None:
        order = f", {embedding.ordered / embedding.triplets:.2%} of the triplets in order" if embedding.triplets else ""
        lines.append(f"{embedding.nearest.value:.2%} recall at 1 in an embedding of {embedding.size}{order}")
    if (made := card.generated) is not None:
        lines.append(
            f"mean distance of two images of a class {made.spread:.2f}, in the test split {made.spread_of_test:.2f}"
        )
        if made.judged is not None:
            lines.append(
                f"{made.judge} names the class of {made.judged / made.samples:.2%} of {made.samples} generated images"
            )
    if (validation := card.validation) is not None:
        lines.append(f"weights of epoch {validation.epoch}, best of {validation.samples} held-out images")
    return "\n".join(f"{card.kind}: {line}" for line in lines)
