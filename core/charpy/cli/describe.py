"""`charpy describe`: one component, its contract and every parameter with default, bounds, unit and source."""

from __future__ import annotations

import inspect
import json as json_text
import sys
from collections.abc import Mapping
from typing import Any

from charpy.cli.console import results
from charpy.errors import unknown_name
from charpy.interfaces.component import Component
from charpy.plugins import HOOKS, Entry, registry
from charpy.reports.inert import visible

_BOUNDS = (
    ("minimum", ">= {}"),
    ("exclusiveMinimum", "> {}"),
    ("maximum", "<= {}"),
    ("exclusiveMaximum", "< {}"),
    ("minLength", "at least {} long"),
    ("maxLength", "at most {} long"),
    ("minItems", "at least {} items"),
    ("maxItems", "at most {} items"),
)
_DECLARED = ("norms", "access", "family", "goals", "gradient", "randomised", "arithmetic", "unit", "direction", "range")
_FIELDS = ("type", "default", "bounds", "unit", "description", "source")


def describe(hook: str, kind: str, /, *, json: bool = False) -> int:
    """Explain a component: what it is, what it declares, and its parameters.

    Args:
        hook: attack, metric, model, defense, certifier, dataset, generator, executor, report or command.
        kind: its name, as `charpy plugins` lists it.
        json: as JSON.
    """
    name = hook.lower().removesuffix("s") + "s"
    if name not in HOOKS:
        raise unknown_name("hook", hook, [known[:-1] for known in HOOKS])
    found = description(registry().find(name, kind))
    if json:
        sys.stdout.write(json_text.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(found)
    return 0


def description(entry: Entry) -> dict[str, Any]:
    """What is known of a component, as plain data; it is imported for this."""
    component = entry.load()
    found: dict[str, Any] = {
        "hook": entry.hook,
        "kind": entry.kind,
        "package": entry.package,
        "version": entry.version,
        "summary": entry.summary,
        "description": inspect.getdoc(component) or entry.summary,
    }
    if isinstance(component, type) and issubclass(component, Component):
        schema = component.Params.model_json_schema()
        found |= {"declares": _declared(component), "parameters": parameters(schema), "schema": schema}
    return found


def parameters(schema: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One mapping per parameter of a `Params` schema: name, type, default, bounds, unit, description, source."""
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    return [
        {
            "name": name,
            "type": _type(field, definitions),
            "default": "(required)" if name in required else json_text.dumps(field.get("default")),
            "bounds": _bounds(field),
            "unit": field.get("unit", ""),
            "description": field.get("description", ""),
            "source": field.get("source", ""),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _type(field: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A short word for a JSON Schema type: `integer`, `text or null`, `one of a, b`, `list of number`."""
    if "$ref" in field:
        return _type(definitions.get(field["$ref"].rpartition("/")[2], {}), definitions)
    if "enum" in field or "const" in field:
        values = field.get("enum", [field.get("const")])
        return "one of " + ", ".join(str(value) for value in values) if len(values) > 1 else str(values[0])
    if "anyOf" in field:
        return " or ".join(_type(part, definitions) for part in field["anyOf"])
    if field.get("type") == "array" and isinstance(field.get("items"), Mapping):
        return f"list of {_type(field['items'], definitions)}"
    kind = str(field.get("type", "any"))
    return {"string": "text", "object": "mapping"}.get(kind, kind)


def _bounds(field: Mapping[str, Any]) -> str:
    """The limits of a value, those of an optional or a list's value included."""
    parts = [text.format(field[key]) for key, text in _BOUNDS if key in field]
    inner = [part for part in field.get("anyOf", []) if isinstance(part, Mapping)]
    inner += [field["items"]] if isinstance(field.get("items"), Mapping) else []
    return ", ".join([*parts, *(text for part in inner if (text := _bounds(part)))])


def _declared(component: type) -> dict[str, Any]:
    """What the class declares of its contract: an attack's norms, access and family, a metric's unit and range, ..."""
    found = {}
    for name in _DECLARED:
        value = getattr(component, name, None)
        if value is not None and not callable(value) and not isinstance(value, property):
            found[name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, frozenset | set):
        return sorted(_plain(item) for item in value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return str(value)
    name = getattr(value, "name", None)
    return name if name and isinstance(value, int) else getattr(value, "value", value)


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    console = results()
    console.print(visible(f"{found['kind']} ({found['hook'][:-1]}) of {found['package']} {found['version']}"))
    console.print()
    console.print(visible(found["description"], keep="\n"))
    for name, value in found.get("declares", {}).items():
        console.print(visible(f"{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}"))
    rows = found.get("parameters")
    if rows is None:
        return
    console.print()
    if not rows:
        console.print("It has no parameters.")
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("parameter", no_wrap=True)
    for column in _FIELDS:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(visible(str(row[column]))) for column in ("name", *_FIELDS)))
    console.print(table)
