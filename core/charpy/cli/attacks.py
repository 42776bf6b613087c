"""`charpy attacks`: every attack in one table, and what each battery is made of."""

from __future__ import annotations

import json as json_text
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from charpy.plugins import Registry, registry
from charpy.reports.inert import visible

_COLUMNS = ("kind", "norms", "access", "goals", "what it does", "source")
_INTRODUCTION = """# Attacks

What `charpy attacks --markdown --package charpy` prints: every built-in attack as its class declares itself (without
`--package`, those of every installed plugin too). `charpy describe attack KIND` adds its parameters, each with default,
bounds, unit and source.

L0 counts pixels. An attack with *target distortion* is given a radius; the other two families find their own, so that
one run fills every level. *Access* is the least that the model must give.
"""


def attacks(*, markdown: bool = False, json: bool = False, package: str | None = None) -> int:
    """List every attack by family, with norms, access, goals and source, and the steps of every battery.

    Args:
        markdown: as the page docs/attacks.md.
        json: as JSON.
        package: only what this package brings.
    """
    found = catalogue(registry(), package)
    if json:
        sys.stdout.write(json_text.dumps(found, indent=2, ensure_ascii=False) + "\n")
    elif markdown:
        sys.stdout.write(page(found))
    else:
        _print(found)
    return 0


def catalogue(installed: Registry, package: str | None = None) -> dict[str, Any]:
    """The attacks by family, and the batteries with their steps by norm and access, as plain data."""
    from charpy.interfaces.attack import Attack, Battery, Family
    from charpy.threat import Access, Norm

    families: dict[str, list[dict[str, Any]]] = {family.value: [] for family in Family}
    batteries = []
    for entry, component in installed.usable("attacks"):
        if package not in (None, entry.package):
            continue
        shared = {"kind": entry.kind, "package": entry.package, "what it does": entry.summary}
        if issubclass(component, Attack):
            families[component.family.value].append(
                {
                    **shared,
                    "norms": [norm.value for norm in Norm if norm in component.norms],
                    "access": component.access.name.lower(),
                    "goals": sorted(goal.value for goal in component.goals),
                    "source": component.source,
                }
            )
        elif issubclass(component, Battery):
            battery = installed.create("attacks", entry.kind)
            steps = {
                norm.value: {
                    access.name.lower(): [step.kind for step in battery.steps(norm, access)] for access in Access
                }
                for norm in Norm
            }
            batteries.append({**shared, "steps": steps})
    order = {access.name.lower(): -access for access in Access}
    for rows in families.values():
        rows.sort(key=lambda row: (order[row["access"]], row["kind"]))
    return {"families": families, "batteries": batteries}


def page(found: Mapping[str, Any]) -> str:
    """The catalogue in Markdown."""
    parts = [_INTRODUCTION]
    for family, rows in found["families"].items():
        parts.append(f"## {family.capitalize()}\n\n{_table(_COLUMNS, [_cells(row) for row in rows])}")
    parts.append("## Batteries\n\nEach attack of a battery runs only on what those before it left standing.\n")
    for battery in found["batteries"]:
        rows = [
            [norm, access, " → ".join(f"`{kind}`" for kind in kinds)]
            for norm, by_access in battery["steps"].items()
            for access, kinds in by_access.items()
            if kinds
        ]
        title = f"### `{battery['kind']}`\n\n{battery['what it does']}\n\n"
        parts.append(title + _table(("norm", "model gives", "attacks, in order"), rows))
    return "\n".join(parts)


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f"`{row['kind']}`", ", ".join(row["norms"]), row["access"], ", ".join(row["goals"]), *_told(row)]


def _told(row: Mapping[str, Any]) -> list[str]:
    return [row["what it does"], row["source"] or f"({row['package']})"]


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(visible(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _print(found: Mapping[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from charpy.cli.console import results

    console = results()
    for family, rows in found["families"].items():
        table = Table(box=None, pad_edge=False, title=family, title_justify="left")
        for column in _COLUMNS[:3]:
            table.add_column(column, no_wrap=True)
        for column in _COLUMNS[4:]:
            table.add_column(column, overflow="fold")
        for row in rows:
            cells = (row["kind"], " ".join(row["norms"]), row["access"], *_told(row))
            table.add_row(*(Text(visible(cell)) for cell in cells))
        console.print(table)
        console.print()
    for battery in found["batteries"]:
        console.print(visible(f"battery {battery['kind']}: {battery['what it does']}"))
