"""Projected gradient descent (Madry et al. 2018) with random restarts."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.geometry import project, random_start, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend, scale_free
from charpy.search.stream import State
from charpy.threat import Access, Norm

MADRY = "Madry et al. 2018, section 5"


class LossName(StrEnum):
    """What is minimised; see `charpy.losses`."""

    LOG_ODDS = "log_odds"
    CROSS_ENTROPY = "cross_entropy"
    DLR = "dlr"
    MARGIN = "margin"


class Pgd(Attack):
    """Steepest descent steps inside the ball, from random points of it (Linf, L2, L1).

    x <- P(x - step v) with v the steepest direction of the norm (Linf: the sign of the gradient; L2: the gradient at
    unit length; L1: equal moves of the largest values, SLIDE, Tramer & Boneh 2019) and P the exact projection onto the
    ball inside the box. A value at the box that would leave it is no candidate for an L1 move.

    The log-odds of the true class fall where the cross-entropy rises, but keep their slope where the model is so
    confident that the cross-entropy has none. Every start is uniform in the ball. The default step is longer than the
    paper's for MNIST, where 40 steps reach the edge of the ball only if they all agree.
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Madry et al. 2018, Towards deep learning models resistant to adversarial attacks (ICLR)"

    class Params(BaseParams):
        """Parameters of PGD."""

        steps: int = param(40, ge=1, description="steps of each descent", source=MADRY + " (MNIST)")
        step: float = param(
            0.2,
            gt=0,
            description="step; Madry et al. take 1/30 for MNIST and 1/4 for CIFAR-10",
            unit="radius",
            source="ours",
        )
        restarts: int = param(1, ge=1, description="random starts", source=MADRY)
        loss: LossName = param(LossName.LOG_ODDS, description="what is minimised", source=MADRY)
        share: float = param(
            0.01,
            gt=0,
            le=1,
            description="L1: share of the values that a step moves",
            source="Tramer & Boneh 2019, SLIDE",
        )

    def run(self, task: Task) -> None:
        """Descend from random images of the ball."""
        threat, random = task.threat, task.random.fork("pgd")
        step = self.params.step * threat.radius
        count = max(1, round(self.params.share * task.images.shape[1:].numel()))

        def start(sample: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
            return random_start(threat.norm, task.images[sample], threat.radius, random, sample, run)

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            if threat.norm is Norm.L1:
                room = (state["x"] - gradient.sign()).clamp_(0, 1).sub_(state["x"]).abs_()
                gradient = gradient * (room > 1e-6)
            moved = state["x"] - step * steepest(threat.norm, gradient, count)
            return project(threat.norm, state["images"], moved, threat.radius)

        loss = scale_free(task.oracle.num_classes, self.params.loss)
        descend(task, start, move, steps=self.params.steps, loss=loss, restarts=self.params.restarts)
