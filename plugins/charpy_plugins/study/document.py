"""What a study is, frozen before anybody sees it: conditions, stimuli, labels, texts, sizes, and how answers count."""

from __future__ import annotations

import hashlib
import json
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from charpy_plugins.study.words import WORDS, checked_interface

FORMAT: Final = "charpy-study-1"

Text = Annotated[str, Field(min_length=1, max_length=20_000)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")]
"""Of a condition: lower case, for file names, columns and options."""
Language = Annotated[str, Field(max_length=35, pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8})*$")]
"""A tag of BCP 47, such as `en` or `pt-BR`."""
Interface = Annotated[
    dict[str, Text],
    AfterValidator(checked_interface),
    Field(json_schema_extra={"propertyNames": {"enum": [*WORDS]}, "examples": [{**WORDS}]}),
]
"""Words around the texts, by the keys of `words.WORDS`."""


class Frozen(BaseModel):
    """Base of every part of the document: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Kind(StrEnum):
    """Where the stimuli of a condition come from."""

    BENIGN = "benign"
    WITNESS = "witness"
    PAINTED = "painted"


class Resampling(StrEnum):
    """How an image is enlarged for display."""

    NEAREST = "nearest"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    LANCZOS = "lanczos"


class Loss(Frozen):
    """Stimuli that were left out, for one reason."""

    reason: Text
    originals: tuple[str, ...] = Field(description="ids of the originals whose stimulus it was")


class Condition(Frozen):
    """One arm of the study; a participant sees stimuli of one condition only (between subjects)."""

    name: Name
    kind: Kind
    text: Text = Field(description="what its stimuli are, and by which rule they were chosen; never shown")
    candidates: int = Field(default=0, ge=0, description="originals that could have given a stimulus")
    losses: tuple[Loss, ...] = Field(default=(), description="what became of those that did not")


class Stimulus(Frozen):
    """One image that is shown, as it is stored in the study file at every size."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$", description="says nothing of condition, class or original")
    condition: Name
    original: Text = Field(description="id of the unchanged sample in its dataset; the same in every condition")
    label: int = Field(ge=0, description="the true class of the original")
    prediction: int | None = Field(default=None, description="what the model says of the image, read back from its PNG")
    attack: str = Field(default="", description="what made it; empty for a benign image")
    distance: float | None = Field(default=None, ge=0, description="from the original, under the norm of the study")
    metrics: dict[str, float] = Field(default_factory=dict, description="of the pair, by kind")
    digests: tuple[str, ...] = Field(description="SHA-256 of its PNG at each of the sizes")


class Threat(Frozen):
    """The condition D(x, x') <= eps that the stimuli keep."""

    norm: str
    level: float = Field(ge=0, description="of the stimuli: pixels for L0, 1/255 steps otherwise")


class Source(Frozen):
    """What the stimuli were made of."""

    dataset: Text
    shape: tuple[int, int, int] = Field(description="(C, H, W) of the images")
    class_names: tuple[str, ...]
    model: str = Field(default="", description="title of the model that the changed images fool")
    reference: str = Field(default="", description="how `charpy study edit` opens it again")
    fingerprint: str = Field(default="", description="of the model, as the run has it")
    runs: tuple[str, ...] = Field(default=(), description="run ids")
    threat: Threat | None = None


class Consent(Frozen):
    """What a participant agrees to; a change of its text is another version."""

    version: Text
    text: Text = Field(description="paragraphs with an empty line between them; plain text")


class Texts(Frozen):
    """What participants read; plain text, paragraphs with an empty line between them."""

    title: Text
    instructions: Text
    question: Text = "Which label describes the image best?"
    confidence: Text = "How confident are you in your answer?"
    scale: tuple[str, str, str, str, str] = ("1 - not at all", "2", "3", "4", "5 - very")
    consent: Consent
    thanks: Text = "Thank you. Your answers have been saved."
    contact: str = Field(default="", description="whom a participant can write to")
    language: Language = Field(default="en", description="of these texts and of the interface, as BCP 47 has it")
    interface: Interface = Field(
        default_factory=dict, description="words around these texts, by key, where they are not the English ones"
    )


class Exclusion(Frozen):
    """Which participants an analysis leaves out, fixed before the first answer."""

    failed_checks: int = Field(default=0, ge=0, description="more failed attention checks than this exclude")
    fastest_median: float = Field(
        default=0.0, ge=0, description="a median time per question below this excludes, seconds"
    )


class StudyDocument(Frozen):
    """The whole study but the pixels; `study.json` in the study file."""

    format: Literal["charpy-study-1"] = FORMAT
    name: Text
    seed: int = Field(default=0, ge=0, description="of draws that were made in choosing stimuli")
    source: Source
    labels: tuple[Text, ...] = Field(min_length=2, description="as shown, in order: class names or better words")
    conditions: tuple[Condition, ...] = Field(min_length=1)
    stimuli: tuple[Stimulus, ...]
    sizes: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(1, 2, 4), min_length=1)
    resampling: Resampling = Resampling.NEAREST
    questions: int = Field(default=25, ge=1, le=500, description="image questions a participant")
    checks: int = Field(default=2, ge=0, le=50, description="attention checks a participant, beside the questions")
    dropout_minutes: float = Field(
        default=30.0, gt=0, description="silence after which an unfinished place is free again"
    )
    texts: Texts
    exclusion: Exclusion = Exclusion()

    @model_validator(mode="after")
    def _hangs_together(self) -> StudyDocument:
        names = [condition.name for condition in self.conditions]
        if len(set(names)) < len(names):
            raise ValueError(f"two conditions of one name: {', '.join(names)}")
        ids = [stimulus.id for stimulus in self.stimuli]
        if len(set(ids)) < len(ids):
            raise ValueError("two stimuli of one id")
        if len(set(self.sizes)) < len(self.sizes) or 1 not in self.sizes:
            raise ValueError(f"sizes are distinct and have 1 among them, got {self.sizes}")
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels read the same")
        for stimulus in self.stimuli:
            if stimulus.condition not in names:
                raise ValueError(f"stimulus {stimulus.id} is of no condition: {stimulus.condition!r}")
            if stimulus.label >= len(self.labels):
                raise ValueError(f"stimulus {stimulus.id} has label {stimulus.label}, of {len(self.labels)}")
            if len(stimulus.digests) != len(self.sizes):
                raise ValueError(
                    f"stimulus {stimulus.id} has {len(stimulus.digests)} images of {len(self.sizes)} sizes"
                )
        return self

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the whole document, and through the digests of every pixel that is shown."""
        return hashlib.sha256(self.canonical()).hexdigest()

    def canonical(self) -> bytes:
        """The document as bytes: the same study gives the same ones."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False)
        return (text + "\n").encode("utf-8", errors="surrogatepass")

    def of(self, condition: str) -> tuple[Stimulus, ...]:
        """The stimuli of a condition, in order."""
        return tuple(stimulus for stimulus in self.stimuli if stimulus.condition == condition)
