"""Gradient steps at a fixed L2 distance, from an image of high or low SSIM (Sharif, Bauer & Reiter 2018, 4.4)."""

from __future__ import annotations

from typing import Literal

import torch

from charpy.geometry import column, norm_of, onto_sphere, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend, scale_free
from charpy.search.stream import State
from charpy.structure import Seen, Structure, WindowParams
from charpy.threat import Access, Norm

SHARIF = "Sharif, Bauer & Reiter 2018, section 4.4"
WANG = "Wang, Bovik, Sheikh & Simoncelli 2004, section III.B"


class SsimSphere(Attack):
    """Steps down the loss on the sphere whose radius is given, from the image there of most, or least, SSIM (L2).

    The start is Wang et al.'s (2004): white noise at the given distance, then steps along (`mode: perceptible`:
    against) the slope of SSIM in the tangent of the sphere, each drawn back onto it. They cost no query. Then
    x <- S(x - step n(gradient)), n the unit length, S the point of the sphere in that direction. Both modes have the
    same distance to the original. The paper's is 6 for CIFAR-10 (32 x 32 x 3, values in [0, 1]). Shorter steps
    leave the witness nearer to the start, and find fewer.

    S scales the perturbation, clips it to the box and makes up for what that takes: the distance is exact off the grid,
    where the box has such a point (`charpy.geometry.onto_sphere`), and on the 8-bit grid at most the radius, which the
    rounding to it must not leave. Ours, as the papers do not say: how the box is kept, the lengths of all steps, those
    of the start falling to 0.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Sharif, Bauer & Reiter 2018, On the suitability of Lp-norms for creating and preventing adversarial \
examples (CVPR workshop)"

    class Params(WindowParams):
        """Parameters of the descent on the sphere."""

        mode: Seen = param(Seen.IMPERCEPTIBLE, description="whether the start has high or low SSIM", source=SHARIF)
        steps: int = param(40, ge=1, description="steps of each descent", source="ours, as of pgd")
        step: float = param(0.2, gt=0, le=10, description="step", unit="radius", source="ours, as of pgd")
        start_steps: int = param(50, ge=0, description="SSIM steps before the first query", source="ours")
        start_step: float = param(0.5, gt=0, le=10, description="the first of them", unit="radius", source="ours")
        restarts: int = param(1, ge=1, description="random starts", source="ours")
        loss: Literal["log_odds", "cross_entropy", "dlr", "margin"] = param(
            "log_odds", description="what is minimised", source="ours, as of pgd"
        )

    def run(self, task: Task) -> None:
        """Descend on the sphere of every image."""
        params, radius = self.params, task.threat.radius
        random = task.random.fork("ssim_sphere")
        structure = Structure(task.images, params.window)

        def start(sample: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
            images, like = task.images[sample], structure.rows(sample)
            x = onto_sphere(images, images + random.normal(sample, run, *images.shape[1:]), radius)
            for done in range(params.start_steps):
                _, slope = like.slope(x)
                delta = x - images
                outward = (slope * delta).flatten(1).sum(1) / norm_of(Norm.L2, delta).square().clamp_min(1e-30)
                length = params.mode.sign * params.start_step * radius * (1 - done / params.start_steps)
                x = onto_sphere(images, x + length * steepest(Norm.L2, slope - column(outward) * delta), radius)
            return x

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            moved = state["x"] - params.step * radius * steepest(Norm.L2, gradient)
            return onto_sphere(state["images"], moved, radius)

        loss = scale_free(task.oracle.num_classes, params.loss)
        descend(task, start, move, steps=params.steps, loss=loss, restarts=params.restarts)
