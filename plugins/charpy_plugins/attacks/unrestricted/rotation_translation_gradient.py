"""Rotations and translations by gradients (Engstrom, Tran, Tsipras, Schmidt & Madry 2019), their weakest search."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.spatial import ENGSTROM, Reach
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Norm
from charpy.warp import Outside


class RotationTranslationGradient(Attack):
    """Descends in the angle and the two shifts of the image, from random ones, within bounds of its own (any norm).

    Each of the three moves by the same share of its range against the sign of its gradient, and stops at its bounds.
    The loss has many local minima there: descent does not reliably find what `rotation_translation` finds by trying.

    Differs from the paper: the log-odds of the true class take the place of its cross-entropy, which has the same
    direction and never saturates.
    """

    norms = frozenset(Norm)
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    source = "Engstrom et al. 2019, Exploring the landscape of spatial robustness (ICML)"

    class Params(BaseParams):
        """The bounds, and the descent."""

        rotation: float = param(30.0, ge=0, le=180, description="largest angle", unit="degrees", source=ENGSTROM)
        translation: float = param(
            3 / 32,
            ge=0,
            le=1,
            description="largest shift, in each direction; 3 pixels of 32",
            unit="share of the side",
            source=ENGSTROM,
        )
        steps: int = param(200, ge=1, description="steps of each descent", source="ours")
        step: float = param(0.01, gt=0, le=1, description="step", unit="share of each range", source="ours")
        restarts: int = param(1, ge=1, description="random starts", source="ours")
        outside: Outside = param(
            Outside.BLACK, description="what comes in from beyond the edge: zeros, or border", source=ENGSTROM
        )

    def run(self, task: Task) -> None:
        """Descend from every start until the steps or the budget are spent."""
        params = self.params
        reach = Reach(params.rotation, params.translation, params.outside)
        random = task.random.fork("rotation_translation")

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            return {"unit": random.uniform(sample, run, 3) * 2 - 1, "step": torch.zeros_like(sample)}

        def advance(state: State) -> torch.Tensor:
            sample, unit = state["sample"], state["unit"].requires_grad_(True)
            with torch.enable_grad():
                moved = reach.moved(task.images[sample], unit)
            slope = task.oracle.loss_and_gradient(moved.detach(), sample, "log_odds").gradient
            (turn,) = torch.autograd.grad(moved, unit, slope)
            state["unit"] = (unit.detach() - 2 * params.step * turn.sign()).clamp(-1, 1)
            state["step"] = state["step"] + 1
            finished: torch.Tensor = state["step"] >= params.steps
            return finished

        each_sample(task, begin, advance, runs=params.restarts)
