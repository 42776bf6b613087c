"""Strict parsing of a spec, with errors that name the nearest field."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from charpy.errors import SpecError
from charpy.texts import check_texts

SpecType = TypeVar("SpecType", bound=BaseModel)


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
