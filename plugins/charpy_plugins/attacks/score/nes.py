"""NES (Ilyas, Engstrom, Athalye & Lin 2018): projected descent along a gradient estimated from scores."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.geometry import steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.estimate import descend, seen
from charpy.search.stream import State
from charpy.threat import Access, Norm

CODE = "Ilyas et al. 2018, the released code"


class LossName(StrEnum):
    """What must fall: the true class's log-probability (the paper), or its margin over the best other score."""

    CROSS_ENTROPY = "cross_entropy"
    MARGIN = "margin"


class Nes(Attack):
    """Projected descent along a gradient that natural evolution strategies estimate (Linf, L2).

    The gradient is the mean of `u (f(x + sigma u) - f(x - sigma u)) / (2 sigma)` over Gaussian directions u, smoothed
    by momentum; a step goes along its sign (Linf) or itself at unit length (L2). The step is halved when the loss did
    not fall over `plateau` rounds.

    Differs from the released code: steps are a share of the radius (0.2 is its 0.01 at radius 0.05); the loss at the
    image itself decides on the step, not the mean over the probe points. f is the margin; `loss: cross_entropy` is the
    published one, which is flat where the model is sure. On the 8-bit grid sigma is at least `grid_steps` / 255: the
    published 0.001 is rounded away there.
    """

    norms = frozenset({Norm.LINF, Norm.L2})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Ilyas et al. 2018, Black-box adversarial attacks with limited queries and information (arXiv:1804.08598)"

    class Params(BaseParams):
        """Parameters of NES."""

        samples: int = param(50, ge=2, le=10_000, multiple_of=2, description="probe points a round", source=CODE)
        sigma: float = param(
            0.001, gt=0, le=1, description="spread of the directions", unit="image values", source=CODE
        )
        grid_steps: float = param(
            2.0, ge=0.5, le=64, description="least sigma on the 8-bit grid", unit="1/255", source="ours"
        )
        step: float = param(0.2, gt=0, description="first step, as a share of the radius", source=CODE)
        least: float = param(0.001, ge=0, description="smallest step, as a share of the radius", source=CODE)
        momentum: float = param(0.9, ge=0, lt=1, description="share of the last gradient that stays", source=CODE)
        plateau: int = param(5, ge=2, description="rounds without a smaller loss before a shorter step", source=CODE)
        drop: float = param(2.0, ge=1, description="by which the step is then divided", source=CODE)

        loss: LossName = param(LossName.MARGIN, description="what must fall", source=CODE)

    def run(self, task: Task) -> None:
        """Descend from each image until the budget is spent."""
        radius, norm = task.threat.radius, task.threat.norm
        params = self.params

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            return {
                "momentum": torch.zeros_like(task.images[sample]),
                "size": torch.full(sample.shape, params.step * radius, device=sample.device),
                "recent": torch.full((len(sample), params.plateau), torch.inf, device=sample.device),
            }

        def step(state: State, gradient: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
            state["momentum"] = params.momentum * state["momentum"] + (1 - params.momentum) * gradient
            recent = torch.cat([state["recent"][:, 1:], loss[:, None]], 1)
            stuck = recent[:, -1] > recent[:, 0]
            shorter = (state["size"] / params.drop).clamp_min(params.least * radius)
            state["size"] = torch.where(stuck, shorter, state["size"])
            state["recent"] = torch.where(stuck[:, None], torch.inf, recent)
            return -state["size"][:, None, None, None] * steepest(norm, state["momentum"])

        descend(
            task,
            begin,
            lambda sample, draws, pairs: task.random.normal(sample, draws, pairs, *task.images.shape[1:]),
            step,
            pairs=params.samples // 2,
            spread=seen(task, params.sigma, params.grid_steps),
            loss=params.loss,
        )
