"""Projected gradient descent whose ball lies in the embedding space of a network: similarity is learned, not a norm."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch

from charpy.embedding import Embedding, EmbeddingParams
from charpy.geometry import column, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Samples
from charpy.pixels import as_images, quantise
from charpy.plugins import registry
from charpy.search.projected_gradient import scale_free
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Goal, Grid, Norm

BLOG = "Adversarial examples: rethinking the definition"

SHARES = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0)
"""How much of its way from the original an image gives back in turn until it is inside; after all of it, it is."""

NEWTON = 8
"""Steps of Newton's method for the multiplier of a half-space; each takes one more set of values to the box."""

Embed = Callable[[torch.Tensor], torch.Tensor]
"""Images `(B, C, H, W)` -> embeddings `(B, D)`, differentiable."""


class Settled(NamedTuple):
    """Images of the ball.

    Attributes:
        x: `(B, C, H, W)`, inside but for rounding.
        shown: the same as they can be stored, inside.
        distance: `(B,)`, of `shown` in the embedding.
        residual: `(B,)`, how far outside the projection alone had left them as they can be stored, 0 inside.
    """

    x: torch.Tensor
    shown: torch.Tensor
    distance: torch.Tensor
    residual: torch.Tensor


class Ball:
    """The images whose embeddings are within `radius` of those of N `images` `(N, C, H, W)`.

    `sample` `(B,)` says in all methods whose ball each row is about.
    """

    def __init__(self, embed: Embed, images: torch.Tensor, radius: float, batch: int) -> None:
        self._embed, self.images, self.radius = embed, images, radius
        with torch.no_grad():
            self._anchors = torch.cat([embed(piece) for piece in torch.split(images, batch)])

    def distance(self, images: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """`(B,)` distances of `images` `(B, C, H, W)` in the embedding."""
        gap: torch.Tensor = torch.linalg.vector_norm(self._embed(images) - self._anchors[sample], dim=1)
        return gap

    def project(self, asked: torch.Tensor, sample: torch.Tensor, rounds: int) -> torch.Tensor:
        """About the nearest image (in L2) to each of `asked` `(B, C, H, W)` inside ball and box; not checked.

        Sequential projections: x moves the share t of its way to y = clip(asked - m g), g the gradient of the distance
        d at x and m >= 0 such that the linear model d(x) + <g, y - x> is the radius: the nearest point of a half-space
        in the box. A move must lower |x - asked|^2 / 2 + w times the excess of d over the radius, w twice the largest m
        so far; then t doubles, to 1 at most, else it halves.
        """
        asked = asked.clamp(0, 1)
        with torch.no_grad():
            outside = (self.distance(asked, sample) > self.radius).nonzero()[:, 0]
        if not len(outside):
            return asked
        wanted, whose = asked[outside], sample[outside]
        x, (distance, slope) = wanted, self._slope(wanted, whose)
        weight, share = torch.zeros_like(distance), torch.ones_like(distance)
        for _ in range(rounds):
            m = _multiplier(distance - self.radius, slope, wanted, x)
            weight = weight.maximum(2 * m)
            tried = x + column(share) * ((wanted - column(m) * slope).clamp(0, 1) - x)
            there, steep = self._slope(tried, whose)
            before, after = (
                (at - wanted).square().flatten(1).sum(1) / 2 + weight * (d - self.radius).clamp_min(0)
                for at, d in ((x, distance), (tried, there))
            )
            lower = after < before
            x, slope = (torch.where(column(lower), new, old) for new, old in ((tried, x), (steep, slope)))
            distance = torch.where(lower, there, distance)
            share = torch.where(lower, (2 * share).clamp_max(1), share / 2)
        return asked.index_copy(0, outside, x)

    def _slope(self, images: torch.Tensor, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Their distances `(B,)` and the gradients of these `(B, C, H, W)`."""
        leaf = images.detach().clone().requires_grad_()
        with torch.enable_grad():
            distance = self.distance(leaf, sample)
            (slope,) = torch.autograd.grad(distance.sum(), leaf)
        return distance.detach(), slope

    @torch.no_grad()
    def settle(self, x: torch.Tensor, sample: torch.Tensor, grid: Grid) -> Settled:
        """`x` `(B, C, H, W)` as it can be stored on the grid; what is outside goes back towards its original."""
        originals = self.images[sample]
        kept, shown = x.clone(), _stored(x, grid)
        distance = self.distance(shown, sample)
        residual = (distance - self.radius).clamp_min(0).nan_to_num(nan=torch.inf)
        for share in SHARES:
            rows = (~(distance <= self.radius)).nonzero()[:, 0]
            if not len(rows):
                break
            kept[rows] = originals[rows] + (1 - share) * (x[rows] - originals[rows])
            shown[rows] = _stored(kept[rows], grid)
            distance[rows] = self.distance(shown[rows], sample[rows])
        lost = (~(distance <= self.radius)).nonzero()[:, 0]  # an original whose own embedding is not finite
        shown[lost], kept[lost], distance[lost] = originals[lost], originals[lost], 0.0
        return Settled(kept, shown, distance, residual)


def _multiplier(excess: torch.Tensor, slope: torch.Tensor, asked: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """`(B,)`: m >= 0 with excess + <slope, clip(asked - m slope) - x> = 0, or about the last m that moves anything.

    The left side is convex and falls in m: Newton's steps from 0 climb to the root without passing it.
    """
    m = torch.zeros_like(excess)
    for _ in range(NEWTON):
        there = (asked - column(m) * slope).clamp(0, 1)
        free = slope * ((there - slope.sign()).clamp(0, 1) != there)
        left = excess + (slope * (there - x)).flatten(1).sum(1)
        m = m + (left / free.square().flatten(1).sum(1).clamp_min(1e-20)).clamp(0, 1e20)
    return m


def _stored(images: torch.Tensor, grid: Grid) -> torch.Tensor:
    return as_images(quantise(images)) if grid is Grid.EIGHT_BIT else images


class _Log:
    """What the projections of a unit came to."""

    def __init__(self) -> None:
        self._found: list[torch.Tensor] = []

    def add(self, found: Settled) -> None:
        self._found.append(torch.stack([found.distance, found.residual]))

    def notes(self) -> dict[str, float]:
        """Empty where nothing was projected."""
        if not self._found:
            return {}
        distance, residual = torch.cat(self._found, 1)
        return {
            "projections": len(distance),
            "largest distance": float(distance.max()),
            "missed": float((residual > 0).double().mean()),
            "mean residual": float(residual.mean()),
            "largest residual": float(residual.max()),
        }


class EmbeddingPgd(Attack):
    """Steps down the gradient and projects onto {x' : |e(x') - e(x)| <= radius}, e the embedding of a network.

    The blog post proposes it for the embeddings of triplet networks, and gives no algorithm: projection and steps are
    ours. A step goes `step` down the gradient (L2); then `rounds` of Newton's method for the nearest point in L2: each
    projects the image that the step led to onto the half-space that the constraint is linearly, inside the box. What is
    still outside then, or is after rounding to the 8-bit grid, goes back towards the original until it is inside: the
    model is never asked about an image outside, so no witness is. The unit's `notes` say how often and by how much the
    projection alone missed. Passes of the embedding network are not queries.

    Nothing but the embedding bounds the change. Where the network does not look, or can be fooled, an image within the
    radius may look like anything: read a success beside `l2`, `ssim` and the images themselves.
    """

    norms = frozenset({Norm.UNRESTRICTED})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = (
        "Adversarial examples: rethinking the definition (blog post); Madry et al. 2018, Towards deep learning models"
    )

    class Params(EmbeddingParams):
        """The embedding, its ball, and the descent."""

        radius: float = param(
            0.2, gt=0, allow_inf_nan=False, description="largest L2 distance of embeddings", unit="1", source=BLOG
        )
        steps: int = param(40, ge=1, description="steps of each descent", source="Madry et al. 2018 (MNIST)")
        step: float = param(0.3, gt=0, description="L2 length of a step", unit="image values", source="ours")
        start: float = param(
            0.3, ge=0, description="L2 length of the random change at the start", unit="image values", source="ours"
        )
        restarts: int = param(1, ge=1, description="random starts", source="Madry et al. 2018")
        rounds: int = param(5, ge=1, description="of Newton's method in a projection", source="ours")
        loss: str = param(
            "log_odds",
            pattern="^(log_odds|cross_entropy|dlr|margin)$",
            description="what is minimised: log_odds, cross_entropy, dlr or margin",
            source="Madry et al. 2018: cross_entropy",
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._embed = Embedding(self.params.model, self.params.layer, registry())

    def fingerprint(self) -> Mapping[str, str]:
        """The network's."""
        return self._embed.fingerprint()

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Refuse images that the network does not take.

        Raises:
            DataError: they have another shape.
        """
        with torch.no_grad():
            self._embed(as_images(next(iter(samples)).images[:1]))

    def run(self, task: Task) -> None:
        """Descend from random images of the ball."""
        params, oracle, random = self.params, task.oracle, task.random.fork("embedding_pgd")
        if not len(task.images):
            return
        ball, log = Ball(self._embed, task.images, params.radius, max(1, oracle.gradient_batch)), _Log()
        loss = scale_free(oracle.num_classes, params.loss)

        def inside(asked: torch.Tensor, sample: torch.Tensor) -> State:
            found = ball.settle(ball.project(asked, sample, params.rounds), sample, task.threat.grid)
            log.add(found)
            return {"x": found.x, "shown": found.shown}

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            images = task.images[sample]
            noise = steepest(Norm.L2, random.normal(sample, run, *images.shape[1:]))
            return {**inside(images + params.start * noise, sample), "iteration": torch.zeros_like(sample)}

        def advance(state: State) -> torch.Tensor:
            answer = oracle.loss_and_gradient(state["shown"], state["sample"], loss)
            moved = state["x"] - params.step * steepest(Norm.L2, answer.gradient)
            state.update(inside(moved, state["sample"]))
            state["iteration"] = state["iteration"] + 1
            finished: torch.Tensor = state["iteration"] >= params.steps
            if bool(finished.any()):
                oracle.scores(state["shown"][finished], state["sample"][finished])
            return finished

        each_sample(task, begin, advance, runs=params.restarts)
        task.notes.update(log.notes())
