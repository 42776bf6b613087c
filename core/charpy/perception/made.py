"""Pairs made of the images themselves: small movements that look alike, and mixtures of two classes that do not.

Movements after Engstrom et al. 2017 (Sharif, Bauer & Reiter 2018, section 3.1), mixtures after the class combination
x0 + eps sign(x1). Every movement of an image depends on the seed and on its id alone; which image of another class it
is mixed with also depends on which others there are, and on their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from charpy.perception.groups import Images, Look, Originals, PairGroup, stored
from charpy.random import Random, sample_keys
from charpy.threat import Grid
from charpy.warp import Outside, affine

LARGE_EPS = 0.3
"""From this eps the proxy takes a combination of two classes to look different from the first: the value at which the
combination of a 0 and a 1 of MNIST has been shown to be neither."""

LARGE_BLEND = 0.5
"""From this share of the other image the proxy takes a blend to look different from the first."""


@dataclass(frozen=True)
class Limits:
    """What is made, drawn evenly within these bounds; 0, or an empty list, leaves it out.

    Attributes:
        rotation: degrees, to either side.
        shift: pixels, up, down, left and right; see `small_shift`.
        scale: 0.1: from 0.9 to 1.1 times the size.
        brightness: added to every value, or taken away, in image values.
        outside: what comes in from beyond the edge of a moved image.
        eps: of the combinations x0 + eps sign(x1 - m), in image values.
        blends: shares of the other image in (1 - share) x0 + share x1.
        seed: of every draw.
    """

    rotation: float = 10.0
    shift: float = 2.0
    scale: float = 0.1
    brightness: float = 0.1
    outside: Outside = Outside.BLACK
    eps: tuple[float, ...] = (0.1, 0.2, 0.3)
    blends: tuple[float, ...] = (0.25, 0.5)
    seed: int = 0


def small_shift(shape: tuple[int, int, int]) -> float:
    """What is a small shift of images `(C, H, W)`: 2 pixels, or a fourteenth of the shorter side where that is less."""
    return min(2.0, round(min(shape[1:]) / 14, 2))


Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(images `(B, C, H, W)`, their positions `(B,)`) -> the changed images."""


def look_alikes(originals: Originals, limits: Limits) -> list[PairGroup]:
    """Rotated, shifted, both, scaled, and brighter or darker; a pair of every original in each group."""
    beyond = "black comes in" if limits.outside is Outside.BLACK else "the last pixels repeat"
    turn, move = f"turned by up to {limits.rotation:g} degrees", f"shifted by up to {limits.shift:g} pixels"
    size = f"{1 - limits.scale:g} to {1 + limits.scale:g} times its size"
    light = f"every value raised or lowered by up to {limits.brightness:g}"
    planned: list[tuple[str, str, float, Change]] = [
        ("rotated", f"{turn}; {beyond}", limits.rotation, _moved(originals, limits, "rotated", turn=True)),
        ("shifted", f"{move}; {beyond}", limits.shift, _moved(originals, limits, "shifted", move=True)),
        (
            "rotated and shifted",
            f"{turn} and {move}; {beyond}",
            min(limits.rotation, limits.shift),
            _moved(originals, limits, "both", turn=True, move=True),
        ),
        ("scaled", f"{size}; {beyond}", limits.scale, _moved(originals, limits, "scaled", size=True)),
        ("brighter or darker", light, limits.brightness, _brightened(originals, limits)),
    ]
    return [_group(originals, name, text, Look.ALIKE, change) for name, text, bound, change in planned if bound > 0]


def mixtures(originals: Originals, limits: Limits) -> list[PairGroup]:
    """Combinations and blends with an image of another class, and that image itself; none where there is one class.

    A combination is x0 + eps sign(x1 - m), m the median value of x1: of a digit on black, where m is 0, it is
    x0 + eps sign(x1); of a photograph sign(x1) would only be 1 everywhere. On the 8-bit grid eps is rounded down.
    """
    if len(set(originals.labels.tolist())) < 2:
        return []
    other = another_class(originals, limits.seed)

    def combined(step: float) -> Change:
        def change(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            mixed = originals.images[other[rows]]
            middle = mixed.flatten(1).median(dim=1).values[:, None, None, None]
            return images + step * (mixed - middle).sign()

        return change

    def blended(share: float) -> Change:
        return lambda images, rows: torch.lerp(images, originals.images[other[rows]], share)

    found = []
    for eps in limits.eps:
        step = math.floor(eps * 255 + 1e-9) / 255 if originals.grid is Grid.EIGHT_BIT else eps
        text = f"x0 + {eps:g} sign(x1 - m), x1 of another class, m its median value"
        look = Look.DIFFERENT if eps >= LARGE_EPS else None
        found.append(_group(originals, f"combined, eps {eps:g}", text, look, combined(step)))
    for share in limits.blends:
        text = f"{1 - share:g} x0 + {share:g} x1, x1 of another class"
        look = Look.DIFFERENT if share >= LARGE_BLEND else None
        found.append(_group(originals, f"blended, {100 * share:g} %", text, look, blended(share)))
    text = "an image of another class instead"
    found.append(_group(originals, "another class", text, Look.DIFFERENT, blended(1.0)))
    return found


def another_class(originals: Originals, seed: int) -> torch.Tensor:
    """int64 `(N,)`: for each original the position of one of another class, every one of these equally likely."""
    order = originals.labels.argsort(stable=True)
    ordered = originals.labels[order]
    start, end = (torch.searchsorted(ordered, originals.labels, right=right) for right in (False, True))
    own = end - start
    rows = torch.arange(len(order))
    drawn = _random(originals, seed, "another class").uniform(rows, 0, 1)[:, 0].double()
    rank = (drawn * (len(order) - own)).long()
    return order[torch.where(rank < start, rank, rank + own)]


def _moved(
    originals: Originals, limits: Limits, name: str, *, turn: bool = False, move: bool = False, size: bool = False
) -> Change:
    random = _random(originals, limits.seed, name)

    def change(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        drawn = random.uniform(rows, 0, 4) * 2 - 1
        angle = drawn[:, 0] * (limits.rotation * turn)
        shift = drawn[:, 1:3] * (limits.shift * move)
        return affine(images, angle, shift, 1 + drawn[:, 3] * (limits.scale * size), outside=limits.outside)

    return change


def _brightened(originals: Originals, limits: Limits) -> Change:
    random = _random(originals, limits.seed, "brightness")

    def change(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return images + (random.uniform(rows, 0, 1, 1, 1) * 2 - 1) * limits.brightness

    return change


def _group(originals: Originals, name: str, text: str, look: Look | None, change: Change) -> PairGroup:
    def read(rows: torch.Tensor) -> Images:
        images = originals.images[rows]
        return images, stored(change(images, rows), originals.grid)

    return PairGroup(name, text, originals.ids, (name,) * len(originals.ids), read, look)


def _random(originals: Originals, seed: int, name: str) -> Random:
    return Random(seed, sample_keys(originals.ids)).fork(f"perceive/{name}")
