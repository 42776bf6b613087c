"""Where a training that was interrupted goes on: one file, written whole or not at all."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from charpy.errors import IdentityError, RunFileError, SpecError
from charpy.wholefile import replacing

State = dict[str, Any]
"""Tensors, numbers, texts, lists and mappings: what torch's restricted loader reads."""


def make_folder(folder: Path) -> None:
    """Make `folder` where there is none.

    Raises:
        SpecError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise SpecError("the output folder cannot be made", where=str(folder), found=cause.strerror) from None


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to `path` so that a crash or a kill leaves the old file or the new one, never a part of it.

    Raises:
        RunFileError: there is no room for it, or it must not be written.
    """
    try:
        with replacing(path) as partial:
            partial.write_bytes(content)
    except OSError as cause:
        raise RunFileError(
            "a file of the training cannot be written",
            where=str(path),
            found=cause.strerror or cause,
            hint="make room; the same command goes on after the last complete epoch",
        ) from cause


class Checkpoint:
    """The state of a training after its last complete epoch.

    Args:
        path: the file; its folder exists.
        identity: everything that decides what the weights will be; only the same training goes on from the file.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        self.path, self.identity = path, dict(identity)

    def read(self) -> State | None:
        """The state, or None where there is no file.

        Raises:
            RunFileError: the file is damaged, or is no checkpoint.
            IdentityError: it is another training's; what differs is named.
        """
        if not self.path.is_file():
            return None
        try:
            content = torch.load(io.BytesIO(self.path.read_bytes()), map_location="cpu", weights_only=True)
            identity, state = content["identity"], content["state"]
        except Exception as cause:
            raise RunFileError(
                "this is no checkpoint, or it is damaged",
                where=str(self.path),
                found=f"{type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}"[:200],
                hint="delete it to train from the start",
            ) from cause
        differs = [key for key in {**identity, **self.identity} if identity.get(key) != self.identity.get(key)]
        if differs:
            raise IdentityError(
                "the checkpoint is of another training",
                where=str(self.path),
                found="; ".join(f"{key}: {identity.get(key)}" for key in differs),
                expected="; ".join(f"{key}: {self.identity.get(key)}" for key in differs),
                hint="give another folder with --out, or delete the checkpoint to train from the start",
            )
        return dict(state)

    def write(self, state: State) -> None:
        """Replace what is there by `state`."""
        buffer = io.BytesIO()
        torch.save({"identity": self.identity, "state": state}, buffer)
        write_whole(self.path, buffer.getvalue())

    def remove(self) -> None:
        """Delete the file, if there is one: the training is over."""
        self.path.unlink(missing_ok=True)
