"""sPGD2, PGD2 along smoothed gradients (Zhang et al. 2019, section 4.1)."""

from __future__ import annotations

from typing import Literal

import torch

from charpy.geometry import steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.projected_gradient import Clip, descend
from charpy.search.stream import State
from charpy.smoothing import ZHANG, SmoothingParams
from charpy.threat import Access, Norm


class Spgd2(Attack):
    """Long L2-normalised steps along the gradient as smooth as the image, drawn back into the L2 ball.

    x <- c(x - n(s_hat(g))) (eq. 12), s_hat the smoothing guided by the original (eq. 9), g, n and c those of `pgd2`.
    Smoothing comes after the gradient, so the steps no longer descend steepest: the paper finds it weaker than `pgd2`.

    Differs from the paper as `pgd2` does.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Zhang, Avrithis, Furon & Amsaleg 2019, Smooth adversarial examples (arXiv:1903.11862)"

    class Params(SmoothingParams):
        """Parameters of sPGD2."""

        step: float = param(0.6, gt=0, description="step (3 at a distortion of 5)", unit="radius", source=ZHANG)
        steps: int = param(10, ge=1, description="steps", source="the authors' released code")
        clip: Clip = param(Clip.NEAREST, description="what brings an image back into the ball", source="ours")
        loss: Literal["log_odds", "cross_entropy", "margin"] = param(
            "log_odds", description="what is minimised", source=ZHANG
        )

    def run(self, task: Task) -> None:
        """Descend from every image."""
        threat = task.threat
        step, clip = self.params.step * threat.radius, Clip(self.params.clip)
        smoother = self.params.smoother(task.images)

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            smooth = smoother.rows(state["sample"])(gradient)
            moved = state["x"] - step * steepest(threat.norm, smooth)
            return clip.back(state["images"], moved, threat.radius)

        descend(task, lambda sample, _: task.images[sample], move, steps=self.params.steps, loss=self.params.loss)
