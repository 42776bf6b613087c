"""The oracle: the counted, budgeted, access-limited view of a model that attacks get instead of the model.

It counts every row per sample, stops a sample at its budget, and records every misclassified candidate inside the
threat model itself, whatever the attack says about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from charpy import losses
from charpy.engine import QueryEngine, Way, as_scores
from charpy.errors import AccessError, BudgetError, ModelError, PluginError
from charpy.interfaces.model import Model
from charpy.ledger import Candidates, Ledger, rank_among_equals
from charpy.losses import Objective
from charpy.pixels import as_images, inside, quantise, snap
from charpy.threads import threads
from charpy.threat import Access, Grid, ThreatModel

PATIENCE = 1000
"""Calls in a row that may be refused whole before the attack is stopped."""

Plant = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""`(rows (M, C, H, W), owner (M,), answers) -> answers`, differentiable in `answers`."""


class Gradients(NamedTuple):
    """Loss `(M,)`, its gradient `(M, C, H, W)` with respect to the images, and the scores `(M, K)` behind it."""

    loss: torch.Tensor
    gradient: torch.Tensor
    scores: torch.Tensor


class Jacobian(NamedTuple):
    """Scores `(M, K)`, and the gradient of J of them with respect to the images, `(M, J, C, H, W)`."""

    scores: torch.Tensor
    gradients: torch.Tensor


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
        plant: changes what the model answers, to plant adversarial examples (`charpy.planted`).

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
        plant: Plant | None = None,
    ) -> None:
        self._engine, self._model, self._threat = engine, model, threat
        originals = quantise(images) if threat.grid is Grid.EIGHT_BIT else as_images(images)
        self._labels, self._targets = labels, targets
        self._ledger = Ledger(originals, threat, minimise=minimise)
        self._tick, self._plant = tick, plant
        self._refused_in_a_row = self._gradient_rows = 0
        self._refuted = False

    @property
    def threat(self) -> ThreatModel:
        """What the attack may do."""
        return self._threat

    @property
    def rows(self) -> int:
        """Model rows spent on all samples together."""
        return int(self._ledger.queries.sum())

    @property
    def gradient_rows(self) -> int:
        """Those of `rows` that a gradient was asked for."""
        return self._gradient_rows

    @property
    def refuted(self) -> bool:
        """Whether the model as given contradicted the engine on a candidate; from then on nothing is answered."""
        return self._refuted

    @property
    def active(self) -> torch.Tensor:
        """bool `(N,)`: samples that are worth another query (not done, not out of budget)."""
        active = self._ledger.active
        return torch.zeros_like(active) if self._refuted else active

    @property
    def queries(self) -> torch.Tensor:
        """int64 `(N,)`: rows spent so far."""
        return self._ledger.queries.clone()

    @property
    def batch(self) -> int:
        """Rows that fill one batch of the model: an attack that asks about fewer at a time wastes some."""
        return self._engine.chosen.batch

    @property
    def num_classes(self) -> int:
        """K, 0 for a model that gives labels only."""
        return self._engine.num_classes

    @property
    def gradient_batch(self) -> int:
        """As `batch`, for rows whose gradient is asked."""
        return self._gradient_way.batch

    @property
    def remaining(self) -> torch.Tensor:
        """int64 `(N,)`: rows left in the budget of samples that are still active, else 0."""
        return torch.where(self.active, self._threat.queries - self._ledger.queries, 0)

    def recorded(self) -> Candidates:
        """What was found so far; the evaluator hands it to the judge."""
        return self._ledger.recorded()

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

    def fitness(self, candidates: torch.Tensor, owner: torch.Tensor, loss: str | Objective = "margin") -> torch.Tensor:
        """float32 `(M,)` to minimise; `loss` as for `loss_and_gradient`. Refused rows are +inf."""
        scores = self.scores(candidates, owner)
        rows = torch.arange(len(owner), device=owner.device)
        return self._objective(loss, owner)(scores, rows).nan_to_num(nan=torch.inf)

    def loss_and_gradient(
        self,
        candidates: torch.Tensor,
        owner: torch.Tensor,
        loss: str | Objective = "margin",
        *,
        rehearsal: bool = False,
    ) -> Gradients:
        """Loss, its gradient and the scores of each candidate; each row counts as one query.

        The gradient is taken at the image that the model was asked (on the grid, where there is one). Refused rows have
        loss +inf, gradient 0 and scores NaN.

        Args:
            candidates: `(M, C, H, W)`, float images in [0, 1] or uint8 pixels.
            owner: int64 `(M,)`, the sample that each row belongs to and is charged to.
            loss: a name of `charpy.losses.LOSSES`, taken with the samples' labels and targets; or an `Objective`, for
                a loss of the attack's own, such as one toward a class that it chose for each row.
            rehearsal: the rows are charged, but none of them becomes a witness or settles its sample: for an attack
                whose images only count together, such as one perturbation for all samples.
        """
        self._need(Access.GRADIENTS)
        rows, allowed = self._admit(candidates, owner)
        values = torch.full((len(candidates),), torch.inf, device=owner.device)
        gradient = torch.zeros(candidates.shape, device=owner.device)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        if not len(rows):
            self._refuse()
            return Gradients(values, gradient, scores)
        objective = self._objective(loss, owner)
        whole = len(rows) == len(candidates)
        for piece, places in self._pieces(rows, allowed):
            images, answers = self._differentiable(piece, owner[places])
            with torch.enable_grad():
                value = objective(answers, places)
                slope = torch.autograd.grad(value.sum(), images)[0]
            values[places], scores[places] = value.detach(), answers.detach()
            if whole:
                gradient[places[0] : places[-1] + 1] = slope
            else:
                gradient[places] = slope
        self._ledger.watch(owner[allowed], gradient if whole else gradient[allowed])
        self._gradient_rows += len(rows)
        self._record(rows, owner[allowed], scores if whole else scores[allowed], self._gradient_way, keep=not rehearsal)
        return Gradients(values, gradient, scores)

    def jacobian(self, candidates: torch.Tensor, owner: torch.Tensor, classes: torch.Tensor) -> Jacobian:
        """Scores of each candidate and the gradients of some of them: J backward passes, charged as J queries a row.

        A row is refused (scores NaN, gradients 0) unless all its J queries are left in the budget.

        Args:
            candidates: `(M, C, H, W)`.
            owner: int64 `(M,)`.
            classes: int64 `(M, J)`, the scores whose gradients are wanted.
        """
        self._need(Access.GRADIENTS)
        each = classes.shape[1]
        rows, allowed = self._admit(candidates, owner, each)
        gradients = torch.zeros(len(candidates), each, *candidates.shape[1:], device=owner.device)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        if not len(rows):
            self._refuse()
            return Jacobian(scores, gradients)
        for piece, places in self._pieces(rows, allowed):
            images, answers = self._differentiable(piece, owner[places])
            wanted = answers.gather(1, classes[places])
            for nth in range(each):
                last = nth == each - 1
                gradients[places, nth] = torch.autograd.grad(wanted[:, nth].sum(), images, retain_graph=not last)[0]
            scores[places] = answers.detach()
        self._ledger.watch(owner[allowed], gradients[allowed].flatten(1, 2))
        self._gradient_rows += len(rows) * each
        self._record(rows, owner[allowed], scores[allowed], self._gradient_way, each)
        return Jacobian(scores, gradients)

    @property
    def _gradient_way(self) -> Way:
        return self._engine.gradient or self._engine.bare

    def _pieces(self, rows: torch.Tensor, places: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = self.gradient_batch
        return zip(torch.split(rows, size), torch.split(places, size), strict=True)

    def _differentiable(self, rows: torch.Tensor, owner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images that ask for a gradient, and the scores computed from them."""
        images = as_images(rows).detach().clone().requires_grad_(True)
        with torch.enable_grad(), threads(self._engine.threads):
            answers = self._gradient_way.forward(images.to(self._model.device))
            if not answers.requires_grad:
                raise ModelError(
                    "the model's scores are not differentiable",
                    found="an answer without a gradient",
                    hint="declare its access as SCORES, so that attacks without gradients assess it",
                )
            return images, self._planted(rows, owner, as_scores(answers, self._engine.output).to(owner.device))

    def _planted(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return answers if self._plant is None else self._plant(rows, owner, answers)

    def _objective(self, loss: str | Objective, owner: torch.Tensor) -> Objective:
        if not isinstance(loss, str):
            return loss
        named = losses.loss_named(loss)
        labels, targets = self._labels[owner], None if self._targets is None else self._targets[owner]
        return lambda scores, rows: named(scores, labels[rows], None if targets is None else targets[rows])

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
        answers = self._planted(rows, owner[allowed], self._engine.answers(rows).to(owner.device))
        self._record(rows, owner[allowed], answers, self._engine.chosen)
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

    def _admit(self, candidates: torch.Tensor, owner: torch.Tensor, each: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows that the budget and the sample's state allow, as they will be asked, and their positions.

        `each` is what one row costs.
        """
        if candidates.shape[1:] != self._ledger.originals.shape[1:] or owner.shape != candidates.shape[:1]:
            raise PluginError(
                "the attack asked about rows of the wrong shape",
                found=f"candidates {tuple(candidates.shape)}, owner {tuple(owner.shape)}",
                expected=f"(M, {', '.join(map(str, self._ledger.originals.shape[1:]))}) and (M,)",
            )
        left = self.remaining[owner] // each
        if bool((left >= len(owner)).all()):
            allowed = torch.arange(len(owner), device=owner.device)
            rows = candidates
        else:
            allowed = (rank_among_equals(owner) < left).nonzero()[:, 0]
            rows = candidates[allowed]
        if len(allowed):
            self._refused_in_a_row = 0
        if self._threat.grid is Grid.EIGHT_BIT:
            if rows.dtype == torch.uint8:
                return rows, allowed
            return snap(self._threat, self._ledger.originals[owner[allowed]], rows), allowed
        return as_images(rows).nan_to_num(nan=0.0, posinf=1.0, neginf=0.0).clamp(0, 1), allowed

    def _record(
        self,
        rows: torch.Tensor,
        owner: torch.Tensor,
        answers: torch.Tensor,
        way: Way,
        each: int = 1,
        *,
        keep: bool = True,
    ) -> None:
        """Charge the rows that were answered; `keep` each that reaches the goal inside the threat model."""
        number = self._ledger.charge(owner, each)
        labels = self._labels[owner]
        if answers.ndim == 2:
            finite = answers.isfinite().all(1)
            if not bool(finite.all()):
                self._ledger.invalid[owner[~finite]] = True
            targets = None if self._targets is None else self._targets[owner]
            margins = losses.margin(answers, labels, targets)
            if keep:
                self._ledger.follow(owner, margins)
            reached = finite & (margins < -self._engine.slack)
        else:
            reached = answers != labels if self._targets is None else answers == self._targets[owner]
        hit = reached.nonzero()[:, 0]
        if keep and len(hit):
            self._keep(rows[hit], owner[hit], number[hit], way)
        if self._tick is not None:
            settled = torch.where(self.active, self._ledger.queries / self._threat.queries, 1.0)
            self._tick(float(settled.mean()), self.rows)

    def _confirmed(self, rows: torch.Tensor, owner: torch.Tensor, way: Way) -> bool:
        """Whether the model as given misclassifies these rows too; not asked where it answered itself, not charged."""
        if way.name == self._engine.bare.name:
            return True
        answers = self._planted(rows, owner, self._engine.as_given(rows).to(owner.device))
        labels = answers.argmax(1) if answers.ndim == 2 else answers
        wrong = labels != self._labels[owner] if self._targets is None else labels == self._targets[owner]
        return bool(wrong.all())

    def _keep(self, rows: torch.Tensor, owner: torch.Tensor, number: torch.Tensor, way: Way) -> None:
        """Keep misclassified `rows` inside the threat model, unless the model as given says otherwise."""
        within = inside(self._threat, self._ledger.originals[owner], rows)
        if not bool(within.any()):
            return
        rows, owner, number = rows[within], owner[within], number[within]
        if self._confirmed(rows, owner, way):
            self._ledger.keep(rows, owner, number)
        else:
            self._refuted = True
