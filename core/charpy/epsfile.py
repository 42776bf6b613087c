"""`eps.json` as `charpy distances` writes it: a level for every sample, and how it was chosen.

A run asks less of such a file: see `charpy.own_levels`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from charpy.threat import Norm

Level = Annotated[int, Field(ge=0, strict=True)]


class EpsPart(BaseModel):
    """Base of the parts of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class EpsData(EpsPart):
    """The dataset that the levels were chosen on."""

    name: str
    fingerprint: str = Field(description="SHA-256 of all images and labels in order")


class EpsLevels(EpsPart):
    """The levels of many samples; `th` is the one that suits all of them: the smallest."""

    samples: int = Field(ge=1)
    th: Level
    q1: float
    median: float
    q3: float
    most: Level


class EpsSettings(EpsPart):
    """How the levels were chosen."""

    per_class: int | None = Field(description="images drawn of each class; None: all")
    samples: int | None = Field(default=None, description="images of a run of so many, where those were asked for")
    seed: int
    against: Literal["sample", "all"] | None = Field(description="half: among which images the nearest was sought")
    metric: str | None = Field(default=None, description="combination: what says that two images are alike")
    threshold: float | None = Field(default=None, description="combination: the least alike that still counts as alike")
    combine: int | None = Field(default=None, description="combination: images of each other class")


class EpsFile(EpsPart):
    """Levels for the samples of a dataset.

    Attributes:
        norm: of the levels: whole pixels for L0, whole 1/255 steps otherwise.
        rule: how they were chosen, `half` or `combination`.
        samples: id -> level; 0 where no change at all is small enough.
        classes: class name -> the levels of its samples.
    """

    schema_: Literal["charpy/eps/1"] = Field(default="charpy/eps/1", alias="schema")
    norm: Norm
    rule: Literal["half", "combination"]
    data: EpsData
    settings: EpsSettings
    samples: dict[str, Level]
    classes: dict[str, EpsLevels]
    all: EpsLevels


def eps_bytes(levels: EpsFile) -> bytes:
    """The file: UTF-8 JSON, indented, samples in their order."""
    return (levels.model_dump_json(by_alias=True, indent=1) + "\n").encode("utf-8")
