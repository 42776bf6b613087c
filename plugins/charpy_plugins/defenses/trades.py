"""TRADES: accuracy on the images, and the same answers around them (Zhang et al. 2019)."""

from __future__ import annotations

import torch
from torch.nn import functional

from charpy.errors import SpecError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.threat import Ball, Norm, Number
from charpy.training import ascend, at_rest

ZHANG = "Zhang et al. 2019, Theoretically principled trade-off between robustness and accuracy"


class Trades(TrainingDefense):
    """Adds beta * max KL(p(x) || p(x')) over the ball to the loss (Zhang et al. 2019, equation 5 and algorithm 1).

    p is the softmax of the scores. x' is found in eval mode by `steps` ascents of the divergence from x + 0.001 z, z
    standard normal; the loss is then taken in train mode, with gradients through both p.
    """

    class Params(BaseParams):
        """Against what, and how much it weighs."""

        radius: Number = param(ge=0, allow_inf_nan=False, description="of the ball", unit="image values", source=ZHANG)
        norm: Ball = param(Norm.LINF, description="of the ball: linf or l2", source=ZHANG)
        beta: float = param(6.0, ge=0, description="weight of the divergence, 1 / lambda", source=ZHANG + ", CIFAR-10")
        steps: int = param(10, ge=1, description="of the inner maximisation", source=ZHANG)
        step_size: Number | None = param(
            None, gt=0, description="of a step; radius / 4 if not given", unit="image values", source="ours"
        )
        start: float = param(
            1e-3, gt=0, description="standard deviation of the start", unit="image values", source=ZHANG
        )

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        if params.norm not in (Norm.LINF, Norm.L2):
            raise SpecError("this norm has no TRADES", where="trades", found=params.norm.value, expected="linf or l2")

    @property
    def radius(self) -> float | None:
        """That of the ball, under Linf."""
        radius: float = self.params.radius
        return radius if self.params.norm is Norm.LINF and radius > 0 else None

    def loss(self, lesson: Lesson, scores: torch.Tensor) -> torch.Tensor:
        """The loss of the images, and the divergence of the answers to the worst ones around them."""
        beta: float = self.params.beta
        around = lesson.scores(self.furthest(lesson))
        return lesson.loss(scores, lesson.labels) + beta * divergence(scores, around) / len(scores)

    def furthest(self, lesson: Lesson) -> torch.Tensor:
        """`(N, C, H, W)` images in the ball whose answers differ most from those to the lesson's images."""
        params, module, images = self.params, lesson.module, lesson.images.detach()
        rows = torch.arange(len(images), device=images.device)
        noise = params.start * lesson.random("trades").normal(rows, 0, *images.shape[1:])
        with at_rest(module):
            with torch.no_grad():
                clean = module(images)
            return ascend(
                lambda changed: divergence(clean, module(changed)),
                images,
                images + noise,
                radius=params.radius,
                steps=params.steps,
                step=params.step_size or params.radius / 4,
                norm=params.norm,
            )


def divergence(scores: torch.Tensor, around: torch.Tensor) -> torch.Tensor:
    """KL(softmax of `scores` || softmax of `around`), both `(N, K)`, summed over the rows."""
    return functional.kl_div(around.log_softmax(1), scores.softmax(1), reduction="sum")
