"""Indicators that a weak attack may have been mistaken for a robust model.

After Pintor et al. 2022, "Indicators of attack failure: debugging and improving optimization of adversarial examples";
Carlini et al. 2019, "On evaluating adversarial robustness" (section 5); Zimmermann et al. 2022, "Increasing confidence
in adversarial robustness evaluations" (planted examples). They judge what an attack left standing: a witness needs no
indicator. `charpy.analysis.grade` turns them into the grade of each figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from charpy.analysis.document import DrillPart, IndicatorKind, IndicatorPart, ModelPart
from charpy.analysis.trials import Trial
from charpy.threat import DISTANCE_TOLERANCE

VANISHED_LIMIT = 0.1
"""Share of an attack's gradients that may lead nowhere.

A working gradient attack has next to none (0 of 100,000s on the models that charpy ships); one in ten means that whole
samples are stuck where they started (Pintor et al. 2022, "unavailable gradients"; AutoAttack warns at the first)."""

PACE_LIMIT = 0.5
"""How fast the margin may still fall in the last half of the rows, 1 being the average over all of them.

A search that falls by the same amount each time its rows double, as random search does, has a pace below 0.3; one that
falls evenly, because it was stopped on its way, has 1 (Pintor et al. 2022, "non-convergence")."""

LEAST_ROWS = 8
"""An attack that spent fewer rows on a sample cannot show that it has converged."""

BEATEN_SHARE = 0.01
"""Share of the correctly classified samples that an attack which knows less may break after one that knows more.

AutoAttack warns when Square lowers robust accuracy by 0.2 points; with 100 samples that is less than one of them."""

BEATEN_LEAST = 1
"""That many samples are never too many: one lucky sample says little about gradients."""

LATE_SHARE = 0.02
"""Share of the correctly classified samples that may fall in the last quarter of an attack's rows.

About so far the figure would still move with a quarter more (Carlini et al. 2019: verify that attacks have converged,
"more iterations" and "more restarts" must not help). A random search whose successes thin out as they do, evenly over
the logarithm of the rows, stays below it: of 5000 rows the last quarter has 3 % of the successes."""

LATE_LEAST = 2
"""Fewer late samples than this are chance."""

PLANTED_LIMIT = 0.75
"""Share of planted examples that an attack must find: each is adversarial for certain, and as easy to find as the best
of a few hundred random points (Zimmermann et al. 2022 ask for all of many; here there are eight of a kind)."""

UNBOUNDED_LIMIT = 1.0
"""Without a bound every sample must fall: any image of another class is then within reach (Carlini et al. 2019)."""


def indicator_parts(
    trials: Sequence[Trial], drills: Sequence[DrillPart], model: ModelPart, norms: Iterable[str], correct: int
) -> tuple[IndicatorPart, ...]:
    """Every indicator of one model's run, fired or not.

    Args:
        trials: how its attacks fared.
        drills: how they did where adversarial examples were planted.
        model: what the preflight saw of it.
        norms: those of the run.
        correct: samples that are classified correctly.
    """
    parts = _of_the_model(model)
    for norm in norms:
        own = [trial for trial in trials if trial.norm == norm]
        planted = [drill for drill in drills if drill.norm == norm]
        parts += [part for trial in own for part in of_trial(trial, correct)]
        parts += [part for trial in own for part in _beaten(trial, own, correct)]
        parts += [of_drill(drill) for drill in planted]
        parts += [_unbounded(drill) for drill in planted if drill.unbounded]
        parts.append(_battery(norm, planted))
    return tuple(parts)


def of_trial(trial: Trial, correct: int) -> list[IndicatorPart]:
    """What the course of one attack says of it; nothing of an attack that only shows another model's images."""
    if trial.transfers:
        return []
    return [*([_zero_gradients(trial)] if trial.white else []), _still_rising(trial), _still_helping(trial, correct)]


def of_drill(drill: DrillPart) -> IndicatorPart:
    """How many of the planted examples the attack found."""
    share = drill.found / drill.planted if drill.planted else None
    finding = f"{drill.attack} found {drill.found} of {drill.planted} planted adversarial examples"
    advice = "it does not work on this model: look for what stops it before believing what it left standing"
    if share is None:
        finding = "nothing could be planted: no random point of the ball lowers the margin of any sample"
    if drill.failure:
        finding += f" ({drill.failure})"
    return _part("planted", drill, share, PLANTED_LIMIT, finding, advice, low=True)


def _zero_gradients(trial: Trial) -> IndicatorPart:
    share, finding = trial.vanished, f"{trial.attack} left no sample standing whose gradients could be looked at"
    if share is not None:
        finding = f"{_percent(share)} of the {trial.gradients} gradients of {trial.attack} are zero or not finite"
        if _crossed(trial):  # beyond the boundary a hinge loss is flat, and its gradient rightly zero
            share, finding = (
                None,
                f"{trial.attack} crossed the boundary outside the ball, so its gradients do lead there",
            )
    advice = "attack the scores before rounding or saturation, use a loss that does not saturate, or a black-box attack"
    return _part("zero_gradients", trial, share, VANISHED_LIMIT, finding, advice)


def _still_rising(trial: Trial) -> IndicatorPart:
    value, short = pace(trial.margins, trial.rows), trial.rows < LEAST_ROWS
    finding = f"{trial.attack} left no sample standing whose margin could be followed"
    if trial.held and _crossed(trial):
        value, finding = None, f"{trial.attack} finds its own radius: its margin is no sign of convergence"
    elif trial.held and short:
        value, finding = 1.0, f"{trial.attack} spent {trial.rows:.0f} rows on a sample, too few to have converged"
    elif trial.held and value is None:
        finding = f"{trial.attack} sees no margin, or too little of its course to judge"
    elif value is not None:
        finding = f"the margin of {trial.attack} fell at {value:.2f} of its average pace in its last rows"
    advice = "give it more steps or queries, or larger steps"
    return _part("loss_still_rising", trial, value, PACE_LIMIT, finding, advice)


def _still_helping(trial: Trial, correct: int) -> IndicatorPart:
    late = sum(rows > 0.75 * trial.spent for rows in trial.successes)
    known = trial.held > 0 and trial.spent >= LEAST_ROWS and correct > 0
    finding = f"{late} of the {len(trial.successes)} samples that {trial.attack} broke fell in its last quarter"
    if not known:
        finding = f"{trial.attack} left no sample standing that more rows could break"
    value, limit = (late / correct if known else None), max(LATE_SHARE, (LATE_LEAST - 1) / max(correct, 1))
    advice = "give it more queries, steps or restarts until they change nothing"
    return _part("more_still_helps", trial, value, limit, finding, advice)


def _beaten(trial: Trial, own: Sequence[Trial], correct: int) -> list[IndicatorPart]:
    """What a black-box attack broke after gradient attacks had failed, and a transfer attack after any other."""
    if trial.white:
        return []
    before = [
        other
        for other in own
        if other.step < trial.step
        and (trial.th is None or trial.th in other.covers)
        and not other.transfers
        and (trial.transfers or other.white)
    ]
    if not before:
        return []
    # One that finds its own radius ran at the largest level only, and in a contest all run on what is broken already.
    reach = math.inf if trial.th is None else trial.th + DISTANCE_TOLERANCE
    already = {sample for other in before for sample, distance in other.broken.items() if distance <= reach}
    count, names = len(trial.broken.keys() - already), _listed(dict.fromkeys(other.attack for other in before))
    kind: IndicatorKind = "transfer_better" if trial.transfers else "black_box_better"
    finding = f"{trial.attack} broke {count} sample{'' if count == 1 else 's'} that {names} had left standing"
    advice = (
        "images made for another model should not do better than an attack on this one: the direct attacks fail here"
        if trial.transfers
        else "gradients may be masked: attack through a smooth surrogate of what hides them, with more restarts"
    )
    limit = max(BEATEN_LEAST, BEATEN_SHARE * correct)
    return [_part(kind, trial, count, limit, finding, advice)]


def _unbounded(drill: DrillPart) -> IndicatorPart:
    finding = f"without any bound {drill.attack} broke {drill.reached} of {drill.unbounded} samples"
    advice = "any image is allowed there, so this attack does not work on this model: correct it first"
    share = drill.reached / drill.unbounded
    return _part("unbounded_fails", drill, share, UNBOUNDED_LIMIT, finding, advice, low=True)


def _battery(norm: str, drills: Sequence[DrillPart]) -> IndicatorPart:
    """The best attack where examples were planted, which stands for the battery."""
    planted = [drill for drill in drills if drill.planted]
    share, finding = None, "no attack was tried on planted adversarial examples"
    if planted:
        best = max(planted, key=lambda drill: drill.found / drill.planted)
        share = best.found / best.planted
        finding = f"of {best.planted} planted adversarial examples the best attack, {best.attack}, found {best.found}"
    elif drills:
        finding = "nothing could be planted: no random point of the ball lowers the margin of any sample"
    advice = "no attack of this battery works on this model: choose others"
    return _part("planted_battery", norm, share, PLANTED_LIMIT, finding, advice, low=True)


def _of_the_model(model: ModelPart) -> list[IndicatorPart]:
    sure, alone = model.deterministic, model.batch_invariant
    said = "the model gives the same images " + ("the same answers each time" if sure else "other answers each time")
    whose = (
        "the model's answer to an image " + ("does not depend" if alone else "depends") + " on the rest of its batch"
    )
    return [
        _part(
            "randomised", None, float(not sure), 0.0, said,
            "fix its randomness, or attack and score the average of many answers",
        ),
        _part(
            "batch_dependent", None, float(not alone), 0.0, whose,
            "an image has no answer of its own, so nothing can be broken or held: use fixed statistics",
        ),
        _part(
            "stateful", None, float(not model.steady), 0.0,
            "the model put unchanged images into other classes after the attacks than before" if not model.steady
            else "the model put the unchanged images into the same classes after the attacks as before",
            "its answers depend on what it was asked before: take its memory out, or assess it without",
        ),
    ]  # fmt: skip


def pace(margins: Sequence[float | None], rows: float) -> float | None:
    """How fast the least margin fell over about the last half of `rows`, as a multiple of the average over all.

    None where fewer than three doublings are known. 0 where it never fell.

    Args:
        margins: at fewer than 2, 4, 8 ... rows, the last at `rows`.
        rows: spent in all.
    """
    known = [(min(2.0 ** (k + 1) - 1, rows), margin) for k, margin in enumerate(margins) if margin is not None]
    if len(known) < 3:
        return None
    (first, start), (end, last) = known[0], (rows, known[-1][1])
    if start <= last or end <= first:
        return 0.0
    # The last doubling may have just begun; a quarter of the rows at least makes a pace.
    at, margin = next((point for point in reversed(known[:-1]) if end - point[0] >= rows / 4), known[0])
    return ((margin - last) / (end - at)) / ((start - last) / (end - first))


def _crossed(trial: Trial) -> bool:
    """Whether the search went past the boundary outside the ball: what held inside has no other negative margin."""
    return any(margin is not None and margin < 0 for margin in trial.margins)


def _level(trial: Trial) -> int | None:
    """The one level that the trial is evidence about; None for all."""
    return trial.th if trial.covers == (trial.th,) else None


def _part(
    kind: IndicatorKind,
    whose: Trial | DrillPart | str | None,
    value: float | None,
    limit: float,
    finding: str,
    advice: str,
    *,
    low: bool = False,
) -> IndicatorPart:
    """An indicator of an attack, of a norm or of the model. Fires above the limit, or, if `low`, below it."""
    fired = value is not None and (value < limit if low else value > limit)
    of_attack = whose if isinstance(whose, Trial | DrillPart) else None
    return IndicatorPart(
        kind=kind,
        norm=whose.norm if isinstance(whose, Trial | DrillPart) else whose,
        th=_level(whose) if isinstance(whose, Trial) else None,
        step=of_attack.step if of_attack else None,
        attack=of_attack.attack if of_attack else None,
        value=None if value is None else round(value, 4),
        limit=round(limit, 4),
        fired=fired,
        finding=finding,
        advice=advice if fired else "",
    )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _listed(names: Iterable[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
