"""The fast gradient method (Goodfellow, Shlens & Szegedy 2015): one step to the edge of the ball."""

from __future__ import annotations

import torch

from charpy.geometry import furthest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.search.projected_gradient import descend
from charpy.search.stream import State
from charpy.threat import Access, Norm


class Fgm(Attack):
    """One step along the gradient of the cross-entropy, as far as the ball reaches (Linf: FGSM).

    x + argmax <gradient, u> over the u of the ball that stay in the box. Linf: u = radius sign(gradient), clipped, as
    published (section 4). Two model rows a sample.

    Differs from the paper: it has Linf only. In L2 and L1 the exact maximiser inside the box takes the place of a step
    that is clipped and so loses part of its length.
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Goodfellow, Shlens & Szegedy 2015, Explaining and harnessing adversarial examples (ICLR)"

    def run(self, task: Task) -> None:
        """One gradient and one look at where it leads."""
        threat = task.threat

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            return furthest(threat.norm, state["images"], -gradient, threat.radius)

        descend(task, lambda sample, _: task.images[sample], move, steps=1)
