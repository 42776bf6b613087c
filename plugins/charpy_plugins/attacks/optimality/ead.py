"""Elastic-net attack (Chen et al. 2018): the smallest L1 perturbation by shrinkage and thresholding (FISTA)."""

from __future__ import annotations

import torch

from charpy.geometry import column
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import unit_of
from charpy.search.constant import LARGEST, constants, falling, search_constant, stalled
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Norm

PAPER = "Chen et al. 2018, section 4 and algorithm 1"

STEEPEST = 1e6
"""Largest slope of the original's margin that c multiplies as it is."""


class Ead(Attack):
    """Minimises c max(margin + confidence, 0) + |x' - x|_2^2 + beta |x' - x|_1 by proximal gradient steps (L1).

    Each step goes down the smooth part, then pulls every value by `beta` towards its original and clips it to the box
    (equations 7 and 8). With `momentum` the gradient is taken ahead of the last step (FISTA); the image itself then
    costs another query. c is searched by bisection, tenfold until a first success.

    Differs from the paper: the search of c is repeated with a tenfold beta, `betas` times in all, from the least c that
    was enough before; at the end the boundary is looked for between the original and the nearest witness; the point
    ahead is kept in the box; a descent ends for each sample alone once its loss has stopped falling. The nearest
    success in L1 is kept (the paper's L1 rule).
    """

    norms = frozenset({Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Chen et al. 2018, EAD: elastic-net attacks to deep neural networks via adversarial examples (AAAI)"

    class Params(BaseParams):
        """Parameters of EAD."""

        steps: int = param(1000, ge=1, description="steps of one descent, the budget allowing", source=PAPER)
        searches: int = param(9, ge=1, description="constants that are tried", source=PAPER)
        learning_rate: float = param(0.01, gt=0, description="first step, to fall by a square root", source=PAPER)
        constant: float = param(1e-3, gt=0, description="first c", source=PAPER)
        beta: float = param(0.01, ge=0, description="first weight of the L1 norm", source=PAPER)
        betas: int = param(2, ge=1, le=10, description="weights that are tried; the paper: 1", source="ours")
        confidence: float = param(0.0, ge=0, description="margin beyond the boundary", unit="logits", source=PAPER)
        momentum: bool = param(True, description="FISTA; otherwise ISTA, at half the queries", source=PAPER)
        abort_early: bool = param(
            False, description="end a descent that has stopped falling, as the released code does", source=PAPER
        )
        line_search: int = param(
            6,
            ge=0,
            le=30,
            description="trials between original and witness; the paper: 0",
            unit="queries",
            source="ours",
        )

    def run(self, task: Task) -> None:
        """Descend for every sample until its searches or its budget are spent."""
        descent = _Descent(task, self.params)
        each_sample(task, descent.begin, descent.advance)
        descent.witnesses.tighten(self.params.line_search)


class _Descent:
    """One proximal step of every row, and the next constant where a descent has ended."""

    def __init__(self, task: Task, params: Ead.Params) -> None:
        self.task, self.params = task, params
        self.witnesses = Witnesses(task)
        descents = params.searches * params.betas * (2 if params.momentum else 1)
        self.steps = max(1, min(params.steps, (task.threat.queries - params.line_search) // descents))

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """At the image itself."""
        images = self.task.images[sample]
        return {
            "images": images,
            "x": images,
            "ahead": images,
            "iteration": torch.zeros_like(sample),
            "unit": torch.ones(sample.shape, device=images.device),
            **falling(sample),
            "succeeded": torch.zeros(sample.shape, dtype=torch.bool, device=images.device),
            "beta": torch.full(sample.shape, self.params.beta, device=images.device),
            "betas": torch.zeros_like(sample),
            **constants(sample, self.params.constant),
        }

    def advance(self, state: State) -> torch.Tensor:
        """A step of every row; which rows have tried their last constant."""
        images, sample, last = state["images"], state["sample"], state["x"]
        margins, slope, _ = self.task.oracle.loss_and_gradient(state["ahead"], sample, "margin")
        first = (state["iteration"] == 0) & (state["searches"] == 0) & (state["betas"] == 0)
        self.witnesses.begin(sample[first], margins[first])
        state["unit"] = torch.where(first, unit_of(slope, 0.0, STEEPEST), state["unit"])
        short, weight = margins + self.params.confidence, state["constant"] / state["unit"]
        delta = state["ahead"] - images
        gradient = 2 * delta + column(weight * (short >= 0)) * slope
        pace = self.params.learning_rate * (1 - state["iteration"] / self.steps).sqrt()
        self._witness(state, state["ahead"], margins)
        state["x"] = _shrink(images, delta - column(pace) * gradient, column(state["beta"]))
        if self.params.momentum:
            inertia = state["iteration"] / (state["iteration"] + 3)
            state["ahead"] = (state["x"] + column(inertia) * (state["x"] - last)).clamp_(0, 1)
            self._witness(state, state["x"], self.task.margins(self.task.oracle.scores(state["x"], sample), sample))
        else:
            state["ahead"] = state["x"]
        state["iteration"] = state["iteration"] + 1
        ended = state["iteration"] >= self.steps
        if self.params.abort_early:
            size = (delta.square() + column(state["beta"]) * delta.abs()).flatten(1).sum(1)
            ended |= stalled(state, size + weight * short.clamp_min(0), self.steps)
        return self._next(state, ended)

    def _witness(self, state: State, points: torch.Tensor, margins: torch.Tensor) -> None:
        self.witnesses.meet(state["sample"], points, margins)
        state["succeeded"] |= margins < -self.params.confidence

    def _next(self, state: State, ended: torch.Tensor) -> torch.Tensor:
        search_constant(state, ended, state["succeeded"])
        for place in ("x", "ahead"):
            state[place] = torch.where(column(ended), state["images"], state[place])
        state["iteration"] = torch.where(ended, 0, state["iteration"])
        for key, fresh in falling(state["sample"]).items():
            state[key] = torch.where(ended, fresh, state[key])
        state["succeeded"] &= ~ended
        heavier = ended & (state["searches"] >= self.params.searches)
        state["beta"] = torch.where(heavier, state["beta"] * 10, state["beta"])
        state["betas"] = state["betas"] + heavier
        known = heavier & (state["enough"] < LARGEST)
        state["constant"] = torch.where(known, state["enough"], state["constant"])
        for key, fresh in constants(state["sample"], 1.0).items():
            if key != "constant":
                state[key] = torch.where(heavier, fresh, state[key])
        return ended & ((state["betas"] >= self.params.betas) | (state["constant"] >= LARGEST))


def _shrink(images: torch.Tensor, delta: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    """The image at `delta` after every value was pulled by `beta` towards the original (equation 8)."""
    return (images + (delta.abs() - beta).clamp_min_(0) * delta.sign()).clamp_(0, 1)
