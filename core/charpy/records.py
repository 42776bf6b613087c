"""The records that a run file holds: samples, units, results and witnesses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from charpy.outcome import Outcome


class UnitKey(NamedTuple):
    """What a unit of work is: one shard of samples through one (model, norm, level, attack).

    `model` is the index in the spec, `step` the index in the battery, `round` the probe of a minimal-level search
    (0 otherwise).
    """

    model: int
    norm: str
    th: int
    step: int
    shard: int
    round: int = 0


class ProofKey(NamedTuple):
    """One call of a certifier; `first` is the first of its samples. At `th` 0: why it was not asked at all."""

    model: int
    norm: str
    th: int
    certifier: str
    first: int


@dataclass(frozen=True)
class ProofRecord:
    """What one call of a certifier proved: per sample, whether no image within `th` changes its class."""

    key: ProofKey
    seconds: float
    detail: Mapping[str, Any]
    proven: Mapping[int, bool]


@dataclass(frozen=True)
class SampleRow:
    """One sample as the model sees it unperturbed; `prediction` is None where the model gave no valid answer."""

    sample: int
    id: str
    label: int
    prediction: int | None
    valid: bool


@dataclass(frozen=True)
class ResultRow:
    """How one sample came out of one unit; `reason` says why it is invalid."""

    sample: int
    outcome: Outcome
    queries: int
    queries_to_success: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class WitnessRow:
    """A confirmed adversarial image: stored bytes, exact distance (pixels, or 1/255 steps), metric values.

    What follows the metrics is filled in on reading; `step` is that of the attack in its battery.
    """

    sample: int
    distance: float
    prediction: int
    image: bytes
    metrics: Mapping[str, float] = field(default_factory=dict)
    norm: str = ""
    th: int = 0
    attack: str = ""
    queries_to_success: int | None = None
    step: int = 0


class MeasuredWitness(NamedTuple):
    """What one witness measures, without its image; `step` is that of the attack in its battery."""

    norm: str
    step: int
    th: int
    sample: int
    distance: float
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class UnitRecord:
    """Everything that one unit found; written in one transaction.

    `originals` are the stored bytes of the samples that have a witness; `rejected` maps a sample to the judge's
    reason for refusing an image that the attack claimed.
    """

    key: UnitKey
    attack: str
    kind: str
    rows: int
    seconds: float
    detail: Mapping[str, Any]
    results: Sequence[ResultRow]
    witnesses: Sequence[WitnessRow] = ()
    originals: Mapping[int, bytes] = field(default_factory=dict)
    rejected: Mapping[int, str] = field(default_factory=dict)
