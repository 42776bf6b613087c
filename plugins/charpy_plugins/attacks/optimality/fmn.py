"""Fast minimum-norm attack (Pintor et al. 2021): descent inside a ball whose radius follows the boundary."""

from __future__ import annotations

import torch

from charpy.geometry import column, norm_of, project, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.schedule import cosine
from charpy.search.stream import State, each_sample
from charpy.threat import BALLS, Access, Grid, Norm

PAPER = "Pintor et al. 2021, section 3 and algorithm 1"

LEAST_GROWTH, SMALLEST = 1e-4, 1e-6
"""Share of itself, and image values, by which the radius grows at least before the first success: just inside the
boundary the distance to it is lost in the rounding of the size."""


class Fmn(Attack):
    """Steps down the margin, then projects onto a ball that shrinks while adversarial and grows while not.

    Until the first success the radius is the perturbation's size plus the distance to the boundary by the slope (margin
    over the gradient's dual norm); after it the radius is multiplied by 1 - gamma or 1 + gamma (L0: by at least one
    pixel), and never exceeds the smallest success. Step size and gamma fall by a cosine.

    Differs from the paper: L0 counts pixels; the projection is the exact one onto ball and box; the distance to the
    boundary is taken 1 + gamma times, as on a linear model the estimate itself never crosses it.
    """

    norms = frozenset(BALLS)
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Pintor et al. 2021, Fast minimum-norm adversarial attacks through adaptive norm constraints (NeurIPS)"

    class Params(BaseParams):
        """Parameters of FMN."""

        steps: int = param(1000, ge=1, description="gradient steps", source=PAPER)
        alpha: float = param(1.0, gt=0, description="first step", unit="L2 length", source=PAPER)
        alpha_last: float = param(0.01, gt=0, description="last step", unit="L2 length", source=PAPER)
        gamma: float = param(0.05, gt=0, lt=1, description="first change of the radius", source=PAPER)
        gamma_last: float = param(0.001, gt=0, lt=1, description="last change of the radius", source=PAPER)

    def run(self, task: Task) -> None:
        """Descend for every sample until its steps or its budget are spent."""
        oracle, params, norm = task.oracle, self.params, task.threat.norm
        steps = min(params.steps, task.threat.queries)
        least = 1 / 255 if task.threat.grid is Grid.EIGHT_BIT else SMALLEST

        def begin(sample: torch.Tensor, _: torch.Tensor) -> State:
            unknown = torch.full(sample.shape, torch.inf, device=sample.device)
            radius = torch.ones_like(unknown) if norm is Norm.L0 else unknown
            images = task.images[sample]
            return {
                "images": images,
                "x": images,
                "radius": radius,
                "best": unknown,
                "iteration": torch.zeros_like(sample),
            }

        def advance(state: State) -> torch.Tensor:
            margins, slope, _ = oracle.loss_and_gradient(state["x"], state["sample"], "margin")
            size = norm_of(norm, state["x"] - state["images"])
            gamma = cosine(state["iteration"], steps, params.gamma, params.gamma_last)
            alpha = cosine(state["iteration"], steps, params.alpha, params.alpha_last)
            adversarial = margins < 0
            state["best"] = torch.where(adversarial & (size < state["best"]), size, state["best"])
            state["radius"] = _radius(norm, state, adversarial, gamma, size, margins, slope, least)
            moved = state["x"] - column(alpha) * steepest(Norm.L2, slope)
            state["x"] = project(norm, state["images"], moved, state["radius"])
            state["iteration"] = state["iteration"] + 1
            finished: torch.Tensor = state["iteration"] >= steps
            return finished

        each_sample(task, begin, advance)


def _radius(
    norm: Norm,
    state: State,
    adversarial: torch.Tensor,
    gamma: torch.Tensor,
    size: torch.Tensor,
    margins: torch.Tensor,
    slope: torch.Tensor,
    least: float,
) -> torch.Tensor:
    radius, best = state["radius"], state["best"]
    if norm is Norm.L0:
        less = torch.minimum(torch.minimum(radius - 1, (radius * (1 - gamma)).floor()), best).clamp_min(0)
        more = torch.maximum(radius + 1, (radius * (1 + gamma)).floor())
        return torch.where(adversarial, less, more)
    dual = (slope * steepest(norm, slope)).flatten(1).sum(1)
    gap = margins.abs().nan_to_num(posinf=0.0) / dual.clamp_min(1e-30)
    first = torch.maximum(size + gap * (1 + gamma), size * (1 + LEAST_GROWTH) + SMALLEST)
    first = torch.where(margins == 0, size * (1 + gamma) + least, first)  # on the boundary itself the slope says 0
    grown = torch.where(best.isfinite(), radius * (1 + gamma), first)
    return torch.where(adversarial, torch.minimum(radius * (1 - gamma), best), grown)
