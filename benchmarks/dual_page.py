"""The tables of docs/reproductions/dual.md: what was measured, with the paper's figure beside it in italics."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import dual_published as paper
from dual_findings import findings
from page import Sheet, command
from reproduction import table

from charpy.analysis.comparison.document import Comparison, Rate

NORMS = {"l0": "few pixels (L0)", "linf": "threshold (Linf)"}


def tables(compared: Mapping[str, Comparison], out: Path) -> dict[str, str]:
    """Every block that the comparisons can fill, as Markdown."""
    makers: Mapping[str, tuple[str, Callable[[Comparison], Iterator[str]]]] = {
        "dual": ("levels", dual),
        "strong": ("strong", strong),
        "classes": ("levels", classes),
        "transfer": ("levels", transfer),
        "agreement": ("levels", agreement),
        "optimisers": ("optimisers", optimisers),
        "population": ("population", population),
        "attacks": ("attacks", attacks),
        "areas": ("minimal", areas),
        "curves": ("minimal", curves),
    }
    found = {name: "\n".join(make(compared[part])) for name, (part, make) in makers.items() if part in compared}
    found["findings"] = "\n".join(findings(compared, out))
    found["how"] = f"Written by `{command()}`. {Sheet('').machine}."
    return {name: f"\n{text.strip()}\n" for name, text in found.items()}


def share(rate: Rate) -> str:
    """`64 % [54..73]`."""
    if rate.value is None or rate.low is None or rate.high is None:
        return "-"
    return f"{rate.value:.0%} [{100 * rate.low:.0f}..{100 * rate.high:.0f}]".replace("%", " %")


def models(document: Comparison) -> dict[str, str]:
    """The model of every row."""
    return {entry.title: entry.model for entry in document.entries}


def dual(document: Comparison) -> Iterator[str]:
    """Table III."""
    for norm, name in NORMS.items():
        cells = {(cell.entry, cell.th): cell.broken for cell in document.dual if cell.norm == norm}
        levels = sorted({th for _, th in cells})
        rows = []
        for entry in document.entries:
            row = [entry.title, f"{share(entry.clean)} *{paper.CLEAN[entry.title]:.0f}*"]
            row += [
                f"{share(cells[entry.title, th])} *{then}*"
                for th, then in zip(levels, paper.DUAL[norm][entry.title], strict=True)
            ]
            rows.append(row)
        yield f"\n{name}:\n"
        yield from table(["", "clean accuracy", *(f"th = {th}" for th in levels)], rows)


def strong(document: Comparison) -> Iterator[str]:
    """The same models and images under charpy's own attacks."""
    for norm, name in NORMS.items():
        cells = {(cell.entry, cell.th): cell.broken for cell in document.dual if cell.norm == norm}
        levels = sorted({th for _, th in cells})
        yield f"\n{name}:\n"
        rows = ([entry.title, *(share(cells[entry.title, th]) for th in levels)] for entry in document.entries)
        yield from table(["", *(f"th = {th}" for th in levels)], rows)


def optimisers(document: Comparison) -> Iterator[str]:
    """Table II: each optimiser on its own, at equal queries; a run is named `optimisers VARIANT`."""
    runs, names = {entry.title: entry.run.split()[1] for entry in document.entries}, models(document)
    cells = {(cell.norm, names[cell.entry], runs[cell.entry], cell.th): cell.success for cell in document.attacks}
    levels = sorted({th for *_, th in cells})
    rows = []
    for norm, model, run in dict.fromkeys(key[:3] for key in cells):
        then = paper.OPTIMISERS.get((norm, model, run))
        beside = [f" *{value}*" for value in then] if then else [""] * len(levels)
        measured = [f"{share(cells[norm, model, run, th])}{old}" for th, old in zip(levels, beside, strict=True)]
        rows.append([NORMS[norm], model, run, *measured])
    yield from table(
        ["", "model", "optimiser", *(f"th = {th}" for th in levels)], sorted(rows, key=lambda row: row[:2])
    )


def population(document: Comparison) -> Iterator[str]:
    """The few-pixel attack as the authors' command line has it."""
    rows = (
        [cell.entry, str(cell.th), f"{share(cell.success)} *{paper.DUAL['l0'][cell.entry][-1]}*"]
        for cell in document.attacks
    )
    yield from table(["", "th", "broken"], rows)


def attacks(document: Comparison) -> Iterator[str]:
    """Table IV: success and mean L2; few-pixel and threshold at the smallest and the largest level."""
    names = models(document)
    columns = list(dict.fromkeys(names.values()))
    cells = {}
    for cell in document.attacks:
        kind = f"{cell.kind}, th = {cell.th}" if cell.kind in ("few_pixel", "threshold") else cell.kind
        if kind in paper.ATTACKS:
            cells[kind, names[cell.entry]] = cell
    rows = []
    for kind, then in paper.ATTACKS.items():
        row = [kind]
        for model in columns:
            cell = cells[kind, model]
            mean = "-" if cell.mean_l2 is None else f"{cell.mean_l2:.0f}"
            row.append(f"{share(cell.success)} ({mean}) *{then[model][0]} ({then[model][1]:.0f})*")
        rows.append(row)
    yield from table(["", *columns], rows)


def areas(document: Comparison) -> Iterator[str]:
    """Table V, for 100 correctly classified images as in the paper."""
    rows = []
    for model in dict.fromkeys(part.entry for part in document.areas):
        row = [model]
        for column, norm in enumerate(NORMS):
            (part,) = (part for part in document.areas if (part.entry, part.norm) == (model, norm))
            row.append(f"{100 * part.value / part.samples:.0f} *{paper.AREAS[model][column]:.1f}*")
        rows.append(row)
    yield from table(["", *NORMS.values()], rows)


def curves(document: Comparison) -> Iterator[str]:
    """Figure 6 at some levels."""
    levels = (1, 3, 5, 10, 20, 50, 127)
    for norm, name in NORMS.items():
        rows = []
        for curve in document.curves:
            if curve.norm == norm:
                at = {point.th: point.broken for point in curve.points}
                rows.append([curve.entry, *(share(at[th]) for th in levels)])
        yield f"\n{name}:\n"
        yield from table(["", *(f"th = {th}" for th in levels)], rows)


def classes(document: Comparison) -> Iterator[str]:
    """Figure 3, all networks without a defence together."""
    plain = {entry.title for entry in document.entries if entry.title in paper.AREAS}
    counts: dict[str, dict[tuple[str, int], list[int]]] = {}
    for part in document.classes:
        if part.entry in plain and part.th in (1, 10):
            found = counts.setdefault(part.name or str(part.label), {}).setdefault((part.norm, part.th), [0, 0])
            found[0] += part.broken
            found[1] += part.samples
    columns = [("l0", 1), ("l0", 10), ("linf", 1), ("linf", 10)]
    rows = [
        [name, *(f"{found[column][0] / found[column][1]:.0%}".replace("%", " %") for column in columns)]
        for name, found in counts.items()
    ]
    yield from table(["", *(f"{NORMS[norm]}, th = {th}" for norm, th in columns)], rows)


def transfer(document: Comparison) -> Iterator[str]:
    """Figure 4."""
    for norm, name in NORMS.items():
        cells = {(part.source, part.target): part.fooled for part in document.transfer if part.norm == norm}
        targets = list(dict.fromkeys(target for _, target in cells))
        rows = []
        for source in dict.fromkeys(source for source, _ in cells):
            values = [cells[source, target].value for target in targets]
            rows.append([source, *("-" if value is None else f"{100 * value:.0f}" for value in values)])
        others = [rate.value for (one, two), rate in cells.items() if one != two and rate.value is not None]
        yield f"\n{name}, per cent; mean of all but the diagonal {100 * statistics.mean(others):.0f}:\n"
        yield from table(["source", *targets], rows)


def agreement(document: Comparison) -> Iterator[str]:
    """Figure 5 at th = 10."""
    rows = [
        [part.entry, *map(str, (part.only_l0, part.both, part.only_linf, part.neither, part.samples))]
        for part in document.agreement
        if part.th == 10
    ]
    yield from table(["", "only few pixels", "both", "only threshold", "neither", "images"], rows)
