"""The document that a run comes down to: `report.json`, one per model, and the source of every other format."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_NAME = "charpy.report/1"


class Part(BaseModel):
    """Base of every part of the document."""

    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_serialization_defaults_required=True)


class Share(Part):
    """A count out of a total with its two-sided 95 % Clopper-Pearson interval; all None when the total is 0."""

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None


class ModelPart(Part):
    """The model that was assessed."""

    name: str
    kind: str
    access: str
    output: str
    input_shape: tuple[int, int, int]
    num_classes: int
    engine: str = Field(description="what answered forward-only queries; the judge always uses the model as given")
    gradient_engine: str | None = Field(default=None, description="what computed gradients; None where none was asked")
    deterministic: bool = Field(default=True, description="whether it gives the same images the same answers each time")
    batch_invariant: bool = Field(
        default=True, description="whether an answer is free of the other images of its batch"
    )
    steady: bool = Field(
        default=True, description="whether it put the unchanged images into the same classes when all was done"
    )
    micro_batch: int = Field(description="model rows in one batch")
    defenses: tuple[str, ...] = ()
    attackers: str = Field(default="adaptive", description="what the attacks saw of the defences")
    fingerprint: dict[str, str]
    notes: tuple[str, ...] = ()
    engine_notes: tuple[str, ...] = Field(
        default=(), description="of the engines: why another was not taken, what was seen of the one that was"
    )


class DatasetPart(Part):
    """The data that it was assessed on."""

    name: str
    kind: str
    samples: int
    unique: int = Field(description="samples that are no bit-for-bit copy of an earlier one")
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    grid: str
    fingerprint: str
    notes: tuple[str, ...] = ()


class RobustAccuracy(Part):
    """The bracket: proven <= robust accuracy <= not broken, as shares of all samples."""

    proven: float | None
    not_broken: float | None


class Interval(Part):
    """95 % Clopper-Pearson intervals `(low, high)` of the two edges of the bracket."""

    proven: tuple[float, float] | None
    not_broken: tuple[float, float] | None


Grade = Literal["supported", "weak", "invalid"]

IndicatorKind = Literal[
    "zero_gradients",
    "loss_still_rising",
    "more_still_helps",
    "black_box_better",
    "transfer_better",
    "unbounded_fails",
    "planted",
    "planted_battery",
    "randomised",
    "batch_dependent",
    "stateful",
]


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


class IndicatorPart(Part):
    """One sign that an attack may have failed instead of the model having held, fired or not."""

    kind: IndicatorKind
    norm: str | None = Field(description="None: about the model, whatever the norm")
    th: int | None = Field(description="the level that it is about; None: every level of the norm")
    step: int | None = Field(description="of the attack in its battery, from 0; None where no attack is meant")
    attack: str | None
    value: float | None = Field(description="what was measured; None where there was nothing to measure")
    limit: float = Field(description="beyond it the indicator fires; see docs/concepts.md for each kind")
    fired: bool
    finding: str = Field(description="what was seen, in words")
    advice: str = Field(default="", description="what to do next; empty unless it fired")


class DrillPart(Part):
    """How one attack did where an adversarial example was planted, and without any bound."""

    norm: str
    th: int = Field(description="level at which examples were planted, the largest of the run")
    step: int = Field(description="of the attack in its battery, from 0")
    attack: str
    access: str = Field(description="what it needs of a model")
    planted: int = Field(description="samples with a planted example")
    found: int = Field(description="those of them that the attack broke")
    unbounded: int = Field(default=0, description="samples that it attacked with the whole image box allowed")
    reached: int = Field(default=0, description="those of them that it broke")
    failure: str = ""


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


class ProofPart(Part):
    """What one certifier was asked under one norm at one level; level 0 stands for a certifier that was not asked."""

    norm: str
    certifier: str
    th: int
    arithmetic: str = Field(description="`real`: proven of the network in real numbers; `float-sound`: of the program")
    asked: int = Field(description="samples that it was asked about")
    proven: int
    seconds: float
    reason: str = Field(default="", description="why it could not be asked, or failed")
    detail: dict[str, Any] = Field(default_factory=dict, description="its parameters, and what else its proofs rest on")


class SampleBracket(Part):
    """One correctly classified sample: the largest level proven, and the smallest that contains a witness."""

    id: str
    proven: int = Field(description="0: nothing is proven")
    broken: int | None = Field(description="None: it was not broken")


class BracketPart(Part):
    """Under one norm, from below and from above."""

    norm: str
    sentences: tuple[str, ...] = Field(description="one a level, in words")
    samples: tuple[SampleBracket, ...]


class RedrawPart(Part):
    """A randomised model under other draws: its accuracy, or what its witnesses leave at one level."""

    norm: str = Field(description="'': without any change")
    th: int
    draws: int
    mean: float = Field(description="over the draws, of the share of all samples that is right")
    interval: tuple[float, float] = Field(description="95 %, Student's t over the draws, of that mean")


class GatePart(Part):
    """One demand on the run, and whether it is met."""

    gate: str = Field(description="as its spec would say it")
    norm: str | None
    th: int | None
    figure: str
    bound: Literal["lower", "upper"] = Field(description="of the 95 % interval of the figure: what is judged")
    comparator: str
    limit: float
    share: Share | None = Field(description="the figure; None where the run does not have it")
    measured: float | None = Field(description="the bound that was judged")
    passed: bool
    reason: str = Field(description="why it passed or failed, in words")


class AttackersPart(Part):
    """A defended model at one level: robust accuracy by what the attackers see of its defences."""

    model: str
    defenses: tuple[str, ...]
    norm: str
    th: int
    not_broken: dict[str, Share] = Field(description="by attackers: of all samples, those right and not broken")
    lowest: Share = Field(description="those that none of the attackers broke")


class LostPart(Part):
    """Work that a model or a plugin made impossible: it raised, hung, took too much or ended the process."""

    what: str = Field(description="the attack or certifier by its name, or that attack on planted examples")
    norm: str
    th: int
    samples: int = Field(description="in the units that were lost")
    reason: str


class RejectedPart(Part):
    """Claims of one attack that the judge refused, by reason."""

    attack: str
    norm: str
    reason: str
    count: int


class Assessment(Part):
    """The whole of `report.json`."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["charpy.report/1"] = Field(default="charpy.report/1", alias="schema")
    name: str
    verdict: str = Field(description="the result in one sentence")
    status: Literal["valid", "invalid", "unsound"]
    status_reason: str = ""
    seed: int
    model: ModelPart
    dataset: DatasetPart
    clean_accuracy: float | None
    clean_interval: tuple[float, float] | None
    clean: Share
    invalid: Share
    threats: tuple[ThreatPart, ...]
    own_levels: dict[str, dict[str, int]] = Field(
        default_factory=dict, description="by norm, sample ids and their levels, where each has its own"
    )
    attacks: tuple[AttackPart, ...]
    characteristics: tuple[CharacteristicPart, ...] = Field(default=(), description="of a contest")
    scatter: tuple[ScatterPart, ...] = Field(default=(), description="of metrics beside the norms")
    safe: tuple[SafePart, ...]
    auc: tuple[AucPart, ...]
    agreement: tuple[AgreementPart, ...]
    per_class: tuple[ClassPart, ...]
    minimal: tuple[MinimalPart, ...] = ()
    proofs: tuple[ProofPart, ...] = ()
    brackets: tuple[BracketPart, ...] = ()
    redraws: tuple[RedrawPart, ...] = ()
    rejected: tuple[RejectedPart, ...] = ()
    gates: tuple[GatePart, ...] = Field(default=(), description="where one failed, a command exits with 1")
    lost: tuple[LostPart, ...] = Field(default=(), description="where there is any, no command exits with 0")
    indicators: tuple[IndicatorPart, ...] = ()
    drills: tuple[DrillPart, ...] = ()
    warnings: tuple[str, ...] = ()
    spec: dict[str, Any]
    plugins: dict[str, str] = Field(description="every component that took part -> package and version")
    environment: dict[str, Any]


class AssessmentSet(Part):
    """`report.json` of a run over several models: one assessment each, in the order of the spec."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["charpy.reports/1"] = Field(default="charpy.reports/1", alias="schema")
    name: str
    attackers: tuple[AttackersPart, ...] = ()
    reports: tuple[Assessment, ...]


TIMES = frozenset({"seconds", "overhead", "environment", "micro_batch", "engine", "gradient_engine", "engine_notes"})
"""Fields that a second run with the same seed may change: times, and what was measured on the machine."""


def comparable(document: Any) -> Any:
    """`document` (parsed JSON) without the fields that a second run with the same seed may change."""
    if isinstance(document, dict):
        return {key: comparable(value) for key, value in document.items() if key not in TIMES}
    if isinstance(document, list):
        return [comparable(value) for value in document]
    return document
