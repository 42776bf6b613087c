"""sC&W: the smallest L2 perturbation that is smooth like the image (Zhang et al. 2019, section 4.2)."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.geometry import column, norm_of
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.losses import unit_of
from charpy.search.adam import direction, moments
from charpy.search.constant import LARGEST, constants, falling, search_constant, stalled
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.smoothing import ZHANG, Smoother, SmoothingParams
from charpy.threat import Access, Norm

CODE = "the authors' released code"
SHORTEST = 10
"""Steps of a descent at least, however small the budget."""

FASTER = 10.0
"""Where the budget cuts a descent short, its learning rate grows as the steps shrink, up to so many times."""

STRIDE = 0.3
"""A larger learning rate shrinks, at most to its own, until a step is this share of the way to the boundary as the
gradient of the original has it."""

SLOPES = (1.0, 10.0)
"""Where the largest slope of the original's margin lies outside, scores count in another unit: the first constant is
made for slopes of about 1."""


class Form(StrEnum):
    """How smoothness enters: `constraint`, every iterate is smooth (eq. 18); `penalty`, roughness costs (eq. 14)."""

    CONSTRAINT = "constraint"
    PENALTY = "penalty"


RATES = {Form.CONSTRAINT: 0.1, Form.PENALTY: 0.01}
"""Learning rates: s_hat takes from a step of z what is rough in it."""


class Scw(Attack):
    """Minimises |r|^2 + c max(margin + m, 0) over z with r = s_hat(z), the image clip(x + r), by Adam (sC&W, L2).

    s_hat smooths like the image (eq. 9); c = 1 / lambda is searched by bisection for each sample. z begins at 0. The
    gradient in z is that in r, smoothed by the adjoint (eq. 19). `form: penalty` has r = z and adds mu times the
    roughness of r instead (eq. 13 and 14).

    s_hat has an inverse, so every r has its z: the constraint shapes the way of the descent, not the images that it can
    reach. A short descent leaves a smooth r; a long one ends where C&W does, as near and about as rough.

    Differs from the paper: a descent that the budget cuts short takes larger steps; at the end the boundary is looked
    for between the original and the nearest witness, a segment on which a perturbation keeps its shape; all samples
    run in one batch, each with its own c.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Zhang, Avrithis, Furon & Amsaleg 2019, Smooth adversarial examples (arXiv:1903.11862)"

    class Params(SmoothingParams):
        """Parameters of sC&W."""

        form: Form = param(Form.CONSTRAINT, description="how smoothness enters", source="Zhang et al. 2019, 4.2")
        mu: float = param(1.0, ge=0, description="penalty: weight of the roughness", source="ours")
        steps: int = param(1000, ge=1, description="steps of one descent, the budget allowing", source=CODE)
        searches: int = param(5, ge=1, description="constants that are tried", source=CODE)
        learning_rate: float | None = param(
            None,
            gt=0,
            description="of Adam; if not given 0.1 for the constraint (its released code: 0.005), 0.01 for the penalty",
            source=ZHANG + "; ours for the penalty",
        )
        constant: float = param(15.0, gt=0, description="first c, 1 / lambda", source=ZHANG)
        confidence: float = param(0.0, ge=0, description="margin m", unit="logits", source="Zhang et al. 2019, eq. 3")
        abort_early: bool = param(True, description="end a descent that has stopped falling", source=CODE)
        line_search: int = param(
            6, ge=0, le=30, description="trials between original and witness", unit="queries", source="ours"
        )

    def run(self, task: Task) -> None:
        """Descend for every sample until its searches or its budget are spent."""
        descent = _Descent(task, self.params)
        each_sample(task, descent.begin, descent.advance)
        descent.witnesses.tighten(self.params.line_search)


class _Descent:
    """One step of Adam for every row, and the next constant where a descent has ended."""

    def __init__(self, task: Task, params: Scw.Params) -> None:
        self.task, self.params = task, params
        self.smoother: Smoother = params.smoother(task.images)
        self.witnesses = Witnesses(task)
        left = task.threat.queries - params.line_search
        self.steps = max(1, min(params.steps, max(left // params.searches, SHORTEST)))
        self.stalls = params.abort_early and self.steps == params.steps
        self.least = params.learning_rate or RATES[params.form]
        self.rate = self.least * min(params.steps / self.steps, FASTER)

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """At z = 0, the image itself."""
        images = self.task.images[sample]
        return {
            "images": images,
            "z": torch.zeros_like(images),
            "size": (unknown := torch.full(sample.shape, torch.inf, device=images.device)),
            "reach": unknown,
            "unit": torch.ones_like(unknown),
            "iteration": torch.zeros_like(sample),
            **falling(sample),
            **moments(images),
            **constants(sample, self.params.constant),
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask about every row's image, take a step, and begin the next descent where one has ended."""
        smoother = self.smoother.rows(state["sample"])
        constrained = self.params.form is Form.CONSTRAINT
        r = smoother(state["z"]) if constrained else state["z"]
        outside = state["images"] + r
        x = outside.clamp(0, 1)
        margins, slope, _ = self.task.oracle.loss_and_gradient(x, state["sample"], "margin")
        first = (state["iteration"] == 0) & (state["searches"] == 0)
        self.witnesses.begin(state["sample"][first], margins[first])
        self.witnesses.meet(state["sample"], x, margins)
        succeeded = margins < -self.params.confidence
        state["unit"] = torch.where(first, unit_of(slope, *SLOPES), state["unit"])
        margins, slope = margins / state["unit"], slope / column(state["unit"])
        away = margins.abs() / norm_of(Norm.L2, slope).clamp_min(1e-12)
        state["reach"] = torch.where(first, away.nan_to_num(nan=torch.inf), state["reach"])
        short = margins + self.params.confidence / state["unit"]
        length = r.square().flatten(1).sum(1)
        state["size"] = torch.where(succeeded, torch.minimum(state["size"], length), state["size"])
        loss = length + state["constant"] * short.clamp_min(0)
        # The clipping has no slope outside the box (the discussion of section 4.2).
        pull = (state["constant"] * (short >= 0))[:, None, None, None] * slope * (x == outside)
        gradient = 2 * r + pull
        if constrained:
            gradient = smoother.solve(gradient / smoother.total)
        elif self.params.mu:
            loss = loss + self.params.mu * smoother.roughness(r)
            gradient = gradient + self.params.mu * smoother.roughness_slope(r)
        # A step of 1 in every z is one of 1 in every r: constants stay.
        rate = (STRIDE * state["reach"] / r[0].numel() ** 0.5).clamp(self.least, self.rate)
        state["z"] = state["z"] - column(rate) * direction(state, gradient)
        state["iteration"] = state["iteration"] + 1
        ended = state["iteration"] >= self.steps
        if self.stalls:
            ended |= stalled(state, loss, self.steps)
        if not bool(ended.any()):
            return ended
        search_constant(state, ended, state["size"].isfinite())
        finished = ended & ((state["searches"] >= self.params.searches) | (state["constant"] >= LARGEST))
        again = (ended & ~finished).nonzero()[:, 0]
        fresh = {
            "z": torch.zeros_like(state["z"][again]),
            "size": torch.full_like(state["size"][again], torch.inf),
            "iteration": torch.zeros_like(again),
            **moments(state["z"][again]),
            **falling(again),
        }
        for key, value in fresh.items():
            state[key] = state[key].index_copy(0, again, value)
        return finished
