"""Where the files of a published data set are: the data folder, or a download whose checksum is verified."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from charpy.errors import DataError, UnsafeFileError

RESERVED = frozenset({"digits", "mnist", "fashion-mnist", "cifar10"})
"""References that name a data set; a folder of such a name is given as `./mnist`."""

VARIABLE = "CHARPY_DATA"
"""The environment variable that names the data folder."""


@dataclass(frozen=True)
class Source:
    """A published file: where it is downloaded from, and the SHA-256 that it must have."""

    url: str
    sha256: str

    @property
    def filename(self) -> str:
        """The last part of the address."""
        return self.url.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Shelf:
    """The folders in which a data set's files may lie.

    Args:
        dataset: its name.
        data_dir: the data folder; `$CHARPY_DATA` when None.
        subfolders: names of its folder inside the data folder, the best first; the data folder itself is also
            searched when it bears one of these names.
        download: whether a missing file may be downloaded.
    """

    dataset: str
    data_dir: str | None
    subfolders: Sequence[str]
    download: bool

    def find(self, filenames: Iterable[str]) -> Path | None:
        """The first file that is there, by name, then by folder."""
        places = self.folders()
        for filename in filenames:
            for folder in places:
                if os.path.isfile(folder / filename):  # False, too, for what no file can be called
                    return folder / filename
        return None

    def file(self, filenames: Sequence[str], source: Source) -> Path:
        """The file under one of its names, downloaded from `source` where that is needed and allowed.

        Raises:
            DataError: it is nowhere, or it cannot be downloaded; with what was looked for, where, and what to do.
            UnsafeFileError: what was downloaded has another checksum.
        """
        found = self.find(filenames)
        if found is not None:
            return found
        if not self.download:
            raise self.missing(filenames, "let it be downloaded (`download: true`, needs `pip install charpy[data]`)")
        return self._fetch(filenames, source)

    def folders(self) -> list[Path]:
        """The folders that are searched."""
        named = self.data_dir or os.environ.get(VARIABLE)
        if not named:
            return []
        root = Path(os.path.expanduser(named))
        names = {part for name in self.subfolders for part in (name, name.split("/", 1)[0])}
        inside = [root / name for name in self.subfolders]
        return [*inside, root] if root.name in names else inside

    def missing(self, filenames: Sequence[str], otherwise: str, cause: object = None) -> DataError:
        """The error for files that are nowhere."""
        places = ", ".join(str(folder) for folder in self.folders())
        return DataError(
            f"the files of {self.dataset} were not found" + (f" and not downloaded: {cause}" if cause else ""),
            where=self.dataset,
            found=f"nothing in {places}" if places else f"no folder to look in: ${VARIABLE} is not set",
            expected=" or ".join(filenames),
            hint=f"set {VARIABLE} or --data-dir to the folder that holds {self.subfolders[0]}/, or {otherwise}",
        )

    def _fetch(self, filenames: Sequence[str], source: Source) -> Path:
        try:
            import pooch
        except ImportError:
            raise self.missing(filenames, "`pip install charpy[data]` to let it be downloaded") from None
        cache = Path(pooch.os_cache("charpy")) / self.dataset
        try:
            return Path(pooch.retrieve(source.url, f"sha256:{source.sha256}", source.filename, cache))
        except ValueError as cause:  # pooch's word for a wrong checksum; it has deleted the file
            raise UnsafeFileError(
                "the downloaded file is not the published one",
                where=source.url,
                found=cause,
                expected=f"SHA-256 {source.sha256}",
                hint="a proxy may have answered in its place; fetch the file by hand",
            ) from None
        except OSError as cause:
            summary = f"{source.url}: {type(cause).__name__}"
            raise self.missing(filenames, "try again where there is a network", summary) from cause
