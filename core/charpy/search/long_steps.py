"""Long L2-normalised gradient steps inside a ball: what PGD2 and sPGD2 (Zhang et al. 2019, section 4.1) share."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Literal

import torch

from charpy.geometry import norm_of, project, steepest
from charpy.interfaces.attack import Task
from charpy.interfaces.component import Params, param
from charpy.search.projected_gradient import descend
from charpy.search.stream import State
from charpy.smoothing import ZHANG
from charpy.threat import Norm

Shape = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""`(gradient (B, C, H, W), sample (B,)) -> (B, C, H, W)`: what is followed instead of the gradient."""


class Clip(StrEnum):
    """What brings an image back into the L2 ball and the box: `nearest`, the nearest image that is in both; `rescale`,
    the perturbation scaled to the radius and then clipped to [0, 1], which costs it part of its length (Zhang et al.
    2019)."""

    NEAREST = "nearest"
    RESCALE = "rescale"

    def back(self, images: torch.Tensor, moved: torch.Tensor, radius: float) -> torch.Tensor:
        """`moved` `(B, C, H, W)` inside the ball of `radius` around `images`."""
        if self is Clip.NEAREST:
            return project(Norm.L2, images, moved, radius)
        delta = moved - images
        length = norm_of(Norm.L2, delta).clamp_min(radius)[:, None, None, None]
        return (images + delta * (radius / length)).clamp(0, 1)


class LongStepParams(Params):
    """Parameters of the descent."""

    step: float = param(0.6, gt=0, description="step (3 at a distortion of 5)", unit="radius", source=ZHANG)
    steps: int = param(10, ge=1, description="steps", source="the authors' released code")
    clip: Clip = param(Clip.NEAREST, description="what brings an image back into the ball", source="ours")
    loss: Literal["log_odds", "cross_entropy", "margin"] = param(
        "log_odds", description="what is minimised", source=ZHANG
    )


def long_steps(task: Task, params: LongStepParams, shaped: Shape) -> None:
    """x <- c(x - n(g)) (eq. 11) from every image, g the gradient as `shaped` makes it, n(g) = step g / ||g||_2."""
    threat, clip = task.threat, params.clip
    step = params.step * threat.radius

    def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
        moved = state["x"] - step * steepest(threat.norm, shaped(gradient, state["sample"]))
        return clip.back(state["images"], moved, threat.radius)

    descend(task, lambda sample, _: task.images[sample], move, steps=params.steps, loss=params.loss)
