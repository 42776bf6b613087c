"""The document that the answers of a study come down to: `analysis.json`, and the source of the page."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import ConfigDict, Field

from charpy.analysis.document import Part, Share

SCHEMA_NAME: Final = "charpy.study-analysis/1"

Measure = Literal["accuracy", "confidence"]
Method = Literal["student", "welch", "permutation", "images", "crossed", "mixed", "ordinal"]
Verdict = Literal["supported", "contradicted", "open"]
Subset = Literal["included", "finished"]


class Figure(Part):
    """A figure with its 95 % interval; what is not known is None, and `reason` says why."""

    value: float | None
    low: float | None = None
    high: float | None = None
    unit: str = Field(description="unit of analysis: what was counted as independent")
    count: int = Field(description="how many of those")
    reason: str = Field(default="", description="why the value or its interval is not there")


class ExclusionCount(Part):
    """How many participants of a condition were left out for one reason; somebody with two reasons counts in both."""

    reason: str
    count: int


class FlowPart(Part):
    """What became of everybody who joined a condition: joined = withdrawn + unfinished + finished."""

    condition: str
    joined: int
    withdrawn: int = Field(description="of whom there is no data")
    unfinished: int
    finished: int
    excluded: int = Field(description="finished, and left out by the rules of the study")
    exclusions: tuple[ExclusionCount, ...] = Field(description="why, one for each rule")
    included: int = Field(description="finished - excluded: what every figure is computed on")


class ExcludedPart(Part):
    """A participant who was left out, and why: `failed 2 of 2 attention checks`."""

    participant: str
    condition: str
    reasons: tuple[str, ...]


class VotesPart(Part):
    """What the participants said of one stimulus."""

    stimulus: str
    original: str
    truth: int
    answers: int
    correct: int
    votes: tuple[int, ...] = Field(description="answers for each label, in the order of the study's labels")
    majority: int | None = Field(description="the label with the most votes; None for a tie, or without answers")
    tie: bool = Field(description="two or more labels have the most votes")
    confidence: float | None = Field(description="mean, 1 to 5; None without answers")


class MajorityPart(Part):
    """Accuracy when each stimulus is classified by the label most participants chose (a tie classifies it as none)."""

    share: Share = Field(description="of stimuli with at least one answer, whose majority is the true class")
    ties: int = Field(description="among them, without a majority: counted as not correct")
    unanswered: int = Field(description="stimuli without an answer: not counted")


class ConditionPart(Part):
    """One condition, over its included participants."""

    name: str
    kind: str
    text: str
    participants: int
    answers: int
    accuracy: Figure = Field(description="mean of participants' shares of correct answers; Student's t, cut to 0..1")
    accuracy_bootstrap: Figure = Field(description="the same mean; interval from resampled participants (percentiles)")
    spread: float | None = Field(description="standard deviation of participants' accuracies; None below two")
    majority: MajorityPart
    confidence: Figure = Field(description="mean of participants' mean confidence; Student's t, cut to 1..5")
    confidence_bootstrap: Figure
    confidence_counts: tuple[int, int, int, int, int] = Field(description="answers of confidence 1 to 5")
    seconds: Figure = Field(description="median of participants' median answer times; exact interval of a median")
    agreement: Figure = Field(description="Krippendorff's alpha of the labels, nominal; interval by resampled stimuli")
    confusion: tuple[tuple[int, ...], ...] = Field(description="answers by true class (row) and chosen label (column)")
    participant_accuracies: tuple[float, ...] = Field(description="one each, in ascending order")
    votes: tuple[VotesPart, ...] = Field(description="of every stimulus, in the order of the study")


class SignificancePart(Part):
    """One test of one comparison, two-sided; no figure is NaN: what could not be computed is None, with a `reason`."""

    method: Method
    title: str
    role: Literal["paper", "primary", "beside"] = Field(
        description="paper: as published, uncorrected; primary: the one that conclusions rest on"
    )
    unit: str = Field(description="unit of analysis: what it takes as independent")
    scale: str = Field(description="of the estimate: `share correct`, `points of 1 to 5`, `log odds`")
    estimate: float | None = Field(description="second condition minus first")
    low: float | None = Field(description="95 % interval of the estimate")
    high: float | None
    statistic: float | None
    df: float | None = Field(description="degrees of freedom of a t statistic; None where it is none")
    p: float | None
    p_holm: float | None = Field(description="p adjusted over all comparisons of the measure; None where uncorrected")
    significant: bool | None = Field(description="p_holm (of the paper's test: p) below alpha; None without a p")
    reason: str = Field(default="", description="why it could not be computed")
    note: str = Field(default="", description="what to know of it: its level as measured, draws, convergence")


class EquivalencePart(Part):
    """Two one-sided tests (Schuirmann 1987): do the means differ by less than a margin?"""

    margin: float = Field(description="in the measure's own unit: a share, or points of 1 to 5")
    low: float | None = Field(description="the interval of 1 - 2 alpha of the difference")
    high: float | None
    p: float | None = Field(description="the larger of the two one-sided p")
    p_holm: float | None
    equivalent: bool | None = Field(description="p_holm below alpha; None without a p")
    unit: str
    reason: str = ""


class ComparisonPart(Part):
    """Two conditions by one measure."""

    measure: Measure
    first: str
    second: str
    tests: tuple[SignificancePart, ...] = Field(
        description="the paper's first, then the primary one, then those beside it"
    )
    equivalence: EquivalencePart

    @property
    def primary(self) -> SignificancePart:
        """The test that conclusions rest on."""
        return next(test for test in self.tests if test.role == "primary")

    @property
    def paper(self) -> SignificancePart:
        """As published."""
        return next(test for test in self.tests if test.role == "paper")


class HypothesisPart(Part):
    """A hypothesis of section 4.1, or of a condition of another name the plain question, and what the tests say."""

    condition: str
    reference: str = Field(description="the benign condition")
    hypothesis: str
    verdict: Verdict = Field(description="open: the data neither shows it nor its contrary")
    sentence: str = Field(description="in words, never more than the tests say")


class SensitivityRow(Part):
    """The main figures over another choice of participants."""

    subset: Subset = Field(description="finished: everybody who finished, whatever the rules of the study say")
    condition: str
    participants: int
    accuracy: Figure
    confidence: Figure


class SensitivityComparison(Part):
    """The primary test over another choice of participants."""

    subset: Subset
    measure: Measure
    first: str
    second: str
    estimate: float | None
    p_holm: float | None
    significant: bool | None
    reason: str = ""


class SensitivityPart(Part):
    """Do the conclusions depend on who was excluded?"""

    rows: tuple[SensitivityRow, ...]
    comparisons: tuple[SensitivityComparison, ...]
    changed: tuple[str, ...] = Field(description="comparisons whose significance differs, in words; empty: none")


class SettingsPart(Part):
    """What was chosen before the figures were computed."""

    alpha: float = Field(description="level of every test, after Holm")
    margin: float = Field(description="of equivalence in accuracy, as a share")
    confidence_margin: float = Field(description="of equivalence in confidence, points of 1 to 5")
    draws: int = Field(description="of permutations and of bootstrap samples")
    seed: int


class StudyAnalysis(Part):
    """All that the answers of one study say."""

    model_config = ConfigDict(populate_by_name=True, title="charpy study analyse")

    schema_: Literal["charpy.study-analysis/1"] = Field(default=SCHEMA_NAME, alias="schema")
    study: str
    fingerprint: str = Field(description="of the study document")
    simulated: str = Field(description="names a simulated population; empty: people answered")
    labels: tuple[str, ...]
    settings: SettingsPart
    flow: tuple[FlowPart, ...] = Field(description="one for each condition, in the order of the study")
    excluded: tuple[ExcludedPart, ...]
    conditions: tuple[ConditionPart, ...]
    comparisons: tuple[ComparisonPart, ...] = Field(description="every pair of conditions, by accuracy, by confidence")
    hypotheses: tuple[HypothesisPart, ...]
    sensitivity: SensitivityPart
    notes: tuple[str, ...]
