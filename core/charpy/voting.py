"""Votes of a classifier over random changes of its image: the model that answers with their shares.

A defence says how an image is changed (`VotingModel.draw`, `VotingModel.apply`); what such defences have in common is
here, and what proofs of a vote have in common in `charpy.vote_certifier`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Defense, GradientPath
from charpy.interfaces.model import Model, Output
from charpy.random import Random
from charpy.threat import Access

ROWS = 256
"""Rows that the model inside is asked at once, at most; on an accelerator 16 times as many."""

NOBODY = -1
"""The vote where the model inside answers NaN or infinity, or a label that is no class."""


class VotingParams(BaseParams):
    """What every defence by vote has."""

    draws: int = param(100, ge=1, description="random changes of an image that vote", unit="draws", source="ours")
    seed: int = param(0, description="of the changes; they are the same for every image")
    num_classes: int | None = param(None, ge=2, description="K, where the model inside gives labels and does not say")


class VotingDefense(Defense):
    """A defence by vote; `wrap` says by which one."""

    gradient = GradientPath.BPDA
    randomised = True
    Params = VotingParams

    @abstractmethod
    def wrap(self, model: Model) -> VotingModel:
        """The vote: scores from any model, gradients from one that gives them."""


class VotingModel(Model):
    """The share of votes `(N, K)` of a model over a fixed set of random changes of each image.

    The same changes serve every image, so an answer depends on nothing but its image. NaN where a vote is for nobody.
    Where the model inside gives gradients so does this one: the answer is the shares, its gradient is that of the mean
    softmax (Salman et al. 2019, Provably robust deep learning via adversarially trained smoothed classifiers, eq. 6).

    Args:
        base: the model inside; its labels suffice.
        params: draws, seed and number of classes.
    """

    output = Output.PROBABILITIES

    def __init__(self, base: Model, params: VotingParams) -> None:
        super().__init__()
        self.base, self.draws, self.seed = base, params.draws, params.seed
        gradients = base.access is Access.GRADIENTS and base.output is not Output.LABELS
        self.access = Access.GRADIENTS if gradients else Access.SCORES
        self.input_shape = base.input_shape
        self.num_classes = base.num_classes or params.num_classes

    @abstractmethod
    def draw(
        self, random: Random, rows: torch.Tensor, draws: torch.Tensor, shape: tuple[int, int, int]
    ) -> torch.Tensor:
        """Random changes `(B, C or 1, H, W)` of images of `shape` `(C, H, W)`; `rows` and `draws` as in `Random`."""

    @abstractmethod
    def apply(self, images: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """What the model inside sees, of images and changes `(..., C, H, W)` that broadcast."""

    @abstractmethod
    def settings(self) -> Mapping[str, Any]:
        """What makes the vote what it would be with infinitely many draws."""

    @property
    def device(self) -> torch.device:
        """Where the model inside wants its images."""
        return self.base.device

    @property
    def notes(self) -> list[str]:
        """Those of the model inside, and what the shares are."""
        own = f"scores are shares of {self.draws} votes over the same random changes of every image"
        return [*getattr(self.base, "notes", ()), own]

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Shares `(N, K)` of the votes, for images `(N, C, H, W)`."""
        gradients = torch.is_grad_enabled() and images.requires_grad and self.access is Access.GRADIENTS
        with torch.set_grad_enabled(gradients):
            return torch.cat([self._shares(piece) for piece in torch.split(images, _rows(images))])

    def votes(self, answers: torch.Tensor) -> torch.Tensor:
        """int64 `(B,)` labels, or NOBODY, of what the model inside answers."""
        if self.base.output is Output.LABELS:
            return answers.to(torch.int64).clamp_min(NOBODY)
        return torch.where(answers.isfinite().all(1), answers.argmax(1), NOBODY)

    def fingerprint(self) -> Mapping[str, str]:
        """The model inside (`base.*`), the kind of vote, its settings and its draws."""
        own = {"voting": type(self).__name__, "draws": str(self.draws), "seed": str(self.seed)}
        own |= {key: str(value) for key, value in self.settings().items()}
        return {**{f"base.{key}": value for key, value in self.base.fingerprint().items()}, **own}

    def state_digest(self) -> str:
        """The state of the model inside."""
        return self.base.state_digest()

    def _shares(self, images: torch.Tensor) -> torch.Tensor:
        """`(N, K)`; where a gradient is wanted, only the images are kept for it and the votes are computed again."""
        random = Random(self.seed, torch.zeros(1, dtype=torch.int64, device=images.device)).fork("votes")
        shape = (images.shape[1], images.shape[2], images.shape[3])
        total = torch.zeros(1, device=images.device)
        every = torch.arange(self.draws, device=images.device)
        for draws in torch.split(every, max(1, _rows(images) // max(1, len(images)))):
            changes = self.draw(random, torch.zeros_like(draws), draws, shape)
            if torch.is_grad_enabled():
                total = total + checkpoint(self._counts, images, changes, use_reentrant=False, preserve_rng_state=False)
            else:
                total = total + self._counts(images, changes)
        return total / self.draws

    def _counts(self, images: torch.Tensor, changes: torch.Tensor) -> torch.Tensor:
        """`(N, K)` votes over `changes` `(D, ...)`; with a gradient, that of the softmax."""
        answers = self.base.predict(self.apply(images[None], changes[:, None]).flatten(0, 1))
        votes = self.votes(answers)
        counts = torch.nn.functional.one_hot(votes.clamp_min(0), self._classes(answers, votes)).to(torch.float32)
        counts.masked_fill_(votes[:, None] == NOBODY, torch.nan)
        if torch.is_grad_enabled():
            soft = answers if self.base.output is Output.PROBABILITIES else answers.softmax(1)
            counts = counts + (soft - soft.detach())  # adds 0 exactly
        return counts.view(len(changes), len(images), counts.shape[1]).sum(0)

    def _classes(self, answers: torch.Tensor, votes: torch.Tensor) -> int:
        self.num_classes = (
            self.num_classes or self.base.num_classes or (answers.shape[1] if answers.ndim == 2 else None)
        )
        if self.num_classes is None:
            raise ModelError(
                "shares of votes need the number of classes, and the model inside does not say it",
                where=type(self).__name__,
                hint="give the defence `num_classes`",
            )
        if len(votes) and int(votes.max()) >= self.num_classes:
            raise ModelError(
                "the model inside predicts a label that is no class",
                where=type(self).__name__,
                found=f"label {int(votes.max())}",
                expected=f"0..{self.num_classes - 1}",
            )
        return self.num_classes


def _rows(images: torch.Tensor) -> int:
    return ROWS if images.device.type == "cpu" else 16 * ROWS
