"""The files that a command writes into its output folder: all of them or none."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from charpy.cli.execute import output_folder
from charpy.errors import SpecError


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
        partial = {name: out / f"{name}.partial" for name in pages}
        hint = "give another folder: --out FOLDER"
        for name in pages:
            if (out / name).is_dir():
                found, expected = f"a folder {name}", "a file, or nothing"
                raise SpecError(f"{what} cannot be written", where=str(out), found=found, expected=expected, hint=hint)
        try:
            for name, data in pages.items():
                partial[name].write_bytes(data)
            return [partial[name].replace(out / name) for name in pages]
        except OSError as cause:
            raise SpecError(f"{what} cannot be written", where=str(out), found=cause.strerror, hint=hint) from None
        finally:
            for path in partial.values():
                if path.is_file():
                    path.unlink()
