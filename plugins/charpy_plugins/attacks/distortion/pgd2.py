"""PGD2, the L2 version of I-FGSM that Zhang et al. (2019) measure their smooth attacks against."""

from __future__ import annotations

from typing import Literal

import torch

from charpy.geometry import steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.projected_gradient import Clip, descend
from charpy.search.stream import State
from charpy.threat import Access, Norm

ZHANG = "Zhang et al. 2019, section 5"


class Pgd2(Attack):
    """Long L2-normalised gradient steps from the image itself, drawn back into the L2 ball.

    x <- c(x - n(g)) (eq. 10 and 11) with g the gradient of the cross-entropy, n(g) = step g / ||g||_2 and c the
    projection onto the ball and the box. The paper's step is 3 for a distortion of 5, hence 0.6 of the radius here.

    Differs from the paper: c there scales the perturbation back to the radius and then clips it to [0, 1], which costs
    it part of its length; here c gives the nearest image that is in both. `clip: rescale` and `loss: cross_entropy`
    restore it.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Zhang, Avrithis, Furon & Amsaleg 2019, Smooth adversarial examples (arXiv:1903.11862)"

    class Params(BaseParams):
        """Parameters of PGD2."""

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

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            moved = state["x"] - step * steepest(threat.norm, gradient)
            return clip.back(state["images"], moved, threat.radius)

        descend(task, lambda sample, _: task.images[sample], move, steps=self.params.steps, loss=self.params.loss)
