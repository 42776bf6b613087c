"""How figures of an analysis are written: p values, means with intervals, in the style of every page."""

from __future__ import annotations

from charpy.reports.figures import NO_BREAK, NOTHING, interval, percent
from charpy_plugins.study.analysis.document import ComparisonPart, EquivalencePart, Figure, SignificancePart

MINUS = "\u2212"


def p_value(p: float | None) -> str:
    """With three decimals; smaller ones as `< 0.001`, and never as 1 or 0 where they are not."""
    if p is None:
        return NOTHING
    if p < 0.001:
        return f"<{NO_BREAK}0.001"
    return f">{NO_BREAK}0.999" if 0.9995 <= p < 1 else f"{p:.3f}"


def points(value: float | None) -> str:
    """A mean confidence."""
    return NOTHING if value is None else f"{value:.2f}"


def points_interval(low: float | None, high: float | None) -> str:
    """Its interval."""
    return NOTHING if low is None or high is None else f"{low:.2f} to {high:.2f}"


def share_interval(low: float | None, high: float | None) -> str:
    """Of a share, in per cent."""
    return NOTHING if low is None or high is None else interval((low, high))


def figure_text(figure: Figure, measure: str) -> tuple[str, str]:
    """Value and interval."""
    if measure == "accuracy":
        return percent(figure.value), share_interval(figure.low, figure.high)
    return points(figure.value), points_interval(figure.low, figure.high)


def difference(value: float | None, measure: str) -> str:
    """A difference with its sign: percentage points, or points."""
    if value is None:
        return NOTHING
    text = f"{abs(100 * value):.1f}" if measure == "accuracy" else f"{abs(value):.2f}"
    zero = float(text) == 0
    return text if zero else f"{'+' if value > 0 else MINUS}{text}"


def estimate_text(test: SignificancePart, measure: str) -> tuple[str, str]:
    """The estimate of a test and its interval, in the test's own scale."""
    own = test.scale == "log odds"
    kind = "points" if own else measure
    value = difference(test.estimate, kind)
    if test.low is None or test.high is None:
        return value, NOTHING
    return value, f"{difference(test.low, kind)} to {difference(test.high, kind)}"


def unit_of(measure: str) -> str:
    """Of a difference."""
    return "percentage points" if measure == "accuracy" else "points of 1 to 5"


def equivalence_text(part: EquivalencePart, measure: str) -> str:
    """Whether two conditions are shown to be alike within the margin."""
    margin = f"{100 * part.margin:g}{NO_BREAK}%" if measure == "accuracy" else f"{part.margin:g} points"
    said = {True: f"alike within {margin}", False: f"not shown alike within {margin}", None: NOTHING}
    return said[part.equivalent]


def significance(test: SignificancePart) -> str:
    """In a word or two."""
    return {True: "differs", False: "not shown to differ", None: NOTHING}[test.significant]


def disagreement(part: ComparisonPart) -> str:
    """Where the published test and the primary one say different things; empty where they agree."""
    paper, primary = part.paper, part.primary
    if None in (paper.significant, primary.significant) or paper.significant == primary.significant:
        return ""
    first, second = ("finds", "does not") if paper.significant else ("does not find", "does")
    return f"The paper's test {first} a difference here, the primary one {second}."
