"""A run spec from a file: YAML 1.2 reduced to what JSON can say, or JSON; every refusal names line and column.

Paths in a spec file are relative to the folder of the file, so that a folder with a spec, its models and its data can
be moved as a whole: model references that name a `.onnx` or `.safetensors` file, and the parameters `path` and
`data_dir` of data and models. A model without a name keeps the reference as it was written for its name.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from charpy.errors import SpecError
from charpy.specs import ModelSpec, OwnLevels, RunSpec, ThreatSpec, parse

if TYPE_CHECKING:
    from ruamel.yaml.events import Event

MOST_BYTES = 1 << 18
"""A larger file is no spec."""

MOST_DEPTH = 32
"""Deeper nesting is no spec."""

MOST_DIGITS = 40
"""A longer number is no setting."""

_PATHS = ("path", "data_dir")

_WORDS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NULLS = ("", "~", "null", "Null", "NULL")
_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NEARLY_NUMBER = re.compile(
    r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+|\.(?:inf|nan)"
    r"|[0-9][0-9_]*\.?[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9_]+(?:[eE][-+]?[0-9]+)?)",
    re.IGNORECASE,
)
_JSON_TOKEN = re.compile(
    r'(?P<key>"(?:[^"\\]|\\.)*")\s*:|"(?:[^"\\]|\\.)*"|(?P<open>[{\[])|(?P<close>[}\]])'
    r"|(?P<number>-?(?:[0-9][-+.0-9eE]*|Infinity)|NaN)"
)


def load_spec(path: Path) -> RunSpec:
    """The run spec in `path`, a `.yaml`, `.yml` or `.json` file.

    Raises:
        SpecError: the file cannot be read, or is no valid spec.
    """
    return _resolved(parse(RunSpec, read_mapping(path), where=str(path)), path.parent)


def read_mapping(path: Path) -> Mapping[str, Any]:
    """What stands in `path`, a `.yaml`, `.yml` or `.json` file, before it is any spec.

    Raises:
        SpecError: the file cannot be read, is too large, is no YAML or JSON, uses a feature of YAML beyond JSON (tags,
            anchors, aliases, several documents, numbers that YAML versions read differently), names a key twice, holds
            a number that is not finite, or is no mapping.
    """
    text = _text(path)
    if path.suffix.lower() == ".json":
        data = _from_json(text, path)
    elif path.suffix.lower() in (".yaml", ".yml"):
        data = _from_yaml(text, path)
    else:
        raise SpecError(
            "this is no spec file",
            where=str(path),
            found=path.suffix,
            expected=".yaml, .yml or .json",
            hint="give it one of these endings",
        )
    if not isinstance(data, Mapping):
        raise SpecError(
            "a spec is a mapping",
            where=f"{path}, line 1, column 1",
            found=type(data).__name__,
            expected="name: value, one a line",
            hint="`charpy schema` lists every field",
        )
    return data


def _text(path: Path) -> str:
    try:
        if not path.is_file():
            raise SpecError(
                "there is no such file",
                where=str(path),
                hint="look at the path; it is taken from the working directory",
            )
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as cause:
        raise SpecError(
            "file cannot be read", where=str(path), found=cause, hint="look at the file's permissions"
        ) from None
    if len(content) > MOST_BYTES:
        raise SpecError(
            "file is too large for a spec",
            where=str(path),
            expected=f"at most {MOST_BYTES} bytes",
            hint="name large lists by a file, as `levels: {path: eps.json}` does",
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        line = content.count(b"\n", 0, cause.start) + 1
        column = cause.start - content.rfind(b"\n", 0, cause.start)
        where = f"{path}, line {line}, column {column}"
        raise SpecError(
            "file is no UTF-8 text", where=where, found=f"byte 0x{content[cause.start]:02x}", hint="save it as UTF-8"
        ) from None


def _from_yaml(text: str, path: Path) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _YamlReader(YAML(typ="safe", pure=True).parse(text), path).document()
    except (YAMLError, ValueError, AssertionError) as cause:  # the last two: versions that the library chokes on
        problem, mark = (
            getattr(cause, f"problem{end}", None) or getattr(cause, f"context{end}", None) for end in ("", "_mark")
        )
        raise SpecError(
            "this is no YAML",
            where=f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark is not None else str(path),
            found=problem or str(cause)[:200],
            hint="correct the line, or write the spec as JSON",
        ) from None


class _YamlReader:
    """Builds plain data from YAML events; only what JSON can say too gets through."""

    def __init__(self, events: Iterator[Event], path: Path) -> None:
        self._events, self._path = events, path

    def document(self) -> Any:
        """The one document of the stream; None when there is none."""
        from ruamel.yaml.events import DocumentStartEvent, StreamEndEvent

        next(self._events)  # the start of the stream
        start = next(self._events)
        if not isinstance(start, DocumentStartEvent):
            return None
        if start.version not in (None, (1, 2)) or start.tags:
            raise self._error("directives are not used in a spec", start)
        data = self._value(next(self._events), 0)
        next(self._events)  # the end of the document
        if not isinstance(end := next(self._events), StreamEndEvent):
            raise self._error("a spec is one document", end, hint="one file per spec")
        return data

    def _value(self, event: Any, depth: int) -> Any:
        from ruamel.yaml.events import AliasEvent, MappingStartEvent, SequenceStartEvent

        if isinstance(event, AliasEvent) or getattr(event, "anchor", None):
            raise self._error("anchors and aliases are not used in a spec", event, hint="write the value out")
        if tag := getattr(event, "tag", None):
            raise self._error("tags are not used in a spec", event, found=str(tag))
        if depth > MOST_DEPTH:
            raise self._error("nested too deeply", event)
        if isinstance(event, MappingStartEvent):
            return self._mapping(depth)
        if isinstance(event, SequenceStartEvent):
            return list(self._items(depth))
        return event.value if event.style is not None else self._plain(event)  # a scalar: nothing else is left

    def _items(self, depth: int) -> Iterator[Any]:
        from ruamel.yaml.events import SequenceEndEvent

        while not isinstance(event := next(self._events), SequenceEndEvent):
            yield self._value(event, depth + 1)

    def _mapping(self, depth: int) -> dict[str, Any]:
        from ruamel.yaml.events import MappingEndEvent, ScalarEvent

        result: dict[str, Any] = {}
        while not isinstance(event := next(self._events), MappingEndEvent):
            key = self._value(event, depth + 1) if isinstance(event, ScalarEvent) else None
            if not isinstance(key, str):
                raise self._error("a key is not text", event, hint="put it in quotes if it is meant as text")
            if key in result:
                raise self._error(f"key {key!r} stands twice in one mapping", event, hint="remove one of the two")
            result[key] = self._value(next(self._events), depth + 1)
        return result

    def _plain(self, event: Any) -> Any:
        """A scalar without quotes: the numbers, booleans and null of JSON; anything else is text."""
        text: str = event.value
        if text in _NULLS:
            return None
        if text in _WORDS:
            return _WORDS[text]
        if number := _JSON_NUMBER.fullmatch(text):
            value = math.inf if len(text) > MOST_DIGITS else float(text) if number[1] or number[2] else int(text)
            if math.isfinite(value):
                return value
            raise self._error("number is too large or too long", event, found=text[:MOST_DIGITS])
        if _NEARLY_NUMBER.fullmatch(text):
            raise self._error(
                "number that YAML versions read differently",
                event,
                found=text,
                hint="write it as 10, 0.5 or 1e-3, or put it in quotes if it is text",
            )
        return text

    def _error(self, what: str, event: Event, *, found: str | None = None, hint: str = "") -> SpecError:
        mark = event.start_mark
        where = f"{self._path}, line {mark.line + 1}, column {mark.column + 1}"
        expected = "numbers, texts, lists and mappings, as JSON has them"
        return SpecError(what, where=where, found=found, expected=expected, hint=hint or "write the value plainly")


def _from_json(text: str, path: Path) -> Any:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as cause:
        where = f"{path}, line {cause.lineno}, column {cause.colno}"
        raise SpecError(
            "this is no JSON", where=where, found=cause.msg, hint="correct the line, or write the spec as YAML"
        ) from None
    except (RecursionError, ValueError) as cause:  # ValueError: a whole number of more than 4,300 digits
        raise SpecError(
            "this is no spec", where=str(path), found=cause, hint="`charpy schema` lists every field and its range"
        ) from None
    _refuse_json(text, path)
    return data


def _refuse_json(text: str, path: Path) -> None:
    """Refuse what Python reads in `text`, which it has found to be JSON, though JSON or a spec does not allow it."""
    open_keys: list[set[str]] = []
    for token in _JSON_TOKEN.finditer(text):
        problem = ""
        if token["open"]:
            open_keys.append(set())
            problem = "nested too deeply" if len(open_keys) > MOST_DEPTH + 1 else ""
        elif token["close"]:
            open_keys.pop()
        elif token["key"]:
            key = json.loads(token["key"])
            problem = f"key {key!r} stands twice in one mapping" if key in open_keys[-1] else ""
            open_keys[-1].add(key)
        elif (number := token["number"]) and not (len(number) <= MOST_DIGITS and math.isfinite(float(number))):
            problem = f"{number[:MOST_DIGITS]} is no finite number of at most {MOST_DIGITS} characters"
        if problem:
            line = text.count("\n", 0, token.start()) + 1
            column = token.start() - text.rfind("\n", 0, token.start())
            raise SpecError(
                problem,
                where=f"{path}, line {line}, column {column}",
                found=token.group()[:MOST_DIGITS],
                hint="a spec says each thing once, and numbers as JSON does",
            )


def _resolved(spec: RunSpec, folder: Path) -> RunSpec:
    """`spec` with its relative paths taken from `folder`."""
    data = spec.data.model_copy(update={"params": _rooted(spec.data.params, folder)})
    models = tuple(_rooted_model(model, folder) for model in spec.models)
    threats = tuple(_rooted_threat(threat, folder) for threat in spec.threats)
    return spec.model_copy(update={"data": data, "models": models, "threats": threats})


def _rooted_threat(threat: ThreatSpec, folder: Path) -> ThreatSpec:
    if not isinstance(threat.levels, OwnLevels):
        return threat
    return threat.model_copy(update={"levels": OwnLevels(path=_root(threat.levels.path, folder))})


def _rooted_model(model: ModelSpec, folder: Path) -> ModelSpec:
    changes: dict[str, Any] = {"params": _rooted(model.params, folder)}
    file = (model.reference or "").partition("@")[0]
    if model.reference is not None and file.lower().endswith((".onnx", ".safetensors")):
        changes |= {"reference": _root(model.reference, folder), "name": model.title}
    return model.model_copy(update=changes)


def _rooted(params: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    return {
        key: _root(value, folder) if key in _PATHS and isinstance(value, str) else value
        for key, value in params.items()
    }


def _root(path: str, folder: Path) -> str:
    return path if path.startswith("~") else os.path.abspath(folder / path)
