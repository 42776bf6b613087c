"""A level for each sample: the per-sample thresholds that `charpy distances` writes and a threat may name.

One radius for all images allows more of some than of others (Sharif, Bauer & Reiter 2018, section 5.2: "setting a
different threshold for every sample"). The file is JSON: `schema` (`charpy/eps/1`), `norm`, `data.fingerprint`, and
`samples`, which maps the ids of samples to whole levels: pixels for L0, 1/255 steps otherwise. A sample whose level is
0 has no image but its own inside, so nothing is asked about it and it holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from charpy.checks import largest_level
from charpy.errors import SpecError
from charpy.interfaces.dataset import Dataset
from charpy.specs import OwnLevels
from charpy.threat import Norm

SCHEMA = "charpy/eps/1"

MOST_BYTES = 1 << 28
"""A larger file is no table of levels."""

NEXT = "`charpy distances DATA --out DIR` writes such a file"


def own_levels(norm: Norm, levels: OwnLevels, data: Dataset, ids: Iterable[str]) -> tuple[int, ...]:
    """The level of each sample, in the order of their `ids`.

    Raises:
        SpecError: the file cannot be read, is of another norm or other data, lacks a sample, or has a level that is no
            whole number from 0 to the largest of such images.
    """
    path = Path(levels.path)
    table = _table(path)
    for field, found, expected in (
        ("norm", table.get("norm"), norm.value),
        ("data.fingerprint", _field(table.get("data"), "fingerprint"), data.fingerprint()),
    ):
        if found != expected:
            hint = "make the file for this data set and norm: `charpy distances`"
            raise SpecError(
                f"the levels are of another {field}", where=str(path), found=found, expected=expected, hint=hint
            )
    return tuple(_levels(table.get("samples"), ids, largest_level(norm, data.shape), path))


def digest_of(levels: OwnLevels) -> str:
    """SHA-256 of the file: what a run that names it is about."""
    return hashlib.sha256(_read(Path(levels.path))).hexdigest()


def _levels(samples: Any, ids: Iterable[str], last: int, path: Path) -> Sequence[int]:
    if not isinstance(samples, Mapping):
        raise SpecError("the file maps no sample to a level", where=str(path), found=type(samples).__name__, hint=NEXT)
    levels = []
    for name in ids:
        if name not in samples:
            found = f"levels of {len(samples)} samples"
            raise SpecError(
                f"sample {name} has no level",
                where=str(path),
                found=found,
                expected="one for each of the run",
                hint="`charpy distances DATA --samples N --seed S` chooses one for each image of a run of N samples",
            )
        level = samples[name]
        if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= last:
            raise SpecError(
                f"sample {name} has no such level",
                where=str(path),
                found=repr(level)[:80],
                expected=f"0..{last}, whole",
            )
        levels.append(level)
    return levels


def _table(path: Path) -> Mapping[str, Any]:
    try:
        table = json.loads(_read(path))
    except (ValueError, RecursionError) as cause:
        raise SpecError("this is no JSON", where=str(path), found=cause, hint=NEXT) from None
    if not isinstance(table, Mapping) or table.get("schema") != SCHEMA:
        raise SpecError(
            "this is no file of levels", where=str(path), found=_field(table, "schema"), expected=SCHEMA, hint=NEXT
        )
    return table


def _read(path: Path) -> bytes:
    try:
        with path.expanduser().open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except (OSError, ValueError, RuntimeError) as cause:  # a path with a zero byte, the home of nobody
        found = getattr(cause, "strerror", None) or cause
        raise SpecError("the levels cannot be read", where=str(path), found=found, hint=NEXT) from None
    if len(content) > MOST_BYTES:
        raise SpecError("the file is too large", where=str(path), expected=f"at most {MOST_BYTES} bytes")
    return content


def _field(table: Any, name: str) -> Any:
    return table.get(name) if isinstance(table, Mapping) else None
