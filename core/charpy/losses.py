"""What an attack minimises: functions of scores `(M, K)` that are negative, or small, where the goal is reached.

Each takes `scores (M, K)`, `labels (M,)` and, for a targeted goal, `targets (M,)`, and gives `(M,)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from charpy.errors import unknown_name

Loss = Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor]

Objective = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""A loss of an attack's own: `(scores (A, K), rows (A,)) -> (A,)`, differentiable, to minimise; `rows` are the
positions of the scores' images among the candidates that the oracle was asked about."""


def margin(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` score of the true class minus the best other one; targeted: best other minus the target's.

    Below zero where the goal is reached, above it where not; a tie is decided by the order of the classes (`Aim`).
    """
    own = scores.gather(1, (labels if targets is None else targets)[:, None])
    others = scores.scatter(1, (labels if targets is None else targets)[:, None], -torch.inf).amax(1)
    return own[:, 0] - others if targets is None else others - own[:, 0]


def confidence(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` softmax probability of the true class; targeted: 1 - that of the target (Kotyan & Vargas, section III)."""
    probabilities = scores.softmax(1)
    if targets is None:
        return probabilities.gather(1, labels[:, None])[:, 0]
    return 1 - probabilities.gather(1, targets[:, None])[:, 0]


def log_odds(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` log-odds of the true class, z_y - log sum of the others' exponentials; targeted: minus the target's.

    It orders images as the cross-entropy does and has the direction of its gradient, but never saturates: the gradient
    of the cross-entropy is lost in float32 at margins above about 16, where an attack then sees a flat model.
    """
    key = (labels if targets is None else targets)[:, None]
    odds = scores.gather(1, key)[:, 0] - scores.scatter(1, key, -torch.inf).logsumexp(1)
    return odds if targets is None else -odds


def cross_entropy(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` log-probability of the true class (minus its cross-entropy); targeted: cross-entropy of the target."""
    odds = log_odds(scores, labels, targets)  # so computed, a confident model's rounding does not cancel the true class
    return -torch.nn.functional.softplus(-odds) if targets is None else torch.nn.functional.softplus(odds)


def dlr(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` difference-of-logits ratio, free of the scores' scale (Croce & Hein 2020b, eq. 6 and 7), to minimise.

    Untargeted (z_y - max other) / (z_(1) - z_(3)); targeted (z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). With fewer
    classes than a formula needs, the last there is takes the place of the missing ones. With two classes, whose ratio
    is 1 or -1 everywhere and has no gradient, it is the margin itself.
    """
    if scores.shape[1] < 3:
        return margin(scores, labels, targets)
    top = scores.topk(min(4, scores.shape[1])).values
    if targets is None:
        return margin(scores, labels) / (top[:, 0] - top[:, 2] + 1e-12)
    own, target = (scores.gather(1, index[:, None])[:, 0] for index in (labels, targets))
    return (own - target) / (top[:, 0] - (top[:, 2] + top[:, -1]) / 2 + 1e-12)


def unit_of(slope: torch.Tensor, least: float, most: float) -> torch.Tensor:
    """`(B,)`: what scores are divided by so that the largest value of their `slope` `(B, C, H, W)` is in the range.

    1 where it is already, or 0. An attack that weighs scores against a distance needs them on some scale, and squares
    of slopes above 1e19 are infinite in float32.
    """
    size = slope.flatten(1).abs().amax(1)
    return torch.where(size > 0, size / size.clamp(least, most), 1.0)


LOSSES: Mapping[str, Loss] = {
    "margin": margin,
    "confidence": confidence,
    "cross_entropy": cross_entropy,
    "log_odds": log_odds,
    "dlr": dlr,
}
"""By the name under which an attack asks the oracle for it."""


def loss_named(name: str) -> Loss:
    """The loss of that name.

    Raises:
        UnknownNameError: there is none; the nearest names are listed.
    """
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    return LOSSES[name]


@dataclass(frozen=True)
class Aim:
    """What each of N samples is to be taken for: not its label, or its target.

    Attributes:
        labels: int64 `(N,)`.
        targets: int64 `(N,)`, None where any other class will do.
    """

    labels: torch.Tensor
    targets: torch.Tensor | None = None

    def margins(self, scores: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """`(M,)` margins of `scores` `(M, K)` of the samples `owner` `(M,)`."""
        return margin(scores, self.labels[owner], None if self.targets is None else self.targets[owner])

    def reached(self, answers: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """bool `(M,)`: whether labels `(M,)`, or the first largest of finite scores `(M, K)`, are what they must be."""
        if answers.ndim == 2:
            return answers.isfinite().all(1) & self.reached(answers.argmax(1), owner)
        return answers != self.labels[owner] if self.targets is None else answers == self.targets[owner]

    def objective(self, loss: str | Objective, owner: torch.Tensor) -> Objective:
        """The loss of that name for rows of the samples `owner` `(M,)`; an `Objective` as it is.

        Raises:
            UnknownNameError: there is no such loss.
        """
        if not isinstance(loss, str):
            return loss
        named = loss_named(loss)
        labels, targets = self.labels[owner], None if self.targets is None else self.targets[owner]
        return lambda scores, rows: named(scores, labels[rows], None if targets is None else targets[rows])
