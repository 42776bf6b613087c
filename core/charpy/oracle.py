"""The oracle: the counted, budgeted, access-limited view of a model that attacks get instead of the model.

It counts every row per sample, stops a sample at its budget, and records every misclassified candidate inside the
threat model itself, whatever the attack says about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch

from charpy.attached import Attached
from charpy.engine import QueryEngine, Way, as_scores
from charpy.errors import AccessError, ModelError
from charpy.global_state import default_dtype_kept
from charpy.interfaces.model import Model, Output
from charpy.ledger import Candidates, Ledger, rank_among_equals
from charpy.losses import Aim, Objective
from charpy.pixels import as_images, inside, quantise
from charpy.threads import threads
from charpy.threat import Access, Grid, ThreatModel

Plant = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""`(rows (M, C, H, W), owner (M,), answers) -> answers`, differentiable in `answers`."""


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
    was asked can be stored. As for the judge, the predicted class is the first of the largest scores. A witness
    candidate that a faster engine found is shown to the model as given at once, and kept if that one agrees. If it does
    not, although the engine was surer than it can be wrong (`QueryEngine.slack`), the oracle falls silent and `refuted`
    is True: the unit is then computed on the model as given.
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
        self._aim = Aim(labels, targets)
        self._ledger = Ledger(originals, threat, minimise=minimise)
        self._tick, self._plant = tick, plant
        self._gradient_rows = 0
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
        return self._aim.objective(loss, owner)(scores, rows).nan_to_num(nan=torch.inf)

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
        rows, allowed = self._ledger.admit(candidates, owner, self.remaining)
        values = torch.full((len(candidates),), torch.inf, device=owner.device)
        gradient = torch.zeros(candidates.shape, device=owner.device)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        if not len(rows):
            return Gradients(values, gradient, scores)
        objective = self._aim.objective(loss, owner)
        whole = len(rows) == len(candidates)

        def work(piece: torch.Tensor, places: torch.Tensor) -> None:
            images, answers = self._differentiable(piece, owner[places])
            with torch.enable_grad():
                value = objective(answers, places)
                slope = _slope(value, images)
            values[places], scores[places] = value.detach(), answers.detach()
            if whole:
                gradient[places[0] : places[-1] + 1] = slope
            else:
                gradient[places] = slope

        for piece, places in self._pieces(rows, allowed):
            self._engine.in_halves(work, piece, places)
        self._ledger.watch(owner[allowed], gradient if whole else gradient[allowed])
        self._gradient_rows += len(rows)
        self._record(rows, owner[allowed], scores if whole else scores[allowed], self._gradient_way, keep=not rehearsal)
        return Gradients(values, _finite(gradient), scores)

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
        rows, allowed = self._ledger.admit(candidates, owner, self.remaining // each)
        gradients = torch.zeros(len(candidates), each, *candidates.shape[1:], device=owner.device)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        if not len(rows):
            return Jacobian(scores, gradients)

        def work(piece: torch.Tensor, places: torch.Tensor) -> None:
            images, answers = self._differentiable(piece, owner[places])
            wanted = answers.gather(1, classes[places])
            for nth in range(each):
                gradients[places, nth] = _slope(wanted[:, nth], images, again=nth < each - 1)
            scores[places] = answers.detach()

        for piece, places in self._pieces(rows, allowed):
            self._engine.in_halves(work, piece, places)
        self._ledger.watch(owner[allowed], gradients[allowed])
        self._gradient_rows += len(rows) * each
        self._record(rows, owner[allowed], scores[allowed], self._gradient_way, each)
        return Jacobian(scores, _finite(gradients))

    def attached(self, candidates: torch.Tensor, owner: torch.Tensor) -> Attached:
        """Scores of each candidate, one query a row, whose slopes can be asked once they are seen.

        For attacks that bring a loss of their own, such as those of other libraries. Arguments are as of `scores`.
        """
        self._need(Access.GRADIENTS)
        rows, allowed = self._ledger.admit(candidates, owner, self.remaining)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        pieces = []
        for piece, places in self._pieces(rows, allowed) if len(rows) else ():
            images, answers = self._differentiable(piece, owner[places])
            scores[places] = answers.detach()
            pieces.append((places, images, answers))
        if len(rows):
            self._gradient_rows += len(rows)
            self._record(rows, owner[allowed], scores[allowed], self._gradient_way)

        def pay(again: torch.Tensor) -> torch.Tensor:
            """Charge another query to rows at these places; which of them the budget allows."""
            paid = rank_among_equals(owner[again]) < self.remaining[owner[again]]
            self._ledger.charge(owner[again[paid]], 1)
            self._gradient_rows += int(paid.sum())
            return paid

        return Attached(scores, candidates.shape, pieces, pay)

    @property
    def _gradient_way(self) -> Way:
        return self._engine.gradient or self._engine.bare

    def _pieces(self, rows: torch.Tensor, places: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        size = min(self.gradient_batch, self._engine.most)
        return zip(torch.split(rows, size), torch.split(places, size), strict=True)

    def _differentiable(self, rows: torch.Tensor, owner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images that ask for a gradient, and the scores computed from them."""
        images = as_images(rows).detach().clone().requires_grad_(True)
        with torch.enable_grad(), threads(self._engine.threads), default_dtype_kept():
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
        rows, allowed = self._ledger.admit(candidates, owner, self.remaining)
        if not len(rows):
            return self._refusals(len(candidates), owner.device)
        answers = self._planted(rows, owner[allowed], self._engine.answers(rows).to(owner.device))
        self._record(rows, owner[allowed], answers, self._engine.chosen)
        if len(rows) == len(candidates):
            return answers
        return self._refusals(len(candidates), owner.device).index_copy(0, allowed, answers)

    def _refusals(self, count: int, device: torch.device) -> torch.Tensor:
        if self._engine.output is Output.LABELS:
            return torch.full((count,), -1, device=device)
        return torch.full((count, self._engine.num_classes), torch.nan, device=device)

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
        if answers.ndim == 2:
            finite = answers.isfinite().all(1)
            if not bool(finite.all()):
                self._ledger.invalid[owner[~finite]] = True
            margins = self._aim.margins(answers, owner)
            if keep:
                self._ledger.follow(owner, margins)
            near, sure = finite & (margins <= 0), margins < -self._engine.slack
        else:
            near = sure = self._aim.reached(answers, owner)
        hit = near.nonzero()[:, 0]
        if keep and len(hit):
            self._keep(rows[hit], owner[hit], number[hit], answers[hit], sure[hit], way)
        if self._tick is not None:
            settled = torch.where(self.active, self._ledger.queries / self._threat.queries, 1.0)
            self._tick(float(settled.mean()), self.rows)
        self._saw(rows, owner, answers, keep)

    def _saw(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor, keep: bool) -> None:
        """A place for an oracle that looks at every answered row, too; `keep` as of `_record`."""

    def _keep(
        self,
        rows: torch.Tensor,
        owner: torch.Tensor,
        number: torch.Tensor,
        answers: torch.Tensor,
        sure: torch.Tensor,
        way: Way,
    ) -> None:
        """Keep those of `rows` inside the threat model that the model as given misclassifies.

        It is not asked where it answered itself, and not charged. `sure`: it must agree, or the engine is refuted.
        """
        within = inside(self._threat, self._ledger.originals[owner], rows).nonzero()[:, 0]
        if not len(within):
            return
        rows, owner, number, answers, sure = (part[within] for part in (rows, owner, number, answers, sure))
        if way.name != self._engine.bare.name:
            answers = self._planted(rows, owner, self._engine.as_given(rows).to(owner.device))
        wrong = self._aim.reached(answers, owner)
        if bool((sure & ~wrong).any()):
            self._refuted = True
        elif bool(wrong.any()):
            self._ledger.keep(rows[wrong], owner[wrong], number[wrong])


def _slope(values: torch.Tensor, images: torch.Tensor, *, again: bool = False) -> torch.Tensor:
    """The gradient of the sum of `values`, 0 where none reaches the images; `again`: the graph is needed once more."""
    slope: torch.Tensor = torch.autograd.grad(values.sum(), images, retain_graph=again, materialize_grads=True)[0]
    return slope


def _finite(gradient: torch.Tensor) -> torch.Tensor:
    """`gradient` with 0 for what is not finite, in place."""
    return gradient.nan_to_num_(nan=0.0, posinf=0.0, neginf=0.0)
