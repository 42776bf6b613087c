"""SPSA (Uesato, O'Donoghue, van den Oord & Kohli 2018): Adam on a gradient from random sign vectors."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.estimate import descend, seen
from charpy.search.stream import State
from charpy.threat import Access, Norm

PAPER = "Uesato et al. 2018, section 4.1 and appendix"


class Spsa(Attack):
    """Projected Adam along a gradient from simultaneous perturbations (Linf).

    The gradient of the margin is the mean of `v (f(x + delta v) - f(x - delta v)) / (2 delta)` over random sign
    vectors v (algorithm 1); Adam's step is projected onto the ball.

    Differs from the paper: fewer directions a round, so that a budget of thousands of queries gives many steps; the
    step is a share of the radius (0.32 is its 0.01 at radius 8/255).
    """

    norms = frozenset({Norm.LINF})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = (
        "Uesato et al. 2018, Adversarial risk and the dangers of evaluating against weak attacks (arXiv:1802.05666)"
    )

    class Params(BaseParams):
        """Parameters of SPSA."""

        samples: int = param(50, ge=2, le=100_000, multiple_of=2, description="probe points a round", source="ours")
        delta: float = param(
            0.01, gt=0, le=1, description="how far the probe points are", unit="image values", source=PAPER
        )
        step: float = param(0.32, gt=0, description="Adam's step, as a share of the radius", source=PAPER)
        beta1: float = param(0.9, ge=0, lt=1, description="Adam: memory of the gradient", source="Kingma & Ba 2015")
        beta2: float = param(0.999, ge=0, lt=1, description="Adam: memory of its square", source="Kingma & Ba 2015")

    def run(self, task: Task) -> None:
        """Descend from each image until the budget is spent."""
        params, reach = self.params, self.params.step * task.threat.radius

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            zero = torch.zeros_like(task.images[sample])
            return {"mean": zero, "square": zero}

        def step(state: State, gradient: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
            age = (state["round"] + 1)[:, None, None, None]
            state["mean"] = params.beta1 * state["mean"] + (1 - params.beta1) * gradient
            state["square"] = params.beta2 * state["square"] + (1 - params.beta2) * gradient.square()
            mean = state["mean"] / (1 - params.beta1**age)
            spread = (state["square"] / (1 - params.beta2**age)).sqrt() + 1e-8
            moved: torch.Tensor = -reach * mean / spread
            return moved

        descend(
            task,
            begin,
            lambda sample, draws, pairs: (
                task.random.integers(sample, draws, 2, pairs, *task.images.shape[1:]).to(torch.float32).mul_(2).sub_(1)
            ),
            step,
            pairs=params.samples // 2,
            spread=seen(task, params.delta, 1.0),
            loss="margin",
        )
