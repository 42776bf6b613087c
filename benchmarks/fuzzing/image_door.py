"""The door of images: pictures in a folder, arrays of NumPy, IDX files and CIFAR-10's archive.

The first byte says which: b, g, j, p, w a BMP, GIF, JPEG, PNG or WebP among good pictures; N an `.npz`; I and L the
images and labels of MNIST as IDX, plain, gzip or xz; C the `.tar.gz` of CIFAR-10.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import tarfile
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from PIL import Image

from charpy.errors import CharpyError
from charpy.interfaces.dataset import Dataset
from charpy.plugins import registry
from fuzzing.door import Door, WrongAnswerError
from fuzzing.image_edits import edited

ENDINGS = {b"b": "bmp", b"g": "gif", b"j": "jpg", b"p": "png", b"w": "webp"}


class Images(Door):
    """A file of images, listed, decoded, fingerprinted and read."""

    name, title = "image", "images and arrays"
    ways = (
        "chunks, segments and members, their checksums made new; headers of arrays; content before it is packed; bytes"
    )
    memory_gib = 3.0
    largest = 1 << 15

    def seeds(self) -> list[bytes]:
        """Small files of every kind, in the modes that are read and those that are not."""
        return list(_seeds())

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Of its format two times in three, else bytes."""
        return data[:1] + edited(data[:1], data[1:], random)

    def open(self, data: bytes, folder: Path) -> None:
        """As a run does."""
        kind, content = data[:1], data[1:]
        if kind == b"N":
            (folder / "d.npz").write_bytes(content)
            _read("npz", {"path": str(folder / "d.npz")})
        elif kind in (b"I", b"L"):
            (folder / "mnist").mkdir()
            images, labels = _idx()
            named = (
                ("images-idx3", content if kind == b"I" else images),
                ("labels-idx1", content if kind == b"L" else labels),
            )
            for name, held in named:
                (folder / "mnist" / f"t10k-{name}-ubyte").write_bytes(held)
            _read("mnist", {"data_dir": str(folder), "download": False})
        elif kind == b"C":
            (folder / "cifar-10-binary.tar.gz").write_bytes(content)
            _read("cifar10", {"data_dir": str(folder), "download": False})
        else:
            for name in ("bright", "dark"):
                (folder / "d" / name).mkdir(parents=True)
                (folder / "d" / name / "a.png").write_bytes(_good())
            (folder / "d" / "dark" / f"x.{ENDINGS.get(kind, 'png')}").write_bytes(content)
            refused: CharpyError | None = None
            for params in ({"resize": [6, 6], "channels": 3}, {}):
                try:
                    _read("folder", {"path": str(folder / "d"), **params})
                except CharpyError as error:
                    refused = error
            if refused is not None:
                raise refused


def _read(kind: str, params: dict[str, Any]) -> None:
    data: Dataset = registry().create("datasets", kind, params)
    first = data.fingerprint()
    rows = list(range(len(data)))[-40:]
    samples = data.read(rows)
    images = samples.images
    if (
        tuple(images.shape) != (len(rows), *data.shape)
        or len(samples.labels) != len(rows)
        or len(samples.ids) != len(rows)
    ):
        raise WrongAnswerError(
            f"other images than were said: {tuple(images.shape)} instead of {(len(rows), *data.shape)}"
        )
    if len(rows) and not (bool(images.isfinite().all()) and 0 <= float(images.min()) <= float(images.max()) <= 1):
        raise WrongAnswerError("values outside [0, 1]: images")
    if data.fingerprint() != first:
        raise WrongAnswerError("a fingerprint that changes: images")


@cache
def _good() -> bytes:
    return _saved(Image.fromarray(np.arange(36, dtype=np.uint8).reshape(6, 6) * 7), "PNG")


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@cache
def _idx() -> tuple[bytes, bytes]:
    random = np.random.default_rng(0)
    images = struct.pack(">IIII", 0x803, 3, 28, 28) + random.integers(0, 256, 3 * 784, np.uint8).tobytes()
    return images, struct.pack(">II", 0x801, 3) + bytes((0, 9, 4))


@cache
def _seeds() -> tuple[bytes, ...]:
    grey = np.random.default_rng(0).integers(0, 256, (6, 6), np.uint8)
    colour = np.random.default_rng(1).integers(0, 256, (6, 6, 3), np.uint8)
    one, three = Image.fromarray(grey), Image.fromarray(colour)
    exif = Image.Exif()
    exif[0x0112] = 6
    found = [
        b"p" + _saved(image, "PNG")
        for image in (one, three, three.quantize(8), one.convert("1"), one.convert("LA"), three.convert("RGBA"))
    ]
    found += [
        b"p" + _saved(Image.fromarray(grey.astype(np.uint16)), "PNG"),
        b"p" + _saved(one, "PNG", exif=exif, icc_profile=b"p"),
    ]
    found += [
        b"j" + _saved(one, "JPEG"),
        b"j" + _saved(three, "JPEG", exif=exif, progressive=True),
        b"j" + _saved(three.convert("CMYK"), "JPEG"),
    ]
    found += [b"g" + _saved(one, "GIF"), b"g" + _saved(three, "GIF", save_all=True, append_images=[three.rotate(90)])]
    found += [
        b"b" + _saved(one, "BMP"),
        b"b" + _saved(three, "BMP"),
        b"w" + _saved(three, "WEBP"),
        b"w" + _saved(one, "WEBP", lossless=True),
    ]
    images, labels = np.random.default_rng(2).integers(0, 256, (6, 1, 6, 6), np.uint8), np.arange(6) % 3
    for save, held in (
        (np.savez, images),
        (np.savez_compressed, images),
        (np.savez, (images / 255).astype(np.float64)),
        (np.savez, images[:, 0]),
    ):
        buffer = io.BytesIO()
        save(buffer, images=held, labels=labels)
        found.append(b"N" + buffer.getvalue())
    for kind, content in zip((b"I", b"L"), _idx(), strict=True):
        found += [kind + content, kind + gzip.compress(content, mtime=0), kind + lzma.compress(content)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin", "batches.meta.txt"]:
            held_bytes = b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n" if name.endswith("txt") else (b"\3" + bytes(3072)) * 2
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(held_bytes)
            archive.addfile(info, io.BytesIO(held_bytes))
    return (*found, b"C" + gzip.compress(buffer.getvalue(), mtime=0))
