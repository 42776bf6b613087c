"""The momentum iterative method, with input diversity, translation and scale invariance (Dong et al. 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import field_validator

from charpy.geometry import project, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.random import Random
from charpy.search.stream import State, stream
from charpy.threat import Access, Norm

DONG = "Dong et al. 2018, section 4.1"
XIE = "Xie et al. 2019, section 4.1"


class MiFgsm(Attack):
    """Follows the momentum of its gradients to images that also fool other models (Linf, L2).

    g' = decay g + u / |u|_1 with u the gradient of the loss at x (eq. 6), and x' = x + a sign(g'), in L2
    x + a g' / |g'|_2 (eq. 7), inside the ball and the box, `steps` times. By itself it is a white-box attack; crafted
    on a surrogate, as the `attack` of `transfer`, its images are made to travel:

    - `diversity` (DI, Xie et al. 2019): with this probability u is taken at the image resized to a random smaller
      side and padded with zeros at a random place; the gradient passes back through that linear map exactly.
    - `kernel` (TI, Dong et al. 2019): u is blurred with a Gaussian of this many pixels, which stands for the mean
      gradient over shifted images; its standard deviation is (kernel - 1) / 6, so that it ends at three of them.
    - `scales` (SI, Lin et al. 2020): u is the mean over x, x / 2, x / 4, ... (`scales` queries a step).

    A row asks about x itself wherever nothing changes it, and the last x is always asked, where the
    budget ends too: the oracle sees it then.

    Differs from the papers: the side and place of DI are drawn for each image, not for a batch, so that no result
    depends on the batch; DI makes images smaller inside their frame, as the networks here take one size.
    """

    norms = frozenset({Norm.LINF, Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Dong et al. 2018, Boosting adversarial attacks with momentum (CVPR); DI, TI, SI: see the parameters"

    class Params(BaseParams):
        """Parameters of the momentum iterative method."""

        steps: int = param(10, ge=1, description="iterations", source=DONG)
        decay: float = param(1.0, ge=0, description="of the momentum; 0 is I-FGSM", source=DONG)
        step_size: float | None = param(
            None, gt=0, description="of one step; 1 / steps if not given", unit="radii", source=DONG
        )
        loss: Literal["log_odds", "cross_entropy", "margin", "dlr"] = param(
            "log_odds", description="what is driven across the boundary", source=DONG
        )
        diversity: float = param(
            0.0, ge=0, le=1, description="probability of a random resizing; 0.5 in M-DI2", source=XIE
        )
        resize: float = param(0.9, gt=0, le=1, description="smallest side after resizing", unit="sides", source=XIE)
        kernel: int = param(
            1, ge=1, description="side of the blur (15 in the paper, of 299); 1: none", unit="pixels",
            source="Dong et al. 2019, Evading defenses by translation-invariant attacks, section 4.2",
        )  # fmt: skip
        scales: int = param(
            1, ge=1, le=16, description="copies x / 2^i whose gradients are averaged; 5 in the paper",
            source="Lin et al. 2020, Nesterov accelerated gradient and scale invariance, section 4.1",
        )  # fmt: skip

        @field_validator("kernel")
        @classmethod
        def _has_a_middle(cls, kernel: int) -> int:
            if kernel % 2 == 0:
                raise ValueError(f"{kernel} is even: a blur needs a middle pixel")
            return kernel

    def run(self, task: Task) -> None:
        """`steps` iterations for every sample that still stands."""
        oracle, radius = task.oracle, task.threat.radius
        move = radius * (1 / self.params.steps if self.params.step_size is None else self.params.step_size)
        diversity = task.random.fork("diversity")

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            images = task.images[sample]
            return {"images": images, "x": images, "momentum": torch.zeros_like(images), "step": run}

        def advance(state: State) -> torch.Tensor:
            gradient = self._gradient(task, state, diversity)
            size = gradient.flatten(1).abs().sum(1).clamp_min(1e-30)[:, None, None, None]
            state["momentum"] = self.params.decay * state["momentum"] + gradient / size
            further = state["x"] - move * steepest(task.threat.norm, state["momentum"])
            state["x"] = project(task.threat.norm, state["images"], further, radius)
            state["step"] = state["step"] + 1
            last = oracle.remaining[state["sample"]] <= self.params.scales  # no further step and its result
            finished: torch.Tensor = last | (state["step"] >= self.params.steps)
            if bool(finished.any()):
                oracle.scores(state["x"][finished], state["sample"][finished])
            return finished

        samples = torch.arange(len(task.labels), device=task.labels.device)
        stream(begin, advance, lambda rows: oracle.active[rows], samples, width=max(1, oracle.gradient_batch))

    def _gradient(self, task: Task, state: State, diversity: Random) -> torch.Tensor:
        """`(B, C, H, W)` of the loss, to be descended: over the scales, through the resizing, blurred."""
        params, (height, width) = self.params, state["x"].shape[2:]
        if params.diversity > 0:
            draw = diversity.uniform(state["sample"], state["step"], 4)
            rows = _resizing(height, params.resize, params.diversity, draw[:, [0, 1, 2]])[:, None]
            columns = _resizing(width, params.resize, params.diversity, draw[:, [0, 1, 3]])[:, None]
        gradient = torch.zeros_like(state["x"])
        for scale in (0.5**i for i in range(params.scales)):
            asked = rows @ state["x"] @ columns.mT if params.diversity > 0 else state["x"]
            slope = task.oracle.loss_and_gradient(asked * scale, state["sample"], params.loss).gradient
            gradient += scale * (rows.mT @ slope @ columns if params.diversity > 0 else slope)
        if params.kernel == 1:
            return gradient
        down, across = (_blur(side, params.kernel, gradient) for side in (height, width))
        blurred: torch.Tensor = down @ gradient @ across  # both are symmetric
        return blurred


def _resizing(side: int, smallest: float, probability: float, draw: torch.Tensor) -> torch.Tensor:
    """`(B, side, side)` maps of one axis: a bilinear resizing (half-pixel centres) and zeros around it.

    `draw` `(B, 3)` in [0, 1) chooses whether, the new side, and where it begins; the identity where it is not resized.
    """
    least = max(1, int(side * smallest))
    length = (least + draw[:, 1] * (side - least)).floor()
    length = torch.where(draw[:, 0] < probability, length, side)[:, None]
    place = torch.arange(side, device=draw.device, dtype=draw.dtype)
    target = place - (draw[:, 2:] * (side - length + 1)).floor()
    source = ((target + 0.5) * side / length - 0.5).clamp(0, side - 1)
    weight: torch.Tensor = (1 - (source[:, :, None] - place).abs()).clamp_min(0)
    return weight * ((target >= 0) & (target < length))[:, :, None]


def _blur(side: int, kernel: int, like: torch.Tensor) -> torch.Tensor:
    """`(side, side)` convolution of one axis with a Gaussian that ends at three standard deviations; zeros outside."""
    place = torch.arange(side, device=like.device, dtype=like.dtype)
    apart = (place[:, None] - place).abs()
    weight = torch.exp(-0.5 * (6 * apart / (kernel - 1)).square())
    return torch.where(apart <= kernel // 2, weight, 0)
