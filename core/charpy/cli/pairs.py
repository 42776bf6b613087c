"""Where the pairs of `charpy perceive` come from: a dataset, two folders, or runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from charpy.cli.runs import opened_runs
from charpy.errors import SpecError
from charpy.plugins import registry

if TYPE_CHECKING:
    from charpy.perception.groups import Originals, PairGroup


class Pairs(NamedTuple):
    """Originals, the pairs that come with them, and the names of the runs that they are from."""

    originals: Originals
    groups: list[PairGroup]
    runs: tuple[str, ...] = ()


def pairs_of(
    runs: Sequence[Path],
    data: str | None,
    samples: str | None,
    folders: tuple[Path | None, Path | None],
    data_dir: Path | None,
) -> Pairs:
    """The pairs of exactly one of: runs, a dataset, two folders."""
    originals, changed = folders
    _check_sources(runs, data, samples, originals, changed)
    if data is not None:
        return _of_data(data, samples, data_dir)
    if originals is not None and changed is not None:
        return _of_sets(originals, changed)
    return _of_runs(runs)


def _check_sources(
    runs: Sequence[Path], data: str | None, samples: str | None, originals: Path | None, changed: Path | None
) -> None:
    given = {
        "runs": bool(runs),
        "--data": data is not None,
        "--originals and --changed": (originals or changed) is not None,
    }
    named = [name for name, is_given in given.items() if is_given]
    if len(named) != 1:
        raise SpecError(
            "which pairs?",
            where="charpy perceive",
            found=", ".join(named) or "nothing",
            expected="one of: run files; --data DATASET; --originals FOLDER --changed FOLDER",
        )
    if (originals is None) != (changed is None):
        found = "--changed" if originals is None else "--originals"
        raise SpecError("one folder alone", where="charpy perceive", found=found, expected="--originals and --changed")
    if samples is not None and data is None:
        raise SpecError("only a dataset is drawn from", where="--samples", found=samples, expected="--data beside it")


def _of_data(data: str, samples: str | None, data_dir: Path | None) -> Pairs:
    from charpy.cli.references import data_of
    from charpy.perception.sets import originals_of_data

    wanted: int | Literal["all"] | None = None
    if samples is not None:
        if samples != "all" and not (samples.isascii() and samples.isdecimal() and int(samples) > 0):
            raise SpecError("not a number of samples", where="--samples", found=samples, expected="a number, or all")
        wanted = "all" if samples == "all" else int(samples)
    found = data_of(data, data_dir, registry())
    return Pairs(originals_of_data(found["kind"], found["params"], wanted, registry()), [])


def _of_sets(originals: Path, changed: Path) -> Pairs:
    from charpy.perception.sets import read_sets

    first, group = read_sets(originals, changed, registry())
    return Pairs(first, [group])


def _of_runs(runs: Sequence[Path]) -> Pairs:
    from charpy.analysis.perception.witnesses import read_runs

    with opened_runs(runs) as opened:
        originals, groups, titles = read_runs(opened)
    return Pairs(originals, groups, titles)
