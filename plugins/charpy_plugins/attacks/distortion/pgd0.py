"""PGD0 (Croce & Hein 2019): projected gradient descent on the L0 ball, in pixels."""

from __future__ import annotations

import torch

from charpy.geometry import project
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend
from charpy.search.stream import State
from charpy.threat import Access, Norm

CROCE_HEIN = "Croce & Hein 2019, section 3.2, and the released code"


class Pgd0(Attack):
    """Long gradient steps, after each of which only the pixels that moved furthest stay changed (L0).

    x <- P(x - step g / ||g||_1) with g the gradient of the cross-entropy and P the exact projection onto the images in
    the box that differ in at most `radius` pixels. Every descent starts at the projection of a uniformly random image.
    The published step, 120000/255 for CIFAR-10 and 30000/255 for MNIST, is 0.15 for each value of the image in both.
    """

    norms = frozenset({Norm.L0})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Croce & Hein 2019, Sparse and imperceivable adversarial attacks (ICCV)"

    class Params(BaseParams):
        """Parameters of PGD0."""

        step: float = param(
            0.15, gt=0, description="L1 length of a step", unit="image values per value of the image", source=CROCE_HEIN
        )
        steps: int = param(100, ge=1, description="steps of each descent", source=CROCE_HEIN)
        restarts: int = param(5, ge=1, description="random starts", source=CROCE_HEIN)

    def run(self, task: Task) -> None:
        """Descend from random images."""
        threat, random = task.threat, task.random.fork("pgd0")
        shape = task.images.shape[1:]
        length = self.params.step * task.images.shape[1:].numel()

        def start(sample: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
            images = task.images[sample]
            return project(threat.norm, images, random.uniform(sample, run, *shape), threat.radius)

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            flat = gradient.flatten(1)
            flat = flat / flat.abs().amax(1, keepdim=True).clamp_min(1e-38)
            step = (flat * (length / flat.abs().sum(1, keepdim=True).clamp_min(1))).view_as(gradient)
            return project(threat.norm, state["images"], state["x"] - step, threat.radius)

        descend(task, start, move, steps=self.params.steps, restarts=self.params.restarts)
