"""The files that a command writes into its output folder: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from charpy.cli.execute import output_folder
from charpy.errors import SpecError
from charpy.wholefile import replacing


def write_pages(pages: Mapping[str, bytes], out: Path, what: str) -> list[Path]:
    """Write every page, by its file name, into `out`: each is complete beside its place before the first takes it.

    Args:
        pages: contents by file name.
        out: made where it is not there.
        what: these pages in two words, for the error message.

    Raises:
        SpecError: they cannot be written; none of them then is.
    """
    with output_folder(out):
        hint = "give another folder: --out FOLDER"
        for name in pages:
            if (out / name).is_dir():
                found, expected = f"a folder {name}", "a file, or nothing"
                raise SpecError(f"{what} cannot be written", where=str(out), found=found, expected=expected, hint=hint)
        try:
            with ExitStack() as stack:
                for name, data in pages.items():
                    stack.enter_context(replacing(out / name)).write_bytes(data)
        except OSError as cause:
            raise SpecError(f"{what} cannot be written", where=str(out), found=cause.strerror, hint=hint) from None
        return [out / name for name in pages]
