"""Projected gradient descent that leaves an empty background as it is: the attack on `background_change`."""

from __future__ import annotations

import torch

from charpy.foreground import ForegroundParams, unseen_box
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend, scale_free
from charpy.search.stream import State
from charpy.threat import Access, Norm


class ForegroundPgd(Attack):
    """PGD over the values near the strokes of an image, which a detector of background changes does not see (Linf).

    x <- clip(x - step sign(g), l, h), with l and h the ends of the Linf ball for a value of the foreground, and the
    value itself for every other; a stroke stays one, so that the foreground of x holds that of the image
    (`charpy.foreground.unseen_box`): the score of `background_change` with the same parameters does not grow. Every
    start is uniform in the box.
    """

    norms = frozenset({Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = (
        "PGD of Madry et al. 2018 under a constraint of ours, "
        "after Carlini & Wagner 2017, Adversarial examples are not easily detected (AISec)"
    )

    class Params(ForegroundParams):
        """What counts as drawn, and the parameters of PGD."""

        steps: int = param(40, ge=1, description="steps of each descent", source="Madry et al. 2018, section 5 (MNIST)")
        step: float = param(0.2, gt=0, description="length of a step", unit="radius", source="ours, as of pgd")
        restarts: int = param(1, ge=1, description="random starts", source="Madry et al. 2018, section 5")

    def run(self, task: Task) -> None:
        """Descend from random images of the box."""
        box = unseen_box(task.images, task.threat.radius, self.params)
        random = task.random.fork("foreground_pgd")
        step = self.params.step * task.threat.radius

        def start(sample: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
            share = random.uniform(sample, run, *task.images.shape[1:])
            return box.low[sample] + share * (box.high - box.low)[sample]

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            moved = state["x"] - step * gradient.sign()
            nearest: torch.Tensor = moved.clamp(box.low[state["sample"]], box.high[state["sample"]])
            return nearest

        loss = scale_free(task.oracle.num_classes, "log_odds")
        descend(task, start, move, steps=self.params.steps, loss=loss, restarts=self.params.restarts)
