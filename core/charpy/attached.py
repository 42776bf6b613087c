"""Answers whose gradient is asked after they were seen: what attacks of other libraries need."""

from __future__ import annotations

from collections.abc import Callable

import torch

Piece = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
"""Places `(A,)` among the rows, their images that ask for a gradient, and the scores `(A, K)` computed from them."""


class Attached:
    """Scores of M rows, and any combination of their slopes.

    Attributes:
        scores: float32 `(M, K)`, NaN where a row was refused.
    """

    def __init__(
        self, scores: torch.Tensor, shape: torch.Size, pieces: list[Piece], pay: Callable[[torch.Tensor], torch.Tensor]
    ) -> None:
        self.scores, self._shape, self._pieces, self._pay = scores, shape, pieces, pay
        self._paid = torch.zeros(len(scores), dtype=torch.bool, device=scores.device)

    def slope(self, weights: torch.Tensor) -> torch.Tensor:
        """`(M, C, H, W)`: the gradient of each row's sum of scores times `weights` `(M, K)`; 0 where none is wanted.

        The first slope of a row belongs to the query that gave its scores; each further one is charged as another, and
        is 0 where the budget does not allow it.
        """
        wanted = (weights != 0).any(1)
        again = (wanted & self._paid).nonzero()[:, 0]
        self._paid |= wanted
        if len(again):
            refused = again[~self._pay(again)]
            weights = weights.index_fill(0, refused, 0.0)
        found = torch.zeros(self._shape, device=weights.device)
        for places, images, answers in self._pieces:
            if bool((weights[places] != 0).any()):
                total = (answers * weights[places]).sum()
                found[places] = torch.autograd.grad(total, images, retain_graph=True, materialize_grads=True)[0]
        return found.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
