"""NewtonFool (Jang, Wu & Jha 2017)."""

from __future__ import annotations

import math

import torch

from charpy.geometry import column, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import margin
from charpy.search.stream import State, stream
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Goal, Norm

PAPER = "Jang et al. 2017"

DARKEST = 0.2
"""Brightness, as a root mean square, below which an image counts as no darker; eta of it is 0.5/255."""

BELOW, OVERSHOOT = 0.998, 1.02
"""Share of 1/K that the probability is to fall to; share of the way there that a step goes."""


class Newtonfool(Attack):
    """Newton steps that lower the probability of the true class, until the label changes (NewtonFool).

    With p the softmax probability of the true class and g its gradient: delta = min(eta |x0| |g|, p - 1/K), and the
    step is -delta g / |g|^2 (algorithm 1), so no step is longer than eta |x0|. One query a step. It ends at the first
    witness; going on would raise the probability again.

    Differs from the paper: g is computed through s = log((1 - p) / p) as -p (1 - p) grad s, the same in exact
    arithmetic; near p = 1 the softmax's own gradient is rounded to nothing. p is to fall to 0.998/K, and steps are 1.02
    times as long: at 1/K itself, the boundary where K = 2, they would end on it. For the longest step |x0| is that of
    a grey of 0.2 at least: a black image, of length 0, would stay. Images stay in the box. A few more queries look for
    the boundary between the original and the witness.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    goals = frozenset({Goal.UNTARGETED})
    source = (
        "Jang, Wu & Jha 2017, "
        "Objective metrics and gradient descent algorithms for adversarial examples in machine learning (ACSAC)"
    )

    class Params(BaseParams):
        """Parameters of NewtonFool."""

        steps: int = param(
            100, ge=1, le=10_000, description="steps at most", unit="iterations", source="ART and foolbox"
        )
        eta: float = param(
            0.01,
            gt=0,
            le=1,
            description="longest step as a share of the image's L2 length; the authors compare with 0.375 on MNIST",
            source=PAPER,
        )
        line_search: int = param(
            6, ge=0, le=30, description="trials between original and witness", unit="queries", source="ours"
        )

    def run(self, task: Task) -> None:
        """Descend from every sample."""
        witnesses = Witnesses(task)

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            return {"x": task.images[sample], "step": torch.zeros_like(run)}

        def advance(state: State) -> torch.Tensor:
            return self._advance(task, witnesses, state)

        stream(
            begin,
            advance,
            lambda sample: task.oracle.active[sample],
            torch.arange(len(task.labels), device=task.labels.device),
            width=max(1, task.oracle.gradient_batch),
        )
        witnesses.tighten(self.params.line_search)

    def _advance(self, task: Task, witnesses: Witnesses, state: State) -> torch.Tensor:
        """One step of every search, and which are finished: a witness was reached, or the steps are spent."""
        x, sample = state["x"], state["sample"]
        labels = task.labels[sample]

        def odds_against(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            own = labels[rows, None]
            odds: torch.Tensor = scores.scatter(1, own, -torch.inf).logsumexp(1) - scores.gather(1, own)[:, 0]
            return odds

        odds, gradient, scores = task.oracle.loss_and_gradient(x, sample, odds_against)
        margins = margin(scores, labels)
        first = state["step"] == 0
        witnesses.begin(sample[first], margins[first])
        reached = witnesses.meet(sample, x, margins)
        probability, uphill = torch.sigmoid(-odds), steepest(Norm.L2, gradient)
        slope = probability * torch.sigmoid(odds) * (gradient * uphill).flatten(1).sum(1)
        size = task.images[sample].flatten(1).norm(dim=1)
        longest = self.params.eta * size.clamp_min(DARKEST * math.sqrt(x[0].numel()))
        newton = OVERSHOOT * (probability - BELOW / scores.shape[1]).clamp_min(0) / slope.clamp_min(1e-30)
        state["x"] = (x + column(torch.minimum(longest, newton)) * uphill).clamp_(0, 1)
        state["step"] += 1
        spent: torch.Tensor = state["step"] > self.params.steps
        return reached | spent | ~odds.isfinite()
