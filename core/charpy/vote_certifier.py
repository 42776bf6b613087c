"""Proofs of a vote: how sure a share of random draws is, and the certifier that asks for them.

A certifier says how far a share of votes reaches (`VoteCertifier.covered`); what such certifiers have in common is
here.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple
from weakref import WeakKeyDictionary

import torch

from charpy.errors import ModelError
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model
from charpy.random import Random, sample_keys
from charpy.threat import ThreatModel
from charpy.voting import VotingModel


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
