"""A JSON Schema as a page of the documentation: every part, every field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

TITLES = {
    "RunSpec": "A run",
    "DataSpec": "`data`",
    "ModelSpec": "`models`",
    "ThreatSpec": "`threats`",
    "AttackSpec": "An attack of a battery",
    "OwnLevels": "Levels of each sample",
    "CertifySpec": "`certify`",
    "LimitsSpec": "`limits`",
    "ComponentSpec": "A component",
    "Attackers": "`attackers`",
    "Goal": "`goal`",
    "Grid": "`grid`",
    "Norm": "`norm`",
    "Assessment": "The document of one model",
    "AssessmentSet": "The document of several models",
}
"""Headings of parts, in the order of a page; others follow under their own names."""

WORDS = {"object": "mapping", "string": "text", "integer": "whole number", "boolean": "true or false"}

BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}

LARGEST = 2**53
"""A bound from here on says what a number can hold, not what makes sense."""

LONGEST = 40
"""Characters of a default in a table."""

Schema = Mapping[str, Any]


def schema_page(schema: Schema, title: str, introduction: str) -> str:
    """Every field of every part of `schema`, with its type, bounds, default and meaning."""
    parts: dict[str, Schema] = dict(schema.get("$defs", {}))
    if "properties" in schema:
        parts[schema["title"] if schema["title"] in TITLES else title] = schema
    names = [*(name for name in TITLES if name in parts), *sorted(parts.keys() - TITLES.keys())]
    lines = [f"# {title}", "", introduction]
    for name in names:
        lines += ["", f"## {TITLES.get(name, name)}", "", *_part(parts[name], parts)]
    return "\n".join(lines) + "\n"


def _part(part: Schema, parts: Mapping[str, Schema]) -> Iterator[str]:
    if summary := _summary(part):
        yield summary
        yield ""
    if "enum" in part:
        yield f"One of {', '.join(f'`{value}`' for value in part['enum'])}."
        return
    fields = part["properties"]
    required = part.get("required", ())
    with_default = len(required) < len(fields)  # a document that is written has every field
    names = ("field", "type", "default", "meaning") if with_default else ("field", "type", "meaning")
    yield f"| {' | '.join(names)} |"
    yield f"|{'---|' * len(names)}"
    for name, field in fields.items():
        default = ["required" if name in required else _default(field)] if with_default else []
        meaning = _cell(field.get("description") or _of_its_type(field, parts))
        yield f"| {' | '.join([f'`{name}`', _type(field), *default, meaning])} |"


def _summary(part: Schema) -> str:
    return " ".join(part.get("description", "").split("\n\n", 1)[0].split())


def _of_its_type(field: Schema, parts: Mapping[str, Schema]) -> str:
    """What a field that says nothing of its own means: what its type is."""
    reference = field.get("$ref") or field.get("items", {}).get("$ref", "")
    return _summary(parts.get(reference.rsplit("/", 1)[-1], {}))


def _default(field: Schema) -> str:
    if "default" not in field:
        return "`{}`" if field.get("type") == "object" else "see the meaning"
    if field["default"] is None:
        return "none"
    text = json.dumps(field["default"], ensure_ascii=False)
    return _cell(f"`{text}`") if len(text) <= LONGEST else _in_short(field["default"])


def _in_short(default: Any) -> str:
    """A long default: the first field of each part, or that the fields of a part say their own."""
    if not isinstance(default, list):
        return "those of its fields"
    firsts = [next(iter(part.items())) for part in default]
    return ", ".join(_cell(f"`{{{name}: {value}, ...}}`") for name, value in firsts)


def _type(field: Schema) -> str:
    """The type in words, with its bounds."""
    if "$ref" in field:
        name = field["$ref"].rsplit("/", 1)[1]
        title = TITLES.get(name, name)
        return f"[{title}](#{title.strip('`').lower().replace(' ', '-')})"
    if "anyOf" in field:
        return " or ".join("none" if option.get("type") == "null" else _type(option) for option in field["anyOf"])
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return " or ".join(f"`{value}`" for value in field["enum"])
    if "prefixItems" in field:
        return f"({', '.join(_type(item) for item in field['prefixItems'])})"
    kind: str = field.get("type", "anything")
    if kind == "array":
        return "empty list" if field.get("maxItems") == 0 else f"list of {_type(field['items'])}"
    if kind == "object" and isinstance(field.get("additionalProperties"), Mapping):
        return f"mapping to {_type(field['additionalProperties'])}"
    bounds = [f"{word} {field[key]:g}" for key, word in BOUNDS.items() if key in field and field[key] < LARGEST]
    return ", ".join([WORDS.get(kind, kind), *bounds])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
