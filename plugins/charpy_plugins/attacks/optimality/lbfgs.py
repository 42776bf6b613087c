"""Box-constrained L-BFGS (Szegedy et al. 2014), the first attack: the smallest L2 perturbation by a smooth loss."""

from __future__ import annotations

import torch
from torch.nn.functional import softplus

from charpy.geometry import column
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import Objective, margin, unit_of
from charpy.search.constant import LARGEST, constants, search_constant
from charpy.search.quasi_newton import minimiser, step
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Norm

PAPER = "Szegedy et al. 2014, section 4.1"

STEEPEST = 1e6
"""Largest slope of the original's loss that c multiplies as it is."""


class Lbfgs(Attack):
    """Minimises |r|^2 + c loss(x + r) inside the box by L-BFGS, for the least c that succeeds (L2).

    The loss is the cross-entropy of the goal: -log p_target; untargeted, -log of what the best other class has
    of the two classes' probability. c is
    searched by bisection, tenfold until a first success.

    Differs from the paper: the square of |r|, which is smooth; c weighs the loss, which is the same search; projected
    L-BFGS with a trial step for each sample alone takes the place of L-BFGS-B; untargeted goals; at the end the
    boundary is looked for between the original and the nearest witness.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Szegedy et al. 2014, Intriguing properties of neural networks (ICLR)"

    class Params(BaseParams):
        """Parameters of the L-BFGS attack."""

        steps: int = param(100, ge=1, description="queries of one search, the budget allowing", source="ours")
        searches: int = param(10, ge=1, description="constants that are tried", source="ours")
        constant: float = param(0.01, gt=0, description="first c", source="ours")
        memory: int = param(10, ge=1, le=100, description="steps that the curvature is read from", source="ours")
        line_search: int = param(
            6, ge=0, le=30, description="trials between original and witness", unit="queries", source="ours"
        )

    def run(self, task: Task) -> None:
        """Search for every sample until its constants or its budget are spent."""
        search = _Search(task, self.params)
        each_sample(task, search.begin, search.advance)
        search.witnesses.tighten(self.params.line_search)


class _Search:
    """One query of every row, and the next constant where a minimiser has converged."""

    def __init__(self, task: Task, params: Lbfgs.Params) -> None:
        self.task, self.params = task, params
        self.witnesses = Witnesses(task)
        left = task.threat.queries - params.line_search
        self.steps = max(1, min(params.steps, left // params.searches))

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """At the image itself."""
        images = self.task.images[sample]
        return {
            "images": images,
            "iteration": torch.zeros_like(sample),
            "unit": torch.ones(sample.shape, device=images.device),
            "succeeded": torch.zeros(sample.shape, dtype=torch.bool, device=images.device),
            **minimiser(images, self.params.memory),
            **constants(sample, self.params.constant),
        }

    def advance(self, state: State) -> torch.Tensor:
        """A trial of every row; which rows have tried their last constant."""
        images, sample, trial = state["images"], state["sample"], state["trial"]
        goal = self._goal(sample)
        loss, slope, scores = self.task.oracle.loss_and_gradient(trial, sample, goal)
        margins = self.task.margins(scores, sample)
        first = (state["iteration"] == 0) & (state["searches"] == 0)
        self.witnesses.begin(sample[first], margins[first])
        state["succeeded"] |= self.witnesses.meet(sample, trial, margins)
        state["unit"] = torch.where(first, unit_of(slope, 0.0, STEEPEST), state["unit"])
        delta, weight = trial - images, state["constant"] / state["unit"]
        value = delta.square().flatten(1).sum(1) + weight * loss
        converged = step(state, value, 2 * delta + column(weight) * slope)
        state["iteration"] = state["iteration"] + 1
        ended = converged | (state["iteration"] >= self.steps)
        if not bool(ended.any()):
            return ended
        search_constant(state, ended, state["succeeded"])
        state["iteration"] = torch.where(ended, 0, state["iteration"])
        state["succeeded"] &= ~ended
        again = ended.nonzero()[:, 0]
        for key, fresh in minimiser(images[again], self.params.memory).items():
            state[key] = state[key].index_copy(0, again, fresh)
        return ended & ((state["searches"] >= self.params.searches) | (state["constant"] >= LARGEST))

    def _goal(self, sample: torch.Tensor) -> Objective | str:
        if self.task.targets is not None:
            return "cross_entropy"
        labels = self.task.labels[sample]
        return lambda scores, rows: softplus(margin(scores, labels[rows]))
