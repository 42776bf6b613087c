"""stAdv (Xiao, Zhu, Li, He, Liu & Song 2018): pixels are moved, not changed, along a smooth flow."""

from __future__ import annotations

import torch

from charpy.geometry import column
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import margin, unit_of
from charpy.search.quasi_newton import minimiser, step
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Norm
from charpy.warp import flowed

PAPER = "Xiao et al. 2018, section 3.2"

ROUNDED = 1e-6
"""Square, in pixels, of the difference of two flows at which the kink of their distance at 0 is rounded off."""

SHORTEST = 10
"""Queries of a search at least, however small the budget."""

SHAKE = 0.4
"""Pixels that each flow is moved by, at most, at random, where a search has ended in vain: bilinear interpolation has a
kink at every whole pixel, and no flow is one, so that L-BFGS may not get away from there."""

STEEPEST = 1e6
"""Largest slope of the margin that tau is weighed against as it is."""


class Stadv(Attack):
    """Minimises max(margin, -kappa) + tau L_flow over a flow of the pixels, by L-BFGS (any norm).

    Each pixel is read, by bilinear interpolation, from where its flow (du, dv) points. L_flow is the sum over all
    pixels and their four neighbours of the distance of the two flows: a flow that is everywhere the same costs nothing.
    The margin is the true class's score less the best other one; toward a target, the best other one less the target's.
    The nearest image that succeeds is kept, in the threat's norm.

    Differs from the paper: no flow is longer than `reach`; untargeted goals; where a search ends without success,
    another goes on near there with a tenth of tau, up to `searches` in all: how large the scores are is the model's
    own. Where the budget is too small for all of them, each is given up after its share of it. Projected L-BFGS with a
    trial step for each sample alone.
    """

    norms = frozenset(Norm)
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Xiao et al. 2018, Spatially transformed adversarial examples (ICLR)"

    class Params(BaseParams):
        """Parameters of stAdv."""

        tau: float = param(0.05, ge=0, description="weight of L_flow", unit="score per pixel", source=PAPER)
        kappa: float = param(0.0, ge=0, description="margin by which the goal is overshot", unit="score", source=PAPER)
        reach: float = param(
            0.2,
            gt=0,
            le=1,
            description="longest flow in each direction",
            unit="share of the longer side",
            source="ours",
        )
        steps: int = param(100, ge=1, description="queries of one search, the budget allowing", source="ours")
        searches: int = param(6, ge=1, description="weights that are tried: tau, tau / 10, ...", source="ours")
        memory: int = param(10, ge=1, le=100, description="steps that the curvature is read from", source="ours")

    def run(self, task: Task) -> None:
        """Search for every sample until a search with success has ended, or the weights or the budget are spent."""
        search = _Search(task, self.params)
        each_sample(task, search.begin, search.advance)


class _Search:
    """One query of every row, and the next weight where a search has ended in vain.

    The minimiser works in the box [0, 1]: 0.5 is no flow, its ends are the longest ones.
    """

    def __init__(self, task: Task, params: Stadv.Params) -> None:
        self.task, self.params = task, params
        self.scale = 2 * params.reach * max(task.images.shape[2:])
        self.random = task.random.fork("stadv")
        self.vain = min(params.steps, max(task.threat.queries // params.searches, SHORTEST))

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """No flow."""
        return {
            "iteration": torch.zeros_like(sample),
            "searches": torch.zeros_like(sample),
            "tau": torch.full(sample.shape, self.params.tau, device=sample.device),
            "unit": torch.ones(sample.shape, device=sample.device),
            "succeeded": torch.zeros(sample.shape, dtype=torch.bool, device=sample.device),
            **minimiser(torch.full_like(self.task.images[sample, :1], 0.5).repeat(1, 2, 1, 1), self.params.memory),
        }

    def advance(self, state: State) -> torch.Tensor:
        """A trial of every row; which rows have ended their last search."""
        flow = ((state["trial"] - 0.5) * self.scale).requires_grad_(True)
        loss, slope, reached = self._asked(flow, state["sample"])
        state["succeeded"] |= reached
        first = (state["iteration"] == 0) & (state["searches"] == 0)
        state["unit"] = torch.where(first, unit_of(slope, 0.0, STEEPEST), state["unit"])
        with torch.enable_grad():
            rough = roughness(flow)
        (bend,) = torch.autograd.grad(rough.sum(), flow)
        value = loss / state["unit"] + state["tau"] * rough.detach()
        bend = column(state["tau"]) * bend + slope / column(state["unit"])
        converged = step(state, value, self.scale * bend)
        state["iteration"] = state["iteration"] + 1
        hopeful = state["succeeded"] | (state["searches"] >= self.params.searches - 1)
        allowed = torch.where(hopeful, self.params.steps, self.vain)
        ended = converged | (state["iteration"] >= allowed)
        state["searches"] = state["searches"] + ended
        finished = ended & (state["succeeded"] | (state["searches"] >= self.params.searches))
        self._again((ended & ~finished).nonzero()[:, 0], state)
        return finished

    def _asked(self, flow: torch.Tensor, sample: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Loss `(B,)`, its gradient `(B, 2, H, W)` in the flow, and bool `(B,)`, where the goal is reached."""
        task, kappa = self.task, self.params.kappa
        labels, targets = task.labels[sample], None if task.targets is None else task.targets[sample]

        def overshot(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return margin(scores, labels[rows], None if targets is None else targets[rows]).clamp_min(-kappa)

        with torch.enable_grad():
            moved = flowed(task.images[sample], flow)
        loss, gradient, scores = task.oracle.loss_and_gradient(moved.detach(), sample, overshot)
        (slope,) = torch.autograd.grad(moved, flow, gradient)
        return loss, slope, task.margins(scores, sample) < 0

    def _again(self, rows: torch.Tensor, state: State) -> None:
        """Go on near where the search ended, with a tenth of the weight and no memory of its curvature."""
        if not len(rows):
            return
        x, turn = state["x"][rows], state["searches"][rows]
        noise = self.random.uniform(state["sample"][rows], turn, *x.shape[1:]) * 2 - 1
        shaken = (x + noise * SHAKE / self.scale).clamp(0, 1)
        for key, fresh in minimiser(shaken, self.params.memory).items():
            state[key] = state[key].index_copy(0, rows, fresh)
        state["tau"] = state["tau"].index_copy(0, rows, state["tau"][rows] / 10)
        state["iteration"] = state["iteration"].index_fill(0, rows, 0)


def roughness(flow: torch.Tensor) -> torch.Tensor:
    """L_flow `(B,)` of `flow` `(B, 2, H, W)` in pixels: the distances of all neighbours' flows, each counted both ways.

    A distance d is sqrt(d^2 + ROUNDED) - sqrt(ROUNDED), which has a gradient at 0.
    """
    down, right = flow.diff(dim=2), flow.diff(dim=3)
    lengths = [((gap.square().sum(1) + ROUNDED).sqrt() - ROUNDED**0.5).flatten(1).sum(1) for gap in (down, right)]
    total: torch.Tensor = 2 * (lengths[0] + lengths[1])
    return total
