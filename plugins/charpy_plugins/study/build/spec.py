"""The spec of a study, as `charpy study build --spec` reads it from a file."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from charpy.errors import SpecError
from charpy.specfile import read_mapping
from charpy.specs import Spec, parse
from charpy.threat import Norm
from charpy_plugins.study.document import Exclusion, Interface, Kind, Language, Name, Resampling, Text

HINT = "`charpy study build --schema` lists every field"


class Pick(StrEnum):
    """Which witness of an original is shown, by a metric: the one most alike to it, or the one least alike."""

    NEAREST = "nearest"
    FARTHEST = "farthest"


class Bound(Spec):
    """What a metric may say of a stimulus and its original."""

    least: float | None = Field(default=None, description="not below this")
    most: float | None = Field(default=None, description="not above this")

    @model_validator(mode="after")
    def _some_value(self) -> Bound:
        if self.least is None and self.most is None:
            raise ValueError("a bound is `least`, `most`, or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"nothing is at least {self.least:g} and at most {self.most:g}")
        return self

    def __str__(self) -> str:
        parts = [f">= {self.least:g}"] if self.least is not None else []
        return " and ".join(parts + ([f"<= {self.most:g}"] if self.most is not None else []))


class ConditionSpec(Spec):
    """One condition: where its stimuli come from, and by which rule one of each original is chosen."""

    kind: Kind | None = Field(
        default=None,
        description="benign: unchanged images; witness: those of the runs; painted: none yet, `charpy study edit` adds "
        "them. If not given: benign and painted for conditions of that name, otherwise witness",
    )
    text: Text | None = Field(default=None, description="what its stimuli are; said by the rule if not given")
    run: str | None = Field(default=None, description="title of the run whose witnesses these are; any if not given")
    attacks: tuple[str, ...] = Field(default=(), description="their attacks, by name; any if not given")
    norm: Norm | None = Field(default=None, description="under which they were found; that of the study if not given")
    level: float | None = Field(
        default=None, ge=0, description="their largest distance: pixels or 1/255 steps; that of the study if not given"
    )
    metric: str = Field(default="ssim", description="kind of the metric by which one of each original is chosen")
    pick: Pick | None = Field(
        default=None,
        description="the witness most alike to its original, or least. If not given: farthest for a condition of the "
        "name `perceptible`, otherwise nearest",
    )
    bounds: dict[str, Bound] = Field(
        default_factory=dict,
        description="of metrics, by kind, such as {ssim: {least: 0.9}, linf: {most: 25}}; norms on the 0..255 scale",
    )

    @model_serializer(mode="wrap")
    def _as_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What was given is written down, and no more: a condition without witnesses refuses rules about them."""
        return {name: value for name, value in write(self).items() if name in self.model_fields_set}

    def named(self, name: str) -> ConditionSpec:
        """The same with what follows from its name filled in.

        Raises:
            ValueError: a rule about witnesses for a condition that has none.
        """
        by_name = {"benign": Kind.BENIGN, "painted": Kind.PAINTED}
        kind = self.kind or by_name.get(name, Kind.WITNESS)
        if kind is Kind.WITNESS:
            pick = self.pick or (Pick.FARTHEST if name == "perceptible" else Pick.NEAREST)
            return self.model_copy(update={"kind": kind, "pick": pick})
        if rules := sorted(self.model_fields_set - {"kind", "text"}):
            raise ValueError(f"condition {name!r} is {kind}, so it has no {', '.join(rules)}")
        return self.model_copy(update={"kind": kind})


class ConsentSpec(Spec):
    """What a participant agrees to."""

    version: Text | None = Field(default=None, description="drawn from the text if not given")
    text: Text | None = Field(default=None, description="paragraphs with an empty line between them")


class TextsSpec(Spec):
    """What participants read, where it is not the default."""

    title: Text | None = None
    instructions: Text | None = Field(default=None, description="paragraphs with an empty line between them")
    question: Text | None = None
    confidence: Text | None = None
    scale: tuple[str, str, str, str, str] | None = Field(default=None, description="from the least confident")
    consent: ConsentSpec = ConsentSpec()
    thanks: Text | None = None
    contact: str | None = Field(default=None, description="whom a participant can write to")
    language: Language | None = Field(default=None, description="of the texts, such as en or pt-BR; en if not given")
    interface: Interface | None = Field(
        default=None, description="words around the texts, by key, where they are not the English ones"
    )

    def given(self) -> dict[str, Any]:
        """The fields that are given, as `Texts` has them."""
        return self.model_dump(exclude_none=True)


class BuildSpec(Spec):
    """A study: its conditions, how their stimuli are chosen and shown, and what participants read."""

    name: Text | None = Field(default=None, description="of the study; that of its file if not given")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of the draw of originals")
    conditions: dict[Name, ConditionSpec] = Field(min_length=1, description="by name, in order")
    model: str | None = Field(
        default=None, description="title of the model in the runs; needed where they have several"
    )
    norm: Norm | None = Field(
        default=None, description="of the threat; needed where the runs have witnesses of several"
    )
    level: float | None = Field(
        default=None, ge=0, description="of the threat: pixels or 1/255 steps; the largest of the runs if not given"
    )
    stimuli: int | None = Field(default=None, ge=1, description="originals that are drawn; all if not given")
    paired: bool = Field(default=True, description="the same originals in every condition that is not painted")
    balanced: bool = Field(default=False, description="draw as many originals of each class as there are")
    sizes: tuple[Annotated[int, Field(ge=1, le=16)], ...] = Field(default=(1, 2, 4), min_length=1)
    resampling: Resampling = Resampling.NEAREST
    labels: tuple[Text, ...] | None = Field(default=None, description="as shown, in order; class names if not given")
    questions: int = Field(default=25, ge=1, le=500, description="image questions a participant")
    checks: int = Field(default=2, ge=0, le=50, description="attention checks a participant, beside the questions")
    dropout_minutes: float = Field(default=30.0, gt=0, description="silence after which an unfinished place is free")
    texts: TextsSpec = TextsSpec()
    fill: dict[str, Text] = Field(
        default_factory=dict, description="what stands for [[name]] in the texts, by name, such as institution"
    )
    exclusion: Exclusion = Exclusion()

    @model_validator(mode="after")
    def _hangs_together(self) -> BuildSpec:
        named = {name: rule.named(name) for name, rule in self.conditions.items()}
        kinds = [rule.kind for rule in named.values()]
        if Kind.PAINTED in kinds and Kind.BENIGN not in kinds:
            raise ValueError("painted stimuli are painted over those of a benign condition, and there is none")
        if len(set(self.sizes)) < len(self.sizes) or 1 not in self.sizes:
            raise ValueError(f"sizes are distinct and have 1 among them, not {list(self.sizes)}")
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("two labels read the same")
        return self

    @property
    def rules(self) -> dict[str, ConditionSpec]:
        """The conditions, in order, with what follows from their names."""
        return {name: rule.named(name) for name, rule in self.conditions.items()}


def read_build_spec(path: Path | None, options: Mapping[str, Any], conditions: tuple[str, ...] | None) -> BuildSpec:
    """The spec of a study.

    Args:
        path: .yaml, .yml or .json; None: the defaults.
        options: of the command line; they replace what the file says.
        conditions: names of those that are wanted, in order: of the file, or new ones with the defaults of their
            names; all of the file if None.

    Raises:
        SpecError: the file cannot be read, or is no valid spec.
    """
    data = {**(read_mapping(path) if path is not None else {}), **options}
    known = data.get("conditions")
    if conditions is not None:
        known = {name: known.get(name) if isinstance(known, Mapping) else None for name in conditions}
        if len(known) < len(conditions):
            raise SpecError("a condition is named twice", where="--conditions", found=",".join(conditions))
    if isinstance(known, Mapping):  # a condition without a rule may be written `benign:`
        data["conditions"] = {name: {} if rule is None else rule for name, rule in known.items()}
    if "conditions" not in data:
        raise SpecError(
            "which conditions?",
            where="charpy study build",
            expected="--conditions benign,imperceptible,perceptible, or `conditions` in the spec",
        )
    return parse(BuildSpec, data, where=str(path) if path is not None else "charpy study build", hint=HINT)


def schema() -> dict[str, Any]:
    """JSON Schema of the spec of a study."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **BuildSpec.model_json_schema()}
