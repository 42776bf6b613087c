"""C&W with the structural similarity in its distance: the smallest change that is hardly seen (L2)."""

from __future__ import annotations

import torch

from charpy.geometry import column, norm_of
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.losses import unit_of
from charpy.search.adam import direction, moments
from charpy.search.constant import LARGEST, DescentParams, constants, falling, search_constant, stalled
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.structure import Structure, WindowParams
from charpy.threat import Access, Norm

INSIDE, NEARER, CUT = 0.999999, 0.999, 0.1
"""tanh reaches the ends of the box only at infinity: no value begins further out; nearer to the middle where a descent
has less than the share `CUT` of its steps."""

FASTER = 10.0
"""Where the budget cuts a descent short, its learning rate grows as the steps shrink, up to so many times."""

SHORTEST = 10
"""Steps of a descent at least, however small the budget."""

STRIDE = 0.3
"""A larger learning rate shrinks, at most to its own, until a step is this share of the way to the boundary as the
gradient of the original has it."""

SLOPES = (1.0, 1e3)
"""Where the largest slope of the original's margin lies outside, scores count in another unit: the first constant is
made for slopes of about 1."""


class SsimCw(Attack):
    """Minimises l |x' - x|^2 + s (1 - SSIM) + c max(margin + confidence, 0) over w, x' = (tanh w + 1) / 2 (L2).

    The descent is C&W's, by Adam, as `cw` does it: the search for c by bisection, the shorter descents of a small
    budget, the look for the boundary at the end. With s = `ssim_weight` = 0 and l = `l2_weight` = 1 it is `cw`; with
    l = 0 SSIM alone takes the distance's place, as Sharif, Bauer & Reiter (2018, section 5.2) discuss after Rozsa, Rudd
    & Boult (2016), who measure the similarity of adversarial images by SSIM. No paper gives this objective: the sum,
    its weights and the use of C&W are ours. SSIM costs no query; at the original its slope is 0, and the first step is
    the model's.

    A run keeps the witness that is nearest in L2 of those that it saw, not the one of most SSIM.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "after Carlini & Wagner 2017 (IEEE S&P) and Sharif, Bauer & Reiter 2018, section 5.2 (CVPR workshop)"

    class Params(WindowParams, DescentParams):
        """Parameters of C&W with SSIM."""

        ssim_weight: float = param(10.0, ge=0, le=1e6, description="s, weight of 1 - SSIM", source="ours")
        l2_weight: float = param(1.0, ge=0, le=1e6, description="l, weight of the squared length", source="ours")

    def run(self, task: Task) -> None:
        """Descend for every sample until its searches or its budget are spent."""
        descent = _Descent(task, self.params)
        each_sample(task, descent.begin, descent.advance)
        descent.witnesses.tighten(self.params.line_search)


class _Descent:
    """One step of Adam for every row, and the next constant where a descent has ended."""

    def __init__(self, task: Task, params: SsimCw.Params) -> None:
        self.task, self.params = task, params
        self.structure = Structure(task.images, params.window)
        self.witnesses = Witnesses(task)
        left = task.threat.queries - params.line_search
        self.steps = max(1, min(params.steps, max(left // params.searches, SHORTEST)))
        self.stalls = params.abort_early and self.steps == params.steps
        self.inside = NEARER if self.steps < CUT * params.steps else INSIDE
        self.rate = params.learning_rate * min(params.steps / self.steps, FASTER)

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """At the image itself."""
        images = self.task.images[sample]
        unknown = torch.full(sample.shape, torch.inf, device=images.device)
        return {
            "images": images,
            "w": self._variables(images),
            "won": torch.zeros_like(sample, dtype=torch.bool),
            "reach": unknown,
            "unit": torch.ones_like(unknown),
            "iteration": torch.zeros_like(sample),
            **falling(sample),
            **moments(images),
            **constants(sample, self.params.constant),
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask about every row's image, take a step, and begin the next descent where one has ended."""
        images = state["images"]
        x = (torch.tanh(state["w"]) + 1) / 2
        margins, slope, _ = self.task.oracle.loss_and_gradient(x, state["sample"], "margin")
        first = (state["moments"] == 0) & (state["searches"] == 0)
        self.witnesses.begin(state["sample"][first], margins[first])
        self.witnesses.meet(state["sample"], x, margins)
        state["won"] = state["won"] | (margins < -self.params.confidence)
        state["unit"] = torch.where(first, unit_of(slope, *SLOPES), state["unit"])
        margins, slope = margins / state["unit"], slope / column(state["unit"])
        away = margins.abs() / norm_of(Norm.L2, slope).clamp_min(1e-12)
        state["reach"] = torch.where(first, away.nan_to_num(nan=torch.inf), state["reach"])
        short = margins + self.params.confidence / state["unit"]
        distance, pull = self._distance(state["sample"], x)
        loss = distance + state["constant"] * short.clamp_min(0)
        gradient = pull + column(state["constant"] * (short >= 0)) * slope
        gradient = gradient * (1 - torch.tanh(state["w"]).square()) / 2
        stride = norm_of(Norm.L2, 2 * images * (1 - images)).clamp_min(1e-12)  # of a step of 1 in every w
        rate = (STRIDE * state["reach"] / stride).clamp(self.params.learning_rate, self.rate)
        state["w"] = state["w"] - column(rate) * direction(state, gradient)
        state["iteration"] = state["iteration"] + 1
        ended = state["iteration"] >= self.steps
        if self.stalls:
            ended |= stalled(state, loss, self.steps)
        return self._again(state, ended) if bool(ended.any()) else ended

    def _distance(self, sample: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(B,)` l |x' - x|^2 + s (1 - SSIM), and its gradient."""
        params, delta = self.params, x - self.task.images[sample]
        distance, pull = params.l2_weight * delta.square().flatten(1).sum(1), 2 * params.l2_weight * delta
        if params.ssim_weight:
            similarity, slope = self.structure.rows(sample).slope(x)
            distance = distance + params.ssim_weight * (1 - similarity)
            pull = pull - params.ssim_weight * slope
        return distance, pull

    def _again(self, state: State, ended: torch.Tensor) -> torch.Tensor:
        """The next descent, with the next constant, from the image itself where one has ended; True where none is."""
        search_constant(state, ended, state["won"])
        finished = ended & ((state["searches"] >= self.params.searches) | (state["constant"] >= LARGEST))
        again = (ended & ~finished).nonzero()[:, 0]
        images = state["images"][again]
        fresh = {
            "w": self._variables(images),
            "won": torch.zeros_like(again, dtype=torch.bool),
            "iteration": torch.zeros_like(again),
            **moments(images),
            **falling(again),
        }
        for key, value in fresh.items():
            state[key] = state[key].index_copy(0, again, value)
        return finished

    def _variables(self, images: torch.Tensor) -> torch.Tensor:
        return torch.atanh((2 * images - 1).clamp(-self.inside, self.inside))
