"""Proofs under L0: no change of at most k pixels changes the class; sets of pixels, refined until proven."""

from __future__ import annotations

import itertools
import math
import time
from collections import defaultdict
from dataclasses import dataclass, field

import torch

from charpy.bounds.affine import size_of
from charpy.bounds.certifier import NetworkCertifier
from charpy.bounds.forward import forward_bounds
from charpy.bounds.graph import Graph
from charpy.bounds.regions import FewPixels as PixelSets
from charpy.bounds.regions import FewValues
from charpy.threat import Norm, ThreatModel

FUNCTIONS = 1600
"""Linear functions that are followed at once, over all the sets of a batch."""

COEFFICIENTS = 2**24
"""In the functions of the widest value, for networks that are wide."""

COVERS = 2048
"""At most so many sets to begin with: pixels are taken together in larger groups where there would be more."""

NARROWEST = 1e-5
"""A box whose every side is shorter is not split again."""


class FewPixels(NetworkCertifier):
    """Bounds the margins over sets of images by linear functions of the pixels that may change, and splits the sets.

    Each set says how many pixels of which groups may be anything in [0, 1]^C. Where a bound does not prove a set, its
    largest group is halved, over all ways to share the count; single pixels become boxes, whose values are halved. With
    k = 1 all places begin as boxes. Ends when nothing is left (proven), when the middle of a box is misclassified, or
    when the time is up.

    Source: covering sets as in Shapira et al. 2023, Deep learning robustness verification for few-pixel attacks
    (OOPSLA); the bounds are forward linear relaxation, exact in the number of changed pixels.
    """

    norms = frozenset({Norm.L0})

    def proves(self, margins: Graph, image: torch.Tensor, threat: ThreatModel, deadline: float) -> bool:
        """Refine until nothing is left."""
        slack = float(self.slack(margins(image)))
        return _Search(margins, image, slack, deadline).proves(min(threat.th, image[0, 0].numel()))


Key = tuple[tuple[int, int], ...]
"""Of a pile of sets: the (size, count) of each of its groups."""


@dataclass
class _Search:
    """One image: what is still to be proven."""

    graph: Graph
    image: torch.Tensor
    slack: float
    deadline: float
    sets: defaultdict[Key, list[torch.Tensor]] = field(default_factory=lambda: defaultdict(list))
    boxes: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = field(default_factory=list)
    refuted: bool = False

    def proves(self, count: int) -> bool:
        """Whether no change of at most `count` pixels changes the class."""
        if not bool((self.graph(self.image) > self.slack).all()):
            return False
        if count == 0:
            return True
        pixels = torch.arange(self.image[0, 0].numel(), device=self.image.device)
        self._box(pixels[:, None])
        if count > 1:
            single = self._single_bounds()
            if single is None:
                return False
            order = pixels[single.argsort(descending=True)]
            self.boxes.clear()
            self._cover(order, count)
        while (self.boxes or self.sets) and not self.refuted:
            if time.monotonic() > self.deadline:
                return False
            if self.boxes:
                self._step_boxes()
            else:
                self._step_sets()
        return not self.refuted

    def _single_bounds(self) -> torch.Tensor | None:
        """`(places,)`: how large the least margin stays when one pixel changes: the harmless ones go together.

        None when the time is up.
        """
        places, low, high = self.boxes[0]
        bounds = []
        for i in torch.split(torch.arange(len(places), device=places.device), self._width(places.shape[1])):
            if time.monotonic() > self.deadline:
                return None
            bounds.append(self._bounds(FewValues(self._images(len(i)), places[i], low[i], high[i])))
        return torch.cat(bounds).amin(1)

    def _cover(self, order: torch.Tensor, count: int) -> None:
        """Groups of like size, and every way to take `count` of them, a group more than once or not."""
        size = 1
        while math.comb(math.ceil(len(order) / size) + count - 1, count) > COVERS:
            size *= 2
        number = math.ceil(len(order) / size)
        padded = torch.full((number * size,), -1, device=order.device)
        padded[: len(order)] = order
        groups = padded.view(number, size)
        for distinct in range(1, min(count, number) + 1):
            chosen = groups[torch.combinations(torch.arange(number), distinct).to(order.device)].flatten(1)
            for shares in _compositions(count, distinct):
                if max(shares) <= size:  # otherwise a way with more groups covers it
                    self._push(tuple((size, share) for share in shares), chosen)

    def _push(self, key: Key, pixels: torch.Tensor) -> None:
        """More sets of a kind; those of single pixels become boxes, those without a pixel vanish."""
        kept: list[tuple[int, int]] = []
        columns, start = [], 0
        for size, count in key:
            if count:
                kept.append((size, min(count, size)))
                columns.append(pixels[:, start : start + size])
            start += size
        if not kept:
            return
        chosen = torch.cat(columns, 1)
        if all(size == 1 for size, _ in kept):
            whole = (chosen >= 0).all(1)
            self._box(chosen[whole])
            # Padding stands for no pixel: what is left then is one of the smaller sets, which another way covers.
            return
        self.sets[tuple(kept)].append(chosen)

    def _box(self, pixels: torch.Tensor) -> None:
        """All colours of these pixels `(n, k)`."""
        if not len(pixels):
            return
        channels, size = self.image.shape[1], self.image[0, 0].numel()
        places = (pixels[:, None] + size * torch.arange(channels, device=pixels.device)[:, None]).flatten(1)
        like = torch.zeros(places.shape, dtype=self.image.dtype, device=pixels.device)
        self.boxes.append((places, like, like + 1))

    def _images(self, count: int) -> torch.Tensor:
        return self.image.expand(count, *self.image.shape[1:])

    def _width(self, free: int) -> int:
        widest = max(size_of(node.shape) for node in self.graph.nodes)
        return max(1, min(FUNCTIONS, COEFFICIENTS // widest) // (1 + free))

    def _bounds(self, region: FewValues | PixelSets) -> torch.Tensor:
        return forward_bounds(self.graph, region)[0] - self.slack

    def _step_boxes(self) -> None:
        places, low, high = self.boxes.pop()
        width = self._width(places.shape[1])
        if len(places) > width:
            self.boxes.append((places[width:], low[width:], high[width:]))
            places, low, high = places[:width], low[:width], high[:width]
        stands = ~(self._bounds(FewValues(self._images(len(places)), places, low, high)) > 0).all(1)
        places, low, high = places[stands], low[stands], high[stands]
        if not len(places):
            return
        middle = (low + high) / 2
        asked = FewValues(self._images(len(places)), places, middle, middle)
        if bool((self.graph(asked.base) <= 0).any()) or bool(((high - low).amax(1) < NARROWEST).any()):
            self.refuted = True  # or as good as: the margin is zero within rounding
            return
        side = (high - low).argmax(1, keepdim=True)
        upper, lower = low.scatter(1, side, middle.gather(1, side)), high.scatter(1, side, middle.gather(1, side))
        self.boxes.append((torch.cat([places] * 2), torch.cat([low, upper]), torch.cat([lower, high])))

    def _step_sets(self) -> None:
        key = min(self.sets, key=lambda key: sum(size for size, _ in key))
        pile = torch.cat(self.sets.pop(key))
        width = self._width(self.image.shape[1] * pile.shape[1])
        if len(pile) > width:
            self.sets[key].append(pile[width:])
            pile = pile[:width]
        groups = torch.split(pile, [size for size, _ in key], dim=1)
        region = PixelSets(self._images(len(pile)), tuple(groups), tuple(count for _, count in key))
        pile = pile[~(self._bounds(region) > 0).all(1)]
        if not len(pile):
            return
        largest = max(range(len(key)), key=lambda i: key[i][0])
        size, count = key[largest]
        half = (size + 1) // 2
        for first in range(count + 1):
            shares = ((half, first), (size - half, count - first))
            if all(times <= many for many, times in shares):
                self._push((*key[:largest], *shares, *key[largest + 1 :]), pile)


def _compositions(total: int, parts: int) -> list[tuple[int, ...]]:
    """All ways to write `total` as a sum of so many numbers above 0, in order."""
    cuts = itertools.combinations(range(1, total), parts - 1)
    return [tuple(b - a for a, b in itertools.pairwise((0, *cut, total))) for cut in cuts]
