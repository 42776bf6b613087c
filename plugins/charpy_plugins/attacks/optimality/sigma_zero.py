"""sigma-zero (Cina et al. 2025): gradient descent on a smooth count of changed pixels, with an adaptive threshold."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.geometry import column
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.adam import direction, moments
from charpy.search.schedule import cosine
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Norm

PAPER = "Cina et al. 2025, section 2 and algorithm 1"
LAST_SHARE = 0.1
"""The learning rate ends at this share of the first one."""


class Group(StrEnum):
    """What is counted as one: all channels of a place (L0 of this project), or every value (the paper)."""

    PIXEL = "pixel"
    FEATURE = "feature"


class SigmaZero(Attack):
    """Minimises max(margin, 0) + a smooth L0 norm, and sets values below a moving threshold to zero (L0).

    The smooth norm is the mean over groups of s / (s + sigma), s the squared length of a group of the perturbation; its
    gradient is added to that of the margin while the sample still stands, and the sum is divided by its largest value.
    Adam with a cosine decay; after each step the perturbation is brought into the box, the threshold tau rises while
    adversarial and falls while not, and groups smaller than tau are reset.

    Differs from the paper: a group is a pixel, so that a colour pixel is paid for once; `group: feature` restores it.
    """

    norms = frozenset({Norm.L0})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = "Cina et al. 2025, sigma-zero: gradient-based optimization of l0-norm adversarial examples (ICLR)"

    class Params(BaseParams):
        """Parameters of sigma-zero."""

        steps: int = param(1000, ge=1, description="gradient steps", source=PAPER)
        learning_rate: float = param(1.0, gt=0, description="first learning rate of Adam", source=PAPER)
        sigma: float = param(1e-3, gt=0, description="softness of the count", source=PAPER)
        tau: float = param(0.3, ge=0, le=1, description="first threshold", unit="image values", source=PAPER)
        pace: float = param(0.01, gt=0, description="change of tau, in learning rates", source=PAPER)
        group: Group = param(Group.PIXEL, description="what is counted: a pixel or a value", source="ours")

    def run(self, task: Task) -> None:
        """Descend for every sample until its steps or its budget are spent."""
        oracle, params = task.oracle, self.params
        steps = min(params.steps, task.threat.queries)
        last = LAST_SHARE * params.learning_rate

        def begin(sample: torch.Tensor, _: torch.Tensor) -> State:
            images = task.images[sample]
            return {
                "images": images,
                "delta": torch.zeros_like(images),
                **moments(images),
                "tau": torch.full(sample.shape, params.tau, device=images.device),
                "iteration": torch.zeros_like(sample),
            }

        def advance(state: State) -> torch.Tensor:
            margins, slope, _ = oracle.loss_and_gradient(state["images"] + state["delta"], state["sample"], "margin")
            standing = margins >= 0
            gradient = slope * column(standing) + self._count_gradient(state["delta"])
            gradient = gradient / gradient.flatten(1).abs().amax(1).clamp_min(1e-12)[:, None, None, None]
            before, rate = (cosine(state["iteration"] - back, steps, params.learning_rate, last) for back in (1, 0))
            state["iteration"] = state["iteration"] + 1
            moved = state["delta"] - column(before) * direction(state, gradient)
            moved = (state["images"] + moved).clamp_(0, 1) - state["images"]
            change = torch.where(standing, -params.pace, params.pace) * rate
            state["tau"] = (state["tau"] + change).clamp_(0, 1)
            state["delta"] = moved * (self._size(moved) >= column(state["tau"]))
            finished: torch.Tensor = state["iteration"] >= steps
            return finished

        each_sample(task, begin, advance)

    def _count_gradient(self, delta: torch.Tensor) -> torch.Tensor:
        """Of the mean over groups of s / (s + sigma)."""
        square = delta.square()
        size = square.sum(1, keepdim=True) if self.params.group is Group.PIXEL else square
        slope: torch.Tensor = 2 * delta * self.params.sigma / (size + self.params.sigma).square() / size[0].numel()
        return slope

    def _size(self, delta: torch.Tensor) -> torch.Tensor:
        """What the threshold is held against: a pixel is as large as its largest value."""
        return delta.abs().amax(1, keepdim=True) if self.params.group is Group.PIXEL else delta.abs()
