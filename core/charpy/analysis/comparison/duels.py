"""Attack against attack on the same samples (Kotyan & Vargas 2020, section V-B, Table II)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

from charpy.analysis.comparison.attempts import Attempt
from charpy.analysis.comparison.document import DuelPart, WinsPart
from charpy.analysis.comparison.entries import Identity
from charpy.analysis.comparison.mcnemar import mcnemar
from charpy.analysis.comparison.rates import rate
from charpy.outcome import Outcome

SIGNIFICANT = 0.05


def duel_parts(attempts: Sequence[Attempt]) -> tuple[DuelPart, ...]:
    """Every two attacks on one model under one norm, at each level where both faced all correctly classified samples.

    Only attacks that are independent: a later one of a battery meets the samples that those before it could not break,
    or all of them just where those broke none, and either would decide the comparison. Where samples have levels of
    their own, only attacks that faced the same ones.
    """
    groups: defaultdict[tuple[Identity, str], list[Attempt]] = defaultdict(list)
    for attempt in attempts:
        if not attempt.independent:
            continue
        groups[attempt.entry.identity, attempt.norm].append(attempt)
    return tuple(
        part for group in groups.values() for first, second in combinations(group, 2) for part in _duel(first, second)
    )


def win_parts(duels: Sequence[DuelPart]) -> tuple[WinsPart, ...]:
    """How often each attack broke more, by norm."""
    names = dict.fromkeys((duel.norm, name) for duel in duels for name in (duel.first, duel.second))
    parts = []
    for norm, name in names:
        fought = [duel for duel in duels if duel.norm == norm and name in (duel.first, duel.second)]
        won = [duel for duel in fought if duel.winner == name]
        significant = sum(duel.p_value < SIGNIFICANT for duel in won)
        parts.append(WinsPart(norm=norm, attack=name, wins=len(won), significant=significant, duels=len(fought)))
    return tuple(parts)


def _duel(first: Attempt, second: Attempt) -> Iterator[DuelPart]:
    if first.entry.own(first.norm) != second.entry.own(second.norm):
        return
    names = first.label, second.label
    if names[0] == names[1]:
        names = f"{first.label} in {first.entry.run_title}", f"{second.label} in {second.entry.run_title}"
    for th in first.outcomes.levels:
        if not (first.complete[th] and second.complete.get(th, False)):
            continue
        one, two = first.outcomes.at([th]), second.outcomes.at([th])
        judged = (Outcome.BROKEN, Outcome.HELD)
        joint = (one.mask(*judged) & two.mask(*judged))[:, 0]
        a, b = one.mask(Outcome.BROKEN)[joint, 0], two.mask(Outcome.BROKEN)[joint, 0]
        samples, both = int(joint.sum()), int((a & b).sum())
        if not samples:
            continue
        only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
        winner = None if only_first == only_second else names[only_second > only_first]
        yield DuelPart(
            model=first.entry.model,
            norm=first.norm,
            th=th,
            first=names[0],
            second=names[1],
            samples=samples,
            both=both,
            only_first=only_first,
            only_second=only_second,
            neither=samples - both - only_first - only_second,
            first_rate=rate(both + only_first, samples),
            second_rate=rate(both + only_second, samples),
            p_value=mcnemar(only_first, only_second),
            winner=winner,
        )
