"""What each attack did, and what came of it that is no outcome: claims refused, work lost."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from charpy.analysis.document.part import Part, Share


class AttackPart(Part):
    """One attack at one level, summed over its units."""

    name: str
    kind: str
    norm: str
    th: int
    params: dict[str, Any]
    budget: int | None = Field(description="model rows that it could spend per sample")
    attacked: int
    broken: int
    queries_mean: float
    queries_max: int
    queries_to_success_median: float | None = Field(description="over the samples that this attack broke")
    rows: int = Field(description="model rows in all")
    seconds: float
    overhead: float | None = Field(description="wall time / time of the same rows through the model as given")
    rejected_claims: int = Field(description="images that the attack claimed and the judge refused")
    metrics: dict[str, float] = Field(
        default_factory=dict, description="mean of each metric over the witnesses that this attack found at this level"
    )
    notes: dict[str, float] = Field(
        default_factory=dict, description="figures that the attack left of its own, means over the samples attacked"
    )


class CharacteristicPart(Part):
    """What one attack of a contest does alone (Zhang et al. 2019, section 5.1), over all the levels that it ran at.

    Of each sample its best image counts: the nearest of all runs, by the distance that is named.
    """

    norm: str
    step: int = Field(description="of the attack in its battery, from 0")
    name: str
    kind: str
    success: Share = Field(description="P_suc: samples broken, of the correctly classified ones")
    invalid: int = Field(
        description="correctly classified samples that it did not break, with an invalid result or none at all"
    )
    distance: str = Field(description="what distortion is measured in: a metric's kind")
    mean: float | None = Field(description="D-bar: mean distortion of the samples broken, on the 0..255 scale")
    largest: float | None
    metrics: dict[str, float] = Field(default_factory=dict, description="mean of each over the same images")
    curve: tuple[tuple[float, float], ...] = Field(
        description="P(D), the operating characteristic: (D, share broken within D), one pair a step, thinned where it "
        "has more than 512"
    )


class ScatterPart(Part):
    """Another metric of the witnesses of one attack, against the norm that bounded them."""

    metric: str
    norm: str
    step: int = Field(description="of the attack in its battery, from 0")
    attack: str
    points: tuple[tuple[float, float], ...] = Field(
        description="(distance in levels, value of the metric) of the nearest witness of a sample; at most 250"
    )


class RejectedPart(Part):
    """Claims of one attack that the judge refused, by reason."""

    attack: str
    norm: str
    reason: str
    count: int


class LostPart(Part):
    """Work that a model or a plugin made impossible: it raised, hung, took too much or ended the process."""

    what: str = Field(description="the attack or certifier by its name, or that attack on planted examples")
    norm: str
    th: int
    samples: int = Field(description="in the units that were lost")
    reason: str
