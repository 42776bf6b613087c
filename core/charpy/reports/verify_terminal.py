"""A verification for a terminal: what was checked, how much agrees, and what does not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from charpy.reports.inert import visible
from charpy.verification.document import Verification

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = 20
"""Disagreements that are told one by one; `--json` has all."""

SENTENCES = {
    "agrees": "VERIFIED: everything that was checked agrees with the run file",
    "disagrees": "NOT VERIFIED: the run file says what is not so",
    "incomplete": "NOT VERIFIED IN FULL: what was checked agrees, but not everything could be checked",
}


def verification_table(found: Verification) -> Table:
    """A `rich` table with a row for each check."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Verification of {visible(found.run)}"), title_justify="left")
    for name in ("check", "model"):
        table.add_column(name)
    for name in ("checked", "agree", "differ", "left to chance"):
        table.add_column(name, justify="right")
    for check in found.checks:
        counts = (check.checked, check.agree, len(check.disagreements), check.unconfirmed)
        shown = [f"{count:,}" for count in counts] if check.checked else ["-"] * 4
        table.add_row(Text(check.name), Text(visible(check.of)), *shown)
    return table


def verification_lines(found: Verification) -> Iterator[str]:
    """What follows the table: each disagreement, what was not verified, what to know, the verdict."""
    told = [(check, one) for check in found.checks for one in check.disagreements]
    for check, one in told[:SHOWN]:
        yield visible(f"differs: {_name(check.name, check.of)}: {one.record}: {one.found}; expected {one.expected}")
    if len(told) > SHOWN:
        yield f"... and {len(told) - SHOWN} more: --json lists them"
    for check in found.checks:
        for text in check.not_verified:
            yield visible(f"not verified: {_of(check.of)}{text}")
    for check in found.checks:
        if check.unconfirmed:
            yield visible(
                f"note: {_name(check.name, check.of)}: {check.unconfirmed} of {check.checked} were not confirmed again"
            )
        for text in check.notes:
            yield visible(f"note: {_of(check.of)}{text}")
    yield f"No check looks at: {'; '.join(found.beyond)}"
    yield SENTENCES[found.verdict]


def _name(check: str, model: str) -> str:
    return f"{check} of {model}" if model else check


def _of(model: str) -> str:
    return f"{model}: " if model else ""
