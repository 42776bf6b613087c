"""The Boundary Attack (Brendel, Rauber & Bethge 2018): a random walk along the decision boundary."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary_search import Rendering, adversarial, bisect, starting_points
from charpy.search.stream import State, stream
from charpy.threat import Access, Norm

PAPER = "Brendel et al. 2018, section 2"
CODE = "Brendel et al. 2018, released code"
WINDOWS = (100, 30)
"""Outcomes after which a rate is judged: of moves on the sphere, and of whole steps."""

SPHERE_RATES, STEP_RATES = (0.2, 0.5), (0.1, 0.25)
"""Success rates under which steps shrink and over which they grow: on the sphere, and of whole steps."""


class Boundary(Attack):
    """Random walk from an adversarial image toward the original, rejecting what is not adversarial (L2, labels only).

    A step from x_t at distance d from the original: a normal direction, made orthogonal to the line to the original and
    scaled to `spherical_step` d, projected back onto the sphere of radius d; then a move of `source_step` d toward the
    original. It is taken if it is adversarial. Each `check_every` steps the move on the sphere is tried alone: the
    boundary is flat at the scale where half of those succeed. If their rate leaves 0.2..0.5, both step sizes change by
    `step_adaptation`; if that of whole steps leaves 0.1..0.25, the source step does.

    Differs from the paper: the starting point is first brought to the boundary by bisection; rates are judged on
    separate windows, as in the released code, but these begin anew after each judgement.
    """

    norms = frozenset({Norm.L2})
    access = Access.LABELS
    family = Family.TARGET_OPTIMALITY
    source = "Brendel, Rauber & Bethge 2018, Decision-based adversarial attacks (ICLR, arXiv:1712.04248)"

    class Params(BaseParams):
        """Parameters of the Boundary Attack."""

        steps: int = param(25_000, ge=1, description="steps at most", source=CODE)
        spherical_step: float = param(
            1e-2, gt=0, description="first step on the sphere, over the distance", source=CODE
        )
        source_step: float = param(1e-2, gt=0, le=1, description="first step inwards, over the distance", source=CODE)
        convergence: float = param(
            1e-7, ge=0, description="the walk ends when the step inwards is smaller", source=CODE
        )
        step_adaptation: float = param(1.5, gt=1, description="factor by which step sizes change", source=CODE)
        check_every: int = param(10, ge=1, description="steps between moves on the sphere alone", source=CODE)
        tries: int = param(100, ge=1, description="starting points tried per sample", unit="rows", source="ours")

    def run(self, task: Task) -> None:
        """Walk for every sample that has a starting point."""
        starts = starting_points(task, self.params.tries)
        rows = starts.found.nonzero()[:, 0]
        if not len(rows):
            return
        start = starts.images
        start[rows] = bisect(task, Norm.L2, start[rows], rows, 1e-3, Rendering(task))
        walk = _Walk(task, self.params, start)
        stream(walk.begin, walk.advance, lambda i: task.oracle.active[i], rows, width=max(1, task.oracle.batch))


class _Walk:
    def __init__(self, task: Task, params: Boundary.Params, start: torch.Tensor) -> None:
        self.task, self.params, self.start = task, params, start
        self.random = task.random.fork("boundary")

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        zero = torch.zeros_like(sample)
        size = torch.ones(len(sample), device=sample.device)
        state: State = {
            "current": self.start[sample],
            "spherical": size * self.params.spherical_step,
            "source": size * self.params.source_step,
            "row": zero,
        }
        for name in ("sphere tried", "sphere hit", "step tried", "step hit"):
            state[name] = zero
        return state

    def advance(self, state: State) -> torch.Tensor:
        """One row per walk: a whole step, or a move on the sphere alone."""
        sample, period = state["sample"], self.params.check_every + 1
        alone = state["row"] % period == 0
        original, current = self.task.images[sample], state["current"]
        noise = self.random.normal(sample, state["row"], *current.shape[1:])
        on_sphere, distance = _on_sphere(original, current, noise, state["spherical"])
        inwards = torch.where(alone, 0, state["source"] * distance)[:, None, None, None]
        toward = original - on_sphere
        length = toward.flatten(1).norm(dim=1).clamp_min(1e-12)[:, None, None, None]
        candidates = (on_sphere + inwards * toward / length).clamp_(0, 1)
        hit = adversarial(self.task, candidates, sample)
        nearer = (candidates - original).flatten(1).norm(dim=1) < distance
        state["current"] = torch.where((hit & nearer & ~alone)[:, None, None, None], candidates, current)
        for name, asked in (("sphere", alone), ("step", ~alone)):
            state[f"{name} tried"] = state[f"{name} tried"] + asked
            state[f"{name} hit"] = state[f"{name} hit"] + (asked & hit)
        self._adapt(state)
        state["row"] = state["row"] + 1
        taken = state["row"] - (state["row"] + period - 1) // period
        return (taken >= self.params.steps) | (state["source"] < self.params.convergence)

    def _adapt(self, state: State) -> None:
        both = self._judged(state, "sphere", WINDOWS[0] // self.params.check_every, SPHERE_RATES)
        state["spherical"] = state["spherical"] * both
        inwards = self._judged(state, "step", WINDOWS[1], STEP_RATES)
        state["source"] = (state["source"] * both * inwards).clamp_max(1)

    def _judged(self, state: State, name: str, window: int, rates: tuple[float, float]) -> torch.Tensor:
        """The factor of the step sizes that the success rate asks for, 1 where the window is not full."""
        tried, hit = state[f"{name} tried"], state[f"{name} hit"]
        full = tried >= max(window, 2)
        rate = hit / tried.clamp_min(1)
        adaptation = torch.full_like(rate, self.params.step_adaptation)
        factor = torch.where(rate > rates[1], adaptation, torch.where(rate < rates[0], 1 / adaptation, 1.0))
        state[f"{name} tried"], state[f"{name} hit"] = torch.where(full, 0, tried), torch.where(full, 0, hit)
        return torch.where(full, factor, 1.0)


def _on_sphere(
    original: torch.Tensor, current: torch.Tensor, noise: torch.Tensor, step: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """A point of the sphere around each original through `current`, `step` distances away, and the distances."""
    away = (current - original).flatten(1)
    distance = away.norm(dim=1)
    unit = away / distance.clamp_min(1e-12)[:, None]
    flat = noise.flatten(1)
    tangent = flat - (flat * unit).sum(1, keepdim=True) * unit
    tangent = tangent / tangent.norm(dim=1, keepdim=True).clamp_min(1e-12)
    # (unit + step tangent) / sqrt(1 + step^2) has length 1: the sphere is kept exactly.
    turned = (unit + step[:, None] * tangent) / (1 + step.square()).sqrt()[:, None]
    return original + (distance[:, None] * turned).view_as(original), distance
