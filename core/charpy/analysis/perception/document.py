"""The document of `charpy perceive`: perceive.json, and the source of the page and of the table."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field

from charpy.analysis.document import Part, Share

SCHEMA_NAME: Final = "charpy.perception/1"


class SpreadPart(Part):
    """How the values of a metric lie in one group; null: infinite. Empty groups have none."""

    least: float | None
    low: float | None = Field(description="5 % are smaller")
    median: float | None
    high: float | None = Field(description="5 % are larger")
    most: float | None
    unmeasured: int = Field(description="pairs that the metric gives NaN for; they are in no figure of it")


class GroupPart(Part):
    """Pairs that were made, or found, in one way."""

    name: str
    text: str = Field(description="what was done to the original")
    pairs: int
    alike: int = Field(description="pairs that count as looking alike")
    different: int = Field(description="pairs that count as looking different")
    values: dict[str, SpreadPart] = Field(description="by metric")


class ThresholdPart(Part):
    """A condition: at most (of a similarity: at least) this value."""

    title: str
    value: float | None = Field(description="in the unit of the metric; null: infinite")
    role: Literal["usual", "reach", "best"] = Field(
        description="usual: of prior work; reach: the least that lets in 95 % of what looks alike; best: the least sum "
        "of both shares. The latter two are chosen on these very pairs"
    )
    source: str
    left_out: Share = Field(description="of the pairs that look alike: a necessary condition leaves out none")
    let_in: Share = Field(description="of the pairs that look different: a sufficient condition lets in none")
    within: dict[str, Share] = Field(description="of each group, whatever its look, the share that is let in")


class RatePart(Part):
    """Both shares at one of the thresholds that occur; null: infinite."""

    threshold: float | None
    left_out: Share
    let_in: Share


class CurvePart(Part):
    """The ROC curve: the points at which it turns, from the nearest threshold to the farthest; nulls are infinite."""

    thresholds: tuple[float | None, ...]
    left_out: tuple[int, ...] = Field(description="of `alike` pairs")
    let_in: tuple[int, ...] = Field(description="of `different` pairs")
    alike: int
    different: int


class AreaPart(Part):
    """The probability that a pair that looks alike is nearer than one that looks different; 0.5 is a coin."""

    value: float
    low: float
    high: float


class MetricPart(Part):
    """One metric."""

    kind: str
    unit: str
    direction: Literal["distance", "similarity"]
    unmeasured: int
    area: AreaPart | None = Field(description="null where there are no pairs of one look")
    thresholds: tuple[ThresholdPart, ...]
    rates: tuple[RatePart, ...] = Field(description="at thresholds that occur, from the nearest; of many evenly chosen")
    curve: CurvePart | None


class ExamplePart(Part):
    """A pair that is shown."""

    section: Literal["alike", "different", "classes"]
    metric: str = Field(description="the one by which it was chosen")
    pair: str
    group: str
    original: str = Field(description="the original's class, if it has one")
    other: str = Field(description="the class of the other image, where it is one of another class")
    values: dict[str, float | None] = Field(description="by metric; null: infinite, or not measured")


class Perception(Part):
    """Whether a condition on a metric is necessary and sufficient for two images to look alike."""

    schema_: Literal["charpy.perception/1"] = Field(default=SCHEMA_NAME, alias="schema")
    name: str
    data: str
    shape: tuple[int, int, int]
    originals: int
    runs: tuple[str, ...]
    labels: Literal["answers", "proxy"] = Field(description="who says which pairs look alike")
    proxy: str = Field(description="in words; of answers: where they are from")
    verdict: str
    alike: int
    different: int
    unlabelled: int
    groups: tuple[GroupPart, ...]
    metrics: tuple[MetricPart, ...]
    left_out: dict[str, str] = Field(description="metrics that cannot measure these images, and why")
    examples: tuple[ExamplePart, ...]
    notes: tuple[str, ...]
    settings: dict[str, str]
