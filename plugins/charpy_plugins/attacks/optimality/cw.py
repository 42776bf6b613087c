"""Carlini & Wagner 2017: the smallest L2, L0 or Linf perturbation by Adam on a change of variables."""

from __future__ import annotations

import torch

from charpy.geometry import column, largest, norm_of
from charpy.interfaces.attack import Attack, Family, Task
from charpy.losses import unit_of
from charpy.search.adam import direction, moments
from charpy.search.constant import LARGEST, DescentParams, constants, falling, search_constant, stalled
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Norm

INSIDE, NEARER = 0.999999, 0.999
"""tanh reaches the ends of the box only at infinity: no value begins further out. There its slope is 2e-6, from which
a descent that the budget cuts short does not get away in time: in L2 that one begins nearer to the middle."""

FASTER = 10.0
"""Where the budget cuts a descent short, its learning rate grows as the steps shrink, up to so many times."""

CUT = 0.1
"""L0: below this share of the steps, a descent goes on from where a failed one ended."""

SHORTEST = 10
"""Steps of a descent at least, however small the budget."""

MOST = 1e6
"""L0, Linf: a sample whose constant has grown beyond this is given up."""

CEILING_STEP, LAST_STEP, TRIES = 0.9, 0.998, 3
"""Linf: each success lowers the ceiling to this share of the largest change; after so many descents without one, each
with ten times the constant, to the square root of the share; the search ends beyond the last."""

STRIDE = 0.3
"""L2, L0: a larger learning rate shrinks, at most to its own, until a step is this share of the way to the boundary as
the gradient of the original has it."""

SLOPES = (1.0, 1e3)
"""Where the largest slope of the original's margin lies outside, scores count in another unit: the first constant is
made for slopes of about 1."""

PACE = 0.25
"""Linf: the learning rate is at most this share of the ceiling: larger steps leap over what is to be found."""

SHARE_FROZEN = 0.3
"""L0: at least this share of the changed pixels is reset after a success, those that matter least first."""


class Cw(Attack):
    """Minimises |x' - x|^2 + c max(margin + confidence, 0) over w, x' = (tanh w + 1) / 2, by Adam (L2, L0, Linf).

    L2: c is searched by bisection from `constant`, tenfold until a first success. Linf (section VI-C): the penalty is
    the excess over a ceiling, which each success lowers. L0 (VI-B): pixels that matter least are frozen at their own
    value after each success. After a failure c grows, twofold (L0) or tenfold (Linf); a descent goes on from the
    last success, or, very short ones and in Linf, from where a failed one ended.

    Differs from the paper: L0 freezes pixels, not values, and a share of them at once; a descent that the budget cuts
    short takes larger steps, and all of them; at the end (not L0) the boundary is looked for between the original
    and the nearest witness; all samples run in one batch, each with its own c, end of descent and mask.
    """

    norms = frozenset({Norm.L2, Norm.L0, Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Carlini & Wagner 2017, Towards evaluating the robustness of neural networks (IEEE S&P)"

    class Params(DescentParams):
        """Parameters of C&W."""

    def run(self, task: Task) -> None:
        """Descend for every sample until its searches or its budget are spent."""
        rounds = {Norm.L2: _Bisection, Norm.L0: _Freezing, Norm.LINF: _Ceiling}[task.threat.norm]
        descent = _Descent(task, self.params, rounds())
        each_sample(task, descent.begin, descent.advance)
        if task.threat.norm is not Norm.L0:
            descent.witnesses.tighten(self.params.line_search)


class _Descent:
    """One step of Adam for every row, and what follows where a descent has ended."""

    def __init__(self, task: Task, params: Cw.Params, rounds: _Rounds) -> None:
        self.task, self.params, self.rounds = task, params, rounds
        share = params.searches if task.threat.norm is Norm.L2 else rounds.expected
        self.witnesses = Witnesses(task)
        left = task.threat.queries - (0 if task.threat.norm is Norm.L0 else params.line_search)
        self.steps = max(1, min(params.steps, max(left // share, SHORTEST)))
        self.stalls = params.abort_early and rounds.stalls and self.steps == params.steps
        rounds.cut = self.steps < CUT * params.steps
        rounds.inside = NEARER if rounds.cut and task.threat.norm is Norm.L2 else INSIDE
        self.rate = params.learning_rate * min(params.steps / self.steps, FASTER)

    def begin(self, sample: torch.Tensor, _: torch.Tensor) -> State:
        """At the image itself."""
        images = self.task.images[sample]
        unknown = torch.full(sample.shape, torch.inf, device=images.device)
        return {
            "images": images,
            "w": _variables(images, self.rounds.inside),
            "free": torch.ones_like(images[:, :1], dtype=torch.bool),
            "ceiling": torch.ones_like(unknown),
            "step": torch.full_like(unknown, CEILING_STEP),
            "success": images,
            "slope": torch.zeros_like(images),
            "size": unknown,
            **falling(sample),
            "iteration": torch.zeros_like(sample),
            "reach": unknown,
            "unit": torch.ones_like(unknown),
            "rounds": torch.zeros_like(sample),
            **moments(images),
            **constants(sample, self.params.constant),
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask about every row's image, take a step, and begin the next descent where one has ended."""
        images = state["images"]
        x = torch.where(state["free"], (torch.tanh(state["w"]) + 1) / 2, images)
        margins, slope, _ = self.task.oracle.loss_and_gradient(x, state["sample"], "margin")
        delta = x - images
        penalty, pull = self.rounds.penalty(state, delta)
        first = (state["moments"] == 0) & (state["rounds"] == 0)
        self.witnesses.begin(state["sample"][first], margins[first])
        self.witnesses.meet(state["sample"], x, margins)
        success = margins < -self.params.confidence
        state["unit"] = torch.where(first, unit_of(slope, *SLOPES), state["unit"])
        margins, slope = margins / state["unit"], slope / column(state["unit"])
        away = margins.abs() / norm_of(Norm.L2, slope).clamp_min(1e-12)
        state["reach"] = torch.where(first, away.nan_to_num(nan=torch.inf), state["reach"])
        short = margins + self.params.confidence / state["unit"]
        loss = penalty + state["constant"] * short.clamp_min(0)
        self.rounds.keep(state, success, x, slope, delta)
        gradient = pull + (state["constant"] * (short >= 0))[:, None, None, None] * slope
        rate = self.rounds.rate(state, self.rate, self.params.learning_rate)[:, None, None, None]
        gradient = gradient * (1 - torch.tanh(state["w"]).square()) / 2 * state["free"]
        state["w"] = state["w"] - rate * direction(state, gradient)
        state["iteration"] = state["iteration"] + 1
        ended = (state["iteration"] >= self.steps) | self.rounds.early(state, success)
        if self.stalls:
            ended |= stalled(state, loss, self.steps)
        if not bool(ended.any()):
            return ended
        state["rounds"] = state["rounds"] + ended
        finished = self.rounds.next(state, ended, self.params)
        again = (ended & ~finished).nonzero()[:, 0]
        fresh = {**moments(images[again]), **falling(again), "iteration": torch.zeros_like(again)}
        for key, value in fresh.items():
            state[key] = state[key].index_copy(0, again, value)
        return finished


class _Rounds:
    """What the norms differ in: the penalty, what a success is kept for, and what follows a descent."""

    expected = 1
    stalls = True
    cut = False
    inside = INSIDE

    def rate(self, state: State, first: float, least: float) -> torch.Tensor:
        """The learning rate of each row, `first` at most: a step is short against the distance of the boundary."""
        images = state["images"]
        stride = norm_of(Norm.L2, 2 * images * (1 - images)).clamp_min(1e-12)  # of a step of 1 in every w
        wanted = STRIDE * state["reach"] / stride
        return wanted.clamp(least, first)

    def penalty(self, state: State, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The squared length, and its gradient."""
        return delta.square().flatten(1).sum(1), 2 * delta

    def measure(self, delta: torch.Tensor) -> torch.Tensor:
        """What a success is to be small in."""
        return delta.square().flatten(1).sum(1)

    def keep(
        self, state: State, success: torch.Tensor, x: torch.Tensor, slope: torch.Tensor, delta: torch.Tensor
    ) -> None:
        """Note the smallest success of this descent."""
        size = self.measure(delta)
        better = success & (size < state["size"])
        at = better[:, None, None, None]
        state["success"] = torch.where(at, x, state["success"])
        state["slope"] = torch.where(at, slope, state["slope"])
        state["size"] = torch.where(better, size, state["size"])

    def early(self, state: State, success: torch.Tensor) -> torch.Tensor:
        """Whether a descent has served its purpose."""
        return torch.zeros_like(success)

    def next(self, state: State, ended: torch.Tensor, params: Cw.Params) -> torch.Tensor:
        """Prepare the next descent where one has ended; True where there is none."""
        raise NotImplementedError

    def restart(self, state: State, where: torch.Tensor, image: torch.Tensor) -> None:
        """Begin the next descent at `image`."""
        state["w"] = torch.where(where[:, None, None, None], _variables(image, self.inside), state["w"])
        state["size"] = torch.where(where, torch.inf, state["size"])


class _Bisection(_Rounds):
    """L2: another constant, from the image itself."""

    def next(self, state: State, ended: torch.Tensor, params: Cw.Params) -> torch.Tensor:
        search_constant(state, ended, state["size"].isfinite())
        self.restart(state, ended, state["images"])
        return ended & ((state["searches"] >= params.searches) | (state["constant"] >= LARGEST))


class _Ceiling(_Rounds):
    """Linf: the excess over a ceiling."""

    expected = 25
    stalls = False

    def rate(self, state: State, first: float, least: float) -> torch.Tensor:
        fine = (1 - state["step"]) / (1 - CEILING_STEP)
        return torch.minimum(first * fine, PACE * fine.sqrt() * state["ceiling"])

    def penalty(self, state: State, delta: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        over = delta.abs() - state["ceiling"][:, None, None, None]
        return over.clamp_min(0).flatten(1).sum(1), delta.sign() * (over > 0)

    def measure(self, delta: torch.Tensor) -> torch.Tensor:
        return delta.flatten(1).abs().amax(1)

    def early(self, state: State, success: torch.Tensor) -> torch.Tensor:
        return state["size"] <= state["ceiling"]

    def next(self, state: State, ended: torch.Tensor, params: Cw.Params) -> torch.Tensor:
        reach = self.measure(state["success"] - state["images"])
        known = reach > 0
        won = ended & (state["size"] <= state["ceiling"])
        lost = ended & ~won
        state["searches"] = torch.where(won, 0, state["searches"] + lost)
        grown = (10 * state["constant"]).clamp_max(MOST)
        state["constant"] = torch.where(lost, grown, state["constant"])
        finer = lost & known & (state["searches"] >= TRIES)
        state["step"] = torch.where(finer, state["step"].sqrt(), state["step"])
        state["searches"] = torch.where(finer, 0, state["searches"])
        state["ceiling"] = torch.where(won | finer, state["step"] * reach, state["ceiling"])
        self.restart(state, ended & known, state["success"])
        return ended & (((state["constant"] >= MOST) & ~known) | (state["step"] > LAST_STEP))


class _Freezing(_Rounds):
    """L0: pixels that matter least are frozen."""

    expected = 25

    def next(self, state: State, ended: torch.Tensor, params: Cw.Params) -> torch.Tensor:
        succeeded = ended & state["size"].isfinite()
        delta = state["success"] - state["images"]
        matters = (delta * state["slope"]).abs().sum(1, keepdim=True)
        changed = (delta != 0).any(1, keepdim=True) & state["free"]
        count = changed.flatten(1).sum(1)
        keep = torch.minimum((count * (1 - SHARE_FROZEN)).floor(), count - 1.0).clamp_min(0)
        left = largest(torch.where(changed, matters, -1.0).flatten(1), keep).view_as(changed) & changed
        state["free"] = torch.where(succeeded[:, None, None, None], left, state["free"])
        failed = ended & ~state["size"].isfinite()
        state["constant"] = torch.where(failed, 2 * state["constant"], state["constant"])
        known = (state["success"] != state["images"]).flatten(1).any(1)
        self.restart(state, ended & known if self.cut else ended, state["success"])
        return ended & ((state["constant"] > MOST) | ~state["free"].flatten(1).any(1))


def _variables(images: torch.Tensor, inside: float) -> torch.Tensor:
    return torch.atanh((2 * images - 1).clamp(-inside, inside))
