"""ALMA, the augmented Lagrangian attack (Rony et al. 2021): least distance where the image is adversarial."""

from __future__ import annotations

import torch

from charpy.geometry import column, norm_of
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import Objective
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Norm

PAPER = "Rony et al. 2021, section 4 and algorithm 1"
CHECK = 10
"""Steps between two looks at whether the constraint has come closer (M of the paper)."""

FIRST_DISTANCE = {Norm.L2: 0.5, Norm.L1: 2.0}


class Alma(Attack):
    """Minimises distance + P(y; rho, mu), y the difference-of-logits ratio, by RMSProp with momentum (L2, L1).

    P is the penalty P2: mu y + mu rho y^2 + rho^2 y^3 / 6 where the sample stands, mu y / (1 - rho y) where it does
    not. The multiplier mu follows the penalty's slope as a moving average; rho grows by `growth` as long as the sample
    was never adversarial and its ratio has not fallen below `improvement` of the last look. After the first success the
    learning rate falls exponentially, to `last_share` at the end. The first step goes down the penalty alone, and the
    first learning rate is the one with which it is `first_distance` long.

    Differs from the paper: the learning rate falls to 0.001 of itself, not 0.01, and so ends nearer to the boundary. Of
    two classes, whose ratio is constant, y is the margin over that of the original.
    """

    norms = frozenset({Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Rony et al. 2021, Augmented Lagrangian adversarial attacks (ICCV)"

    class Params(BaseParams):
        """Parameters of ALMA."""

        steps: int = param(1000, ge=1, description="gradient steps (the paper: 100 and 1000)", source=PAPER)
        first_distance: float | None = param(
            None,
            gt=0,
            description="length of the first step, sets the learning rate; 0.5 in L2, 2 in L1",
            source="ours",
        )
        last_share: float = param(0.001, gt=0, le=1, description="of the learning rate at the end", source="ours")
        mu: float = param(1.0, gt=0, description="first multiplier", source=PAPER)
        rho: float = param(1.0, gt=0, description="first penalty parameter", source=PAPER)
        growth: float = param(1.2, gt=1, description="factor of rho", source=PAPER)
        improvement: float = param(0.95, gt=0, le=1, description="ratio that counts as closer", source=PAPER)
        smoothing: float = param(0.9, gt=0, lt=1, description="of multiplier, squares and momentum", source=PAPER)
        tolerance: float = param(
            1e-4,
            ge=0,
            description="added to the ratio",
            source="the authors' code, which adds it to the difference of logits",
        )

    def run(self, task: Task) -> None:
        """Descend for every sample until its steps or its budget are spent."""
        oracle, params, norm = task.oracle, self.params, task.threat.norm
        distance = params.first_distance or FIRST_DISTANCE[norm]
        steps, keep = min(params.steps, task.threat.queries), params.smoothing

        def begin(sample: torch.Tensor, _: torch.Tensor) -> State:
            images = task.images[sample]
            ones = torch.ones(sample.shape, device=images.device)
            return {
                "images": images,
                "unit": ones,
                "delta": torch.zeros_like(images),
                "squares": torch.ones_like(images),
                "momentum": torch.zeros_like(images),
                "rate": ones,
                "mu": params.mu * ones,
                "rho": params.rho * ones,
                "seen": torch.inf * ones,
                "first": torch.full_like(sample, steps + 1),
                "iteration": torch.zeros_like(sample),
            }

        def advance(state: State) -> torch.Tensor:
            delta, iteration = state["delta"], state["iteration"]
            found = oracle.loss_and_gradient(state["images"] + delta, state["sample"], _ratio(task, state["sample"]))
            loss, begun = found.loss.nan_to_num(posinf=0.0), iteration > 0
            if oracle.num_classes < 3:
                state["unit"] = torch.where(begun, state["unit"], loss.abs().clamp_min(1e-30))
            ratio = loss / state["unit"] + params.tolerance
            self._raise_rho(state, ratio)
            slope = _slope(ratio, state["rho"], state["mu"])
            mu = torch.lerp(state["mu"], slope, 1 - keep).clamp(1e-6, 1e12)
            state["mu"] = torch.where(begun, mu, state["mu"])
            state["first"] = torch.where(ratio < 0, torch.minimum(state["first"], iteration), state["first"])

            gradient = column(_slope(ratio, state["rho"], state["mu"]) / state["unit"]) * found.gradient
            gradient = gradient + column(begun) * _away(norm, delta)
            state["squares"] = keep * state["squares"] + (1 - keep) * gradient.square()
            state["momentum"] = keep * state["momentum"] + gradient / (state["squares"].sqrt() + 1e-8)
            if not bool(begun.all()):
                first = _rate(norm, state["images"], gradient, distance)
                state["rate"] = torch.where(begun, state["rate"], first)
            since = (iteration - state["first"]).clamp_min(0) / (steps - state["first"]).clamp_min(1)
            rate = state["rate"] * params.last_share ** torch.where(state["first"] > steps, 0.0, since)
            moved = state["images"] + delta - column(rate) * state["momentum"]
            state["delta"] = moved.clamp_(0, 1) - state["images"]
            state["iteration"] = iteration + 1
            finished: torch.Tensor = state["iteration"] >= steps
            return finished

        each_sample(task, begin, advance)

    def _raise_rho(self, state: State, ratio: torch.Tensor) -> None:
        """Every `CHECK` steps, for the samples that never fell and have not come closer."""
        due = (state["iteration"] + 1) % CHECK == 0
        stuck = due & (state["first"] > state["iteration"]) & ~(ratio < self.params.improvement * state["seen"])
        state["rho"] = torch.where(stuck & (ratio >= 0), self.params.growth * state["rho"], state["rho"])
        state["seen"] = torch.where(due | (state["iteration"] == 0), ratio, state["seen"])


def _ratio(task: Task, sample: torch.Tensor) -> Objective:
    """Margin / (largest score - third largest); with two classes, whose ratio is always 1, the margin."""

    def objective(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        margins = task.margins(scores, sample[rows])
        if scores.shape[1] < 3:
            return margins
        top = scores.topk(3, dim=1).values
        return margins / (top[:, 0] - top[:, 2]).clamp_min(1e-30)

    return objective


def _rate(norm: Norm, images: torch.Tensor, gradient: torch.Tensor, distance: float) -> torch.Tensor:
    """The multiple of the gradient after which the clipped image is `distance` away, by bisection of its logarithm."""
    low, high = (torch.full((len(images),), power, device=images.device) for power in (-20.0, 20.0))
    for _ in range(40):
        middle = (low + high) / 2
        size = norm_of(norm, (images - column(2**middle) * gradient).clamp(0, 1) - images)
        low, high = torch.where(size < distance, middle, low), torch.where(size < distance, high, middle)
    return 2**low


def _slope(ratio: torch.Tensor, rho: torch.Tensor, mu: torch.Tensor) -> torch.Tensor:
    """The derivative of P2 in the ratio."""
    standing = mu + 2 * mu * rho * ratio + 0.5 * (rho * ratio).square()
    return torch.where(ratio >= 0, standing, mu / (1 - rho * ratio.clamp_max(0)).square())


def _away(norm: Norm, delta: torch.Tensor) -> torch.Tensor:
    """The gradient of the distance."""
    return delta.sign() if norm is Norm.L1 else delta / column(norm_of(norm, delta).clamp_min(1e-12))
