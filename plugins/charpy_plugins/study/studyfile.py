"""The study file: a ZIP with `study.json` and a PNG of each stimulus at each size; the same study, the same bytes."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from charpy.errors import DataError
from charpy.wholefile import replacing
from charpy_plugins.study.document import FORMAT, Stimulus, StudyDocument

DOCUMENT = "study.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
LARGEST = 1 << 30
"""Bytes that a study file may unpack to."""

_DAMAGES = (
    OSError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    KeyError,
    NotImplementedError,
    RuntimeError,
    EOFError,
    ValueError,
)
"""What `zipfile` raises at a file that is no ZIP, or a damaged, encrypted or exotic one."""


class Study(NamedTuple):
    """A study with its images: PNG bytes by `(stimulus id, size)`."""

    document: StudyDocument
    images: Mapping[tuple[str, int], bytes]


def image_name(stimulus: str, size: int) -> str:
    """Where the PNG of a stimulus stands in the file."""
    return f"stimuli/{stimulus}-x{size}.png"


def digest(data: bytes) -> str:
    """As `Stimulus.digests` has it."""
    return hashlib.sha256(data).hexdigest()


def write_study(study: Study, path: Path) -> None:
    """Write the file whole, or not at all.

    Raises:
        DataError: it cannot be written, or an image lacks or is not the one that the document names.
    """
    for stimulus, size, expected in _images_of(study.document):
        data = study.images.get((stimulus.id, size))
        if data is None or digest(data) != expected:
            found = "no image" if data is None else "another image"
            raise DataError(
                "a stimulus is not what the document says", where=image_name(stimulus.id, size), found=found
            )
    try:
        with replacing(path) as partial, zipfile.ZipFile(partial, "w") as file:
            _put(file, DOCUMENT, study.document.canonical(), zipfile.ZIP_DEFLATED)
            for stimulus, size, _ in _images_of(study.document):
                _put(file, image_name(stimulus.id, size), study.images[stimulus.id, size], zipfile.ZIP_STORED)
    except OSError as cause:
        raise DataError("the study cannot be written", where=str(path), found=cause.strerror) from None


def read_study(path: Path) -> Study:
    """The study of a file, every image held against its digest, and its header against the shape of the images.

    Raises:
        DataError: no study file, one that was changed by hand, or that unpacks to more than `LARGEST`.
    """
    hint = "`charpy study build RUN` writes a study file"
    if not path.is_file():
        found = "a folder" if path.is_dir() else ""
        raise DataError("no such study file", where=str(path), found=found or None, expected="NAME.study", hint=hint)
    try:
        with zipfile.ZipFile(path) as file:
            if sum(entry.file_size for entry in file.infolist()) > LARGEST:
                raise DataError("the study unpacks to too much", where=str(path), expected=f"{LARGEST} bytes at most")
            entries = Counter(file.namelist())
            if twice := [name for name, count in entries.items() if count > 1]:
                raise DataError("an entry stands twice in the study file", where=str(path), found=twice[0])
            document = StudyDocument.model_validate_json(_got(file, DOCUMENT), strict=False)
            images = {(one.id, size): _got(file, image_name(one.id, size)) for one, size, _ in _images_of(document)}
    except ValidationError as cause:
        first = cause.errors()[0]
        where = f"{path}, {DOCUMENT}, {'.'.join(map(str, first['loc'])) or 'as a whole'}"
        raise DataError("the study is not valid", where=where, found=first["msg"], expected=FORMAT) from None
    except _DAMAGES as cause:
        raise DataError("this is no study file", where=str(path), found=str(cause), hint=hint) from None
    for stimulus, size, expected in _images_of(document):
        if digest(images[stimulus.id, size]) != expected:
            where = f"{path}, {image_name(stimulus.id, size)}"
            raise DataError("a stimulus was changed", where=where, found="other bytes", expected=f"SHA-256 {expected}")
        if not _is_picture(images[stimulus.id, size], document.source.shape, size):
            where, (channels, height, width) = f"{path}, {image_name(stimulus.id, size)}", document.source.shape
            expected = f"a PNG of {size * width} x {size * height} pixels with {channels} channels of 8 bits"
            raise DataError("a stimulus is no picture of the study", where=where, expected=expected)
    if extra := entries.keys() - {DOCUMENT} - {image_name(one.id, size) for one, size, _ in _images_of(document)}:
        raise DataError("a file that is no part of the study", where=str(path), found=sorted(extra)[0])
    return Study(document, images)


def _images_of(document: StudyDocument) -> Iterator[tuple[Stimulus, int, str]]:
    for stimulus in document.stimuli:
        for size, expected in zip(document.sizes, stimulus.digests, strict=True):
            yield stimulus, size, expected


def _is_picture(data: bytes, shape: tuple[int, int, int], size: int) -> bool:
    """Whether the header of a PNG says what the document says: a few bytes may unpack to a very large picture."""
    channels, height, width = shape
    kind = {1: 0, 3: 2}.get(channels)
    if kind is None or len(data) < 33 or data[:16] != b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR":
        return False
    return struct.unpack(">IIBB", data[16:26]) == (size * width, size * height, 8, kind)


def _got(file: zipfile.ZipFile, name: str) -> bytes:
    """An entry, and never more bytes than the file says that it has."""
    entry = file.getinfo(name)
    with file.open(entry) as stream:
        return stream.read(entry.file_size)


def _put(file: zipfile.ZipFile, name: str, data: bytes, method: int) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.external_attr = 0o644 << 16
    file.writestr(entry, data, method)
