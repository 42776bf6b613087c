"""The run as Markdown, for a page or a pull request: verdict, gates, levels, attacks, limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from charpy.analysis.document import Assessment
from charpy.interfaces.report import Report
from charpy.reports.compare_markdown import plain
from charpy.reports.figures import interval, number, percent
from charpy.reports.norms import radius, short
from charpy.threat import BALLS, Goal

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


class MarkdownReport(Report):
    """Markdown for a page or a pull request: the verdict, the gates, the levels, the attacks and the limits."""

    suffix: ClassVar[str] = ".md"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 Markdown (with pipe tables); no name in it is read as markup."""
        lines = [f"# {plain(run.name)}"]
        for part in run.assessments:
            lines += ["", f"## {plain(part.model.name)}", "", *section(part, "###")]
        return markdown_bytes(lines)


def markdown_bytes(lines: Iterable[str]) -> bytes:
    """The lines as UTF-8, with a final newline."""
    return ("\n".join(lines) + "\n").encode("utf-8", errors="backslashreplace")


def section(part: Assessment, heading: str) -> Iterator[str]:
    """One model: everything below its title; `heading` is the mark of its own headings."""
    yield plain(part.verdict)
    if part.status != "valid":
        yield ""
        yield f"**{part.status.upper()}:** {plain(part.status_reason)}. No figure below is evidence."
    if part.gates:
        yield from ["", f"{heading} Gates", ""]
        yield from _gates(part)
    yield from ["", f"{heading} Levels", ""]
    yield f"Clean accuracy: {_share(part.clean.value, part.clean_interval)} of {part.clean.total} images."
    yield ""
    yield from _levels(part)
    if part.attacks:
        yield from ["", f"{heading} Attacks", ""]
        yield from _attacks(part)
    yield from ["", f"{heading} Limits", ""]
    yield from (f"- {plain(text)}" for text in limits(part))


def limits(part: Assessment) -> Iterator[str]:
    """What the figures of `part` do not say, one sentence each."""
    data, norms = part.dataset, list(dict.fromkeys(threat.norm for threat in part.threats))
    yield (
        f"Measured on {data.samples} images of {data.name}; the 95 % intervals (Clopper-Pearson) are about images "
        "drawn like these, and say nothing of other data."
    )
    yield "Not broken means not broken by these attacks within their queries; only what is proven is proof."
    if not any(threat.proven for threat in part.threats):
        yield "Nothing is proven here."
    reach = "; ".join(f"{short(norm)} up to {_reach(part, norm)}" for norm in norms if norm in BALLS)
    yield f"Nothing but these changes was tried: {reach or 'what the attacks themselves allow'}."
    if any(threat.goal == Goal.TARGETED for threat in part.threats):
        yield "One wrong class was tried for each image, which says nothing about the others."
    for text in dict.fromkeys(reason for threat in part.threats for reason in threat.grade_reasons):
        yield f"Weak or invalid evidence: {text}."
    if any(proof.arithmetic == "real" and proof.proven for proof in part.proofs):
        yield "Some proofs are of the network in real numbers, not of the program with its rounding."
    if part.model.defenses:
        seen = part.model.attackers
        yield f"The model is defended ({', '.join(part.model.defenses)}); the attackers were {seen}."
    for lost in part.lost:
        yield f"Lost: {lost.what} under {short(lost.norm)}, {lost.samples} images: {lost.reason}."
    for warning in part.warnings:
        yield f"{warning}."


def _reach(part: Assessment, norm: str) -> str:
    return radius(norm, max(threat.th for threat in part.threats if threat.norm == norm))


def _gates(part: Assessment) -> Iterator[str]:
    rows = [(gate.gate, "passed" if gate.passed else "**FAILED**", gate.reason) for gate in part.gates]
    yield from table(
        ("Gate", "Result", "Why"), [(plain(gate), result, plain(why)) for gate, result, why in rows], "lll"
    )


def _levels(part: Assessment) -> Iterator[str]:
    head = (
        "Norm",
        "Level",
        "Broken",
        "Adversarial accuracy",
        "Robust accuracy: proven",
        "not broken",
        "Invalid",
        "Evidence",
    )
    rows = [
        (
            short(threat.norm),
            radius(threat.norm, threat.th),
            f"{threat.broken} of {threat.broken + threat.held + threat.proven}",
            _share(threat.adversarial_accuracy, threat.adversarial_interval),
            _share(threat.robust_accuracy.proven, threat.interval.proven),
            _share(threat.robust_accuracy.not_broken, threat.interval.not_broken),
            str(threat.invalid),
            threat.grade,
        )
        for threat in part.threats
    ]
    yield from table(head, [tuple(map(plain, row)) for row in rows], "llrrrrrl")


def _attacks(part: Assessment) -> Iterator[str]:
    rows = []
    for norm, name in dict.fromkeys((attack.norm, attack.name) for attack in part.attacks):
        same = [attack for attack in part.attacks if (attack.norm, attack.name) == (norm, name)]
        broken, rows_spent = sum(attack.broken for attack in same), sum(attack.rows for attack in same)
        rows.append((short(norm), name, str(broken), number(same[0].budget), number(rows_spent)))
    head = ("Norm", "Attack", "Witnesses", "Queries a sample and level", "Model rows")
    yield from table(head, [tuple(map(plain, row)) for row in rows], "llrrr")


def table(head: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> Iterator[str]:
    """A pipe table of cells that are Markdown already; `align` has one of l, r a column."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "|".join("---:" if side == "r" else "---" for side in align) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"


def _share(value: float | None, bounds: tuple[float, float] | None) -> str:
    return percent(value) if bounds is None else f"{percent(value)} ({interval(bounds)})"
