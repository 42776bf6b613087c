"""What searches that see labels only begin with: adversarial starting points, and bisection towards the boundary.

Everything is batched over the samples and costs one row per sample and round. A sample's starting points come from its
own image and its own random stream, never from the other samples of the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from charpy.interfaces.attack import Task
from charpy.pixels import as_images, quantise
from charpy.random import Random
from charpy.threat import Grid, Norm

GRID_STEP = 1 / 255

FINER = 16
"""Parts of a grid step to which the boundary is located where images are dithered."""

_PLAIN = 9
"""Kinds of starting points; after one of each, those that are random are drawn again."""


class Starts(NamedTuple):
    """Starting images `(N, C, H, W)` and whether each is adversarial, bool `(N,)`."""

    images: torch.Tensor
    found: torch.Tensor


def adversarial(task: Task, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """bool `(M,)`: whether the label of each candidate reaches the goal; False where the oracle refuses the row."""
    answers = task.oracle.labels(candidates, owner)
    if task.targets is None:
        return (answers >= 0) & (answers != task.labels[owner])
    return answers == task.targets[owner]


class Rendering:
    """Turns an attack's real-valued images into the images that the model is asked about: in the box, on the grid.

    `dither`: on the grid a value v (in steps) becomes floor(v + d), with d in [0, 1) drawn once per sample and value,
    instead of the nearest step. A move of all values by less than a step then still changes some of them, so that the
    boundary can be located more finely than the grid; a value never leaves the two steps around it.
    """

    def __init__(self, task: Task, *, dither: bool = False) -> None:
        self.on_grid = task.threat.grid is Grid.EIGHT_BIT
        self.dithers = dither and self.on_grid
        every = torch.arange(len(task.images) if self.dithers else 0, device=task.images.device)
        # Whole steps must stay whole: float32 has them right to 1e-5.
        self._pattern = task.random.fork("dither").uniform(every, 0, *task.images.shape[1:]).clamp_(1e-4, 1 - 1e-4)

    def __call__(self, images: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """`(M, C, H, W)`, of samples `owner` `(M,)`."""
        if self.dithers:
            return (images * 255).add_(self._pattern[owner]).floor_().div_(255).clamp_(0, 1)
        return as_images(quantise(images.clone())) if self.on_grid else images.clamp(0, 1)


def starting_points(task: Task, tries: int, *, corners: bool = False) -> Starts:
    """Looks for one adversarial image per sample, of any distance, with at most `tries` rows each.

    `corners`: only images whose values are all 0 or 1.
    """
    images = task.images.clone()
    found = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    render = Rendering(task)
    random = task.random.fork("starting points")
    for attempt in range(tries):
        rows = (task.oracle.active & ~found).nonzero()[:, 0]
        if not len(rows):
            break
        candidates = render(_candidate(task.images[rows], random, rows, attempt), rows)
        candidates = candidates.round() if corners else candidates
        hit = adversarial(task, candidates, rows)
        images[rows[hit]], found[rows[hit]] = candidates[hit], True
    return Starts(images, found)


def _candidate(images: torch.Tensor, random: Random, rows: torch.Tensor, attempt: int) -> torch.Tensor:
    """The starting point that every sample tries as its `attempt`-th, `(B, C, H, W)`.

    In turn: uniform noise; the inverted image; blocks of random corner colours; half image, half noise; salt and
    pepper; a random constant colour; the image with half its pixels at random corner colours; the turned image;
    smoothed noise.
    """
    height, width = images.shape[2:]
    kind = attempt % _PLAIN
    uniform = random.uniform(rows, attempt, *images.shape[1:])
    if kind == 0:
        return uniform
    if kind == 1:
        return 1 - images if attempt < _PLAIN else 1 - images + (uniform - 0.5)
    if kind in (2, 8):
        coarse = 2 + (attempt // _PLAIN) % 6
        blocks = uniform[:, :, :coarse, :coarse]
        if kind == 2:
            return torch.nn.functional.interpolate(blocks.round(), size=(height, width), mode="nearest")
        return torch.nn.functional.interpolate(blocks, size=(height, width), mode="bilinear", align_corners=False)
    if kind == 3:
        return (images + uniform) / 2
    if kind == 4:
        return uniform.round()
    if kind == 5:
        return uniform[:, :, :1, :1].expand_as(images)
    if kind == 6:
        replaced = random.fork("replaced").uniform(rows, attempt, 1, height, width) < 0.5
        return torch.where(replaced, uniform.round(), images)
    return images.flip(2) if attempt < _PLAIN else (images.flip(2) + uniform) / 2


def bisect(
    task: Task,
    norm: Norm,
    outside: torch.Tensor,
    owner: torch.Tensor,
    tolerance: torch.Tensor | float,
    render: Rendering,
) -> torch.Tensor:
    """Adversarial images near the boundary, `(B, C, H, W)`, between the originals and adversarial images `outside`.

    L2: the segment between the two (Brendel et al. 2018). Linf: `outside` clipped to a ball that shrinks (Chen et al.
    2020). Halves the bracket until it is no wider than `tolerance`, a share of the segment or a radius in image values.
    Rows that the oracle refuses keep what they have. The result is real-valued; its rendering is adversarial.
    """
    images = task.images[owner]
    delta = outside - images
    high = delta.flatten(1).abs().amax(1) if norm is Norm.LINF else torch.ones(len(images), device=images.device)
    low = torch.zeros_like(high)
    best = outside.clone()
    while True:
        rows = ((high - low > tolerance) & task.oracle.active[owner]).nonzero()[:, 0]
        if not len(rows):
            return best
        middle = (low[rows] + high[rows]) / 2
        size = middle[:, None, None, None]
        moved = delta[rows].clamp(-size, size) if norm is Norm.LINF else delta[rows] * size
        candidates = images[rows] + moved
        hit = adversarial(task, render(candidates, owner[rows]), owner[rows])
        high[rows[hit]], low[rows[~hit]] = middle[hit], middle[~hit]
        best[rows[hit]] = candidates[hit]
