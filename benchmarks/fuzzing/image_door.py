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
import zipfile
import zlib
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
from fuzzing.noise import EDGES, noise

ENDINGS = {b"b": "bmp", b"g": "gif", b"j": "jpg", b"p": "png", b"w": "webp"}
CHUNKS = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"iCCP",
    b"eXIf",
    b"acTL",
    b"fcTL",
    b"fdAT",
    b"tRNS",
    b"gAMA",
    b"PLTE",
    b"IDAT",
    b"cHRM",
    b"sBIT",
)
HEADERS = (
    "{'descr': '|u1', 'fortran_order': False, 'shape': (6, 1, 6, 6), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '<f8', 'fortran_order': True, 'shape': (6, 1, 6, 6), }",
    "{'descr': '<f2', 'fortran_order': False, 'shape': (6, 6, 6), }",
    "{'descr': '|u1', 'fortran_order': False, 'shape': (-6, 1, -6, 6), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (0,), }",
    "{'descr': [('a', '<i4'), ('b', '|u1', (2,))], 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '<M8[s]', 'shape': ()}",
    "{'descr': '|V0', 'fortran_order': False, 'shape': (10**12,), }",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<U0', 'fortran_order': 0, 'shape': (4611686018427387904, 4), }",
    "{'descr': '>i8', 'fortran_order': False, 'shape': (6,), }",
    "{'descr': '|b1', 'fortran_order': False, 'shape': (True, 6, 6), }",
    "{'descr': '<u8', 'fortran_order': False, 'shape': 6}",
    "((((" * 40,
    "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 1, 6.0, 6), }",
    "{'descr': ('<i8', (2, 3)), 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f16', 'fortran_order': False, 'shape': (2,), }",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (0, 9223372036854775807, 2), }",
)  # fmt: skip

_NOT_OF_ITS_FORMAT = (
    *(ValueError, LookupError, RuntimeError, OSError, EOFError),
    *(struct.error, zlib.error, lzma.LZMAError, zipfile.BadZipFile),
)


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
        kind, content = data[:1], data[1:]
        if random.random() < 0.34:
            return kind + noise(content, random)
        try:
            match kind:
                case b"p":
                    return kind + _png(content, random)
                case b"j":
                    return kind + _jpeg(content, random)
                case b"N":
                    return kind + _npz(content, random)
                case b"I" | b"L":
                    return kind + _packed(noise(_unpacked(content), random), random)
                case b"C":
                    return kind + gzip.compress(noise(_unpacked(content), random), 1)
                case _:
                    return kind + _fields(content, random)
        except _NOT_OF_ITS_FORMAT:
            return kind + noise(content, random)

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
        found += [kind + content, kind + gzip.compress(content), kind + lzma.compress(content)]
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in [f"data_batch_{n}.bin" for n in range(1, 6)] + ["test_batch.bin", "batches.meta.txt"]:
            held_bytes = b"a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n" if name.endswith("txt") else (b"\3" + bytes(3072)) * 2
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(held_bytes)
            archive.addfile(info, io.BytesIO(held_bytes))
    return (*found, b"C" + buffer.getvalue())


def _png(content: bytes, random: Random) -> bytes:
    """One chunk changed, doubled, left out or put in, each with its checksum."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = struct.unpack_from(">I", content, at)[0]
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    where = random.randrange(len(chunks))
    kind, held = chunks[where]
    match random.randrange(6):
        case 0:
            chunks[where] = (kind, noise(held, random))
        case 1 if kind == b"IDAT":
            chunks[where] = (kind, zlib.compress(noise(zlib.decompress(held), random)))
        case 2:
            chunks.insert(
                where,
                (
                    random.choice(CHUNKS),
                    random.choice((held, random.randbytes(20), b"a\0\0" + zlib.compress(bytes(10**6)))),
                ),
            )
        case 3:
            chunks.insert(where, chunks[random.randrange(len(chunks))])
        case 4:
            del chunks[where]
        case _:
            head = bytearray(chunks[0][1])
            place = random.randrange(13)
            new = random.choice(EDGES) & 0xFFFFFFFF if place < 8 else random.choice((0, 1, 2, 3, 4, 6, 8, 16, 255))
            head[place // 4 * 4 if place < 8 else place : place // 4 * 4 + 4 if place < 8 else place + 1] = (
                struct.pack(">I", new) if place < 8 else bytes([new])
            )
            chunks[0] = (chunks[0][0], bytes(head))
    body = (
        struct.pack(">I", len(held)) + kind + held + struct.pack(">I", zlib.crc32(kind + held)) for kind, held in chunks
    )
    return content[:8] + b"".join(body)


def _jpeg(content: bytes, random: Random) -> bytes:
    """One segment changed, doubled or left out, its length made new."""
    parts, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        size = struct.unpack_from(">H", content, at + 2)[0]
        parts.append((content[at : at + 2], content[at + 4 : at + 2 + size]))
        at += 2 + size
    rest = content[at:]
    where = random.randrange(len(parts))
    match random.randrange(5):
        case 0 | 1:
            parts[where] = (parts[where][0], noise(parts[where][1], random)[:60_000])
        case 2:
            parts.insert(where, random.choice(parts))
        case 3:
            parts[where] = (
                b"\xff"
                + bytes([random.choice((0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xDD, 0xE0, 0xE1, 0xE2, 0xED, 0xEE, 0xFE))]),
                parts[where][1],
            )
        case _:
            rest = noise(rest, random)
    return content[:2] + b"".join(mark + struct.pack(">H", len(held) + 2) + held for mark, held in parts) + rest


def _npz(content: bytes, random: Random) -> bytes:
    """Members changed before they are packed: header, values, names, number."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist() if info.file_size < 1 << 16]
    where = random.randrange(len(members))
    name, held = members[where]
    match random.randrange(7):
        case 0 | 1:
            members[where] = (name, _header(held, random.choice(HEADERS)))
        case 2:
            members[where] = (name, noise(held, random))
        case 3:
            members[where] = (name, held[:64] + noise(held[64:], random))
        case 4:
            members[where] = (
                random.choice(("images.npy", "labels.npy", "../x.npy", "x", "y.npy", "", "a" * 300)),
                held,
            )
        case 5:
            members.append(random.choice(members))
        case _:
            members.pop(where)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", random.choice((0, 8, 8, 12, 14))) as archive:
        for name, held in members:
            archive.writestr(name, held)
    return buffer.getvalue() if random.random() < 0.8 else _fields(buffer.getvalue(), random)


def _header(held: bytes, text: str) -> bytes:
    old = struct.unpack_from("<H", held, 8)[0]
    new = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(new)) + new + held[10 + old :]


def _fields(content: bytes, random: Random) -> bytes:
    """Two or four bytes of the first hundred, or the last, set to a number at an edge."""
    raw = bytearray(content)
    at = random.randrange(min(100, len(raw))) if random.random() < 0.7 else max(0, len(raw) - random.randrange(1, 100))
    width = random.choice((1, 2, 4))
    raw[at : at + width] = (random.choice(EDGES) & (1 << 8 * width) - 1).to_bytes(width, "little")
    return bytes(raw)


def _unpacked(content: bytes) -> bytes:
    if content.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(31).decompress(content, 1 << 16)
    return (
        lzma.LZMADecompressor(memlimit=1 << 26).decompress(content, 1 << 16)
        if content.startswith(b"\xfd7z")
        else content
    )


def _packed(content: bytes, random: Random) -> bytes:
    return random.choice((bytes, gzip.compress, lzma.compress))(content)
