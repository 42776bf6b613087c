"""Which pairs look alike: by people's answers, or by a proxy that is always named."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from charpy.errors import SpecError, unknown_name
from charpy.perception.answers import Answers, read_answers
from charpy.perception.groups import Look, PairGroup

ALIKE, DIFFERENT, UNKNOWN = 1, 0, -1


class Labels(NamedTuple):
    """int8 `(pairs,)` of `ALIKE`, `DIFFERENT`, `UNKNOWN`; where they are from, in one word and in words; notes."""

    values: NDArray[np.int8]
    source: Literal["answers", "proxy"]
    text: str
    notes: tuple[str, ...] = ()


def labels_of(
    groups: Sequence[PairGroup], answers: Path | None = None, alike: Sequence[str] = (), different: Sequence[str] = ()
) -> Labels:
    """The looks of all pairs, group after group.

    Args:
        groups: the pairs.
        answers: a study's; nothing else then counts.
        alike, different: groups that are stated to look so, by name, or by their name's start (`ssim_pgd` for all of
            its modes and norms).

    Raises:
        SpecError, UnknownNameError: a group that is not there or is stated to look both ways, or stated looks beside
            answers.
        DataError: answers that cannot be read, see `read_answers`.
    """
    if answers is not None:
        if alike or different:
            found = "--alike or --different beside --answers"
            raise SpecError("two sources of labels", where="charpy perceive", found=found, expected="one of them")
        return _answered(groups, read_answers(answers, groups), answers.name)
    same = _stated(groups, alike, Look.ALIKE, "--alike")
    other = _stated(groups, different, Look.DIFFERENT, "--different")
    if both := sorted(same.keys() & other.keys()):
        raise SpecError("stated to look both ways", where="--alike, --different", found=both[0], expected="one of them")
    stated = same | other
    looks = [stated.get(group.name, group.look) for group in groups]
    return Labels(_codes(groups, looks), "proxy", _proxy(groups, looks, stated))


def _codes(groups: Sequence[PairGroup], looks: Sequence[Look | None]) -> NDArray[np.int8]:
    codes = [UNKNOWN if look is None else ALIKE if look is Look.ALIKE else DIFFERENT for look in looks]
    return np.repeat(np.array(codes, np.int8), [len(group) for group in groups])


def _stated(groups: Sequence[PairGroup], names: Sequence[str], look: Look, option: str) -> dict[str, Look]:
    found: dict[str, Look] = {}
    for name in names:
        exact = [group.name for group in groups if group.name == name]
        meant = exact or [group.name for group in groups if group.name.startswith((f"{name} ", f"{name},"))]
        if not meant:
            raise unknown_name("group", name, [group.name for group in groups], where=option)
        found.update(dict.fromkeys(meant, look))
    return found


def _proxy(groups: Sequence[PairGroup], looks: Sequence[Look | None], stated: dict[str, Look]) -> str:
    def named(wanted: Look | None, *, by_hand: bool) -> str:
        pairs = zip(groups, looks, strict=True)
        return "; ".join(group.name for group, look in pairs if look is wanted and (group.name in stated) == by_hand)

    parts = [
        ("Taken to look alike: ", named(Look.ALIKE, by_hand=False)),
        ("Taken to look different: ", named(Look.DIFFERENT, by_hand=False)),
        ("Stated to look alike: ", named(Look.ALIKE, by_hand=True)),
        ("Stated to look different: ", named(Look.DIFFERENT, by_hand=True)),
        ("Without a label: ", named(None, by_hand=False)),
    ]
    said = " ".join(f"{text}{names}." for text, names in parts if names)
    return f"By a proxy, not by people: pairs are labelled by how they were made. {said}"


def _answered(groups: Sequence[PairGroup], answers: Answers, name: str) -> Labels:
    pairs = [pair for group in groups for pair in group.pairs]
    codes = {Look.ALIKE: ALIKE, Look.DIFFERENT: DIFFERENT}
    looks = [answers.looks.get(pair) for pair in pairs]
    values = np.array([UNKNOWN if look is None else codes[look] for look in looks], np.int8)
    text = f"By people: {len(answers.looks)} pairs are labelled by the answers in {name}; the others have no label."
    count = len(answers.undecided)
    note = f"{count} pair{' has' if count == 1 else 's have'} as many answers for as against, and so no label"
    return Labels(values, "answers", text, (note,) if count else ())
