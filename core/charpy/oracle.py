"""The oracle: the counted, budgeted, access-limited view of a model that attacks get instead of the model.

It counts every row per sample, stops a sample at its budget, and records every misclassified candidate inside the
threat model itself, whatever the attack says about it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from charpy import losses
from charpy.engine import QueryEngine, as_scores
from charpy.errors import AccessError, BudgetError, PluginError
from charpy.interfaces.model import Model
from charpy.pixels import as_images, distances, inside, quantise
from charpy.threads import threads
from charpy.threat import Access, Grid, ThreatModel

PATIENCE = 1000
"""Calls in a row that may be refused whole before the attack is stopped."""

FITNESS = {"margin": losses.margin, "confidence": losses.confidence}


@dataclass(frozen=True)
class Candidates:
    """What the oracle recorded for each of N samples.

    Attributes:
        images: `(N, C, H, W)` the nearest adversarial candidate, uint8 on the 8-bit grid, float32 off it.
        found: bool `(N,)`, whether there is one.
        queries: int64 `(N,)` model rows spent.
        queries_to_success: int64 `(N,)`, the row that was the first witness candidate; -1 where there is none.
        invalid: bool `(N,)`, samples for which the model answered NaN or infinity.
    """

    images: torch.Tensor
    found: torch.Tensor
    queries: torch.Tensor
    queries_to_success: torch.Tensor
    invalid: torch.Tensor


class Oracle:
    """Answers for N samples.

    Args:
        engine: where forward-only rows are computed.
        model: the model as given, for gradients.
        images: `(N, C, H, W)` originals, uint8 on the 8-bit grid or float32.
        labels, targets: int64 `(N,)`; `targets` only for a targeted threat.
        threat: access, budget, radius and grid.
        minimise: keep a broken sample active, for attacks that look for its smallest distance.
        tick: told after every batch which share of the samples' budgets is settled, and the rows spent.

    Every candidate is brought into the box [0, 1], and on the 8-bit grid rounded to it, before the model sees it: what
    was asked can be stored. A witness candidate that a faster engine found is shown to the model as given at once; if
    that one disagrees, the oracle falls silent and `refuted` is True: the unit is then computed on the model as given.
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
        minimise: bool = False,
        tick: Callable[[float, int], None] | None = None,
    ) -> None:
        self._engine, self._model, self._threat, self._minimise = engine, model, threat, minimise
        self._originals = quantise(images) if threat.grid is Grid.EIGHT_BIT else as_images(images)
        self._labels, self._targets = labels, targets
        count = len(images)
        self._queries = torch.zeros(count, dtype=torch.int64, device=images.device)
        self._success = torch.full_like(self._queries, -1)
        self._invalid = torch.zeros(count, dtype=torch.bool, device=images.device)
        self._best = self._originals.clone()
        self._distance = torch.full((count,), torch.inf, dtype=torch.float64, device=images.device)
        self._tick = tick
        self._refused_in_a_row = 0
        self._refuted = False

    @property
    def threat(self) -> ThreatModel:
        """What the attack may do."""
        return self._threat

    @property
    def rows(self) -> int:
        """Model rows spent on all samples together."""
        return int(self._queries.sum())

    @property
    def refuted(self) -> bool:
        """Whether the model as given contradicted the engine on a candidate; from then on nothing is answered."""
        return self._refuted

    @property
    def active(self) -> torch.Tensor:
        """bool `(N,)`: samples that are worth another query (not done, not out of budget)."""
        if self._refuted:
            return torch.zeros_like(self._invalid)
        done = self._invalid if self._minimise else self._invalid | (self._success >= 0)
        return ~done & (self._queries < self._threat.queries)

    @property
    def queries(self) -> torch.Tensor:
        """int64 `(N,)`: rows spent so far."""
        return self._queries.clone()

    @property
    def batch(self) -> int:
        """Rows that fill one batch of the model: an attack that asks about fewer at a time wastes some."""
        return self._engine.chosen.batch

    @property
    def remaining(self) -> torch.Tensor:
        """int64 `(N,)`: rows left in the budget of samples that are still active, else 0."""
        return torch.where(self.active, self._threat.queries - self._queries, 0)

    def recorded(self) -> Candidates:
        """What was found so far; the evaluator hands it to the judge."""
        return Candidates(
            self._best.clone(), self._success >= 0, self._queries.clone(), self._success.clone(), self._invalid.clone()
        )

    def scores(self, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """float32 `(M, K)` logit-scale scores; rows that are refused (budget, sample done) are NaN.

        Args:
            candidates: `(M, C, H, W)`, float images in [0, 1] or uint8 pixels.
            owner: int64 `(M,)`, the sample that each row belongs to and is charged to.
        """
        self._need(Access.SCORES)
        return self._ask(candidates, owner)

    def labels(self, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        """int64 `(M,)` predicted labels; refused rows are -1."""
        answers = self._ask(candidates, owner)
        if answers.dtype == torch.int64:
            return answers
        return torch.where(answers.isnan().any(1), -1, answers.argmax(1))

    def fitness(self, candidates: torch.Tensor, owner: torch.Tensor, kind: str = "margin") -> torch.Tensor:
        """float32 `(M,)` to minimise: `margin` (below 0 = goal reached) or `confidence`; refused rows are +inf."""
        scores = self.scores(candidates, owner)
        targets = None if self._targets is None else self._targets[owner]
        return FITNESS[kind](scores, self._labels[owner], targets).nan_to_num(nan=torch.inf)

    def loss_and_gradient(
        self, candidates: torch.Tensor, owner: torch.Tensor, kind: str = "margin"
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss `(M,)` and its gradient `(M, C, H, W)` with respect to the images; each row counts as one query.

        The gradient is taken at the image that the model was asked (on the grid, where there is one). Refused rows have
        loss +inf and gradient 0.
        """
        self._need(Access.GRADIENTS)
        rows, allowed = self._admit(candidates, owner)
        loss = torch.full((len(candidates),), torch.inf, device=owner.device)
        gradient = torch.zeros(candidates.shape, device=owner.device)
        if not len(rows):
            self._refuse()
            return loss, gradient
        images = as_images(rows).detach().requires_grad_(True)
        with torch.enable_grad(), threads(self._engine.threads):
            scores = as_scores(self._model.predict(images.to(self._model.device)), self._engine.output).to(owner.device)
            targets = None if self._targets is None else self._targets[owner[allowed]]
            values = FITNESS[kind](scores, self._labels[owner[allowed]], targets)
            loss[allowed] = values.detach()
            gradient[allowed] = torch.autograd.grad(values.sum(), images)[0]
        self._record(rows, owner[allowed], scores.detach())
        return loss, gradient

    def _need(self, access: Access) -> None:
        if self._threat.access < access or self._model.access < access:
            least = min(self._threat.access, self._model.access)
            raise AccessError(
                f"the attack asked for {access.name}",
                found=f"threat model: {self._threat.access.name}, model: {self._model.access.name}",
                expected=f"at most {least.name}",
                hint="declare the access that the attack needs, or choose one that needs less",
            )

    def _ask(self, candidates: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
        rows, allowed = self._admit(candidates, owner)
        if not len(rows):
            self._refuse()
            return self._refusals(len(candidates), owner.device)
        answers = self._engine.answers(rows).to(owner.device)
        self._record(rows, owner[allowed], answers)
        if len(rows) == len(candidates):
            return answers
        if answers.ndim == 1:
            return torch.full((len(candidates),), -1, device=owner.device).index_copy(0, allowed, answers)
        spread = torch.full((len(candidates), answers.shape[1]), torch.nan, device=owner.device)
        return spread.index_copy(0, allowed, answers)

    def _refuse(self) -> None:
        self._refused_in_a_row += 1
        if self._refused_in_a_row >= PATIENCE:
            raise BudgetError(
                "the attack keeps asking although every sample is done or out of budget",
                found=f"{PATIENCE} calls in a row without one row that could be answered",
                hint="loop `while task.oracle.active.any()`",
            )

    def _refusals(self, count: int, device: torch.device) -> torch.Tensor:
        if self._model.access is Access.LABELS:
            return torch.full((count,), -1, device=device)
        return torch.full((count, self._engine.num_classes), torch.nan, device=device)

    def _admit(self, candidates: torch.Tensor, owner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that the budget and the sample's state allow, as they will be asked, and their positions."""
        if candidates.shape[1:] != self._originals.shape[1:] or owner.shape != candidates.shape[:1]:
            raise PluginError(
                "the attack asked about rows of the wrong shape",
                found=f"candidates {tuple(candidates.shape)}, owner {tuple(owner.shape)}",
                expected=f"(M, {', '.join(map(str, self._originals.shape[1:]))}) and (M,)",
            )
        left = self.remaining[owner]
        if bool((left >= len(owner)).all()):
            allowed = torch.arange(len(owner), device=owner.device)
            rows = candidates
        else:
            allowed = (_rank_among_equals(owner) < left).nonzero()[:, 0]
            rows = candidates[allowed]
        if len(allowed):
            self._refused_in_a_row = 0
        if self._threat.grid is Grid.EIGHT_BIT:
            return quantise(rows), allowed
        return as_images(rows).nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1), allowed

    def _record(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> None:
        """Charge the rows that were answered; keep each that reaches the goal inside the threat model."""
        before = self._queries.clone()
        self._queries += torch.bincount(owner, minlength=len(self._queries))
        labels = self._labels[owner]
        if answers.ndim == 2:
            finite = answers.isfinite().all(1)
            if not bool(finite.all()):
                self._invalid[owner[~finite]] = True
            targets = None if self._targets is None else self._targets[owner]
            reached = finite & (losses.margin(answers, labels, targets) < -self._engine.slack)
        else:
            reached = answers != labels if self._targets is None else answers == self._targets[owner]
        hit = reached.nonzero()[:, 0]
        if len(hit):
            number = before[owner[hit]] + _rank_among_equals(owner)[hit] + 1
            self._keep(rows[hit], owner[hit], number)
        if self._tick is not None:
            settled = torch.where(self.active, self._queries / self._threat.queries, 1.0)
            self._tick(float(settled.mean()), self.rows)

    def _confirmed(self, rows: torch.Tensor, owner: torch.Tensor) -> bool:
        """Whether the model as given misclassifies these rows too; not asked where it answered itself, not charged."""
        if self._engine.chosen is self._engine.bare:
            return True
        answers = self._engine.as_given(rows).to(owner.device)
        labels = answers.argmax(1) if answers.ndim == 2 else answers
        wrong = labels != self._labels[owner] if self._targets is None else labels == self._targets[owner]
        return bool(wrong.all())

    def _keep(self, rows: torch.Tensor, owner: torch.Tensor, number: torch.Tensor) -> None:
        """Keep misclassified `rows` inside the threat model: the first one's number, the nearest one's image."""
        originals = self._originals[owner]
        within = inside(self._threat, originals, rows)
        if not bool(within.any()):
            return
        originals, rows, owner, number = originals[within], rows[within], owner[within], number[within]
        if not self._confirmed(rows, owner):
            self._refuted = True
            return
        never = torch.iinfo(torch.int64).max
        first = torch.full_like(self._success, never).scatter_reduce(0, owner, number, "amin")
        self._success = torch.where((self._success < 0) & (first < never), first, self._success)
        distance = distances(self._threat.norm, originals, rows).to(torch.float64)
        nearest = self._distance.scatter_reduce(0, owner, distance, "amin")
        better = ((distance == nearest[owner]) & (distance < self._distance[owner])).nonzero()[:, 0]
        better = better[_rank_among_equals(owner[better]) == 0]
        self._best[owner[better]] = rows[better]
        self._distance = nearest


def _rank_among_equals(owner: torch.Tensor) -> torch.Tensor:
    """int64 `(M,)`: how many earlier entries have the same value."""
    order = owner.argsort(stable=True)
    ordered = owner[order]
    place = torch.arange(len(owner), device=owner.device)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    begin = torch.where(starts, place, 0).cummax(0).values
    return torch.empty_like(place).index_copy(0, order, place - begin)
