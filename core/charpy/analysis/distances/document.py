"""The document that the distances of a dataset come down to: `distances.json`, and the source of the page."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from charpy.analysis.document import Part
from charpy.epsfile import EpsLevels, EpsSettings

SCHEMA_NAME = "charpy.distances/1"


class DataPart(Part):
    """The dataset that was measured."""

    name: str
    kind: str
    samples: int
    shape: tuple[int, int, int]
    grid: str
    fingerprint: str
    notes: tuple[str, ...] = ()


class ClassCount(Part):
    """A class that occurs, and how many of its images were drawn."""

    name: str
    label: int
    drawn: int


class SpreadPart(Part):
    """Values of many pairs of images, or images; the figures are None where there is none with a finite value."""

    count: int = Field(description="pairs, or images, that have a finite value")
    undefined: int = Field(description="those that have none")
    mean: float | None
    deviation: float | None = Field(description="standard deviation, of the population")
    least: float | None
    q1: float | None
    median: float | None
    q3: float | None
    most: float | None


class CellPart(SpreadPart):
    """All pairs of one class with another, or with itself, without the pairs of an image with itself."""

    first: str = Field(description="class of the originals")
    second: str


class MarkPart(Part):
    """A class whose images are, on average, less alike among themselves than they are to another class."""

    name: str
    within: float = Field(description="mean value among themselves")
    nearer_to: str
    between: float = Field(description="mean value to the other class")


class NearestPart(Part):
    """The nearest image of another class; `value` is None where no pair has a finite value."""

    id: str
    name: str = Field(description="class of the image")
    value: float | None
    nearest_id: str
    nearest: str = Field(description="class of the nearest image")


class NearestClassPart(SpreadPart):
    """How far the images of a class are from the nearest of another class."""

    name: str


class MetricPart(Part):
    """One metric."""

    kind: str
    unit: str
    direction: Literal["distance", "similarity"]
    cells: tuple[CellPart, ...]
    marks: tuple[MarkPart, ...]
    nearest_by_class: tuple[NearestClassPart, ...]
    nearest: tuple[NearestPart, ...]


class EpsSummary(Part):
    """The levels that were chosen; those of every image are in `eps.json`."""

    norm: str
    rule: Literal["half", "combination"]
    settings: EpsSettings
    classes: dict[str, EpsLevels]
    all: EpsLevels


class Distances(Part):
    """Distances within and between the classes of a dataset."""

    model_config = ConfigDict(title="charpy distances")

    schema_: str = Field(default=SCHEMA_NAME, alias="schema")
    data: DataPart
    seed: int
    against: Literal["sample", "all"] = Field(description="among which images the nearest were sought")
    classes: tuple[ClassCount, ...]
    metrics: tuple[MetricPart, ...]
    eps: EpsSummary | None = None
    notes: tuple[str, ...] = ()
