"""What a search minimises: functions of scores `(M, K)` that are negative, or small, where the goal is reached."""

from __future__ import annotations

import torch


def margin(scores: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
    """`(M,)` score of the true class minus the best other one; targeted: best other minus the target's.

    Below zero exactly where the goal is reached (a tie is not).
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
