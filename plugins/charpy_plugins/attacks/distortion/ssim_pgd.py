"""PGD whose every step is followed by one that raises, or lowers, the SSIM (Sharif, Bauer & Reiter 2018, 4.5)."""

from __future__ import annotations

from typing import Literal

import torch

from charpy.geometry import project, random_start, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.projected_gradient import descend, scale_free
from charpy.search.stream import State
from charpy.structure import Seen, Structure, WindowParams
from charpy.threat import Access, Norm

SHARIF = "Sharif, Bauer & Reiter 2018, section 4.5"
MADRY = "Madry et al. 2018, section 5"


class SsimPgd(Attack):
    """PGD whose steps alternate with steps along, or against, the slope of the SSIM to the original (Linf).

    x <- P(x - step sign(gradient)), then x <- P(x + t s), P the projection onto the ball and the box, s the gradient of
    SSIM (Wang et al. 2004) scaled to a mean square of 1, and t = `ssim_step`, negative for `mode: perceptible`. Only
    the model's gradient costs a query. Both modes search the same ball: of the images there that fool the model, one
    finds such as look like the original, the other such as do not.

    The paper says no more than that SSIM is raised or lowered after each iteration; the lengths are ours. Ours, too: t
    falls in proportion to the iterations that are left, to 0 at the last one, so that images that are hard to break
    are lost to neither mode (`fade: false`: t stays); and each descent begins, before the first query, with
    `start_steps` SSIM steps from a random point (at the original itself SSIM has no slope). With `ssim_step` 0 it is
    `pgd`.
    """

    norms = frozenset({Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Sharif, Bauer & Reiter 2018, On the suitability of Lp-norms for creating and preventing adversarial \
examples (CVPR workshop)"

    class Params(WindowParams):
        """Parameters of PGD with SSIM steps."""

        mode: Seen = param(Seen.IMPERCEPTIBLE, description="whether SSIM is raised or lowered", source=SHARIF)
        steps: int = param(40, ge=1, description="steps of each descent", source=MADRY + " (MNIST)")
        step: float = param(0.2, gt=0, description="step", unit="radius", source="ours, as of pgd")
        ssim_step: float = param(
            0.1, ge=0, le=10, description="root mean square of an SSIM step", unit="radius", source="ours"
        )
        fade: bool = param(True, description="let the SSIM steps shrink to 0 at the last iteration", source="ours")
        start_steps: int = param(10, ge=0, description="SSIM steps before the first query", source="ours")
        restarts: int = param(1, ge=1, description="random starts", source=MADRY)
        loss: Literal["log_odds", "cross_entropy", "dlr", "margin"] = param(
            "log_odds", description="what is minimised", source=MADRY
        )

    def run(self, task: Task) -> None:
        """Descend from random images of the ball."""
        params, radius = self.params, task.threat.radius
        random = task.random.fork("pgd")
        structure = Structure(task.images, params.window)
        length = params.mode.sign * params.ssim_step * radius * task.images[:1].numel() ** 0.5

        def seen(x: torch.Tensor, sample: torch.Tensor, share: torch.Tensor | float) -> torch.Tensor:
            if not params.ssim_step:
                return x
            _, slope = structure.rows(sample).slope(x)
            return project(Norm.LINF, task.images[sample], x + length * share * steepest(Norm.L2, slope), radius)

        def start(sample: torch.Tensor, run: torch.Tensor) -> torch.Tensor:
            x = random_start(Norm.LINF, task.images[sample], radius, random, sample, run)
            for _ in range(params.start_steps):
                x = seen(x, sample, 1.0)
            return x

        def move(state: State, gradient: torch.Tensor) -> torch.Tensor:
            moved = state["x"] - params.step * radius * steepest(Norm.LINF, gradient)
            moved = project(Norm.LINF, state["images"], moved, radius)
            left = 1 - (state["iteration"] + 1) / params.steps
            return seen(moved, state["sample"], left[:, None, None, None] if params.fade else 1.0)

        loss = scale_free(task.oracle.num_classes, params.loss)
        descend(task, start, move, steps=params.steps, loss=loss, restarts=params.restarts)
