"""What every component shares: a validated `Params` class, and a summary that is the first line of its docstring."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


class Params(BaseModel):
    """Base of every component's parameters: unknown fields are refused, values are frozen and bounded."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False)


def param(
    default: Any = ..., *, description: str, unit: str = "", source: str = "", identity: bool = True, **bounds: Any
) -> Any:
    """A `Params` field with its unit and its source (paper and section, or 'ours').

    With `identity=False` it says where something lies, or how it is fetched or asked, and is no part of what a run is
    about: the run can be resumed with another value, since the component's `fingerprint()` says what was found there.
    `bounds` are Pydantic's: `ge`, `gt`, `le`, `lt`, `min_length`, `default_factory`, ...
    """
    extra: dict[str, Any] = {key: value for key, value in (("unit", unit), ("source", source)) if value}
    if not identity:
        extra["identity"] = False
    if "default_factory" in bounds:
        return Field(description=description, json_schema_extra=extra or None, **bounds)
    field: FieldInfo = Field(default, description=description, json_schema_extra=extra or None, **bounds)
    return field


def locations(params: type[BaseModel]) -> frozenset[str]:
    """The fields that are no part of what a run is about (`identity=False`)."""
    extras = {name: field.json_schema_extra for name, field in params.model_fields.items()}
    return frozenset(
        name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("identity") is False
    )


class Component:
    """Base of everything that a plugin can register.

    A subclass names its parameters in a nested `Params` class and is constructed with an instance of it:
    `FewPixel(FewPixel.Params(population=400))`, or with the defaults: `FewPixel()`.
    """

    Params: ClassVar[type[Params]] = Params

    def __init__(self, params: Any = None) -> None:
        self.params: Any = type(self).Params() if params is None else params

    @classmethod
    def summary(cls) -> str:
        """The first line of the class's docstring."""
        return (cls.__doc__ or "").strip().split("\n", 1)[0]
