"""`charpy plugins`: every component that is installed, who it is from, and what could not be used."""

from __future__ import annotations

import json as json_text
import sys
from typing import Any

from charpy.cli.app import GATE_FAILED, PASS
from charpy.cli.console import results
from charpy.errors import PluginError
from charpy.plugins import Entry, Registry, registry
from charpy.reports.inert import visible


def plugins(*, json: bool = False, check: bool = False) -> int:
    """List every component: hook, kind, package, version, summary; and every plugin that failed to load.

    Args:
        json: as JSON.
        check: also import every component; exit code 1 if a plugin, a name or a component cannot be used.
    """
    installed = registry()
    broken = broken_components(installed) if check else {}
    found = inventory(installed, broken)
    if json:
        sys.stdout.write(json_text.dumps(found, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(found)
    troubles = bool(found["failures"] or found["conflicts"] or broken)
    return GATE_FAILED if check and troubles else PASS


def inventory(installed: Registry, broken: dict[Entry, str]) -> dict[str, Any]:
    """Everything that is known of the plugins, as plain data; `broken` says why a component cannot be used."""
    components = [
        {
            "hook": entry.hook,
            "kind": entry.kind,
            "package": entry.package,
            "version": entry.version,
            "plugin": entry.plugin,
            "summary": entry.summary,
            **({"failure": broken[entry]} if entry in broken else {}),
        }
        for entry in installed.entries()
    ]
    failures = [
        {"plugin": item.plugin, "package": item.package, "version": item.version, "cause": item.cause}
        for item in installed.failures
    ]
    conflicts = [
        {"hook": owners[0].hook, "kind": owners[0].kind, "owners": [_owner(entry) for entry in owners]}
        for owners in installed.conflicts
    ]
    return {"components": components, "failures": failures, "conflicts": conflicts}


def broken_components(installed: Registry) -> dict[Entry, str]:
    """Why each component that cannot be used cannot: it fails to import, or it is not what its hook is for."""
    found = {}
    for entry in installed.entries():
        try:
            component = entry.load()
        except PluginError as cause:
            found[entry] = str(cause.found)
            continue
        if reason := _misfit(entry.hook, component):
            found[entry] = reason
    return found


def _misfit(hook: str, component: Any) -> str:
    if hook == "commands":
        return "" if callable(component) else "is not callable"
    bases = _bases()[hook]
    if isinstance(component, type) and issubclass(component, bases):
        return ""
    return f"is no {' or '.join(base.__name__ for base in bases)}: {component!r:.80}"


def _bases() -> dict[str, tuple[type, ...]]:
    """What a component of each hook must be."""
    from charpy.interfaces.attack import Attack, Battery
    from charpy.interfaces.certifier import Certifier
    from charpy.interfaces.dataset import Dataset
    from charpy.interfaces.defense import Defense, Detector, TrainingDefense
    from charpy.interfaces.executor import Executor
    from charpy.interfaces.generator import Generator
    from charpy.interfaces.metric import Metric
    from charpy.interfaces.model import Model
    from charpy.interfaces.report import Report

    return {
        "models": (Model,),
        "attacks": (Attack, Battery),
        "metrics": (Metric,),
        "defenses": (Defense, TrainingDefense, Detector),
        "certifiers": (Certifier,),
        "datasets": (Dataset,),
        "generators": (Generator,),
        "executors": (Executor,),
        "reports": (Report,),
    }


def _owner(entry: Entry) -> str:
    return f"{entry.plugin} ({entry.package} {entry.version})"


def _print(found: dict[str, Any]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for column in ("hook", "kind", "package", "version"):
        table.add_column(column, no_wrap=True)
    table.add_column("summary", overflow="fold")
    for row in found["components"]:
        summary = f"CANNOT BE USED: {row['failure']}" if "failure" in row else row["summary"]
        cells = (row["hook"], row["kind"], row["package"], row["version"], summary)
        table.add_row(*(visible(str(cell)) for cell in cells))
    console = results()
    console.print(table)
    for row in found["components"]:
        if "failure" in row:
            text = f"cannot be used: {row['hook']} {row['kind']} of {row['package']} {row['version']}: {row['failure']}"
            console.print(visible(text), soft_wrap=True)
    for item in found["failures"]:
        text = f"failed: plugin {item['plugin']} ({item['package']} {item['version']}): {item['cause']}"
        console.print(visible(text), soft_wrap=True)
    for item in found["conflicts"]:
        text = f"refused: {item['hook']} {item['kind']} is registered by {' and by '.join(item['owners'])}"
        console.print(visible(text), soft_wrap=True)
