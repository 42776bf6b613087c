"""The oracle: the counted, budgeted, access-limited view of a model that attacks get instead of the model.

It counts every row per sample, stops a sample at its budget, and records every misclassified candidate inside the
threat model itself, whatever the attack says about it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from charpy.attached import Attached
from charpy.differentiation import Differentiation, Gradients, Jacobian, finite, slope
from charpy.engine import QueryEngine
from charpy.errors import AccessError
from charpy.interfaces.model import Model, Output
from charpy.ledger import Candidates, Ledger, rank_among_equals
from charpy.losses import Aim, Objective
from charpy.pixels import as_images, quantise
from charpy.recorder import Plant, Recorder
from charpy.threat import Access, Grid, ThreatModel


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
    was asked can be stored. As for the judge, the predicted class is the first of the largest scores. Where the model
    as given refutes a faster engine (`charpy.recorder`), nothing more is answered: the unit is computed again on the
    former.
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
        self._recorder = Recorder(engine, self._ledger, self._aim, plant=plant, tick=tick, saw=self._saw)
        self._slopes = Differentiation(engine)
        self._gradient_rows = 0

    @property
    def threat(self) -> ThreatModel:
        """What the attack may do."""
        return self._threat

    @property
    def rows(self) -> int:
        """Model rows spent on all samples together."""
        return self._recorder.rows

    @property
    def gradient_rows(self) -> int:
        """Those of `rows` that a gradient was asked for."""
        return self._gradient_rows

    @property
    def refuted(self) -> bool:
        """Whether the model as given contradicted the engine on a candidate; from then on nothing is answered."""
        return self._recorder.refuted

    @property
    def active(self) -> torch.Tensor:
        """bool `(N,)`: samples that are worth another query (not done, not out of budget)."""
        return self._recorder.active

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
        return self._slopes.way.batch

    @property
    def remaining(self) -> torch.Tensor:
        """int64 `(N,)`: rows left in the budget of samples that are still active, else 0."""
        return self._recorder.remaining

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
                found = slope(value, images)
            values[places], scores[places] = value.detach(), answers.detach()
            if whole:
                gradient[places[0] : places[-1] + 1] = found
            else:
                gradient[places] = found

        for piece, places in self._slopes.pieces(rows, allowed):
            self._engine.in_halves(work, piece, places)
        self._ledger.watch(owner[allowed], gradient if whole else gradient[allowed])
        self._gradient_rows += len(rows)
        self._recorder.record(
            rows, owner[allowed], scores if whole else scores[allowed], self._slopes.way, keep=not rehearsal
        )
        return Gradients(values, finite(gradient), scores)

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
                gradients[places, nth] = slope(wanted[:, nth], images, again=nth < each - 1)
            scores[places] = answers.detach()

        for piece, places in self._slopes.pieces(rows, allowed):
            self._engine.in_halves(work, piece, places)
        self._ledger.watch(owner[allowed], gradients[allowed])
        self._gradient_rows += len(rows) * each
        self._recorder.record(rows, owner[allowed], scores[allowed], self._slopes.way, each)
        return Jacobian(scores, finite(gradients))

    def attached(self, candidates: torch.Tensor, owner: torch.Tensor) -> Attached:
        """Scores of each candidate, one query a row, whose slopes can be asked once they are seen.

        For attacks that bring a loss of their own, such as those of other libraries. Arguments are as of `scores`.
        """
        self._need(Access.GRADIENTS)
        rows, allowed = self._ledger.admit(candidates, owner, self.remaining)
        scores = torch.full((len(candidates), self._engine.num_classes), torch.nan, device=owner.device)
        pieces = []
        for piece, places in self._slopes.pieces(rows, allowed) if len(rows) else ():
            images, answers = self._differentiable(piece, owner[places])
            scores[places] = answers.detach()
            pieces.append((places, images, answers))
        if len(rows):
            self._gradient_rows += len(rows)
            self._recorder.record(rows, owner[allowed], scores[allowed], self._slopes.way)

        def pay(again: torch.Tensor) -> torch.Tensor:
            """Charge another query to rows at these places; which of them the budget allows."""
            paid = rank_among_equals(owner[again]) < self.remaining[owner[again]]
            self._ledger.charge(owner[again[paid]], 1)
            self._gradient_rows += int(paid.sum())
            return paid

        return Attached(scores, candidates.shape, pieces, pay)

    def _differentiable(self, rows: torch.Tensor, owner: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images that ask for a gradient, and the scores computed from them."""
        images, answers = self._slopes.scores(rows)
        with torch.enable_grad():
            return images, self._recorder.planted(rows, owner, answers)

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
        answers = self._recorder.planted(rows, owner[allowed], self._engine.answers(rows).to(owner.device))
        self._recorder.record(rows, owner[allowed], answers, self._engine.chosen)
        if len(rows) == len(candidates):
            return answers
        return self._refusals(len(candidates), owner.device).index_copy(0, allowed, answers)

    def _refusals(self, count: int, device: torch.device) -> torch.Tensor:
        if self._engine.output is Output.LABELS:
            return torch.full((count,), -1, device=device)
        return torch.full((count, self._engine.num_classes), torch.nan, device=device)

    def _saw(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor, keep: bool) -> None:
        """A place for an oracle that looks at every answered row, too; `keep` as of `Recorder.record`."""
