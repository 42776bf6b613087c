"""The basic iterative method (Kurakin, Goodfellow & Bengio 2017), I-FGSM."""

from __future__ import annotations

import math

import torch

from charpy.geometry import project, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend
from charpy.search.stream import State
from charpy.threat import Access, Norm

KURAKIN = "Kurakin, Goodfellow & Bengio 2017, section 2.2"


class Bim(Attack):
    """Small steps along the sign of the gradient from the image itself, clipped to the ball (Linf, I-FGSM).

    x <- clip(x + step sign(gradient of the cross-entropy)), step 1/255, min(radius + 4, 1.25 radius) times with the
    radius in 1/255 (eq. 2), rounded up. A targeted threat descends the cross-entropy of the target.
    """

    norms = frozenset({Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Kurakin, Goodfellow & Bengio 2017, Adversarial examples in the physical world (ICLR workshop)"

    class Params(BaseParams):
        """Parameters of the basic iterative method."""

        step: float = param(1.0, gt=0, le=255, description="step", unit="1/255", source=KURAKIN)
        steps: int | None = param(
            None, ge=1, description="steps; min(radius + 4, 1.25 radius) if not given", source=KURAKIN
        )

    def run(self, task: Task) -> None:
        """Descend from every image."""
        threat, step = task.threat, self.params.step / 255

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            return project(
                threat.norm, state["images"], state["x"] - step * steepest(threat.norm, gradient), threat.radius
            )

        descend(
            task, lambda sample, _: task.images[sample], move, steps=self.params.steps or published_steps(threat.radius)
        )


def published_steps(radius: float) -> int:
    """min(radius + 4, 1.25 radius) with the radius in 1/255, rounded up, at least 1."""
    levels = radius * 255
    return max(1, math.ceil(min(levels + 4, 1.25 * levels) - 1e-6))
