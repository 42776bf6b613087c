"""Who is left out of an analysis, and why: by the rules that the study document fixed before the first answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from charpy.errors import DataError
from charpy_plugins.study.analysis.document import ExcludedPart, ExclusionCount, FlowPart
from charpy_plugins.study.document import Exclusion, StudyDocument
from charpy_plugins.study.responses import Answer, Participant, Responses, State

CHECKS, FAST, SILENT = "failed attention checks", "too fast", "no answers"


class Kept(NamedTuple):
    """Ids of participants: `included` by the rules, `finished` by none; and the way there."""

    included: frozenset[str]
    finished: frozenset[str]
    flow: tuple[FlowPart, ...]
    excluded: tuple[ExcludedPart, ...]


def kept(document: StudyDocument, responses: Responses) -> Kept:
    """Joined, finished, included: every participant once.

    Raises:
        DataError: responses that are not of this study: see `checked`.
    """
    answers = checked(document, responses)
    flow, excluded, included, finished = [], [], set[str](), set[str]()
    for condition in document.conditions:
        arm = [one for one in responses.participants if one.condition == condition.name]
        done = [one for one in arm if one.state is State.FINISHED]
        reasons = {one.id: _reasons(answers[one.id], document.exclusion) for one in done}
        out = [ExcludedPart(participant=i, condition=condition.name, reasons=_said(r)) for i, r in reasons.items() if r]
        withdrawn = sum(one.state is State.WITHDRAWN for one in arm)
        flow.append(
            FlowPart(
                condition=condition.name,
                joined=len(arm),
                withdrawn=withdrawn,
                unfinished=len(arm) - withdrawn - len(done),
                finished=len(done),
                excluded=len(out),
                exclusions=tuple(
                    ExclusionCount(reason=rule, count=sum(rule in said for said in reasons.values()))
                    for rule in (CHECKS, FAST, SILENT)
                ),
                included=len(done) - len(out),
            )
        )
        excluded += out
        included |= {one for one, said in reasons.items() if not said}
        finished |= {one for one, said in reasons.items() if SILENT not in said}
    return Kept(frozenset(included), frozenset(finished), tuple(flow), tuple(excluded))


def checked(document: StudyDocument, responses: Responses) -> Mapping[str, Sequence[Answer]]:
    """The answers by participant.

    Raises:
        DataError: a participant twice or of no condition of the study; an answer of nobody, to a stimulus that the
            participant's condition does not have, or with a label or confidence that could not be chosen.
    """
    conditions = {condition.name for condition in document.conditions}
    people: dict[str, Participant] = {}
    for one in responses.participants:
        where = f"participant {one.id}"
        if one.id in people:
            raise DataError("a participant is there twice", where=where)
        if one.condition not in conditions:
            expected = f"one of {', '.join(sorted(conditions))}"
            raise DataError("no condition of the study", where=where, found=one.condition, expected=expected)
        people[one.id] = one
    stimuli = {stimulus.id: stimulus for stimulus in document.stimuli}
    answers: defaultdict[str, list[Answer]] = defaultdict(list)
    for answer in responses.answers:
        where = f"answer {answer.position} of participant {answer.participant}"
        if answer.participant not in people:
            raise DataError("an answer of nobody", where=where, expected="a participant who joined")
        shown = stimuli.get(answer.stimulus)
        if not answer.check and (shown is None or shown.condition != people[answer.participant].condition):
            found = f"stimulus {answer.stimulus}"
            raise DataError("a stimulus of another condition, or study", where=where, found=found)
        if not 0 <= answer.label < len(document.labels) or not 1 <= answer.confidence <= 5:
            found = f"label {answer.label}, confidence {answer.confidence}"
            expected = f"labels 0 to {len(document.labels) - 1}, confidence 1 to 5"
            raise DataError("an answer that could not be chosen", where=where, found=found, expected=expected)
        answers[answer.participant].append(answer)
    return answers


def _reasons(answers: Sequence[Answer], rules: Exclusion) -> dict[str, str]:
    """Rule -> how it was broken."""
    reasons = {}
    asked = [answer for answer in answers if answer.check]
    failed = sum(answer.label != answer.truth for answer in asked)
    if failed > rules.failed_checks:
        reasons[CHECKS] = f"failed {failed} of {len(asked)} attention checks"
    times = [answer.seconds for answer in answers if not answer.check]
    if times and median(times) < rules.fastest_median:
        reasons[FAST] = f"a median of {median(times):.3g} s per question, below {rules.fastest_median:g} s"
    if not times:
        reasons[SILENT] = "finished without an answer to an image"
    return reasons


def _said(reasons: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(reasons.values())
