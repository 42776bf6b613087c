"""A folder of pictures, one subfolder a class; pictures are decoded when they are asked for."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from charpy.arrays import check_rows, fingerprint
from charpy.errors import DataError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Dataset, Samples
from charpy.pixels import as_images
from charpy.threat import Grid
from charpy_plugins.datasets.locate import RESERVED
from charpy_plugins.datasets.picture import SUFFIXES, Header, read_header, read_pixels

_SYSTEM_FILES = frozenset({"Thumbs.db", "desktop.ini"})


class Folder(Dataset):
    """A folder of pictures, one subfolder a class; BMP, GIF, JPEG, PNG and WebP.

    Classes are the subfolders in the order of their names (as text: "10" before "2"), or `classes`; samples are sorted
    by class, then by file name. Ids are paths relative to the folder. Only headers are read at first; `read` decodes
    what it returns. Policy, each case counted in `notes`:

    - larger than 4096 x 4096 pixels: refused before decoding;
    - truncated or damaged, animated, 16-bit, float, CMYK and other colour spaces: refused;
    - grey stays grey, palettes become RGB; where both occur, refused unless `channels` says which is meant (grey is
      then repeated, colour becomes ITU-R 601 luma);
    - alpha: dropped where it is opaque everywhere, otherwise refused;
    - EXIF orientation: applied; colour profiles: ignored;
    - several sizes: refused unless `resize` is given (bilinear with antialiasing, rounded to 8 bits);
    - other files and deeper folders: left out; hidden files are not counted.
    """

    class Params(BaseParams):
        """The folder and how its pictures are made alike."""

        path: str = param(description="the folder", identity=False)
        resize: tuple[int, int] | None = param(
            None, description="height and width that every picture is given", unit="pixels"
        )
        channels: Literal[1, 3] | None = param(None, description="1: grey, 3: RGB; needed where both occur")
        classes: tuple[str, ...] | None = param(None, description="the subfolders in the order of the labels")

    grid = Grid.EIGHT_BIT

    def __init__(self, params: Any) -> None:
        super().__init__(params)
        self._root = Path(os.path.expanduser(params.path))
        if params.resize is not None and not all(0 < side <= 4096 for side in params.resize):
            raise DataError(
                "`resize` is no size",
                where=str(self._root),
                found=params.resize,
                expected="1..4096 each",
                hint="give height and width in pixels",
            )
        try:
            self.class_names, order = _classes(self._root, params.classes)
            self._files, self._labels, left_out = _files(self._root, self.class_names)
        except OSError as cause:
            hint = "look at the permissions of the folder and of those in it"
            raise DataError("folder cannot be read", where=str(self._root), found=cause.strerror, hint=hint) from None
        self.name = self._root.resolve().name or str(self._root)
        headers = [read_header(path) for path in self._files]
        self._channels, mixed = _one_channel_count(headers, params.channels, self._root)
        size, resized = _one_size(headers, self._files, params.resize)
        self.shape = (self._channels, *size)
        self.notes = (*order, *left_out, *_odd(headers), *mixed, *resized)
        self._fingerprint = ""

    def __len__(self) -> int:
        """How many samples there are."""
        return len(self._files)

    def read(self, indices: Sequence[int]) -> Samples:
        """The samples at `indices`, decoded now."""
        import torch

        rows = check_rows(indices, len(self), where=self.name)
        pixels = np.stack([self._decode(row) for row in rows]) if rows else np.empty((0, *self.shape), np.uint8)
        ids = tuple(self._files[row].relative_to(self._root).as_posix() for row in rows)
        return Samples(as_images(torch.from_numpy(pixels)), torch.from_numpy(self._labels[rows]), ids)

    def fingerprint(self) -> str:
        """SHA-256 of all decoded pixels and labels in order; decodes every picture once."""
        if not self._fingerprint:
            pieces = (self._decode(row)[None] for row in range(len(self)))
            self._fingerprint = fingerprint(pieces, self._labels, self.shape)
        return self._fingerprint

    @classmethod
    def accepts(cls, reference: str, data_dir: str | None) -> dict[str, Any] | None:
        """An existing folder; one that is called like a data set is given as `./mnist`."""
        known = reference not in RESERVED and os.path.isdir(os.path.expanduser(reference))
        return {"path": reference} if known else None

    def _decode(self, row: int) -> NDArray[np.uint8]:
        pixels = read_pixels(self._files[row], self._channels, self.params.resize)
        if pixels.shape != self.shape:
            where = str(self._files[row])
            raise DataError(
                "picture has changed since it was listed",
                where=where,
                found=pixels.shape,
                expected=self.shape,
                hint="leave the folder alone while a run lasts, and start it again",
            )
        return pixels


def _classes(root: Path, given: tuple[str, ...] | None) -> tuple[tuple[str, ...], list[str]]:
    """The class names in the order of the labels, and a note where that order may surprise."""
    if not os.path.isdir(root):  # False, too, for what no folder can be called
        raise DataError(
            "no folder is here",
            where=str(root),
            expected="a folder with one subfolder a class",
            hint="look at the path; it is taken from the working directory",
        )
    found = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if not found:
        raise DataError(
            "folder has no subfolders",
            where=str(root),
            expected="one subfolder a class: cat/1.png, dog/1.png, ...",
            hint="put the pictures of each class into a folder of its own",
        )
    if given is not None:
        if sorted(given) != found:
            raise DataError(
                "`classes` are not the subfolders",
                where=str(root),
                found=given,
                expected=", ".join(found),
                hint="name every subfolder once",
            )
        return given, []
    if all(name.isdecimal() for name in found) and found != sorted(found, key=int):
        return tuple(found), [
            "classes are in the order of their names as text (10 before 2); give `classes` for another"
        ]
    return tuple(found), []


def _files(root: Path, classes: tuple[str, ...]) -> tuple[list[Path], NDArray[np.int64], list[str]]:
    """Every picture file with its label, and notes on what was left out and on classes without a picture."""
    files: list[Path] = []
    labels: list[int] = []
    others: list[str] = [entry.name for entry in root.iterdir() if entry.is_file() and not _is_hidden(entry)]
    empty = []
    for label, name in enumerate(classes):
        entries = sorted(entry for entry in (root / name).iterdir() if not _is_hidden(entry))
        pictures = [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
        others += [f"{name}/{entry.name}" for entry in entries if entry not in set(pictures)]
        files += pictures
        labels += [label] * len(pictures)
        empty += [] if pictures else [name]
    if not files:
        raise DataError(
            "folder holds no pictures",
            where=str(root),
            expected=f"files ending in {', '.join(sorted(SUFFIXES))}",
            hint="put pictures into the subfolders, or convert those that are there",
        )
    notes = [f"{len(others)} other files or folders were left out, such as {others[0]}"] if others else []
    notes += [f"classes without a picture: {', '.join(empty)}"] if empty else []
    return files, np.array(labels, np.int64), notes


def _is_hidden(entry: Path) -> bool:
    return entry.name.startswith(".") or entry.name in _SYSTEM_FILES


def _odd(headers: Sequence[Header]) -> list[str]:
    counts = Counter(oddity for header in headers for oddity in header.oddities)
    return [f"{count} of {len(headers)} pictures {oddity}" for oddity, count in sorted(counts.items())]


def _one_channel_count(headers: Sequence[Header], wanted: int | None, root: Path) -> tuple[int, list[str]]:
    counts = Counter(header.channels for header in headers)
    if wanted is None:
        if len(counts) > 1:
            raise DataError(
                "grey and colour pictures are mixed",
                where=str(root),
                found=f"{counts[1]} grey, {counts[3]} colour",
                expected="one kind",
                hint="give the parameter `channels`: 1 or 3",
            )
        return next(iter(counts)), []
    how = (
        "colour pictures were read as ITU-R 601 luma"
        if wanted == 1
        else "grey pictures were repeated in three channels"
    )
    converted = len(headers) - counts[wanted]
    return wanted, [f"{converted} {how}"] if converted else []


def _one_size(
    headers: Sequence[Header], files: Sequence[Path], resize: tuple[int, int] | None
) -> tuple[tuple[int, int], list[str]]:
    sizes = Counter(header.size for header in headers)
    common = sizes.most_common(1)[0][0]
    if resize is not None:
        changed = len(headers) - sizes[resize]
        return resize, [f"{changed} pictures were resized to {resize[0]} x {resize[1]} (bilinear)"] if changed else []
    if len(sizes) > 1:
        row = next(row for row, header in enumerate(headers) if header.size != common)
        height, width = headers[row].size
        raise DataError(
            "pictures differ in size",
            where=str(files[row]),
            found=f"{height} x {width} (height x width)",
            expected=f"{common[0]} x {common[1]}, as {sizes[common]} of {len(headers)} pictures have",
            hint="give the parameter `resize: [height, width]`",
        )
    return common, []
