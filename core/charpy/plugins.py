"""The one plugin manager: finds every plugin, lists its components without importing them, loads one on demand."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pluggy

from charpy import hookspecs
from charpy.errors import DuplicateNameError, PluginError, line_of, told_of, unknown_name

GROUP = "charpy"
"""The entry-point group; the built-in plugins are found through it like everyone else's."""

HOOKS = (
    "models",
    "attacks",
    "metrics",
    "defenses",
    "certifiers",
    "datasets",
    "generators",
    "executors",
    "reports",
    "commands",
)


@dataclass(frozen=True)
class Entry:
    """One registered component: its hook, kind, what it is or where it stands, and who registered it."""

    hook: str
    kind: str
    target: Any
    plugin: str
    package: str
    version: str

    @property
    def summary(self) -> str:
        """The first line of the component's docstring, read from its source where it is not imported yet."""
        if not isinstance(self.target, str):
            return (self.target.__doc__ or "").strip().split("\n", 1)[0]
        return _summary_from_source(self.target)

    def load(self) -> Any:
        """The component itself; a component that cannot be imported raises `PluginError` naming its owner."""
        if not isinstance(self.target, str):
            return self.target
        module, _, attribute = self.target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except Exception as cause:
            raise PluginError(
                f"{self.hook[:-1]} {self.kind!r} of plugin {self.plugin!r} cannot be loaded",
                where=self.target,
                found=told_of(cause),
                hint=f"repair or uninstall {self.package} {self.version}",
            ) from cause


@dataclass(frozen=True)
class Failure:
    """A plugin that could not be used, and why; the others work on."""

    plugin: str
    package: str
    version: str
    cause: str


class Registry:
    """Every component of every plugin, by hook and kind."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self.hooks = pluggy.PluginManager(GROUP)
        self.hooks.add_hookspecs(hookspecs)
        self.failures: list[Failure] = []
        self._entries: dict[tuple[str, str], list[Entry]] = {}
        points = entry_points(group=GROUP) if found is None else found
        for point in sorted(points, key=lambda p: (p.name, p.value)):
            package, version = _distribution(point)
            try:
                self.add(point.load(), point.name, package, version)
            except (Exception, SystemExit) as cause:  # noqa: BLE001 - a broken plugin must not hide the others
                self.failures.append(Failure(point.name, package, version, line_of(cause)))

    def add(self, plugin: object, name: str, package: str = "(in this process)", version: str = "") -> None:
        """Register `plugin`, an object or module with `charpy_*` hook implementations.

        Raises:
            UnknownNameError: it implements a hook that there is not; the nearest are named.
        """
        entries = _entries_of(plugin, name, package, version)
        self.hooks.register(plugin, name=name)
        try:
            self.hooks.check_pending()
        except pluggy.PluginValidationError:
            unknown = [hook.name for hook in self.hooks.get_hookcallers(plugin) or () if not hook.has_spec()]
            self.hooks.unregister(plugin)
            known = [hook for hook in vars(hookspecs) if hook.startswith("charpy_")]
            raise unknown_name("hook", unknown[0], known, where=name, hint="docs/plugins.md lists every hook") from None
        for entry in entries:
            self._entries.setdefault((entry.hook, entry.kind), []).append(entry)

    def entries(self, hook: str | None = None) -> list[Entry]:
        """All components (of one hook), sorted by hook and kind; a disputed kind is there once per owner."""
        rows = [row for owners in self._entries.values() for row in owners if hook in (None, row.hook)]
        return sorted(rows, key=lambda row: (HOOKS.index(row.hook), row.kind, row.plugin))

    @property
    def conflicts(self) -> list[tuple[Entry, ...]]:
        """Kinds that more than one plugin registers; using one is refused."""
        return [tuple(owners) for owners in self._entries.values() if len(owners) > 1]

    def find(self, hook: str, kind: str) -> Entry:
        """The one component of this kind.

        Raises:
            UnknownNameError: nothing is registered under the name; the nearest names are listed.
            DuplicateNameError: several plugins register it; all owners are named.
        """
        owners = self._entries.get((hook, kind))
        if owners is None:
            known = [name for known_hook, name in self._entries if known_hook == hook]
            hint = "`charpy plugins` lists everything that is installed"
            raise unknown_name(hook[:-1], kind, known, where=hook, hint=hint)
        if len(owners) > 1:
            names = " and ".join(f"plugin {row.plugin!r} of {row.package} {row.version}".rstrip() for row in owners)
            raise DuplicateNameError(
                f"{hook[:-1]} {kind!r} is registered twice", found=names, hint="uninstall one of the two packages"
            )
        return owners[0]

    def load(self, hook: str, kind: str) -> Any:
        """The component class (or command) of this kind, imported now."""
        return self.find(hook, kind).load()

    def usable(self, hook: str) -> Iterator[tuple[Entry, Any]]:
        """Each component class of a hook that can be imported; a broken one is left out and hides nothing."""
        from charpy.interfaces.component import Component

        for entry in self.entries(hook):
            try:
                component = entry.load()
            except PluginError:
                continue
            if isinstance(component, type) and issubclass(component, Component):
                yield entry, component

    def create(self, hook: str, kind: str, params: Mapping[str, Any] | None = None) -> Any:
        """An instance of the component, its parameters validated; unknown or out-of-range ones are refused."""
        from charpy.interfaces.component import Component  # here, as Pydantic is a third of what --help would cost
        from charpy.specs import parse

        component = self.load(hook, kind)
        if not (isinstance(component, type) and issubclass(component, Component)):
            raise PluginError(
                f"{hook[:-1]} {kind!r} is not a charpy Component",
                found=component,
                hint="register a class that derives from its contract in charpy.interfaces",
            )
        return component(parse(component.Params, params or {}, where=f"{hook[:-1]} {kind}"))

    def notify(self, event: str, **facts: Any) -> None:
        """Tell every plugin that listens to `event`; one that raises is noted in `failures` and hides no other."""
        for listener in getattr(self.hooks.hook, event).get_hookimpls():
            try:
                listener.function(**{name: facts[name] for name in listener.argnames})
            except (Exception, SystemExit) as cause:  # noqa: BLE001 - a listener must not cost the run its results
                failure = Failure(listener.plugin_name, "", "", f"{event}: {told_of(cause)}")
                if failure not in self.failures:
                    self.failures.append(failure)


@cache
def registry() -> Registry:
    """The registry of this process, made on first use from the installed entry points."""
    return Registry()


def _distribution(point: EntryPoint) -> tuple[str, str]:
    distribution = point.dist
    return (distribution.name, distribution.version) if distribution is not None else ("(unknown)", "")


def _entries_of(plugin: object, name: str, package: str, version: str) -> list[Entry]:
    entries = []
    for hook in HOOKS:
        implementation = getattr(plugin, f"charpy_{hook}", None)
        if implementation is None:
            continue
        components = implementation()
        if not isinstance(components, Mapping):
            raise PluginError(
                f"charpy_{hook} of plugin {name!r} returned no mapping",
                found=type(components).__name__,
                expected="a mapping from kind to a class or 'package.module:Class'",
                hint="return {kind: class or 'package.module:Class'}",
            )
        for kind, target in components.items():
            if isinstance(target, str) and ":" not in target:
                raise PluginError(
                    f"{hook[:-1]} {kind!r} of plugin {name!r} has no import string",
                    found=target,
                    expected="'package.module:Class'",
                    hint="write it as 'package.module:Class', or give the class itself",
                )
            entries.append(Entry(hook, kind, target, name, package, version))
    return entries


def _summary_from_source(target: str) -> str:
    """First docstring line of `package.module:name` by parsing the file; the module is not executed.

    Of a name that is assigned, such as an app of several commands, it is the module's.
    """
    module, _, attribute = target.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        source = Path(spec.origin).read_text(encoding="utf-8") if spec and spec.origin else ""
        tree = ast.parse(source)
        nodes: dict[str, ast.AST] = {getattr(node, "name", ""): node for node in tree.body}
        assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
        nodes |= {name.id: tree for node in assigned for name in node.targets if isinstance(name, ast.Name)}
        node = nodes[attribute]
    except (ImportError, OSError, SyntaxError, ValueError, KeyError):
        return f"(cannot be found: {target})"
    if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Module):
        return ""
    return (ast.get_docstring(node) or "").split("\n", 1)[0]
