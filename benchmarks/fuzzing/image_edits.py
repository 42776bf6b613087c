"""What can be done to files of images whose formats are known: parts changed, their lengths and checksums made new."""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import warnings
import zipfile
import zlib
from random import Random

from fuzzing.noise import EDGES, noise

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


def edited(kind: bytes, content: bytes, random: Random) -> bytes:
    """Another file of the kind that `image_door` knows by that letter: of its format two times in three, else bytes."""
    if random.random() < 0.34:
        return noise(content, random)
    try:
        match kind:
            case b"p":
                return _png(content, random)
            case b"j":
                return _jpeg(content, random)
            case b"N":
                return _npz(content, random)
            case b"I" | b"L":
                return _packed(noise(_unpacked(content), random), random)
            case b"C":
                return gzip.compress(noise(_unpacked(content), random), 1, mtime=0)
            case _:
                return _fields(content, random)
    except _NOT_OF_ITS_FORMAT:
        return noise(content, random)


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
    buffer, packing = io.BytesIO(), random.choice((0, 8, 8, 12, 14))
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w") as archive:
        warnings.simplefilter("ignore")  # a name that stands twice is meant
        for name, held in members:
            archive.writestr(zipfile.ZipInfo(name), held, packing)  # of no date: the same seed, the same bytes
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
    match random.randrange(3):
        case 0:
            return content
        case 1:
            return gzip.compress(content, mtime=0)
        case _:
            return lzma.compress(content)
