"""What becomes of the rows that a model answered: each is charged to its sample, and kept where it is a witness."""

from __future__ import annotations

from collections.abc import Callable

import torch

from charpy.engine import QueryEngine, Way
from charpy.ledger import Ledger
from charpy.losses import Aim
from charpy.pixels import inside

Plant = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""`(rows (M, C, H, W), owner (M,), answers) -> answers`, differentiable in `answers`."""


class Recorder:
    """Charges and keeps rows of N samples.

    A witness candidate that a faster engine found is shown to the model as given at once, and kept if that one agrees.
    If it does not, although the engine was surer than it can be wrong (`QueryEngine.slack`), the engine is refuted.

    Args:
        engine: where the rows were computed, and the model as given.
        ledger: the samples' accounts.
        aim: what each sample is to be taken for.
        plant: changes what the model answers, to plant adversarial examples (`charpy.planted`).
        tick: told after every batch which share of the samples' budgets is settled, and the rows spent.
        saw: told of every batch: rows, owner, answers and `keep` of `record`.

    Attributes:
        refuted: the model as given contradicted the engine on a candidate; from then on no sample is active.
    """

    def __init__(
        self,
        engine: QueryEngine,
        ledger: Ledger,
        aim: Aim,
        *,
        plant: Plant | None = None,
        tick: Callable[[float, int], None] | None = None,
        saw: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, bool], None] | None = None,
    ) -> None:
        self._engine, self._ledger, self._aim = engine, ledger, aim
        self._plant, self._tick, self._saw = plant, tick, saw
        self.refuted = False

    @property
    def rows(self) -> int:
        """Model rows spent on all samples together."""
        return int(self._ledger.queries.sum())

    @property
    def active(self) -> torch.Tensor:
        """bool `(N,)`: samples that are worth another query (not done, not out of budget)."""
        active = self._ledger.active
        return torch.zeros_like(active) if self.refuted else active

    @property
    def remaining(self) -> torch.Tensor:
        """int64 `(N,)`: rows left in the budget of samples that are still active, else 0."""
        return torch.where(self.active, self._ledger.threat.queries - self._ledger.queries, 0)

    def planted(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """`answers` of `rows` as the attack is to see them."""
        return answers if self._plant is None else self._plant(rows, owner, answers)

    def record(
        self,
        rows: torch.Tensor,
        owner: torch.Tensor,
        answers: torch.Tensor,
        way: Way,
        each: int = 1,
        *,
        keep: bool = True,
    ) -> None:
        """Charge the rows `(M, C, H, W)` that were answered; `keep` each that reaches the goal inside the threat model.

        Args:
            rows: as the model was asked, so that they can be stored.
            owner: int64 `(M,)`, the sample that each belongs to.
            answers: scores `(M, K)` or labels `(M,)`, as the attack sees them.
            way: what computed the answers.
            each: the queries that a row costs.
            keep: False for rows that are no witnesses, whatever the answer.
        """
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
            settled = torch.where(self.active, self._ledger.queries / self._ledger.threat.queries, 1.0)
            self._tick(float(settled.mean()), self.rows)
        if self._saw is not None:
            self._saw(rows, owner, answers, keep)

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
        within = inside(self._ledger.threat, self._ledger.originals[owner], rows).nonzero()[:, 0]
        if not len(within):
            return
        rows, owner, number, answers, sure = (part[within] for part in (rows, owner, number, answers, sure))
        if way.name != self._engine.bare.name:
            answers = self.planted(rows, owner, self._engine.as_given(rows).to(owner.device))
        wrong = self._aim.reached(answers, owner)
        if bool((sure & ~wrong).any()):
            self.refuted = True
        elif bool(wrong.any()):
            self._ledger.keep(rows[wrong], owner[wrong], number[wrong])
