"""The outcome of every sample at every level of one norm, as one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy.outcome import Outcome
from charpy.threat import DISTANCE_TOLERANCE, FIRST_LEVEL

CODES: dict[Outcome, int] = {outcome: code for code, outcome in enumerate(Outcome)}
"""How an outcome is written in the matrix."""

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Evidence:
    """What a run found about S samples under one norm.

    Positions are rows of the matrix, 0..S-1. Parallel arrays hold one entry per witness (position, level it was
    searched at, exact distance), per invalid result and per result that is one, `attacked` (position, level).

    Attributes:
        valid: bool `(S,)`, False where the model gave no valid answer to the unperturbed image.
        correct: bool `(S,)`, True where that answer was right.
        proven: int64 `(S,)`, the largest level that is proven of each sample, 0 for none; None without certifiers.
        binding: the same, by proofs that a witness inside contradicts; as `proven` where it is None.
        own: int64 `(S,)`, the level of each sample where each has its own; 0 where nothing but the image is inside.
    """

    valid: Bools
    correct: Bools
    witnesses: tuple[Ints, Ints, Floats]
    invalid: tuple[Ints, Ints]
    attacked: tuple[Ints, Ints]
    proven: Ints | None = None
    binding: Ints | None = None
    own: Ints | None = None

    def of(self, samples: Ints) -> Evidence:
        """The same about `samples` `(T,)` only, distinct positions, in that order."""
        place = np.full(len(self.valid), -1, np.int64)
        place[samples] = np.arange(len(samples))

        def moved(position: Ints, *values: Any) -> Any:
            kept = place[position] >= 0
            return (place[position][kept], *(value[kept] for value in values))

        return Evidence(
            valid=self.valid[samples],
            correct=self.correct[samples],
            witnesses=moved(*self.witnesses),
            invalid=moved(*self.invalid),
            attacked=moved(*self.attacked),
            proven=None if self.proven is None else self.proven[samples],
            binding=None if self.binding is None else self.binding[samples],
            own=None if self.own is None else self.own[samples],
        )


@dataclass(frozen=True)
class Outcomes:
    """Outcomes of S samples at L levels of one norm.

    Attributes:
        levels: th, ascending.
        matrix: uint8 `(S, L)` of `CODES`.
        unattacked: bool `(S, L)`: counted as invalid because nothing was ever tried on the sample at that level.
        contradicted: bool `(S, L)`: broken there by a witness that lies inside a ball that is certified.
    """

    norm: str
    levels: tuple[int, ...]
    matrix: NDArray[np.uint8]
    unattacked: Bools = field(repr=False)
    contradicted: Bools = field(repr=False)

    def mask(self, *outcomes: Outcome) -> Bools:
        """bool `(S, L)`: where the outcome is one of `outcomes`."""
        return np.isin(self.matrix, [CODES[outcome] for outcome in outcomes])

    def counts(self, *outcomes: Outcome) -> list[int]:
        """How many samples have one of `outcomes`, per level."""
        return [int(n) for n in self.mask(*outcomes).sum(axis=0)]

    def of(self, samples: Ints) -> Outcomes:
        """The same outcomes of `samples` `(T,)` only, in that order."""
        return Outcomes(
            self.norm, self.levels, self.matrix[samples], self.unattacked[samples], self.contradicted[samples]
        )

    def at(self, levels: Sequence[int]) -> Outcomes:
        """The same outcomes at `levels` only, which must be among its own."""
        columns = [self.levels.index(th) for th in levels]
        return Outcomes(
            self.norm,
            tuple(levels),
            self.matrix[:, columns],
            self.unattacked[:, columns],
            self.contradicted[:, columns],
        )


def outcomes_of(
    norm: str, levels: Sequence[int], evidence: Evidence, *, carry: bool = True, search: bool = False
) -> Outcomes:
    """The outcome of every sample at every level.

    At level th a sample is, in this order of precedence,

    1. `invalid` if the model gave no valid answer to the unperturbed image, `clean_error` if that answer was wrong;
    2. `broken` if it has a witness at distance <= th (`carry`: one found at th = 5 with distance 3 counts at 3, 4,
       5 ...), or, without `carry`, one that was searched at exactly th;
    3. `invalid` if a result at a level <= th was invalid: an attack that could not be carried out shows nothing;
    4. `proven` if a certificate covers it at th (or at a larger level: the balls are nested);
    5. `invalid` if no result at all covers it at th (an unfinished run, an empty battery): what was not attacked has
       not held. With `carry` a result at a larger level covers th, its ball contains the smaller one;
    6. `held`.

    Where each sample has a level of its own, `levels` is `OWN` alone: nested as with `carry`, a sample whose level is 0
    has held, and one with an invalid result that is not broken is invalid, whatever the level of that result.

    With `search` (a minimal-level search, which probes levels in any order) levels are nested whatever `carry` says,
    any valid result covers every level, and an invalid probe makes every unbroken level invalid.

    Args:
        norm: the norm that the evidence is about.
        levels: ascending th.
        evidence: what was found.
        carry: whether levels are nested, as the spec of the run says.
        search: whether the levels were searched instead of assessed one by one.
    """
    carry = carry or evidence.own is not None
    th = np.asarray(levels, dtype=np.int64) if evidence.own is None else evidence.own[:, None]
    reach = _nearest(evidence)[:, None] <= th + DISTANCE_TOLERANCE
    broken = reach if carry or search else _searched_at(th, evidence)
    invalid = _first_invalid(evidence, search or evidence.own is not None)[:, None] <= th
    covered = _covered(th, evidence, carry, search)
    level = np.zeros(len(evidence.valid), np.int64) if evidence.proven is None else evidence.proven
    binding = level if evidence.binding is None else evidence.binding
    proven = level[:, None] >= np.maximum(th, FIRST_LEVEL)
    contradicted = (binding >= np.ceil(_nearest(evidence) - DISTANCE_TOLERANCE))[:, None]

    matrix = np.full(reach.shape, CODES[Outcome.HELD], np.uint8)
    matrix[~covered] = CODES[Outcome.INVALID]
    matrix[proven] = CODES[Outcome.PROVEN]
    matrix[invalid] = CODES[Outcome.INVALID]
    matrix[broken] = CODES[Outcome.BROKEN]
    matrix[~evidence.correct] = CODES[Outcome.CLEAN_ERROR]
    matrix[~evidence.valid] = CODES[Outcome.INVALID]

    judged = (evidence.valid & evidence.correct)[:, None]
    unattacked = judged & ~covered & ~proven & ~invalid & ~broken
    return Outcomes(norm, tuple(levels), matrix, unattacked, judged & contradicted & reach)


def smallest_levels(evidence: Evidence) -> Floats:
    """`(S,)`: the smallest level that contains a witness of each sample; infinity where there is none.

    A whole number of levels whatever the distance is: 12.3 steps need th = 13, and no witness is below th = 1.
    """
    level: Floats = np.maximum(np.ceil(_nearest(evidence) - DISTANCE_TOLERANCE), FIRST_LEVEL)
    return level


def _nearest(evidence: Evidence) -> Floats:
    position, _, distance = evidence.witnesses
    nearest = np.full(len(evidence.valid), np.inf)
    np.minimum.at(nearest, position, distance)
    return nearest


def _first_invalid(evidence: Evidence, anywhere: bool) -> Floats:
    position, level = evidence.invalid
    first = np.full(len(evidence.valid), np.inf)
    np.minimum.at(first, position, 0.0 if anywhere else level.astype(np.float64))
    return first


def _searched_at(th: Ints, evidence: Evidence) -> Bools:
    position, level, distance = evidence.witnesses
    inside = distance <= level + DISTANCE_TOLERANCE
    return _marked(th, len(evidence.valid), position[inside], level[inside])


def _covered(th: Ints, evidence: Evidence, carry: bool, search: bool) -> Bools:
    position, level = evidence.attacked
    if not (carry or search):
        return _marked(th, len(evidence.valid), position, level)
    largest = np.zeros(len(evidence.valid), np.int64)
    np.maximum.at(largest, position, np.iinfo(np.int64).max if search else level)
    covered: Bools = largest[:, None] >= th
    return covered


def _marked(th: Ints, samples: int, position: Ints, level: Ints) -> Bools:
    """bool `(samples, L)`, True at each (position, level) whose level is one of `th`."""
    marked = np.zeros((samples, len(th)), np.bool_)
    known = np.isin(level, th)
    marked[position[known], np.searchsorted(th, level[known])] = True
    return marked
