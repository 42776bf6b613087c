"""The Pydantic specs of a run, their JSON Schema, and strict parsing with errors that name the nearest field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from charpy.errors import SpecError
from charpy.gates import Gate, check_about
from charpy.texts import check_texts
from charpy.threat import BALLS, DUAL, FIRST_LEVEL, LAST_LEVEL, OWN, Goal, Grid, Norm, default_levels

MOST = 2**53
"""A larger level is refused before any image is known: it could not be told from the next one as a float."""

SpecType = TypeVar("SpecType", bound=BaseModel)


class Spec(BaseModel):
    """Base of every spec: unknown fields are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ComponentSpec(Spec):
    """A component by kind, with its parameters."""

    kind: str = Field(min_length=1, description="kind name, as `charpy plugins` lists it")
    params: dict[str, Any] = Field(default_factory=dict, description="see `charpy describe HOOK KIND`")


class AttackSpec(ComponentSpec):
    """One attack of a battery."""

    name: str | None = Field(default=None, description="name in the report; the kind if not given")
    queries: int | None = Field(default=None, ge=1, description="its own budget of model rows per sample and level")


class OwnLevels(Spec):
    """A level for each sample, from a file."""

    path: str = Field(min_length=1, description="eps.json of `charpy distances`: sample ids and their levels")


class ThreatSpec(Spec):
    """One norm, the levels at which it is assessed, and what attacks it."""

    norm: Norm = Field(
        description="l0 (pixels), or l1, l2, linf (1/255 steps of an image value); unrestricted: what bounds an attack "
        "is its own parameters, no distance"
    )
    levels: tuple[int, ...] | Literal["minimal"] | OwnLevels = Field(
        default_factory=lambda known: default_levels(known["norm"]),
        description=f"th: {FIRST_LEVEL}..{LAST_LEVEL} for l0 and linf, up to the diameter of the image box for l1 and "
        "l2 (an L2 radius of 0.5 is th = 128); or 'minimal': search each sample's smallest th in that range; or "
        "{path: eps.json}: each sample's own. If not given: "
        f"{'; '.join(f'{norm} {list(default_levels(norm))}' for norm in BALLS)}. Unrestricted has level 1 only",
    )
    goal: Goal = Goal.UNTARGETED
    battery: str | tuple[AttackSpec, ...] = Field(
        default="standard", description="a battery's kind, or a list of attacks in order"
    )
    queries: int = Field(default=5000, ge=1, description="model rows each attack may spend per sample and level")

    @field_validator("levels")
    @classmethod
    def _levels_in_range(
        cls, levels: tuple[int, ...] | str | OwnLevels, info: ValidationInfo
    ) -> tuple[int, ...] | str | OwnLevels:
        if info.data.get("norm") is Norm.UNRESTRICTED and levels != (FIRST_LEVEL,):
            raise ValueError(f"an unrestricted threat has no ball and so one level, {FIRST_LEVEL}; leave `levels` out")
        if not isinstance(levels, tuple):
            return levels
        if not levels:
            raise ValueError("at least one level is needed")
        dual = info.data.get("norm") in DUAL  # l1 and l2 end with the image, which is not known here
        if bad := [th for th in levels if not FIRST_LEVEL <= th <= (LAST_LEVEL if dual else MOST)]:
            end = str(LAST_LEVEL) if dual else "the diameter of the image box"
            raise ValueError(f"levels {bad} are outside {FIRST_LEVEL}..{end}")
        if len(set(levels)) < len(levels):
            raise ValueError(f"levels {list(levels)} name a level twice")
        return tuple(sorted(levels))

    @property
    def shown(self) -> tuple[int, ...]:
        """The levels that a report shows, as far as the image has them."""
        if isinstance(self.levels, OwnLevels):
            return (OWN,)
        return self.levels if isinstance(self.levels, tuple) else default_levels(self.norm)

    @property
    def searched(self) -> bool:
        """Whether the smallest level of each sample is searched."""
        return self.levels == "minimal"

    @property
    def nested(self) -> bool:
        """Whether a witness counts wherever it is near enough, whatever the run says of levels that are given."""
        return not isinstance(self.levels, tuple)


class DataSpec(ComponentSpec):
    """The dataset and which of its samples are used."""

    samples: int | None = Field(default=None, ge=1, description="how many; all if not given")
    seed: int = Field(default=0, ge=0, lt=2**63, description="which ones: a random draw without replacement")


class Attackers(StrEnum):
    """What the attacks of a defended model see of its defences; the judge always asks the defended model.

    Attributes:
        ADAPTIVE: the defended model, with the gradients that its defences pass on (exact, BPDA or EOT).
        STATIC: the model without its defences: what transfers counts. A defence that only this does not break hides
            gradients, no more (Athalye, Carlini & Wagner 2018).
        BLACK_BOX: the defended model's scores or labels, no gradients.
    """

    ADAPTIVE = "adaptive"
    STATIC = "static"
    BLACK_BOX = "black-box"


class ModelSpec(Spec):
    """A model: a reference that a wrapper recognises, or a kind with parameters; and the defences around it."""

    name: str | None = Field(default=None, min_length=1, description="name in the report; the reference if not given")
    reference: str | None = Field(
        default=None,
        description="zoo name, FILE.onnx, package.module:callable, "
        "weights.safetensors@architecture or http://HOST:PORT/v2/models/NAME",
    )
    kind: str | None = Field(default=None, description="model kind, instead of a reference")
    params: dict[str, Any] = Field(default_factory=dict, description="see `charpy describe model KIND`")
    defenses: tuple[ComponentSpec, ...] = Field(default=(), description="wrapped around the model, first one innermost")
    attackers: tuple[Attackers, ...] = Field(
        default=(Attackers.ADAPTIVE,),
        min_length=1,
        description="what attacks see of the defences: static (the model without them), adaptive, black-box; several "
        "give as many rows of the report, side by side",
    )

    @model_validator(mode="after")
    def _reference_or_kind(self) -> ModelSpec:
        if (self.reference is None) == (self.kind is None):
            raise ValueError("give either `reference` or `kind`")
        if not self.defenses and Attackers.STATIC in self.attackers:
            raise ValueError("a static attacker overlooks defences, and this model has none; name them in `defenses`")
        return self

    @property
    def title(self) -> str:
        """The name in the report."""
        return self.name or self.reference or self.kind or ""

    @property
    def base_title(self) -> str:
        """The same without what its attackers see (`by_attacker`)."""
        return self.title.removesuffix(f" ({self.attackers[0]})")

    def by_attacker(self) -> tuple[ModelSpec, ...]:
        """One model for each of its attackers, named after them where there are several."""
        if len(self.attackers) == 1:
            return (self,)
        return tuple(
            self.model_copy(update={"name": f"{self.title} ({attacker})", "attackers": (attacker,)})
            for attacker in dict.fromkeys(self.attackers)
        )


class CertifySpec(Spec):
    """What is to be proven beside the attacks."""

    certifiers: Literal["auto"] | tuple[ComponentSpec, ...] = Field(
        default="auto", description="certifiers, in order; auto: those of charpy that support the model; none: ()"
    )
    seconds: float | None = Field(
        default=None, ge=0, description="no proof begins later, for one model under one norm; no limit if not given"
    )


class LimitsSpec(Spec):
    """What the process that computes may use; a unit of work that takes more is given up, and named."""

    unit_seconds: float | None = Field(default=None, gt=0, description="one unit of work; no limit if not given")
    silent_seconds: float = Field(
        default=1800.0, gt=0, description="without a sign of life, such as an answer of the model: it hangs"
    )
    memory_gib: float | None = Field(
        default=None, gt=0, description="of resident memory, 2^30 bytes; no limit if not given"
    )


class RunSpec(Spec):
    """A whole run: models x threats on one dataset."""

    name: str = Field(default="assessment", min_length=1, description="title of the report")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of every random draw of every attack")
    data: DataSpec
    models: tuple[ModelSpec, ...] = Field(min_length=1)
    threats: tuple[ThreatSpec, ...] = Field(
        default=(ThreatSpec(norm=Norm.L0), ThreatSpec(norm=Norm.LINF)), min_length=1
    )
    metrics: tuple[ComponentSpec, ...] = Field(
        default=(), description="computed on every witness by the judge; the five norms (0..255 scale) if not given"
    )
    certify: CertifySpec = CertifySpec(certifiers=())
    grid: Grid = Field(default=Grid.EIGHT_BIT, description="8bit: a witness survives a PNG; none: real values")
    carry: bool = Field(
        default=True, description="a witness counts at every larger level; false: independent levels, as in the paper"
    )
    contest: bool = Field(
        default=False,
        description="every attack faces every correctly classified sample at every level, whatever the others broke, "
        "and the report says what each does alone: success, mean distortion, operating characteristic",
    )
    shard: int = Field(default=256, ge=1, le=65536, description="samples in one unit of work")
    batch_size: int | None = Field(default=None, ge=1, description="model rows in one batch; measured if not given")
    executor: ComponentSpec = Field(default=ComponentSpec(kind="inline"), description="where units are computed")
    limits: LimitsSpec = LimitsSpec()
    gates: tuple[Gate, ...] = Field(
        default=(),
        description="what the run must show, or the exit code is 1: lines such as 'linf th=3 robust_accuracy >= 0.4'; "
        "no part of what the run is about, so that a gate may be added later",
    )

    @field_validator("models")
    @classmethod
    def _one_for_each_attacker(cls, models: tuple[ModelSpec, ...]) -> tuple[ModelSpec, ...]:
        return tuple(single for model in models for single in model.by_attacker())

    @model_validator(mode="after")
    def _names_are_unique(self) -> RunSpec:
        titles = [model.title for model in self.models]
        if len(set(titles)) < len(titles):
            raise ValueError(f"models need distinct names, got {titles}")
        norms = [threat.norm for threat in self.threats]
        if len(set(norms)) < len(norms):
            raise ValueError(f"each norm may stand once, got {[str(n) for n in norms]}")
        return self

    @model_validator(mode="after")
    def _a_contest_has_levels(self) -> RunSpec:
        others = [str(threat.norm) for threat in self.threats if not isinstance(threat.levels, tuple)]
        if self.contest and others:
            raise ValueError(f"a contest is held at levels that are given, and those of {others} are not")
        return self

    @model_validator(mode="after")
    def _gates_are_about_this_run(self) -> RunSpec:
        titles = {name for model in self.models for name in (model.title, model.base_title)}
        check_about(self.gates, titles, {threat.norm: threat.shown for threat in self.threats})
        return self


def parse(
    spec: type[SpecType],
    data: Mapping[str, Any],
    *,
    where: str = "",
    hint: str = "`charpy schema` and `charpy describe` list every field",
) -> SpecType:
    """`data` as `spec`, strictly: text is no number (but for documented fractions), `no` is no boolean.

    `hint` is the next step.

    Raises:
        SpecError: naming the field, what was found and expected, and the nearest known field for a typo.
    """
    check_texts(data, where=where)
    try:
        text = json.dumps(dict(data), allow_nan=False)
    except (ValueError, TypeError) as cause:
        raise SpecError(
            str(cause),
            where=where,
            expected="numbers, texts, lists and mappings (no NaN, no infinity)",
            hint="`charpy schema` lists every field and its range",
        ) from None
    try:
        return spec.model_validate_json(text, strict=True)
    except ValidationError as cause:
        raise _readable(cause, spec, where, hint) from None


def levels_under(
    norm: str, levels: Sequence[int] | Mapping[str, Sequence[int]] | str | None, norms: Sequence[str]
) -> dict[str, Any]:
    """The `levels` field of the threat of one of `norms`; empty where the norm takes its own default.

    Args:
        norm: the threat's.
        levels: for every norm, or by norm; "minimal"; None for each norm's default.
        norms: of the run, so that levels of a norm that is not among them are refused.

    Raises:
        SpecError: levels of a norm that is not assessed.
    """
    if isinstance(levels, Mapping):
        if strangers := sorted(str(name) for name in levels.keys() - {str(name) for name in norms}):
            found, expected = ", ".join(strangers), ", ".join(map(str, norms))
            raise SpecError(
                "levels of a norm that is not assessed",
                where="levels",
                found=found,
                expected=expected,
                hint="add the norm to those that are assessed, or leave its levels out",
            )
        levels = {str(name): values for name, values in levels.items()}.get(norm)
    if levels is None or norm == Norm.UNRESTRICTED:  # it has one level, whatever the others' are
        return {}
    return {"levels": levels if isinstance(levels, str) else list(levels)}


def schema() -> dict[str, Any]:
    """JSON Schema of a run spec."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **RunSpec.model_json_schema()}


def _readable(error: ValidationError, spec: type[BaseModel], where: str, listing: str) -> SpecError:
    problems, known = [], []
    items = error.errors()
    outer = {item["loc"][:length] for item in items for length in range(len(item["loc"]))}
    for item in items:
        if item["loc"] in outer or item["type"] == "default_factory_not_called":
            continue  # it follows from another error
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = _fields_at(spec, item["loc"][:-1])
            near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1, cutoff=0.5)
            problems.append(f"{path}: unknown field" + (f", did you mean {near[0]!r}?" if near else ""))
        elif not path:  # about the spec as a whole, which is too long to show
            problems.append(item["msg"].removeprefix("Value error, "))
        else:
            problems.append(f"{path}: {item['msg'].removeprefix('Value error, ')} (found {item['input']!r:.80})")
    expected = f"one of {', '.join(known)}" if known else None
    return SpecError("; ".join(problems), where=where, expected=expected, hint=listing)


def _fields_at(spec: type[BaseModel], path: tuple[Any, ...]) -> list[str]:
    """The field names of the spec that stands at `path` inside `spec`."""
    for part in path:
        if not isinstance(part, str) or part not in spec.model_fields:
            continue
        inner = _models_in(spec.model_fields[part].annotation)
        if inner:
            spec = inner[0]
    return list(spec.model_fields)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in getattr(annotation, "__args__", ()) for found in _models_in(part)]
