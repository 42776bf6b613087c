"""Adversarial accuracy of many models at each level (Kotyan & Vargas 2020, Table III), with the paper's bold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from charpy.analysis.comparison.document import CellPart, Rate
from charpy.analysis.comparison.entries import Entry
from charpy.analysis.comparison.rates import rate
from charpy.outcome import Outcome

NEAR = 0.05
"""Results this far from the lowest count as equally good ("within a distance of five", section V-C)."""

DEFINITION = (
    "Adversarial accuracy, in the paper: the accuracy of the attack, that is the share of the attacked images for "
    "which it made an adversarial one. Here: broken of correctly classified images; a misclassified image needs no "
    "attack and counts neither way. The paper does not say whether its 100 images hold misclassified ones, but its "
    "arithmetic for TVM (47.55 % clean, 24 % broken, 35 % left) is that of a share of the correctly classified."
)


def dual_cells(entries: Sequence[Entry]) -> tuple[CellPart, ...]:
    """One cell per row, norm and level that it was assessed at.

    The lowest of a column, and what lies within `NEAR` of it, are marked; as in the paper only among models without
    defences, and only where there are two models to choose from. A model that has several rows stands by the highest of
    its figures, since what broke it in one row broke it; a row that is no evidence is not marked and is no rival, and
    neither is one whose samples have other levels of their own.
    """
    cells = [cell for entry in entries for cell in _cells(entry)]
    bare = {entry.title: entry.model for entry in entries if entry.finished and not entry.assessment.model.defenses}
    own = {(entry.title, norm): entry.own(norm) for entry in entries for norm in entry.outcomes}
    highest: dict[tuple[str, int, tuple[int, ...]], dict[str, float]] = {}
    for cell in cells:
        if _competes(cell, bare) and cell.broken.value is not None:
            models = highest.setdefault((cell.norm, cell.th, own[cell.entry, cell.norm]), {})
            models[bare[cell.entry]] = max(cell.broken.value, models.get(bare[cell.entry], 0.0))
    marked = []
    for cell in cells:
        models = highest.get((cell.norm, cell.th, own[cell.entry, cell.norm]), {})
        if _competes(cell, bare) and len(models) > 1 and cell.broken.value == models.get(bare[cell.entry]):
            cell = cell.model_copy(update={"mark": mark_of(cell.broken, min(models.values()))})
        marked.append(cell)
    return tuple(marked)


def _competes(cell: CellPart, bare: Mapping[str, str]) -> bool:
    return cell.entry in bare and cell.grade != "invalid"


def mark_of(found: Rate, lowest: float) -> Literal["lowest", "near", ""]:
    """The mark of a share in a column whose smallest is `lowest`."""
    if found.value is None or found.value - lowest > NEAR + 1e-9:
        return ""
    return "lowest" if found.value <= lowest else "near"


def _cells(entry: Entry) -> list[CellPart]:
    grades = {(threat.norm, threat.th): threat.grade for threat in entry.assessment.threats}
    cells = []
    for norm, outcomes in entry.outcomes.items():
        shown = outcomes.at(entry.found[norm].shown)
        broken, held, proven = (shown.counts(o) for o in (Outcome.BROKEN, Outcome.HELD, Outcome.PROVEN))
        asked, reached = entry.evidence[norm].proven is not None, entry.reached(norm)
        for column, th in enumerate(shown.levels):
            correct = broken[column] + held[column] + proven[column]
            cells.append(
                CellPart(
                    entry=entry.title,
                    norm=norm,
                    th=th,
                    broken=rate(broken[column], correct, known=th in reached),
                    proven=rate(proven[column], correct, known=th in reached) if asked else None,
                    mark="",
                    grade=grades[norm, th],
                )
            )
    return cells
