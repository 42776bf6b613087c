"""Auto-PGD (Croce & Hein 2020b, algorithm 1) and its L1 version (Croce & Hein 2021, "Mind the box").

Projected gradient descent with momentum whose step is halved, and which returns to its best point, where the loss no
longer falls. In L1 there is no momentum and the steps are sparse: how many values move follows the number of values
that the best point has changed. Many samples at once; each row has a schedule of its own, as rows join at any time.

Differs from the paper: the L2 projection is the exact one onto ball and box; the original scales to the ball and then
clips to the box, which leaves part of the radius unused. A fall of the loss in the first step counts as one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from charpy.geometry import norm_of, project, steepest
from charpy.interfaces.attack import Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import Objective
from charpy.search.stream import State, each_sample
from charpy.threat import Norm

if TYPE_CHECKING:
    from charpy.differentiation import Gradients

CROCE_HEIN = "Croce & Hein 2020b, section 3 (arXiv:2003.01690)"
MIND_THE_BOX = "Croce & Hein 2021, Mind the box (arXiv:2103.01208)"

MOMENTUM = 0.75
"""Share of a new step in the next move; the rest is the move before."""

FIRST_WINDOW, WINDOW_DECREASE, LAST_WINDOW = 0.22, 0.03, 0.06
"""Steps between two checks, in shares of all steps: the first window, how much shorter each next is, the last."""

L1_WINDOW, L1_SHARE, L1_SHRINK, L1_FEWER, L1_LEAST_STEP = 0.04, 0.2, 1.5, 0.95, 0.1
"""L1: steps between two checks; share of the values that the first steps move; next steps move `L1_SHRINK` times fewer
values than the best point has changed, and are as much shorter; unless it has changed `L1_FEWER` times fewer than
before: then they are a whole radius long. Shortest step in radii."""

WIDENED = ((3.0, 0.3), (2.0, 0.3), (1.0, 0.4))
"""L1: (radius in radii, share of the steps) of the phases of a run that begins in larger balls."""

LEAST_STEPS, LEAST_WIDENED = 10, 20
"""Queries that each of several runs side by side should have; that a run in L1 should have to begin in larger balls."""

Toward = Callable[[State], str | Objective]
"""The loss of the rows of a state."""


class ApgdParams(BaseParams):
    """Parameters that the APGD attacks share."""

    steps: int = param(100, ge=1, description="steps of each run, after its start", source=CROCE_HEIN)
    restarts: int = param(1, ge=1, description="random starts (of each target)", source=CROCE_HEIN)
    rho: float = param(
        0.75, gt=0, le=1, description="Linf, L2: the step is kept where the loss falls more often", source=CROCE_HEIN
    )
    widen: bool = param(
        True, description="L1: 30 % of the steps in 3 radii, 30 % in 2, the rest in the radius", source=MIND_THE_BOX
    )


class Apgd:
    """Auto-PGD for every sample of a task.

    A run has no more steps than the budget allows it, so that its schedule ends within it, and inside the ball; the
    larger balls of L1 are left out where fewer than `LEAST_WIDENED` steps are left.

    Args:
        task: images, threat, oracle and streams.
        params: the schedule.
        toward: the loss.
        abreast: runs of a sample that share its budget; fewer where each would get less than `LEAST_STEPS`.
    """

    def __init__(self, task: Task, params: ApgdParams, toward: Toward, abreast: int = 1) -> None:
        self.task, self.toward, self.rho = task, toward, params.rho
        self.norm, self.random = task.threat.norm, task.random.fork("apgd")
        self.abreast = max(1, min(abreast, task.threat.queries // LEAST_STEPS))
        allowed = task.threat.queries // self.abreast
        widen = self.norm is Norm.L1 and params.widen and allowed >= LEAST_WIDENED
        plan = WIDENED if widen else ((1.0, 1.0),)
        steps = max(1, min(params.steps, allowed - len(plan)))  # each phase asks about its start, too
        lengths = [math.ceil(share * steps) for _, share in plan[:-1]]
        lengths.append(max(1, steps - sum(lengths)))
        device = task.images.device
        self.radii = torch.tensor([factor * task.threat.radius for factor, _ in plan], device=device)
        self.lengths = torch.tensor(lengths, device=device)
        self.windows = self._share(L1_WINDOW if self.norm is Norm.L1 else FIRST_WINDOW)
        self.shortest = self._share(L1_WINDOW if self.norm is Norm.L1 else LAST_WINDOW)
        self.decrease = self._share(WINDOW_DECREASE)

    def run(self, runs: int) -> None:
        """Search every sample `runs` times, some of them side by side, until it is no longer active."""
        each_sample(self.task, self._begin, self._advance, runs=runs, abreast=self.abreast)

    def _share(self, share: float) -> torch.Tensor:
        """That share of each phase's steps, at least one."""
        return (self.lengths * share + 1e-6).floor().to(torch.int64).clamp_min(1)

    def _begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        images, shape = self.task.images[sample], self.task.images.shape[1:]
        phase = torch.zeros_like(sample)
        state: State = {"images": images, "phase": phase, "best": images, "gradient": torch.zeros_like(images)}
        if self.norm is Norm.LINF:
            direction = 2 * self.random.uniform(sample, run, *shape) - 1
        else:
            direction = self.random.normal(sample, run, *shape)
        if self.norm is not Norm.L1:  # L1: the projection of the noise itself, which is sparse
            direction *= (self.radii[0] / norm_of(self.norm, direction).clamp_min(1e-30))[:, None, None, None]
        return {**state, "best_gradient": state["gradient"], **self._enter(images, images + direction, phase)}

    def _enter(self, images: torch.Tensor, x: torch.Tensor, phase: torch.Tensor) -> State:
        """What a row begins a phase with, at the projection of `x`."""
        x = project(self.norm, images, x, self.radii[phase])
        size = float(images[0].numel())
        unknown = torch.full(phase.shape, torch.inf, device=x.device)
        if self.norm is Norm.L1 and len(self.radii) > 1:
            changed = self._changed(images, x)
            moving = changed / L1_SHRINK
        else:
            changed, moving = torch.full_like(unknown, size), torch.full_like(unknown, size * L1_SHARE)
        return {
            "x": x,
            "old": x,
            "iteration": torch.zeros_like(phase),
            "since": torch.zeros_like(phase),
            "falls": torch.zeros_like(phase),
            "window": self.windows[phase],
            "step": self.radii[phase] * (1.0 if self.norm is Norm.L1 else 2.0),
            "loss": unknown,
            "best_loss": unknown,
            "checked_loss": unknown,
            "halved": torch.ones_like(phase, dtype=torch.bool),
            "changed": changed,
            "moving": moving,
        }

    @staticmethod
    def _changed(images: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """float32 `(B,)`: how many values differ."""
        return (images - x).flatten(1).sign_().abs_().sum(1)

    def _advance(self, state: State) -> torch.Tensor:
        answer = self.task.oracle.loss_and_gradient(state["x"], state["sample"], self.toward(state))
        self._note(state, answer)
        (self._check_sparsity if self.norm is Norm.L1 else self._check_step)(state)
        ended = state["iteration"] >= self.lengths[state["phase"]]
        finished = ended & (state["phase"] == len(self.radii) - 1)
        if bool(finished.all()):
            return finished
        self._move(state)
        onward = (ended & ~finished).nonzero()[:, 0]
        if len(onward):
            state["phase"] = state["phase"].index_add(0, onward, torch.ones_like(onward))
            fresh = self._enter(state["images"][onward], state["best"][onward], state["phase"][onward])
            for key, value in fresh.items():
                state[key] = state[key].index_copy(0, onward, value)
        return finished

    def _note(self, state: State, answer: Gradients) -> None:
        """Take in the answer for `x`: the best point so far, and whether the loss fell."""
        state["gradient"], begun = answer.gradient, state["iteration"] > 0
        better = (answer.loss < state["best_loss"]).nonzero()[:, 0]
        for key, value in (("best", state["x"]), ("best_gradient", answer.gradient), ("best_loss", answer.loss)):
            state[key] = _replaced(state[key], better, value)
        state["falls"] = state["falls"] + (begun & (answer.loss < state["loss"]))
        state["since"] = state["since"] + begun
        state["loss"] = answer.loss

    def _check_step(self, state: State) -> None:
        """Halve the step and return to the best point where the loss fell too seldom, or not since the last check."""
        due = state["since"] == state["window"]
        if not bool(due.any()):
            return
        seldom = state["falls"] <= self.rho * state["window"]
        stalled = ~state["halved"] & (state["best_loss"] >= state["checked_loss"])
        halve = due & (seldom | stalled)
        state["step"] = torch.where(halve, state["step"] / 2, state["step"])
        state["halved"] = torch.where(due, halve, state["halved"])
        state["checked_loss"] = torch.where(due, state["best_loss"], state["checked_loss"])
        shorter = torch.maximum(state["window"] - self.decrease[state["phase"]], self.shortest[state["phase"]])
        state["window"] = torch.where(due, shorter, state["window"])
        self._return_to_best(state, halve, due)

    def _check_sparsity(self, state: State) -> None:
        """L1: move fewer values; begin anew with whole radii where the best point has become sparser."""
        due = state["since"] == state["window"]
        if not bool(due.any()):
            return
        changed = self._changed(state["images"], state["best"])
        sparser = due & (changed < L1_FEWER * state["changed"])
        radius = self.radii[state["phase"]]
        step = torch.where(sparser, radius, torch.maximum(state["step"] / L1_SHRINK, L1_LEAST_STEP * radius))
        for key, value in (("step", step), ("changed", changed), ("moving", changed / L1_SHRINK)):
            state[key] = torch.where(due, value, state[key])
        self._return_to_best(state, sparser, due)

    @staticmethod
    def _return_to_best(state: State, back: torch.Tensor, due: torch.Tensor) -> None:
        rows = back.nonzero()[:, 0]
        state["x"] = _replaced(state["x"], rows, state["best"])
        state["gradient"] = _replaced(state["gradient"], rows, state["best_gradient"])
        for key in ("since", "falls"):
            state[key] = torch.where(due, 0, state[key])

    def _move(self, state: State) -> None:
        """One step against the gradient; in Linf and L2 with momentum, except for the first."""
        images, x, radius = state["images"], state["x"], self.radii[state["phase"]]
        direction = steepest(self.norm, state["gradient"], state["moving"].clamp_min(1))
        aim = project(self.norm, images, x - state["step"][:, None, None, None] * direction, radius)
        if self.norm is not Norm.L1:
            share = torch.where(state["iteration"] == 0, 1.0, MOMENTUM)[:, None, None, None]
            aim = project(self.norm, images, x + share * (aim - x) + (1 - share) * (x - state["old"]), radius)
        state["old"], state["x"] = x, aim
        state["iteration"] = state["iteration"] + 1


def _replaced(values: torch.Tensor, rows: torch.Tensor, by: torch.Tensor) -> torch.Tensor:
    """`values` with those of `by` at `rows`."""
    if not len(rows):
        return values
    return by if len(rows) == len(values) else values.index_copy(0, rows, by.index_select(0, rows))
