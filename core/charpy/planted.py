"""Planted adversarial examples: every attack of a run is tried where one is known to exist.

An attack that finds nothing says that the model is robust, or that the attack does not work here. So each attack also
faces the same model with its decision moved, per sample, until a point inside the ball is adversarial for certain: an
active test in the sense of Zimmermann et al. 2022, "Increasing confidence in adversarial robustness evaluations".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from charpy.engine import QueryEngine
from charpy.errors import told_of
from charpy.geometry import norm_of, random_start
from charpy.losses import margin
from charpy.oracle import Oracle
from charpy.pixels import as_images, quantise, snap
from charpy.random import Random
from charpy.recorder import Plant
from charpy.threat import Grid, Norm, ThreatModel

DRAWS = 256
"""Random points of the ball among which the planted one is the best."""

VALUES = 2**22
"""Image values of the random points made at a time, at least one batch of the model; it changes no result."""

NEARNESS = 0.1
"""The decision lies this share of the way from the planted point's margin to the sample's own."""

QUERIES = 1000
"""The most that an attack may spend on a planted sample: its task is to match `DRAWS` random points."""


@dataclass(frozen=True)
class Drill:
    """How one attack did: samples with a planted example and those it broke; samples tried without any bound."""

    planted: int = 0
    found: int = 0
    unbounded: int = 0
    reached: int = 0
    failure: str = ""


@dataclass(frozen=True)
class MarginShift:
    """Moves the decision by `offset` `(N,)`: the true class's score falls by it (the target's rises)."""

    offset: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor | None

    def __call__(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """The scores with one column moved."""
        column = (self.labels if self.targets is None else self.targets)[owner]
        sign = -1.0 if self.targets is None else 1.0
        change = torch.zeros_like(answers).scatter(1, column[:, None], sign * self.offset[owner][:, None])
        return answers + change


@dataclass(frozen=True)
class HalfSpace:
    """For a model that gives labels only: beyond half the way to the planted point the answer is another class."""

    originals: torch.Tensor
    direction: torch.Tensor
    labels: torch.Tensor
    targets: torch.Tensor | None

    def __call__(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Labels."""
        direction = self.direction[owner].flatten(1)
        along = ((as_images(rows) - self.originals[owner]).flatten(1) * direction).sum(1)
        beyond = along >= 0.5 * direction.square().sum(1)
        labels = self.labels[owner]
        other = (labels == 0).to(labels.dtype) if self.targets is None else self.targets[owner]
        return torch.where(beyond, other, labels)


def plant(
    engine: QueryEngine,
    images: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    threat: ThreatModel,
    random: Random,
) -> tuple[Plant, torch.Tensor]:
    """A plant for correctly classified `images` `(N, C, H, W)`, and which of them have one, bool `(N,)`.

    Scores: the best of `DRAWS` random points at the edge of the ball becomes adversarial, and the sample itself stays
    correctly classified. A sample whose margin no random point lowers has none.
    """
    count = len(images)

    def points(owner: torch.Tensor, draws: torch.Tensor) -> torch.Tensor:
        found = _edge(threat, images[owner], random, owner, draws)
        return as_images(snap(threat, quantise(images)[owner], found)) if threat.grid is Grid.EIGHT_BIT else found

    samples, draws = (torch.arange(size, device=images.device) for size in (count, DRAWS))
    if not engine.num_classes:
        first = points(samples, torch.zeros_like(samples))
        moved = (first != images).flatten(1).any(1)
        return HalfSpace(images, first - images, labels, targets), moved
    owner, draws = samples.repeat_interleave(DRAWS), draws.repeat(count)
    batch = engine.chosen.batch
    piece = batch * max(1, VALUES // (batch * images.shape[1:].numel()))  # whole batches: a row's neighbours stay
    margins = torch.cat(
        [
            margin(
                engine.answers(points(rows, turn)).to(images.device),
                labels[rows],
                None if targets is None else targets[rows],
            )
            for rows, turn in zip(torch.split(owner, piece), torch.split(draws, piece), strict=True)
        ]
    )
    lowest = margins.view(count, DRAWS).amin(1)
    own = margin(engine.answers(images).to(images.device), labels, targets)
    gap = own - lowest
    usable = own.isfinite() & lowest.isfinite() & (gap > 1e-4 * own.abs().clamp_min(1e-3))
    offset = torch.where(usable, lowest + NEARNESS * gap, 0.0)
    return MarginShift(offset, labels, targets), usable


def drill(
    run: Callable[[Oracle], str],
    engine: QueryEngine,
    images: torch.Tensor,
    labels: torch.Tensor,
    targets: torch.Tensor | None,
    threat: ThreatModel,
    random: Random,
    *,
    unbounded: bool,
) -> Drill:
    """Try one attack on planted samples, and, if `unbounded`, on the samples themselves with the whole box allowed.

    `run` lets the attack ask an oracle and returns the text of its failure.
    """
    threat = threat.model_copy(update={"queries": min(threat.queries, QUERIES)})
    try:
        planted, usable = plant(engine, images, labels, targets, threat, random.fork("planted"))
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - a stranger's model; what it raises costs the drill
        return Drill(failure=f"nothing could be planted: {told_of(cause)}")

    def broken(within: ThreatModel, change: Plant | None) -> tuple[torch.Tensor, str]:
        oracle = Oracle(engine, engine.model, images, labels, targets, within, plant=change)
        failure = run(oracle)
        if oracle.refuted:
            oracle = Oracle(engine.without_shortcut(), engine.model, images, labels, targets, within, plant=change)
            failure = run(oracle)
        return oracle.recorded().found, failure

    found, failure = broken(threat, planted)
    asked, hit = int(usable.sum()), int(found[usable].sum())
    if not unbounded:
        return Drill(asked, hit, failure=failure)
    free = threat.model_copy(update={"radius": _diameter(threat.norm, images.shape[1:])})
    reached, again = broken(free, None)
    return Drill(asked, hit, len(images), int(reached.sum()), failure or again)


def _edge(
    threat: ThreatModel, images: torch.Tensor, random: Random, owner: torch.Tensor, draws: torch.Tensor
) -> torch.Tensor:
    """Random points at the edge of the ball, inside the box."""
    if threat.norm is Norm.LINF:
        signs = random.integers(owner, draws, 2, *images.shape[1:]).mul_(2).sub_(1)
        return (images + signs * threat.radius).clamp_(0, 1)
    points = random_start(threat.norm, images, threat.radius, random, owner, draws)
    if threat.norm is Norm.L0:
        return points
    delta = points - images
    reach = threat.radius / norm_of(threat.norm, delta).clamp_min(1e-30)
    return (images + delta * reach[:, None, None, None]).clamp_(0, 1)


def _diameter(norm: Norm, shape: Sequence[int]) -> float:
    size = math.prod(shape)
    return {Norm.L0: float(shape[1] * shape[2]), Norm.L1: float(size), Norm.L2: math.sqrt(size), Norm.LINF: 1.0}[norm]
