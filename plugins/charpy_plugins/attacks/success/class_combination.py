"""Combinations with other images of the data: the sign of one of another class, or the way to a misclassified one."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any, NamedTuple

import torch

from charpy.errors import DataError
from charpy.geometry import column
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Samples
from charpy.pixels import as_images, on_grid, quantise
from charpy.search.boundary_search import adversarial
from charpy.search.stream import State, stream
from charpy.threat import Access, Goal, Norm

BLOG = "Adversarial examples: rethinking the definition"

ABREAST = 16
"""Other images that a sample tries side by side."""


class Form(StrEnum):
    """x_0 + epsilon sign(x_1), x_1 of another class; or r x_a + (1 - r) x_b, x_b of the same class, misclassified."""

    SIGN = "sign"
    INTERPOLATION = "interpolation"


class ClassCombination(Attack):
    """Adds another class's image, or goes towards a misclassified one of the same class; needs labels only (any norm).

    `sign`: x_0 + epsilon sign(x_1), clipped to the box, with x_1 of another class (of the target's, if there is one):
    inside the Linf ball, and yet no human takes it for the original. Under Linf epsilon is the radius.
    `interpolation`: r x_a + (1 - r) x_b with x_b of the same class. Where the model misclassifies x_b itself, r = 0 is
    "adversarial": a threat that contains such images confuses robustness with generalisation (condition 2). Which
    images those are is found by asking, one row each, charged to the sample.

    What succeeds at its far end is halved towards the original. So one run fills every level; at a smaller level than
    the largest an image is only tried if it lies on the way from one that succeeds there (`carry: false` tries all).

    The other images are the run's own samples, misclassified ones too: the first `others` of each class, in a random
    order for each sample. An attack that was not prepared for a run has those of its task alone.
    """

    norms = frozenset(Norm)
    access = Access.LABELS
    family = Family.TARGET_SUCCESS
    source = "Adversarial examples: rethinking the definition (blog post)"

    class Params(BaseParams):
        """Which combination, with how many images, and how finely."""

        form: Form = param(Form.SIGN, description="sign or interpolation", source=BLOG)
        epsilon: float = param(
            0.3,
            gt=0,
            le=1,
            description="sign: largest step, but under linf the radius",
            unit="image values",
            source=BLOG,
        )
        middle: float = param(
            0.0, ge=0, lt=1, description="sign: is that of x_1 - middle; photographs are seldom 0", source="ours"
        )
        others: int = param(
            100, ge=1, description="images known of each class, and tried for each sample, at most", source="ours"
        )
        halvings: int = param(8, ge=0, le=30, description="steps back to the original", unit="queries", source="ours")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._pool: _Pool | None = None

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Keep the images to combine with.

        Raises:
            DataError: no sample has another image to be combined with.
        """
        pool = _Pool.of(samples, self.params.others)
        counts = pool.labels.bincount()
        sign = self.params.form is Form.SIGN
        if int((counts > 0).sum()) < 2 if sign else int(counts.max()) < 2:
            raise DataError(
                "there is no other image to combine one with",
                where="class_combination",
                found=f"{len(pool.labels)} samples of {int((counts > 0).sum())} class(es)",
                expected="samples of two classes" if sign else "two samples of one class",
                hint="take more `samples`",
            )
        self._pool = pool

    def run(self, task: Task) -> None:
        """Try the other images one after another, and go back from those that succeed."""
        if not len(task.labels):
            return
        pool = self._pool or _Pool.of([Samples(task.images, task.labels, ())], self.params.others)
        search = _Search(task, self.params, pool.on(task.images.device))
        stream(
            search.begin,
            search.advance,
            lambda sample: task.oracle.active[sample],
            torch.arange(len(task.images), device=task.images.device),
            width=max(1, task.oracle.batch),
            runs=self.params.others,
            abreast=ABREAST,
        )


class _Pool(NamedTuple):
    """Images `(P, C, H, W)`, uint8 where they lie on the 8-bit grid, and their labels `(P,)`."""

    images: torch.Tensor
    labels: torch.Tensor

    @classmethod
    def of(cls, samples: Iterable[Samples], most: int) -> _Pool:
        """The first `most` of each class."""
        images, labels, seen = [], [], torch.zeros(0, dtype=torch.int64)
        for piece in samples:
            given = piece.labels.cpu()
            classes = torch.nn.functional.one_hot(given, max(int(given.max()) + 1, len(seen)))
            seen = torch.nn.functional.pad(seen, (0, classes.shape[1] - len(seen)))
            place = (seen + classes.cumsum(0)).gather(1, given[:, None])[:, 0]
            kept = piece.images.cpu()[place <= most]
            images.append(quantise(kept) if on_grid(as_images(kept)) else kept)
            labels.append(given[place <= most])
            seen = seen + classes.sum(0)
        if len({kept.dtype for kept in images}) > 1:
            images = [as_images(kept) for kept in images]
        return cls(torch.cat(images), torch.cat(labels))

    def on(self, device: torch.device) -> _Pool:
        """The same there."""
        return _Pool(self.images.to(device), self.labels.to(device))


class _Search:
    """One other image at a time: its far end, then halvings of the way back, at most a row a call."""

    def __init__(self, task: Task, params: ClassCombination.Params, pool: _Pool) -> None:
        self.task, self.params, self.pool = task, params, pool
        self.epsilon = task.threat.radius if task.threat.norm is Norm.LINF else params.epsilon
        everyone = torch.arange(len(task.labels), device=task.labels.device)
        keys = task.random.fork("others").uniform(everyone, 0, len(pool.labels))
        fits = pool.labels == self._wanted()[:, None]
        if params.form is Form.SIGN and task.targets is None:
            fits = ~fits
        self.order = keys.masked_fill(~fits, torch.inf).argsort(dim=1, stable=True)[:, : params.others]
        self.count = fits.sum(1)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """At the far end of the next image; nowhere if there is none."""
        return {
            "other": self.order[sample, run.clamp_max(self.order.shape[1] - 1)],
            "missing": run >= self.count[sample],
            "asked": torch.zeros_like(sample),
            "low": torch.zeros(sample.shape, device=sample.device),
            "high": torch.full(sample.shape, 2.0, device=sample.device),  # so that the first middle is the far end
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask about the middle of each bracket; where the far end fails, or the last half is known, it is finished."""
        rows = (~state["missing"]).nonzero()[:, 0]
        sample, middle = state["sample"], (state["low"] + state["high"]) / 2
        candidates = self._combined(sample[rows], state["other"][rows], middle[rows])
        hit = torch.zeros_like(state["missing"])
        hit[rows] = adversarial(self.task, candidates, sample[rows])
        state["high"] = torch.where(hit, middle, state["high"])
        state["low"] = torch.where(hit, state["low"], middle)
        failed = state["missing"] | ((state["asked"] == 0) & ~hit)
        state["asked"] = state["asked"] + 1
        return failed | (state["asked"] > self.params.halvings)

    def _wanted(self) -> torch.Tensor:
        sign = self.params.form is Form.SIGN
        return self.task.labels if self.task.targets is None or not sign else self.task.targets

    def _combined(self, sample: torch.Tensor, other: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)`: `part` `(B,)` of the way from each sample to its combination."""
        images, others = self.task.images[sample], as_images(self.pool.images[other])
        signs = self.epsilon * (others - self.params.middle).sign()
        way = signs if self.params.form is Form.SIGN else others - images
        return (images + column(part) * way).clamp(0, 1)
