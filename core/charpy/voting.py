"""Votes of a classifier over random changes of its image: the model that answers with their shares, and proofs of it.

A defence says how an image is changed (`VotingModel.draw`, `VotingModel.apply`), a certifier how far a share of votes
reaches (`VoteCertifier.covered`); what they have in common is here.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch.utils.checkpoint import checkpoint

from charpy.errors import ModelError
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Defense, GradientPath
from charpy.interfaces.model import Model, Output
from charpy.random import Random, sample_keys
from charpy.threat import Access, ThreatModel

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


def lower_bound(counts: torch.Tensor, total: int, alpha: float) -> torch.Tensor:
    """float64 `(N,)` one-sided lower bounds of binomial shares (Clopper & Pearson 1934): P(share < bound) <= alpha.

    The p with P(X >= count | p) = alpha, a quantile of a beta distribution; 0 where the count is 0.
    """
    from scipy.special import betaincinv

    count = counts.to("cpu", torch.float64)
    bound = torch.as_tensor(betaincinv(count.clamp_min(1).numpy(), (total - count + 1).numpy(), alpha))
    return torch.where(count > 0, bound, 0.0)


class Estimate(NamedTuple):
    """Whether the first draws choose the label, and the lower bound of its share of votes (0 where they do not)."""

    right: bool
    bound: float


class VoteCertifier(Certifier):
    """Proofs about a vote over infinitely many draws (CERTIFY of Cohen, Rosenfeld & Kolter 2019, section 3.2.2).

    `draws_select` draws choose a class, `draws` fresh ones bound its share of votes from below, and the bound says how
    far no image can change the majority. Each proof holds with probability 1 - `alpha` over the draws, which are keyed
    by (seed, image). It is a proof of the smoothed model, whose finite vote the wrapped model is: where its share is
    near 1/2, the finite vote may differ. The draws of a sample are made once and serve every level.

    That no other class is reached is more than a targeted threat asks, so both goals are covered.
    """

    arithmetic = Arithmetic.REAL
    of = "the smoothed model"
    voting: ClassVar[type[VotingModel]]
    defence: ClassVar[str]

    class Params(BaseParams):
        """Draws and error probability; the defaults but for `draws` are those of the paper."""

        draws_select: int = param(
            100, ge=1, description="draws that choose the class", unit="draws", source="Cohen et al. 2019, n0"
        )
        draws: int = param(
            10_000, ge=1, description="draws that bound its share", unit="draws", source="ours; the paper: n = 100,000"
        )
        alpha: float = param(
            0.001, gt=0, lt=1, description="probability that one proof is wrong", source="Cohen et al. 2019"
        )
        seed: int = param(0, description="of the draws")
        batch: int = param(1024, ge=1, description="rows that the model is asked at once", unit="rows", source="ours")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._known: WeakKeyDictionary[Model, dict[str, Estimate]] = WeakKeyDictionary()
        self._last: tuple[Mapping[str, Any], dict[str, Estimate]] = ({}, {})

    @abstractmethod
    def covered(
        self, model: VotingModel, images: torch.Tensor, bounds: torch.Tensor, threat: ThreatModel
    ) -> torch.Tensor:
        """bool `(N,)`: whether a class whose share is at least `bounds` float64 `(N,)` keeps the majority."""

    def supports(self, model: Model, threat: ThreatModel) -> str:
        """A model whose outermost defence is the one that this certifier is for, and a norm of `norms`."""
        if not isinstance(model, self.voting):
            return f"it proves nothing but of a model whose outermost defence is {self.defence!r}"
        if threat.norm not in self.norms:
            return f"it has no proof for {threat.norm}, only for {', '.join(sorted(self.norms))}"
        return ""

    @torch.no_grad()
    def certify(self, model: Model, images: torch.Tensor, labels: torch.Tensor, threat: ThreatModel) -> torch.Tensor:
        """bool `(N,)`: proven, with probability 1 - alpha each, that the smoothed model keeps the label.

        Raises:
            ModelError: `supports` gives a reason.
        """
        reason = self.supports(model, threat)
        if reason or not isinstance(model, VotingModel):
            raise ModelError(f"this model cannot be certified: {reason}", where=type(self).__name__)
        return self.covered(model, images.cpu(), self.bounds(model, images, labels), threat).to(labels.device)

    @torch.no_grad()
    def bounds(self, model: VotingModel, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """float64 `(N,)` lower bounds of the label's share of votes; 0 where the first draws chose another class."""
        known = self._known.setdefault(model, {})
        self._last = (model.settings(), known)
        state, keys = model.state_digest(), [_digest(image) for image in images]
        names = [f"{state}/{label}/{key}" for label, key in zip(labels.tolist(), keys, strict=True)]
        fresh = {name: place for place, name in enumerate(names) if name not in known}
        if fresh:
            places = list(fresh.values())
            random = Random(self.params.seed, sample_keys([keys[place] for place in places]).to(model.device))
            found = self._estimate(model, images[places].to(model.device), labels[places].to(model.device), random)
            known.update(zip(fresh, found, strict=True))
        return torch.tensor([known[name].bound for name in names], dtype=torch.float64)

    def detail(self) -> dict[str, object]:
        """What a report needs to know: of what the proofs are, how sure they are, on how many samples it was silent."""
        settings, known = self._last
        return {
            **{name: getattr(self.params, name) for name in ("alpha", "draws_select", "draws", "seed")},
            **settings,
            "samples": len(known),
            "abstained": sum(right and bound <= 0.5 for right, bound in known.values()),
            "other_class": sum(not right for right, _ in known.values()),
        }

    def _estimate(
        self, model: VotingModel, images: torch.Tensor, labels: torch.Tensor, random: Random
    ) -> list[Estimate]:
        everyone = torch.arange(len(images), device=images.device)
        first = self._ask(model, images, everyone, random.fork("select"), self.params.draws_select)
        chosen = torch.cat([votes for _, votes in first]).view(len(images), -1).mode(1).values
        hits = torch.zeros_like(everyone)
        right = everyone[chosen == labels]
        for owner, votes in self._ask(model, images, right, random.fork("estimate"), self.params.draws):
            hits.index_add_(0, owner, (votes == chosen[owner]).to(torch.int64))
        bounds = lower_bound(hits, self.params.draws, self.params.alpha)
        return [Estimate(*pair) for pair in zip((chosen == labels).tolist(), bounds.tolist(), strict=True)]

    def _ask(
        self, model: VotingModel, images: torch.Tensor, rows: torch.Tensor, random: Random, count: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """`(owner, votes)`, `(B,)` each: `count` draws of each of the images at `rows`, in full batches."""
        shape = (images.shape[1], images.shape[2], images.shape[3])
        for first in range(0, len(rows) * count, self.params.batch):
            last = min(first + self.params.batch, len(rows) * count)
            place = torch.arange(first, last, device=rows.device)
            owner = rows[place // count]
            seen = model.apply(images[owner], model.draw(random, owner, place % count, shape))
            yield owner, model.votes(model.base.predict(seen))


def _digest(image: torch.Tensor) -> str:
    return hashlib.blake2b(image.to("cpu", torch.float32).contiguous().numpy().tobytes(), digest_size=16).hexdigest()


def _rows(images: torch.Tensor) -> int:
    return ROWS if images.device.type == "cpu" else 16 * ROWS
