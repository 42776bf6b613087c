"""The ready-made networks and what was measured of each, out of their cards: `python -m charpy_models.listing`.

Its output is docs/models.md.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from charpy.analysis.intervals import clopper_pearson
from charpy.errors import ModelError
from charpy.hookspecs import Components
from charpy_models.card import Card
from charpy_models.plugin import GENERATORS, charpy_generators, charpy_models, weights_folder
from charpy_models.recipes import RECIPES
from charpy_models.zoo import read_weights

HEAD = """\
# Ready-made models

Every network was trained by its recipe (`charpy_models.recipes`) on two processor cores, in minutes: compact networks,
most of them less accurate than the published ones of their name. Accuracies are those of the whole test split, with
95 % Clopper-Pearson intervals, out of the card that lies beside each weight file and names data, recipe, seed and
command. Written by `python -m charpy_models.listing`."""


def markdown() -> Iterator[str]:
    """The page, line by line."""
    yield HEAD
    cards = _cards(charpy_models())
    for data in dict.fromkeys(card.recipe.data for card in cards):
        yield f"\n## {data}\n"
        yield "| kind | network | parameters | accuracy | trained with | under PGD-20 | epochs, precision |"
        yield "|---|---|---:|---:|---|---:|---|"
        for card in (card for card in cards if card.recipe.data == data):
            yield f"| {' | '.join(_cells(card))} |"
    yield from _generators()


def _generators() -> Iterator[str]:
    """The networks that generate images, and what is known of those: a table of its own, for they are no models."""
    cards = [card for card in _cards(charpy_generators()) if card.kind in GENERATORS]
    if not cards:
        return
    yield "\n## Generators\n"
    yield (
        "Not to be assessed: attacks search them (`acgan`). Of as many generated images of each class, how many a"
        " classifier that had no part in the training and the generator's own auxiliary classifier name as they were"
        " asked for; the accuracy of the latter on the test split; and the mean L2 distance of two images of a class,"
        " generated and of the test split.\n"
    )
    yield "| kind | network | data | parameters | named by | by its own | its accuracy | distance | epochs, precision |"
    yield "|---|---|---|---:|---:|---:|---:|---:|---|"
    for card in cards:
        yield f"| {' | '.join(_cells_of_generator(card))} |"


def _cards(kinds: Components) -> list[Card]:
    return [read_weights(kind, weights_folder())[0] for kind in RECIPES if kind in kinds]


def _cells_of_generator(card: Card) -> tuple[str, ...]:
    recipe, made = card.recipe, card.generated
    if made is None:
        raise ModelError("the card says nothing of the generator's images", where=f"{card.kind}.json")
    judged = "-" if made.judged is None else f"{_share(made.judged, made.samples)} by `{made.judge}`"
    return (
        f"`{card.kind}`",
        recipe.architecture.rpartition(":")[2],
        recipe.data,
        f"{card.parameters:,}",
        judged,
        _share(made.auxiliary, made.samples),
        _share(card.accuracy.correct, card.accuracy.samples),
        f"{made.spread:.2f}, {made.spread_of_test:.2f}",
        f"{recipe.epochs}, {card.precision}",
    )


def _cells(card: Card) -> tuple[str, ...]:
    recipe, robust = card.recipe, card.robust_accuracy
    return (
        f"`{card.kind}`",
        recipe.architecture.rpartition(":")[2],
        f"{card.parameters:,}",
        _share(card.accuracy.correct, card.accuracy.samples),
        ", ".join(f"`{defense.kind}`" for defense in card.defenses) or "-",
        "-" if robust is None else f"{_share(robust.correct, robust.samples)} at Linf {robust.radius:.3g}",
        f"{recipe.epochs}, {card.precision}",
    )


def _share(count: int, total: int) -> str:
    low, high = clopper_pearson(count, total) or (0.0, 1.0)
    return f"{100 * count / total:.2f} % [{100 * low:.1f}..{100 * high:.1f}]"


if __name__ == "__main__":
    sys.stdout.write("\n".join(markdown()) + "\n")
