"""What the tests say of each hypothesis of section 4.1, in words that claim no more than they do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from charpy_plugins.study.analysis.document import ComparisonPart, EquivalencePart, HypothesisPart, Verdict
from charpy_plugins.study.document import Kind, StudyDocument

ALIKE = "imperceptible"
"""The condition that is expected not to be less accurate; every other one is expected to be."""


class Difference(NamedTuple):
    """Accuracy of a condition minus that of the reference, whichever of them the comparison has first."""

    condition: str
    reference: str
    comparison: ComparisonPart
    estimate: float | None
    low: float | None
    high: float | None


def hypotheses(
    document: StudyDocument, comparisons: Sequence[ComparisonPart], simulated: str
) -> tuple[HypothesisPart, ...]:
    """One for each condition beside the benign one; none without a benign condition."""
    benign = [condition.name for condition in document.conditions if condition.kind is Kind.BENIGN]
    if not benign:
        return ()
    others = [condition.name for condition in document.conditions if condition.name != benign[0]]
    return tuple(_hypothesis(_difference(name, benign[0], comparisons), simulated) for name in others)


def _difference(condition: str, reference: str, comparisons: Sequence[ComparisonPart]) -> Difference:
    one = next(
        part
        for part in comparisons
        if part.measure == "accuracy" and {part.first, part.second} == {condition, reference}
    )
    test = one.primary
    if one.second == condition or test.estimate is None:
        return Difference(condition, reference, one, test.estimate, test.low, test.high)
    low, high = (None if edge is None else -edge for edge in (test.high, test.low))
    return Difference(condition, reference, one, -test.estimate, low, high)


def _hypothesis(found: Difference, simulated: str) -> HypothesisPart:
    alike = found.condition == ALIKE
    not_less = "not less accurate" if alike else "less accurate"
    verdict, sentence = _verdict(found, alike)
    if simulated:
        sentence = f"Of a simulated population, not of people ({simulated}): {sentence}"
    return HypothesisPart(
        condition=found.condition,
        reference=found.reference,
        hypothesis=f"People are {not_less} on {found.condition} images than on {found.reference} ones",
        verdict=verdict,
        sentence=sentence,
    )


def _verdict(found: Difference, alike: bool) -> tuple[Verdict, str]:
    test, same = found.comparison.primary, found.comparison.equivalence
    if test.significant is None or found.estimate is None or test.p_holm is None:
        return "open", f"{_names(found)} cannot be compared: {test.reason}."
    if test.significant:
        lower = found.estimate < 0
        said = f"{_names(found)}: significantly {'less' if lower else 'more'} accurate, by {_points(found)}"
        verdict: Verdict = "supported" if lower != alike else "contradicted"
        within = f" The difference is nevertheless within {_margin(same)}." if same.equivalent else ""
        return verdict, f"{said} ({_p(test.p_holm)}).{within} {_reach(found)}"
    figures = f"{_p(test.p_holm)}; difference {_points(found, signed=True)}"
    said = f"{_names(found)}: not significantly less accurate ({figures})."
    if same.equivalent:
        shown = f" Equivalent within {_margin(same)} ({_p(same.p_holm)}), for these images."
        smaller = "" if alike else " A difference within that margin may be there all the same."
        return ("supported" if alike else "contradicted"), said + shown + smaller
    why = f"equivalence within {_margin(same)} is not shown either"
    if same.equivalent is None:
        why = f"equivalence cannot be tested: {same.reason}"
    return "open", f"{said} That does not show that they are alike: {why}."


def _reach(found: Difference) -> str:
    """Whether a significant difference on these images is one for images like them."""
    wider = next(test for test in found.comparison.tests if test.method == "crossed")
    if wider.significant is None or wider.p_holm is None:
        return "That is about these images only."
    if wider.significant:
        return f"It also holds with images taken as a sample of more ({_p(wider.p_holm)})."
    return f"That is about these images: for others like them it is not shown ({_p(wider.p_holm)})."


def _names(found: Difference) -> str:
    return f"{found.condition} against {found.reference}"


def _points(found: Difference, *, signed: bool = False) -> str:
    """The difference in points of 100, with its interval where there is one."""
    if found.estimate is None:
        return "unknown"
    if signed:
        middle, edges = found.estimate, (found.low, found.high)
    else:
        flip = found.estimate < 0
        middle = abs(found.estimate)
        edges = (
            (None if found.high is None else -found.high, None if found.low is None else -found.low)
            if flip
            else (found.low, found.high)
        )
    sign = "+" if signed else ""
    text = f"{100 * middle:{sign}.1f} points"
    if edges[0] is None or edges[1] is None:
        return text
    return f"{text}, 95 % interval {100 * edges[0]:{sign}.1f} to {100 * edges[1]:{sign}.1f}"


def _margin(same: EquivalencePart) -> str:
    return f"{100 * same.margin:g} points"


def _p(value: float | None) -> str:
    if value is None:
        return "no p"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3g}"
