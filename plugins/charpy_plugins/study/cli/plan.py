"""`charpy study plan`: how many participants a study needs, before anybody is asked."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import TYPE_CHECKING

from charpy.cli.console import results
from charpy.errors import SpecError, UnknownNameError
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from rich.table import Table

    from charpy_plugins.study.analysis.planning import Arm

SIMULATED = 2_000


def plan(
    *,
    accuracies: str,
    spread: str = "0.08",
    questions: int = 25,
    images: int = 75,
    power: float = 0.8,
    alpha: float = 0.05,
    margin: float = 0.10,
    comparisons: int | None = None,
    participants: str | None = None,
    seed: int = 0,
) -> int:
    """How many participants a study needs to find differences of accuracy, or to show that there are none.

    For every pair of conditions: participants in each for Welch's test on participants' averages, and for the test of
    equivalence. With --participants, the power of a study of that size instead, by formula and by simulation.

    Args:
        accuracies: of the conditions, as expected: benign=0.95,imperceptible=0.93,perceptible=0.4.
        spread: standard deviation of participants' own accuracies, beside the chance of few questions: one for all, or
            benign=0.05,imperceptible=0.08.
        questions: images that a participant answers.
        images: of each condition.
        power: chance to find what is there.
        alpha: of all comparisons together.
        margin: accuracies that differ by less count as equivalent, as a share.
        comparisons: how many tests share alpha; Holm's first step, so that the numbers are on the safe side. Default:
            every pair of conditions.
        participants: of each condition: one number for all, or benign=73,imperceptible=59.
        seed: of the simulation.
    """
    from charpy_plugins.study.analysis.planning import Arm, checked_arm

    expected = _numbers(accuracies, "--accuracies")
    spreads = _each(spread, "--spread", expected)
    people = None if participants is None else _each(participants, "--participants", expected)
    _bounds({"--power": (power, 0.05, 0.999), "--alpha": (alpha, 1e-6, 0.5), "--margin": (margin, 1e-6, 1.0)})
    _bounds({"--questions": (questions, 1, 500), "--images": (images, 1, 1_000_000)})
    if comparisons is not None:
        _bounds({"--comparisons": (comparisons, 1, 1_000)})
    if len(expected) < 2:
        raise SpecError("one condition has nothing to compare", where="--accuracies", found=accuracies)
    arms: dict[str, Arm] = {}
    for name, accuracy in expected.items():
        count = 2 if people is None else int(people[name])
        if people is not None and (count != people[name] or count < 2):
            raise SpecError("not a number of participants", where="--participants", found=people[name], expected=">= 2")
        arms[name] = checked_arm(Arm(accuracy, spreads[name], count), f"{name} in --accuracies and --spread")
    tests = comparisons or len(expected) * (len(expected) - 1) // 2
    console = results()
    console.print(
        visible(
            f"{questions} questions a participant, {images} images a condition; alpha {alpha:g} over {tests} "
            f"comparison(s): {alpha / tests:.4g} each; equivalent: within {100 * margin:g} points"
        ),
        soft_wrap=True,
    )
    if people is None:
        console.print(_needs(arms, questions, images, alpha / tests, power, margin))
    else:
        console.print(_powers(arms, questions, images, alpha / tests, margin, seed))
    console.print("Add those who will not finish, fail the attention checks, or withdraw.", soft_wrap=True)
    return 0


def _needs(arms: Mapping[str, Arm], questions: int, images: int, alpha: float, target: float, margin: float) -> Table:
    from charpy_plugins.study.analysis.planning import needed

    table = _table(f"Participants a condition for a power of {100 * target:g} %")
    for column in ("to find the difference", "answers an image", "to show equivalence", "answers an image"):
        table.add_column(column)
    for (a, first), (b, second) in combinations(arms.items(), 2):
        cells = []
        for within in (None, margin):
            need = needed(first, second, questions=questions, alpha=alpha, target=target, margin=within)
            if need.participants is None:
                cells += [need.reason, ""]
            else:
                cells += [str(need.participants), f"{need.participants * questions / images:.1f}"]
        table.add_row(f"{a}, {b}", *_accuracies(first, second), *cells)
    return table


def _powers(arms: Mapping[str, Arm], questions: int, images: int, alpha: float, margin: float, seed: int) -> Table:
    from charpy_plugins.study.analysis import planning

    table = _table("Power of a study of this size")
    for column in ("participants", "answers an image", "difference", "simulated", "equivalence", "simulated"):
        table.add_column(column)
    for (a, first), (b, second) in combinations(arms.items(), 2):
        found = (
            planning.power(first, second, questions=questions, alpha=alpha),
            planning.equivalence_power(first, second, questions=questions, alpha=alpha, margin=margin),
        )
        simulated = planning.simulated_power(
            first, second, questions=questions, alpha=alpha, margin=margin, studies=SIMULATED, seed=seed
        )
        answers = [one.participants * questions / images for one in (first, second)]
        table.add_row(
            f"{a}, {b}",
            *_accuracies(first, second),
            f"{first.participants} + {second.participants}",
            f"{answers[0]:.1f}, {answers[1]:.1f}",
            *(f"{100 * share:.1f} %" for pair in zip(found, simulated, strict=True) for share in pair),
        )
    return table


def _table(title: str) -> Table:
    from rich.table import Table

    table = Table(title=title)
    table.add_column("conditions")
    table.add_column("accuracies")
    return table


def _accuracies(first: Arm, second: Arm) -> tuple[str]:
    return (f"{100 * first.accuracy:g} %, {100 * second.accuracy:g} %",)


def _numbers(text: str, option: str) -> dict[str, float]:
    """`name=number` between commas."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            number = float(value)
        except ValueError:
            number = float("nan")
        if not name or name in found or number != number:
            raise SpecError(
                "not a list of conditions", where=option, found=repr(text), expected="benign=0.95,imperceptible=0.93"
            )
        found[name] = number
    return found


def _each(text: str, option: str, names: Mapping[str, float]) -> dict[str, float]:
    """One number for all conditions, or one for each."""
    if "=" not in text:
        return dict.fromkeys(names, *_numbers(f"all={text}", option).values())
    found = _numbers(text, option)
    for name in found:
        if name not in names:
            expected = f"one of {', '.join(names)}"
            raise UnknownNameError(f"unknown condition {name!r}", where=option, expected=expected)
    if missing := [name for name in names if name not in found]:
        raise SpecError("a condition has no value", where=option, found=text, expected=f"{missing[0]}=NUMBER as well")
    return found


def _bounds(options: Mapping[str, tuple[float, float, float]]) -> None:
    for option, (value, least, most) in options.items():
        if not least <= value <= most:
            raise SpecError("out of range", where=option, found=value, expected=f"{least:g} to {most:g}")
