"""The grade of each figure: whether what held is evidence, by the indicators of attack failure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from charpy.analysis.document import IndicatorKind, IndicatorPart
from charpy.analysis.trials import Trial
from charpy.records import SampleRow

FAULTS: frozenset[IndicatorKind] = frozenset(
    {"zero_gradients", "loss_still_rising", "more_still_helps", "planted", "unbounded_fails"}
)
"""Indicators of one attack. They weaken a figure when no attack that it rests on is free of them."""

DOUBTS: frozenset[IndicatorKind] = frozenset({"black_box_better", "transfer_better", "planted_battery"})
"""Indicators of the attacks as a whole. Each weakens the figure."""


MASKED = "no gradient reaches the images, so that only attacks without gradients were tried"

OVERLOOKED = "the attacks overlooked the defences: what holds here shows only that nothing found without them transfers"


class Grade(NamedTuple):
    """`supported`, `weak` or `invalid`, and why it is not the first."""

    value: Literal["supported", "weak", "invalid"]
    reasons: tuple[str, ...] = ()


def grade_of(
    norm: str,
    th: int,
    held: int,
    indicators: Sequence[IndicatorPart],
    trials: Iterable[Trial],
    *,
    invalid: str = "",
    overlooked: bool = False,
    doubt: str = "",
    masked: bool = False,
) -> Grade:
    """The grade of the figure under `norm` at level `th`.

    Invalid: a run that is no evidence (`invalid` says why), or a model whose answer to an image depends on the others
    of its batch or on what it was asked before, so that an image has no answer to be broken. Weak: a model whose clean
    answers leave a `doubt` (`blindness`), or that answers differently each time, since each witness and each failure to
    find one is a single draw; or, where samples `held`, attacks that may have failed, or that `overlooked` the
    defences, or a model of a kind that has gradients which are `masked`.
    What is not held is broken or proven, and needs no trust in an attack.

    A figure rests on the attacks that know most: on those that use gradients, where there are any. One of them without
    a fault is enough, since each attacked all that held. Only one attack is tried without a bound; that it fails is a
    fault of its own where another attack finds what was planted, and a doubt about all where none is known to work.
    """
    if invalid:
        return Grade("invalid", (invalid,))
    about = [p for p in indicators if p.fired and p.norm in (norm, None) and p.th in (th, None)]
    if dependent := [part.finding for part in about if part.kind in ("batch_dependent", "stateful")]:
        return Grade("invalid", tuple(dependent))
    reasons = [doubt] if doubt else []
    reasons += [part.finding for part in about if part.kind == "randomised"]
    if held:
        reasons += [OVERLOOKED] if overlooked else []
        reasons += [MASKED] if masked else []
        works = any(p.kind == "planted_battery" and p.norm == norm and p.value and not p.fired for p in indicators)
        doubts = DOUBTS if works else DOUBTS | {"unbounded_fails"}
        reasons += [part.finding for part in about if part.kind in doubts]
        reasons += _faults(about, [trial for trial in trials if trial.norm == norm and th in trial.covers])
    return Grade("weak" if reasons else "supported", tuple(dict.fromkeys(reasons)))


def blindness(rows: Sequence[SampleRow]) -> str:
    """Why the answers to the unchanged images leave no room for evidence; '' where they do."""
    said = {row.prediction for row in rows if row.valid}
    if not any(row.valid and row.prediction == row.label for row in rows):
        return "no image is classified correctly, so there was nothing to attack"
    if len(said) == 1 and len({row.label for row in rows}) > 1:
        return "the model puts every image into one class, whatever it shows"
    return ""


def _faults(about: Sequence[IndicatorPart], trials: Sequence[Trial]) -> list[str]:
    """The faults of the attacks that the figure rests on, if each has one."""
    direct = [trial for trial in trials if not trial.transfers]
    deciding = {trial.step for trial in direct if trial.white or not any(other.white for other in direct)}
    faults = [part for part in about if part.kind in FAULTS and part.step in deciding]
    return [part.finding for part in faults] if {part.step for part in faults} == deciding else []
