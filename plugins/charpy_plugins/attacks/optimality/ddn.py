"""Decoupled direction and norm (Rony et al. 2019): descent on a sphere whose radius follows the boundary."""

from __future__ import annotations

import torch

from charpy.geometry import column, norm_of, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.schedule import cosine
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Norm

PAPER = "Rony et al. 2019, algorithm 1"


class Ddn(Attack):
    """Moves against the gradient of the loss, then rescales to a length that shrinks while adversarial (L2).

    The length is multiplied by 1 - gamma where the last image was adversarial, else by 1 + gamma; steps fall by a
    cosine from `alpha` to `alpha_last`. A zero gradient is replaced by a random direction.

    Differs from the paper: the image is quantised by the 8-bit grid of the threat, where there is one, not by levels of
    the attack's own; the length is shortened to the smallest success when it has grown beyond it.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_OPTIMALITY
    source = (
        "Rony et al. 2019, Decoupling direction and norm for efficient gradient-based L2 adversarial attacks (CVPR)"
    )

    class Params(BaseParams):
        """Parameters of DDN."""

        steps: int = param(1000, ge=1, description="gradient steps (the paper: 100, 300 and 1000)", source=PAPER)
        gamma: float = param(0.05, gt=0, lt=1, description="change of the length", source=PAPER)
        start: float = param(1.0, gt=0, description="first length", unit="L2 length", source=PAPER)
        alpha: float = param(1.0, gt=0, description="first step", unit="L2 length", source=PAPER)
        alpha_last: float = param(0.01, gt=0, description="last step", unit="L2 length", source=PAPER)

    def run(self, task: Task) -> None:
        """Descend for every sample until its steps or its budget are spent."""
        oracle, params, random = task.oracle, self.params, task.random.fork("ddn")
        steps = min(params.steps, task.threat.queries)

        def begin(sample: torch.Tensor, _: torch.Tensor) -> State:
            images = task.images[sample]
            return {
                "images": images,
                "delta": torch.zeros_like(images),
                "length": torch.full(sample.shape, params.start, device=images.device),
                "best": torch.full(sample.shape, torch.inf, device=images.device),
                "iteration": torch.zeros_like(sample),
            }

        def advance(state: State) -> torch.Tensor:
            images, delta, sample = state["images"], state["delta"], state["sample"]
            _, slope, scores = oracle.loss_and_gradient(images + delta, sample, "log_odds")
            adversarial = task.margins(scores, sample) < 0
            size = norm_of(Norm.L2, delta)
            state["best"] = torch.where(adversarial, torch.minimum(state["best"], size), state["best"])
            still = slope.flatten(1).abs().amax(1) == 0
            if bool(still.any()):
                drawn = random.normal(sample, state["iteration"], *images.shape[1:])
                slope = torch.where(column(still), drawn, slope)
            alpha = cosine(state["iteration"], steps, params.alpha, params.alpha_last)
            delta = delta - column(alpha) * steepest(Norm.L2, slope)
            factor = torch.where(adversarial, 1 - params.gamma, 1 + params.gamma)
            state["length"] = torch.minimum(state["length"] * factor, state["best"])
            delta = delta * column(state["length"] / norm_of(Norm.L2, delta).clamp_min(1e-12))
            state["delta"] = (images + delta).clamp_(0, 1) - images
            state["iteration"] = state["iteration"] + 1
            finished: torch.Tensor = state["iteration"] >= steps
            return finished

        each_sample(task, begin, advance)
