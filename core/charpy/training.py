"""What a way to train needs to attack the network that it trains: the network stays as it is, whatever is done to it.

`pgd`, `ascend` and `least_likely` are bare loops, a pass forward and back a step. `hardest` runs any attack.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress

import torch
from torch import nn
from torch.nn import functional

from charpy.engine import QueryEngine, Way
from charpy.errors import BudgetError
from charpy.geometry import column, project, steepest
from charpy.global_state import global_state_kept
from charpy.interfaces.attack import Attack, Task
from charpy.interfaces.model import Model
from charpy.ledger import rank_among_equals
from charpy.losses import log_odds
from charpy.oracle import Oracle
from charpy.pixels import inside
from charpy.random import Random
from charpy.threat import Access, Norm, ThreatModel


@contextmanager
def at_rest(module: nn.Module) -> Iterator[None]:
    """The module in eval mode: an attack faces it as it will be used, and moves no running statistics."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


def ascend(
    loss: Callable[[torch.Tensor], torch.Tensor],
    images: torch.Tensor,
    start: torch.Tensor,
    *,
    radius: float,
    steps: int,
    step: float,
    norm: Norm = Norm.LINF,
) -> torch.Tensor:
    """`(N, C, H, W)` images within `radius` of `images` where `loss` is large: x <- P(x + step * v), from `start`.

    v is the steepest direction of the norm, P the projection onto ball and box (Madry et al. 2018). The last step's
    image is returned, as training wants it. Parameters get no gradient.

    Args:
        loss: images -> the sum of their losses. The sum, not the mean: a row's gradient must not shrink with the batch
            until float32 rounds it to zero.
        images, start: `(N, C, H, W)` in [0, 1].
        radius, step: in the unit of the norm.
        steps: passes forward and back.
        norm: linf, l2 or l1.
    """
    images, changed = images.detach(), start.detach()
    for _ in range(steps):
        changed = changed.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(loss(changed), changed)
        changed = project(norm, images, changed.detach() + step * steepest(norm, gradient), radius)
    return changed.detach()


def pgd(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, *, radius: float, steps: int, step_size: float
) -> torch.Tensor:
    """Images `(N, C, H, W)` in the Linf ball of `radius` around `images`, of high cross-entropy (Madry et al. 2018).

    The start is uniform in the ball, drawn from torch's global generator.
    """
    start = torch.empty_like(images).uniform_(-radius, radius).add_(images).clamp_(0, 1)

    def loss(changed: torch.Tensor) -> torch.Tensor:
        return functional.cross_entropy(module(changed), labels, reduction="sum")

    with at_rest(module):
        return ascend(loss, images, start, radius=radius, steps=steps, step=step_size)


def least_likely(module: nn.Module, images: torch.Tensor, *, radius: torch.Tensor) -> torch.Tensor:
    """x - radius * sign(the gradient of the cross-entropy of the class that the module holds least likely), clipped.

    One pass forward and back. The step does not know the label, so that a network cannot read it from the step
    ("step l.l.", Kurakin, Goodfellow & Bengio 2017, Adversarial machine learning at scale, section 3).

    Args:
        module: images -> scores `(N, K)`.
        images: `(N, C, H, W)` in [0, 1].
        radius: `(N,)`, of each image's step, in image values.
    """
    images = images.detach().clone().requires_grad_()
    with at_rest(module), torch.enable_grad():
        scores = module(images)
        loss = functional.cross_entropy(scores, scores.detach().argmin(1), reduction="sum")
        (gradient,) = torch.autograd.grad(loss, images)
    return (images.detach() - column(radius) * gradient.sign()).clamp(0, 1)


def hardest(
    module: nn.Module, images: torch.Tensor, labels: torch.Tensor, attack: Attack, threat: ThreatModel, random: Random
) -> torch.Tensor:
    """Of each image the one inside the threat model, of all that `attack` asked about, that is least its label.

    The attack goes on after a success, to the end of its steps or its budget: training wants the worst case. Least its
    label: of the smallest log-odds, i.e. the largest cross-entropy. An image of which nothing was asked stays as it is.
    The module's weights, gradients and mode and the global random generators are left as they were.

    Args:
        module: float32 `(N, C, H, W)` in [0, 1] -> logits `(N, K)`.
        images: `(N, C, H, W)` in [0, 1].
        labels: int64 `(N,)`.
        attack: any.
        threat: its norm, radius and queries.
        random: of N samples, for the attack.
    """
    images = images.detach()
    with at_rest(module), global_state_kept([]):
        model = _Live(module, images.device)
        with torch.no_grad():
            classes = module(images[:1]).shape[1]
        way = Way("as given", model.predict, len(images), 0.0, True)
        engine = QueryEngine(model, model.output, way, way, threads=torch.get_num_threads(), num_classes=classes)
        oracle = _Hardest(engine, model, images, labels, None, threat, minimise=True)
        with torch.enable_grad(), suppress(BudgetError):  # nothing was left to ask: what it asked about stands
            attack.run(Task(images.clone(), labels.clone(), None, threat, oracle, random))
    return oracle.worst


class _Live(Model):
    """A module in training, without the copy of it that other wrappers make."""

    access = Access.GRADIENTS

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__()
        self.module, self._device = module, device

    @property
    def device(self) -> torch.device:
        return self._device

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.module(images)
        return scores

    def fingerprint(self) -> Mapping[str, str]:
        return {}


class _Hardest(Oracle):
    """An oracle that keeps, of each sample, the image inside the ball that is least its label.

    Attributes:
        worst: `(N, C, H, W)`.
    """

    def __init__(
        self,
        engine: QueryEngine,
        model: Model,
        images: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None,
        threat: ThreatModel,
        *,
        minimise: bool,
    ) -> None:
        super().__init__(engine, model, images, labels, targets, threat, minimise=minimise)
        self.worst = images.clone()
        self._odds = torch.full((len(labels),), torch.inf, device=labels.device)

    def _saw(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor, keep: bool) -> None:
        if not keep:
            return
        odds = log_odds(answers, self._aim.labels[owner]).nan_to_num(nan=torch.inf)
        odds = torch.where(inside(self._threat, self._ledger.originals[owner], rows), odds, torch.inf)
        least = self._odds.scatter_reduce(0, owner, odds, "amin")
        better = ((odds == least[owner]) & (odds < self._odds[owner])).nonzero()[:, 0]
        better = better[rank_among_equals(owner[better]) == 0]
        self.worst[owner[better]] = rows[better]
        self._odds = least
