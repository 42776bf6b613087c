"""What an oracle knows of its samples: rows spent, the nearest witness candidates, and how the search went."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from charpy.errors import BudgetError, PluginError
from charpy.pixels import as_images, distances, snap
from charpy.threat import Grid, Norm, ThreatModel

PATIENCE = 1000
"""Calls in a row that may be refused whole before the attack is stopped."""

TRACE = 24
"""Doublings of a sample's rows that its trace covers."""


@dataclass(frozen=True)
class Candidates:
    """What the oracle recorded for each of N samples.

    Attributes:
        images: `(N, C, H, W)` the nearest adversarial candidate, uint8 on the 8-bit grid, float32 off it.
        found: bool `(N,)`, whether there is one.
        queries: int64 `(N,)` model rows spent.
        queries_to_success: int64 `(N,)`, the row that was the first witness candidate; -1 where there is none.
        invalid: bool `(N,)`, samples for which the model answered NaN or infinity.
        gradients: int64 `(N,)`, gradient rows answered while the sample still stood.
        vanished: int64 `(N,)`, those of them whose gradient was zero in every value, or not finite in one.
        trace: float32 `(N, TRACE)`, the least margin seen up to fewer than 2^(k+1) rows; NaN where there is none.
    """

    images: torch.Tensor
    found: torch.Tensor
    queries: torch.Tensor
    queries_to_success: torch.Tensor
    invalid: torch.Tensor
    gradients: torch.Tensor
    vanished: torch.Tensor
    trace: torch.Tensor


class Ledger:
    """The accounts of N samples.

    Args:
        originals: `(N, C, H, W)`, uint8 on the 8-bit grid, float32 off it.
        threat: budget, norm and radius.
        minimise: a sample with a witness is still active.
    """

    def __init__(self, originals: torch.Tensor, threat: ThreatModel, *, minimise: bool) -> None:
        count, device = len(originals), originals.device
        self.originals, self.threat, self.minimise = originals, threat, minimise
        self.queries = torch.zeros(count, dtype=torch.int64, device=device)
        self.success = torch.full_like(self.queries, -1)
        self.invalid = torch.zeros(count, dtype=torch.bool, device=device)
        self._best = originals.clone()
        self._distance = torch.full((count,), torch.inf, dtype=torch.float64, device=device)
        self._gradients, self._vanished = torch.zeros_like(self.queries), torch.zeros_like(self.queries)
        self._margin = torch.full((count,), torch.inf, device=device)
        self._trace = torch.full((count, TRACE), torch.nan, device=device)
        self._refused_in_a_row = 0

    @property
    def active(self) -> torch.Tensor:
        """bool `(N,)`: samples that are worth another query (not done, not out of budget)."""
        done = self.invalid if self.minimise else self.invalid | (self.success >= 0)
        return ~done & (self.queries < self.threat.queries)

    def admit(
        self, candidates: torch.Tensor, owner: torch.Tensor, left: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows `(A, C, H, W)` that may be asked, as they can be stored, and their positions `(A,)`.

        Args:
            candidates: `(M, C, H, W)`, float images or uint8 pixels.
            owner: int64 `(M,)`, the sample that each row belongs to.
            left: int64 `(N,)`, how many rows of each sample may be asked; the first ones are.

        Raises:
            PluginError: rows of another shape than the originals'.
            BudgetError: the attack goes on asking although nothing is left.
        """
        if candidates.shape[1:] != self.originals.shape[1:] or owner.shape != candidates.shape[:1]:
            raise PluginError(
                "the attack asked about rows of the wrong shape",
                found=f"candidates {tuple(candidates.shape)}, owner {tuple(owner.shape)}",
                expected=f"(M, {', '.join(map(str, self.originals.shape[1:]))}) and (M,)",
            )
        if bool((left[owner] >= len(owner)).all()):
            allowed, rows = torch.arange(len(owner), device=owner.device), candidates
        else:
            allowed = (rank_among_equals(owner) < left[owner]).nonzero()[:, 0]
            rows = candidates[allowed]
        self._refused_in_a_row = 0 if len(allowed) else self._refused_in_a_row + 1
        if self._refused_in_a_row >= PATIENCE:
            raise BudgetError(
                "the attack keeps asking although every sample is done or out of budget",
                found=f"{PATIENCE} calls in a row without one row that could be answered",
                hint="loop `while task.oracle.active.any()`",
            )
        if self.threat.grid is Grid.NONE:
            return as_images(rows).clamp(0, 1).nan_to_num(0.0), allowed
        return rows if rows.dtype == torch.uint8 else snap(self.threat, self.originals[owner[allowed]], rows), allowed

    def charge(self, owner: torch.Tensor, each: int) -> torch.Tensor:
        """Count rows of `owner` `(M,)` at `each` queries; gives the number `(M,)` of each one's first query."""
        number = self.queries[owner] + rank_among_equals(owner) * each + 1
        self.queries += torch.bincount(owner, minlength=len(self.queries)) * each
        return number

    def follow(self, owner: torch.Tensor, margins: torch.Tensor) -> None:
        """Note each sample's least margin so far under the power of two that its rows have reached."""
        self._margin.scatter_reduce_(0, owner, margins.nan_to_num(nan=torch.inf), "amin")
        reached = (self.queries.clamp_min(1).to(torch.float64).log2() + 1e-9).to(torch.int64).clamp_(max=TRACE - 1)
        known = torch.where(self._margin.isfinite(), self._margin, torch.nan)
        self._trace.scatter_(1, reached[:, None], known[:, None])

    def watch(self, owner: torch.Tensor, gradient: torch.Tensor) -> None:
        """Count the gradients `(M, ...)` of samples that still stand, and those of them that lead nowhere."""
        slope = gradient.flatten(1).abs().amax(1)
        standing = (self.success[owner] < 0).to(torch.int64)
        nowhere = standing * ((slope == 0) | ~slope.isfinite())
        self._gradients.scatter_add_(0, owner, standing)
        self._vanished.scatter_add_(0, owner, nowhere)

    def keep(self, rows: torch.Tensor, owner: torch.Tensor, number: torch.Tensor) -> None:
        """Keep adversarial `rows`: of each sample the first one's number, the nearest one's image."""
        never = torch.iinfo(torch.int64).max
        first = torch.full_like(self.success, never).scatter_reduce(0, owner, number, "amin")
        self.success = torch.where((self.success < 0) & (first < never), first, self.success)
        nearness = Norm.L2 if self.threat.norm is Norm.UNRESTRICTED else self.threat.norm
        distance = distances(nearness, self.originals[owner], rows).to(torch.float64)
        nearest = self._distance.scatter_reduce(0, owner, distance, "amin")
        better = ((distance == nearest[owner]) & (distance < self._distance[owner])).nonzero()[:, 0]
        better = better[rank_among_equals(owner[better]) == 0]
        self._best[owner[better]] = rows[better]
        self._distance = nearest

    def recorded(self) -> Candidates:
        """A copy of what was found so far."""
        return Candidates(
            self._best.clone(),
            self.success >= 0,
            self.queries.clone(),
            self.success.clone(),
            self.invalid.clone(),
            self._gradients.clone(),
            self._vanished.clone(),
            self._trace.clone(),
        )


def rank_among_equals(owner: torch.Tensor) -> torch.Tensor:
    """int64 `(M,)`: how many earlier entries have the same value."""
    order = owner.argsort(stable=True)
    ordered = owner[order]
    place = torch.arange(len(owner), device=owner.device)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    starts[1:] = ordered[1:] != ordered[:-1]
    begin = torch.where(starts, place, 0).cummax(0).values
    return torch.empty_like(place).index_copy(0, order, place - begin)
