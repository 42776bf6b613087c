"""Scores that a gradient with respect to the images can be taken of, a piece of the rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from charpy.engine import QueryEngine, Way, as_scores
from charpy.errors import ModelError
from charpy.global_state import default_dtype_kept
from charpy.pixels import as_images
from charpy.threads import threads


class Gradients(NamedTuple):
    """Loss `(M,)`, its gradient `(M, C, H, W)` with respect to the images, and the scores `(M, K)` behind it.

    A value of a gradient that is not finite is given as 0: the others still lead somewhere.
    """

    loss: torch.Tensor
    gradient: torch.Tensor
    scores: torch.Tensor


class Jacobian(NamedTuple):
    """Scores `(M, K)`, and the gradients of J of them with respect to the images, `(M, J, C, H, W)`, 0 as there."""

    scores: torch.Tensor
    gradients: torch.Tensor


class Differentiation:
    """How the engine's model is differentiated.

    Attributes:
        way: what computes the scores.
    """

    def __init__(self, engine: QueryEngine) -> None:
        self._engine = engine
        self.way: Way = engine.gradient or engine.bare

    def pieces(self, rows: torch.Tensor, places: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`rows` and their `places`, as many at a time as are computed at once."""
        size = min(self.way.batch, self._engine.most)
        return zip(torch.split(rows, size), torch.split(places, size), strict=True)

    def scores(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images that ask for a gradient, and the scores `(M, K)` computed from them, on the device of `rows`.

        Raises:
            ModelError: the model's answer does not depend on what can be differentiated.
        """
        images = as_images(rows).detach().clone().requires_grad_(True)
        with torch.enable_grad(), threads(self._engine.threads), default_dtype_kept():
            answers = self.way.forward(images.to(self._engine.model.device))
            if not answers.requires_grad:
                raise ModelError(
                    "the model's scores are not differentiable",
                    found="an answer without a gradient",
                    hint="declare its access as SCORES, so that attacks without gradients assess it",
                )
            return images, as_scores(answers, self._engine.output).to(rows.device)


def slope(values: torch.Tensor, images: torch.Tensor, *, again: bool = False) -> torch.Tensor:
    """The gradient of the sum of `values`, 0 where none reaches the images; `again`: the graph is needed once more."""
    found: torch.Tensor = torch.autograd.grad(values.sum(), images, retain_graph=again, materialize_grads=True)[0]
    return found


def finite(gradient: torch.Tensor) -> torch.Tensor:
    """`gradient` with 0 for what is not finite, in place."""
    return gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
