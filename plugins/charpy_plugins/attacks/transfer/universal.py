"""One perturbation for many samples, by stochastic gradient ascent (Shafahi et al. 2020)."""

from __future__ import annotations

import math

import torch

from charpy import losses
from charpy.geometry import norm_of, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.threat import Access, Goal, Norm

SHAFAHI = "Shafahi et al. 2020, section 3"


class Universal(Attack):
    """One perturbation that breaks as many samples at once as it can (L2, Linf).

    Ascends the mean over a batch of a loss of x_i + d, clipped at `clip` for each sample so that one that is lost
    already cannot drown the others (eq. 3): d' = d + a sign(g), in L2 d + a g / |g|_2, back into the ball (Algorithm
    1). Every epoch draws a new order of the samples. At the end each sample is asked once about x_i + d, cut to the box
    [0, 1]: what d breaks is broken, all else holds. So the share of broken samples is d's fooling rate.

    The samples of one shard share one d: by nature their outcomes depend on each other, on the spec's `shard`, and on
    which samples are attacked at all. For the fooling rate over a whole run, take a shard as large as the run, no
    attack before this one, and one level (or `carry: false`): otherwise only what still stands is attacked. The rows
    on the way are a rehearsal, of which no witness is kept: they are of other perturbations than d.

    Some class withstands: where d makes one class win, samples of that class stay. So there is no targeted form.

    Differs from the paper: the step falls along half a cosine to 0, where the last d is the best one, and begins at
    `step_size` radii; the clip is nearer: a sample need only be lost, not lost by much. With o the log-odds of the true
    class, the loss is not the cross-entropy log(1 + e^o), whose slope in float32 is 0 against a confident model, but
    its concave kin -log(1 + o), -o below 0: samples that are nearly lost count more there too.
    """

    norms = frozenset({Norm.L2, Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    goals = frozenset({Goal.UNTARGETED})
    source = "Shafahi et al. 2020, Universal adversarial training (AAAI)"

    class Params(BaseParams):
        """Parameters of the ascent."""

        epochs: int = param(30, ge=1, description="passes over the samples, as far as the budget goes", source="ours")
        batch: int = param(64, ge=1, description="samples that one step looks at", source="ours")
        clip: float = param(
            1.0, gt=0, description="log-odds at which a sample is lost; in the paper a cross-entropy of 9", unit="nats",
            source=SHAFAHI,
        )  # fmt: skip
        step_size: float = param(0.5, gt=0, description="of the first step", unit="radii", source="ours")

    def run(self, task: Task) -> None:
        """Ascend for all samples together, then ask about each."""
        oracle, norm, radius = task.oracle, task.threat.norm, task.threat.radius
        everyone = torch.arange(len(task.labels), device=task.labels.device)
        if not len(everyone):
            return
        order = task.random.fork("order")
        delta = torch.zeros_like(task.images[:1])
        epochs = min(self.params.epochs, int(oracle.remaining.max()) - 1)  # the last row is for the result
        total = epochs * math.ceil(len(everyone) / self.params.batch)
        steps = 0
        for epoch in range(epochs):
            for batch in torch.split(order.uniform(everyone, epoch, 1)[:, 0].argsort(), self.params.batch):
                length = self.params.step_size * radius * (1 + math.cos(math.pi * steps / total)) / 2
                delta = _into_ball(norm, delta - length * steepest(norm, self._slope(task, batch, delta)), radius)
                steps += 1
        oracle.scores((task.images + delta).clamp(0, 1), everyone)

    def _slope(self, task: Task, batch: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        """`(1, C, H, W)`: gradient in `delta` of the summed clipped loss, to be descended."""
        labels = task.labels[batch]

        def clipped(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            odds = losses.log_odds(scores, labels[rows])
            return odds.clamp_min(0).log1p() + odds.clamp(-self.params.clip, 0)

        moved = task.images[batch] + delta
        asked = task.oracle.loss_and_gradient(moved.clamp(0, 1), batch, clipped, rehearsal=True)
        return asked.gradient.sum(0, keepdim=True)


def _into_ball(norm: Norm, delta: torch.Tensor, radius: float) -> torch.Tensor:
    """The nearest perturbation of at most `radius`; the box is each image's own and does not belong here."""
    if norm is Norm.LINF:
        return delta.clamp(-radius, radius)
    return delta * (radius / norm_of(norm, delta).clamp_min(radius))
