"""What the HTML page shows of one model, worked out beforehand so that the templates only lay it out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from charpy.analysis.document import Assessment, AttackPart, SafePart, ThreatPart
from charpy.reports import norms
from charpy.reports.charts import agreement_svg, curves_svg
from charpy.reports.contest_view import Contest, contest_view
from charpy.reports.figures import duration, interval, number, percent
from charpy.reports.images import Picture
from charpy.reports.scatter import Scatter, scatter_view
from charpy.reports.trust import Trust, trust
from charpy.threat import BALLS, DUAL, Norm

CLASSES_SHOWN = 30
"""A heat map of more classes than this shows only those that break most easily."""


@dataclass(frozen=True)
class Card:
    """One key figure."""

    title: str
    value: str
    detail: str


@dataclass(frozen=True)
class NormRows:
    """The rows of the dual table for one norm."""

    norm: str
    title: str
    rows: tuple[tuple[ThreatPart, SafePart | None], ...]


@dataclass(frozen=True)
class Unrestricted:
    """What broke without a ball: the counts, the attacks with the means of their metrics, and images."""

    threat: ThreatPart
    attacks: tuple[AttackPart, ...]
    metrics: tuple[str, ...]
    gallery: tuple[Picture, ...]


@dataclass(frozen=True)
class Heat:
    """The per-class map: columns `(norm, th)`, and per class its name and one `(broken, samples, share)` a column."""

    columns: tuple[tuple[str, int], ...]
    rows: tuple[tuple[str, tuple[tuple[int, int, float | None], ...]], ...]
    hidden: int


@dataclass(frozen=True)
class AttackRow:
    """One line of the attacks table: its levels in words, and its median cost as a share of the budget (0..1)."""

    part: AttackPart
    levels: str
    share: float | None


@dataclass(frozen=True)
class ModelView:
    """Everything that the page shows of one model; `both`: L0 and Linf were assessed, `dual`: and no other norm."""

    prefix: str
    assessment: Assessment
    cards: tuple[Card, ...]
    norms: tuple[NormRows, ...]
    unrestricted: Unrestricted | None
    trust: tuple[Trust, ...]
    both: bool
    dual: bool
    curves: tuple[tuple[tuple[str, ...], str], ...]
    agreement: str
    contest: tuple[Contest, ...]
    scatter: tuple[Scatter, ...]
    contest_metrics: tuple[str, ...]
    heat: Heat
    gallery: tuple[tuple[str, tuple[Picture, ...]], ...]
    attacks: tuple[AttackRow, ...]
    metrics: tuple[str, ...]
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...]
    spec: str


def model_view(prefix: str, assessment: Assessment, gallery: Mapping[str, Sequence[Picture]]) -> ModelView:
    """The view of `assessment`; `prefix` keeps ids of several models on one page apart, `gallery` is by norm."""
    assessed = {threat.norm for threat in assessment.threats}
    return ModelView(
        prefix=prefix,
        assessment=assessment,
        cards=tuple(_cards(assessment)),
        norms=_norm_rows(assessment),
        unrestricted=_unrestricted(assessment, gallery),
        trust=trust(assessment),
        both=assessed >= set(DUAL),
        dual=assessed == set(DUAL),
        curves=curves_svg(assessment, f"{prefix}-curves"),
        agreement=agreement_svg(assessment.agreement, f"{prefix}-agreement"),
        scatter=scatter_view(assessment.scatter, prefix),
        contest=contest_view(assessment.characteristics, prefix),
        contest_metrics=tuple(sorted({name for part in assessment.characteristics for name in part.metrics})),
        heat=_heat(assessment),
        gallery=tuple((norms.name(norm), tuple(items)) for norm, items in gallery.items() if norm in BALLS),
        attacks=_attack_rows(assessment),
        metrics=tuple(sorted({name for threat in assessment.threats for name in threat.metrics})),
        facts=_facts(assessment),
        spec=json.dumps(assessment.spec, indent=2, ensure_ascii=False, sort_keys=True),
    )


def _norm_rows(assessment: Assessment) -> tuple[NormRows, ...]:
    safe = {(part.norm, part.th): part for part in assessment.safe}
    return tuple(
        NormRows(
            norm,
            norms.name(norm),
            tuple((threat, safe.get((norm, threat.th))) for threat in assessment.threats if threat.norm == norm),
        )
        for norm in dict.fromkeys(threat.norm for threat in assessment.threats if threat.norm in BALLS)
    )


def _unrestricted(assessment: Assessment, gallery: Mapping[str, Sequence[Picture]]) -> Unrestricted | None:
    attacks = tuple(part for part in assessment.attacks if part.norm not in BALLS)
    names = tuple(sorted({name for part in attacks for name in part.metrics}))
    for threat in assessment.threats:
        if threat.norm not in BALLS:
            return Unrestricted(threat, attacks, names, tuple(gallery.get(threat.norm, ())))
    return None


def _cards(assessment: Assessment) -> list[Card]:
    clean = assessment.clean
    cards = [
        Card(
            "Clean accuracy",
            percent(clean.value),
            f"{clean.count} of {clean.total}; 95 % interval {interval(assessment.clean_interval)}",
        )
    ]
    for group in _norm_rows(assessment):
        first, last = group.rows[0][0], group.rows[-1][0]
        shares = dict.fromkeys((percent(first.adversarial_accuracy), percent(last.adversarial_accuracy)))
        reach = " to ".join(dict.fromkeys(norms.radius(group.norm, threat.th) for threat in (first, last)))
        cards.append(
            Card(f"Broken under {norms.short(group.norm)}", " to ".join(shares), f"of correctly classified, {reach}")
        )
    for threat in assessment.threats:
        if threat.norm not in BALLS:
            detail = "of correctly classified, by attacks that no distance bounds"
            cards.append(Card("Broken without a ball", percent(threat.adversarial_accuracy), detail))
    if assessment.minimal:
        names = " and ".join(norms.short(part.norm) for part in assessment.minimal)
        medians = " and ".join(number(part.median) for part in assessment.minimal)
        cards.append(Card("Median smallest th", medians, f"{names}: half of the correctly classified break by then"))
    if assessment.auc:
        ranges: dict[tuple[int, int], list[str]] = {}
        for part in assessment.auc:
            ranges.setdefault((part.first, part.last), []).append(norms.short(part.norm))
        spans = "; ".join(f"{' and '.join(who)}, th = {first} to {last}" for (first, last), who in ranges.items())
        areas = " and ".join(percent(part.normalised) for part in assessment.auc)
        cards.append(Card("Area under the curves", areas, f"mean surviving share: {spans}"))
    if assessment.invalid.count:
        cards.append(Card("Invalid samples", str(assessment.invalid.count), f"of {assessment.invalid.total}"))
    rows, seconds = sum(a.rows for a in assessment.attacks), sum(a.seconds for a in assessment.attacks)
    cards.append(Card("Queries", number(rows), f"model rows, in {duration(seconds)} of attacks"))
    return cards


def _heat(assessment: Assessment) -> Heat:
    columns = tuple(dict.fromkeys((part.norm, part.th) for part in assessment.per_class))
    if not any(part.samples for part in assessment.per_class):
        return Heat(columns, (), 0)
    cells = {(part.label, part.norm, part.th): part for part in assessment.per_class}
    names = dict(sorted({part.label: part.name for part in assessment.per_class}.items()))
    hits = dict.fromkeys(names, 0)
    for part in assessment.per_class:
        hits[part.label] += part.broken
    shown = sorted(sorted(names, key=lambda label: (-hits[label], label))[:CLASSES_SHOWN])
    rows = []
    for label in shown:
        parts = [cells[label, norm, th] for norm, th in columns]
        rows.append((names[label], tuple((p.broken, p.samples, p.adversarial_accuracy) for p in parts)))
    return Heat(columns, tuple(rows), len(names) - len(shown))


def _attack_rows(assessment: Assessment) -> tuple[AttackRow, ...]:
    searched = {part.norm: "searched" for part in assessment.minimal}
    searched |= dict.fromkeys(assessment.own_levels, "each image at its own")
    rows = []
    for part in assessment.attacks:
        if part.norm not in searched:
            median, budget = part.queries_to_success_median, part.budget
            share = min(median / budget, 1.0) if median is not None and budget else None
            rows.append(AttackRow(part, str(part.th), share))
    for norm in dict.fromkeys(part.norm for part in assessment.attacks if part.norm in searched):
        for name in dict.fromkeys(part.name for part in assessment.attacks if part.norm == norm):
            parts = [part for part in assessment.attacks if (part.norm, part.name) == (norm, name)]
            first, last = min(p.th for p in parts), max(p.th for p in parts)
            levels = f"{first} to {last}, {searched[norm]}" if first < last else f"up to {last}, once"
            rows.append(AttackRow(_summed(parts), levels, None))
    return tuple(rows)


def _summed(parts: Sequence[AttackPart]) -> AttackPart:
    """The probes of a search over levels as one line; a median or a mean over levels would mean nothing."""
    attacked, rows = sum(p.attacked for p in parts), sum(p.rows for p in parts)
    seconds = sum(p.seconds for p in parts)
    bare = sum(p.seconds / p.overhead for p in parts if p.overhead)
    return parts[0].model_copy(
        update={
            "attacked": attacked,
            "broken": sum(p.broken for p in parts),
            "queries_mean": sum(p.queries_mean * p.attacked for p in parts) / attacked if attacked else 0.0,
            "queries_max": max(p.queries_max for p in parts),
            "queries_to_success_median": None,
            "rows": rows,
            "seconds": seconds,
            "overhead": seconds / bare if bare else None,
            "rejected_claims": sum(p.rejected_claims for p in parts),
            "metrics": {},
            "notes": {},
        }
    )


def _facts(assessment: Assessment) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """What was run, on what, with which seeds and versions: `(title, ((name, value), ...))`."""
    model, dataset = assessment.model, assessment.dataset
    attacks = {
        f"{norms.short(part.norm)}: {part.name}": f"{part.kind}, {_listed(part.params) or 'default parameters'}"
        for part in assessment.attacks
    }
    threats = {
        f"{norms.short(t.norm)} threat": f"{t.goal}, at most {number(t.queries)} queries an attack and sample"
        for t in assessment.threats
    }
    sections: dict[str, dict[str, Any]] = {
        "Model": {
            "name": model.name,
            "kind": model.kind,
            "gives": f"{model.output}; access: {model.access}",
            "input (C, H, W)": " x ".join(map(str, model.input_shape)),
            "classes": model.num_classes,
            "defences": ", ".join(model.defenses) or "none",
            **({"attackers": model.attackers} if model.defenses else {}),
            "query engine": f"{model.engine}, {model.micro_batch} rows a batch",
            **{f"fingerprint: {key}": value for key, value in model.fingerprint.items()},
            **_numbered("note", model.notes),
            **_numbered("engine note", model.engine_notes),
        },
        "Data": {
            "name": dataset.name,
            "kind": dataset.kind,
            "samples": f"{dataset.samples}, {dataset.unique} of them distinct",
            "images (C, H, W)": " x ".join(map(str, dataset.shape)),
            "grid": dataset.grid,
            "fingerprint": dataset.fingerprint,
            **_numbered("note", dataset.notes),
        },
        "Attacks": {"seed": assessment.seed, **threats, **attacks},
        "Components": assessment.plugins,
        "Environment": assessment.environment,
    }
    return tuple(
        (title, tuple((str(key), str(value)) for key, value in facts.items())) for title, facts in sections.items()
    )


def _listed(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in sorted(params.items()))


def _numbered(title: str, notes: Sequence[str]) -> dict[str, str]:
    return {f"{title} {number}": note for number, note in enumerate(notes, 1)}


def comparison(assessments: Sequence[Assessment]) -> tuple[tuple[str, int], ...]:
    """The `(norm, th)` columns of the table that compares several models."""
    order = list(Norm)
    columns = {(threat.norm, threat.th) for assessment in assessments for threat in assessment.threats}
    return tuple(sorted(columns, key=lambda column: (order.index(Norm(column[0])), column[1])))


def subject(assessments: Sequence[Assessment]) -> str:
    """What the report is, by the norms in it."""
    return norms.headline(threat.norm for assessment in assessments for threat in assessment.threats)
