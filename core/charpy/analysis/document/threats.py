"""What was broken and what held, norm by norm and level by level, and what is read off the levels together."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charpy.analysis.document.part import Part
from charpy.analysis.document.trust import Grade


class RobustAccuracy(Part):
    """The bracket: proven <= robust accuracy <= not broken, as shares of all samples."""

    proven: float | None
    not_broken: float | None


class Interval(Part):
    """95 % Clopper-Pearson intervals `(low, high)` of the two edges of the bracket."""

    proven: tuple[float, float] | None
    not_broken: tuple[float, float] | None


class ThreatPart(Part):
    """Outcomes under one norm at one level; the five counts add up to `samples`."""

    norm: str
    th: int = Field(
        description="level: pixels under l0, 1/255 steps under l1, l2 and linf, 1 when "
        "unrestricted; 0: each sample's own"
    )
    goal: str
    queries: int = Field(description="model rows each attack could spend per sample")
    samples: int
    clean_error: int
    broken: int
    held: int
    proven: int
    invalid: int
    adversarial_accuracy: float | None = Field(
        description="broken / correctly classified (Kotyan & Vargas); correctly classified = broken + held + proven; "
        "None where there is none, or where some were not attacked (an unfinished run)"
    )
    adversarial_interval: tuple[float, float] | None = Field(description="its 95 % Clopper-Pearson interval")
    robust_accuracy: RobustAccuracy
    interval: Interval
    queries_to_success_median: float | None = Field(
        description="over the broken samples: rows spent on a sample under this norm until its witness was found, "
        "the attacks that failed before included"
    )
    metrics: dict[str, float] = Field(
        default_factory=dict, description="mean of each metric over the nearest witness of each broken sample"
    )
    grade: Grade = Field(
        description="whether the figure can be trusted, by the indicators: `weak` where what held may only have been "
        "attacked badly, `invalid` where neither held nor broken means anything"
    )
    grade_reasons: tuple[str, ...] = Field(default=(), description="why it is not `supported`")


class SafePart(Part):
    """k-pixel-safe (L0), k-threshold-safe (Linf), k-l1-safe, k-l2-safe: no correctly classified sample is broken.

    `no evidence`: there is no such sample, or the run is not valid, so that nothing can be called safe.
    """

    norm: str
    th: int
    name: str = Field(description="for example 1-pixel-safe")
    safe: bool
    basis: Literal["proven", "not broken", "no", "no evidence"]
    samples: int = Field(description="correctly classified samples that it rests on")
    upper_bound: float | None = Field(description="95 % upper bound of the true share of breakable samples")


class AucPart(Part):
    """Area under the curve of surviving samples over th (Kotyan & Vargas, Table V); larger is more robust."""

    norm: str
    value: float
    first: int
    last: int
    samples: int = Field(description="correctly classified samples, the height of the curve at th = 0")
    normalised: float = Field(description="value / (samples * (last - first)): comparable between runs, in [0, 1]")
    whole_range: bool = Field(description="true when th runs over 1..127 (the paper), or every level of the image")


class AgreementPart(Part):
    """At one level of L0 and Linf: correctly classified samples broken under only one of them, both, or neither."""

    th: int
    samples: int
    only_l0: int
    only_linf: int
    both: int
    neither: int


class ClassPart(Part):
    """One true class under one norm at one level."""

    norm: str
    th: int
    label: int
    name: str
    samples: int = Field(description="correctly classified samples of the class")
    broken: int
    adversarial_accuracy: float | None


class MinimalPart(Part):
    """Smallest level at which each sample was broken, over the whole range (a `minimal` search).

    Median and quartiles are over all `samples`, one that was never broken counting as larger than any level; they are
    None where they fall on such a sample.
    """

    norm: str
    samples: int = Field(description="correctly classified samples that were searched")
    broken: int
    median: float | None
    quartiles: tuple[float | None, float | None]
    counts: dict[int, int] = Field(description="th -> how many samples have it as their smallest")
