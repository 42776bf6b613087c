"""A study's answers: which pairs people said look the same, read from a CSV file."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from charpy.errors import DataError, unknown_name
from charpy.perception.groups import Look, PairGroup

COLUMNS = "columns `pair` and `same`, or `original`, `changed` and `same`; others are not read"

SAME = "yes, no, or how many of how many said yes, such as 7/10"

_VOTES = re.compile(r"([0-9]{1,9})\s*/\s*([0-9]{1,9})")


class Answers(NamedTuple):
    """Pair id -> how the pair looks by what most people said; `undecided` are those of which one half said each."""

    looks: Mapping[str, Look]
    undecided: tuple[str, ...]


def read_answers(path: Path, groups: Sequence[PairGroup]) -> Answers:
    """The answers to pairs of `groups`.

    Raises:
        DataError: a file that cannot be read, without these columns, or with a row that names no pair, names one a
            second time, or says something else than `SAME`; each with its line.
        UnknownNameError: a pair that the study does not have.
    """
    names, by_files = _names(groups)
    looks: dict[str, Look] = {}
    lines: dict[str, int] = {}
    undecided = []
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        pair = _pair(row, names, by_files, where)
        if pair in lines:
            raise DataError(
                f"pair {pair!r} is answered twice",
                where=where,
                found=f"first in line {lines[pair]}",
                expected="one row a pair",
                hint="several people's answers to a pair are one row: same = 7/10",
            )
        lines[pair] = line
        look = _look(row["same"], where)
        if look is None:
            undecided.append(pair)
        else:
            looks[pair] = look
    if not lines:
        raise DataError("no answer is here", where=str(path), expected="a row for each pair that was judged")
    return Answers(looks, tuple(undecided))


def _names(groups: Sequence[PairGroup]) -> tuple[set[str], dict[tuple[str, str], str]]:
    by_files: dict[tuple[str, str], str] = {}
    for group in groups:
        named = zip(group.originals, group.changed, group.pairs, strict=True)
        by_files.update(((original, changed), pair) for original, changed, pair in named)
    return set(by_files.values()), by_files


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """`(line, values by column)` of every row that is not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = [name.strip().lower() for name in next(reader, [])]
            rows = [(reader.line_num, [value.strip() for value in row]) for row in reader if any(row)]
    except OSError as cause:
        raise DataError("the answers cannot be read", where=str(path), found=cause.strerror) from None
    except (UnicodeDecodeError, csv.Error) as cause:
        raise DataError("the answers are no CSV file in UTF-8", where=str(path), found=str(cause)) from None
    twice = sorted({name for name in header if header.count(name) > 1})
    if "same" not in header or not ("pair" in header or {"original", "changed"} <= set(header)) or twice:
        found = f"{twice[0]!r} twice" if twice else ", ".join(header) or "an empty file"
        raise DataError("the answers lack a column", where=f"{path}, line 1", found=found, expected=COLUMNS)
    for line, row in rows:
        if len(row) != len(header):
            expected = f"{len(header)}, as the first line has"
            raise DataError("a row of another length", where=f"{path}, line {line}", found=len(row), expected=expected)
    return [(line, dict(zip(header, row, strict=True))) for line, row in rows]


def _pair(row: Mapping[str, str], names: set[str], by_files: Mapping[tuple[str, str], str], where: str) -> str:
    hint = "pairs.csv, which `charpy perceive` writes, lists the pairs of a study: the same options give the same pairs"
    if "pair" in row:
        if row["pair"] not in names:
            raise unknown_name("pair", row["pair"], _near(row["pair"], names), where=where, hint=hint)
        return row["pair"]
    both = (row["original"], row["changed"])
    if both not in by_files:
        found = f"original {both[0]!r}, changed {both[1]!r}"
        raise DataError("unknown pair", where=where, found=found, expected="names of a pair of the study", hint=hint)
    return by_files[both]


def _near(name: str, names: set[str]) -> list[str]:
    """Pairs of the same original, or else some: a message lists no thousands."""
    original = name.split("|", 1)[0]
    own = sorted(pair for pair in names if pair.split("|", 1)[0] == original)
    return own or sorted(names)[:5]


def _look(said: str, where: str) -> Look | None:
    if said.lower() in ("yes", "no"):
        return Look.ALIKE if said.lower() == "yes" else Look.DIFFERENT
    votes = _VOTES.fullmatch(said)
    if votes is None or int(votes[2]) == 0 or int(votes[1]) > int(votes[2]):
        raise DataError("not an answer", where=where, found=f"same = {said!r}", expected=SAME)
    yes, all_ = int(votes[1]), int(votes[2])
    if 2 * yes == all_:
        return None
    return Look.ALIKE if 2 * yes > all_ else Look.DIFFERENT
