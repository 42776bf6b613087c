"""Randomised ablation (Levine & Feizi 2020): the vote of a model over images of which few pixels are kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch

from charpy.errors import ModelError
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.random import Random
from charpy.voting import VotingDefense, VotingModel, VotingParams


class RandomizedAblation(VotingDefense):
    """Answers with the share of votes of the model over copies of the image that keep a few random pixels.

    Each vote sees `keep` places, drawn uniformly without replacement, with all their channels; the others are NULL. An
    adversary who changes r pixels changes only votes that see one of them, at most a share 1 - C(d - r, k) / C(d, k).
    The certifier `randomized_ablation` turns that into numbers of pixels.

    Differs from the paper: for a model that was not trained with its encoding, NULL is a colour, `fill`; a kept pixel
    of that colour looks like NULL, which costs accuracy but no soundness. `encoding: doubled` is the paper's: channels
    (x, 1 - x), NULL (0, 0), for a model of 2 C channels.
    """

    class Params(VotingParams):
        """How much is kept, what NULL is, and the number of draws."""

        keep: int = param(
            45, ge=1, description="pixels that are kept", unit="pixels", source="Levine & Feizi 2020, k for MNIST"
        )
        encoding: Literal["fill", "doubled"] = param("fill", description="how the model inside is told of NULL")
        fill: float = param(0.5, ge=0, le=1, description="value of NULL (encoding: fill)", source="ours")

    def wrap(self, model: Model) -> Ablated:
        """The model behind the ablation: scores from any model, gradients from one that gives them."""
        return Ablated(model, self.params)


class Ablated(VotingModel):
    """Votes over images of which `keep` pixels are left."""

    def __init__(self, base: Model, params: RandomizedAblation.Params) -> None:
        super().__init__(base, params)
        self.keep, self.encoding, self.fill = params.keep, params.encoding, params.fill
        if self.encoding == "doubled" and base.input_shape is not None:
            channels, height, width = base.input_shape
            if channels % 2:
                raise ModelError(
                    "the doubled encoding is for a model with twice the channels of an image",
                    where="randomized_ablation",
                    found=f"(C, H, W) = {base.input_shape}",
                    hint="use `encoding: fill` for a model that was not trained with it",
                )
            self.input_shape = (channels // 2, height, width)

    def draw(
        self, random: Random, rows: torch.Tensor, draws: torch.Tensor, shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """bool `(B, 1, H, W)`: the places that are kept, the `keep` with the largest of d random words."""
        _, height, width = shape
        if self.keep > height * width:
            raise ModelError(
                "more pixels are to be kept than an image has",
                where="randomized_ablation",
                found=self.keep,
                expected=f"at most {height * width}",
            )
        chosen = random.words(rows, draws, height * width).topk(self.keep, dim=1, sorted=False).indices
        kept = torch.zeros(len(rows), height * width, dtype=torch.bool, device=rows.device)
        return kept.scatter_(1, chosen, value=True).view(-1, 1, height, width)

    def apply(self, images: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """Images whose other places are NULL."""
        if self.encoding == "fill":
            return torch.where(changes, images, self.fill)
        return torch.cat([torch.where(changes, half, 0.0) for half in (images, 1 - images)], dim=-3)

    def settings(self) -> Mapping[str, Any]:
        """What is kept, and what NULL is."""
        return {"keep": self.keep, "encoding": self.encoding, "fill": self.fill}
