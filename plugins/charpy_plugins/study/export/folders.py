"""Folders of pictures in the output folder: whole or not at all, and never in the place of somebody else's files."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from charpy.errors import SpecError

_OURS = re.compile(r"[0-9]{3,}/[a-z][a-z0-9_-]*-[0-9a-f]{16}\.png")


def write_folders(folders: Mapping[str, Mapping[str, bytes]], out: Path) -> list[Path]:
    """Write `folder -> file -> bytes` below `out`; a folder that an earlier analysis left is replaced.

    Raises:
        SpecError: a folder of this name holds other files, or it cannot be written.
    """
    for name in folders:
        _check_ours(out / name)
    try:
        return [_write(out / name, files) for name, files in folders.items()]
    except OSError as cause:
        raise SpecError("the pictures cannot be written", where=str(out), found=cause.strerror) from None


def _write(folder: Path, files: Mapping[str, bytes]) -> Path:
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    for name, data in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(data)
    if folder.exists():
        shutil.rmtree(folder)
    if files:
        partial.rename(folder)
    return folder


def _check_ours(folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise SpecError("a file is in the way", where=str(folder), expected="a folder, or nothing")
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder).as_posix()
        if path.is_symlink() or not (path.is_dir() or _OURS.fullmatch(inside)):
            hint = "give another folder: --out FOLDER"
            raise SpecError("other files are in the way", where=str(folder), found=inside, hint=hint)
