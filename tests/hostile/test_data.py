"""Rows 12, 13 and 18 to 21 of the hostile inputs, through the command line: pictures, images and labels."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from charpy.errors import DataError, UnsafeFileError

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (2, 6, 6), np.uint8)


def chunk(kind: bytes, content: bytes) -> bytes:
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def png(width: int, height: int, depth: int = 8, colour: int = 0, rows: bytes = bytes(100)) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def half(path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (6, 6), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-30])


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS[0]).save(path, exif=exif)


def layered(path: Path, lowest: int) -> None:
    alpha = np.full((6, 6), 255, np.uint8)
    alpha[0, 0] = lowest
    Image.merge("LA", (Image.fromarray(PIXELS[0]), Image.fromarray(alpha))).save(path)


REFUSED = {
    # row 12
    "10,000 x 10,000 pixels": ("x.png", lambda path: path.write_bytes(png(10_000, 10_000)), "too large"),
    "20,000 x 20,000 pixels": ("x.png", lambda path: path.write_bytes(png(20_000, 20_000)), "too large"),
    "2^31 pixels wide": ("x.png", lambda path: path.write_bytes(png(2**31 - 1, 1)), "too large"),
    # row 13
    "truncated": ("x.png", half, "damaged"),
    "CMYK": ("x.jpg", lambda path: Image.new("CMYK", (6, 6)).save(path), "CMYK"),
    "16 bit": ("x.png", lambda path: Image.fromarray(np.zeros((6, 6), np.uint16)).save(path), "16"),
    "16-bit colour": ("x.png", lambda path: path.write_bytes(png(6, 6, 16, 2, bytes(37) * 6)), "16 bit"),
    "animated": (
        "x.gif",
        lambda path: Image.fromarray(PIXELS[0]).save(
            path, save_all=True, append_images=[Image.fromarray(PIXELS[1])], duration=9
        ),
        "animated",
    ),
    "half transparent": ("x.png", lambda path: layered(path, 254), "not opaque"),
    "a program for a printer": ("x.png", lambda path: path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n"), "damaged"),
    "another size": ("x.png", lambda path: Image.new("L", (7, 6)).save(path), "differ in size"),
    "colour among grey": ("x.png", lambda path: Image.new("RGB", (6, 6)).save(path), "mixed"),
}

NOTED = {
    "a palette": (
        "x.png", lambda path: Image.fromarray(PIXELS[0]).convert("RGB").quantize(8).save(path), "palette", 3),
    "rotated by EXIF": ("x.png", turned, "EXIF orientation, which was applied", None),
    "opaque alpha": ("x.png", lambda path: layered(path, 255), "alpha channel", None),
    "black and white": ("x.png", lambda path: Image.fromarray(PIXELS[0] > 99).save(path), "black and white", None),
    "lossy": ("x.jpg", lambda path: Image.fromarray(PIXELS[0]).save(path), "JPEG", None),
    "a colour profile": (
        "x.png", lambda path: Image.fromarray(PIXELS[0]).save(path, icc_profile=b"p"), "colour profile", None),
    "no picture": ("x.txt", lambda path: path.write_text("hello"), "left out", None),
}  # fmt: skip


@pytest.fixture
def pictures(folder):
    """Two classes of one good picture each."""
    for number, name in enumerate(("bright", "dark")):
        (folder / "pictures" / name).mkdir(parents=True)
        Image.fromarray(PIXELS[number]).save(folder / "pictures" / name / "a.png")
    return folder / "pictures"


@pytest.mark.parametrize("case", REFUSED)
def test_pictures_that_are_refused(refused, pictures, case, by_brightness):
    name, make, say = REFUSED[case]
    make(pictures / "dark" / name)
    kind = UnsafeFileError if say == "too large" else DataError
    error = refused(kind, say, "assess", *by_brightness, "--data", pictures)
    assert name in str(error) or "mixed" in str(error)


@pytest.mark.parametrize("case", NOTED)
def test_pictures_that_are_read_in_a_documented_way(charpy, pictures, case, by_brightness):
    """The policy that was needed stands in the report, with how many pictures needed it."""
    name, make, say, channels = NOTED[case]
    make(pictures / "dark" / name)
    if channels:
        for path in pictures.rglob("a.png"):
            Image.open(path).convert("RGB").save(path)
    code, _, err = charpy("assess", *by_brightness, "--data", pictures)
    assert code in (0, 3), err
    notes = json.loads(Path("out/report.json").read_text())["dataset"]["notes"]
    assert any(say in note and "1" in note for note in notes), notes


IMAGES = RANDOM.integers(0, 256, (12, 1, 6, 6), np.uint8)
FLOATS = IMAGES.astype(np.float32) / 255
LABELS = np.arange(12) % 2


def with_value(value: float) -> np.ndarray:
    images = FLOATS.copy()
    images[7, 0, 3, 3] = value
    return images


ARRAYS = {
    # row 18
    "0 to 255 as floats": (FLOATS * 255, LABELS, "divide the images by 255"),
    "0 to 65535 as floats": (FLOATS * 65535, LABELS, "divide the images by their largest"),
    "-1 to 1": (FLOATS * 2 - 1, LABELS, "undo the normalisation"),
    "normalised": ((FLOATS - 0.13) / 0.31, LABELS, "undo the normalisation"),
    "a rounding error above 1": (FLOATS * (1 + 1e-6) / FLOATS.max(), LABELS, "clip the images"),
    "16-bit whole numbers": (IMAGES.astype(np.uint16) * 257, LABELS, "wrong type"),
    "0 and 1 as uint8": (IMAGES // 128, LABELS, "only 0 and 1"),
    "truth values": (IMAGES > 99, LABELS, "wrong type"),
    "complex numbers": (FLOATS * 1j, LABELS, "no numbers"),
    # row 19
    "NaN": (with_value(np.nan), LABELS, "1 NaN and 0 infinite values, the first in sample d/00007"),
    "infinity": (with_value(np.inf), LABELS, "0 NaN and 1 infinite values"),
    "minus infinity": (with_value(-np.inf), LABELS, "not finite"),
    "no samples": (IMAGES[:0], LABELS[:0], "no samples"),
    "images without pixels": (IMAGES[..., :0], LABELS, "wrong shape"),
    "more images than labels": (IMAGES, LABELS[:11], "12 images, 11 labels"),
    "more labels than images": (IMAGES[:11], LABELS, "11 images, 12 labels"),
    "one label for all": (IMAGES, np.array(1), "no list of class numbers"),
    # row 20
    "label -1": (IMAGES, np.where(np.arange(12) == 5, -1, LABELS), "label -1 is no class"),
    "label K": (IMAGES, np.where(np.arange(12) == 5, 2, LABELS), "classes"),
    "a label of nine digits": (IMAGES, np.where(np.arange(12) == 5, 123_456_789, LABELS), "is no class"),
    "labels as floats": (IMAGES, LABELS.astype(np.float64), "labels.astype(int)"),
    "labels with a fraction": (IMAGES, LABELS + 0.5, "wrong type"),
    "one-hot labels": (IMAGES, np.eye(2, dtype=np.int64)[LABELS], "one-hot labels: pass labels.argmax(1)"),
    "truth values for labels": (IMAGES, LABELS > 0, "wrong type"),
    "names for labels": (IMAGES, np.array(["dark"] * 12), "no numbers"),
    "labels beyond int64": (IMAGES, np.full(12, 2**64 - 1, np.uint64), "is no class"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_images_and_labels(refused, folder, case, by_brightness):
    images, labels, say = ARRAYS[case]
    np.savez(folder / "d.npz", images=images, labels=labels)
    refused(DataError, say, "assess", *by_brightness, "--data", "d.npz")


def test_row_21_copies_are_warned_of_with_the_unique_count(charpy, folder, by_brightness):
    images = IMAGES.copy()
    images[5] = images[6] = images[4]
    np.savez(folder / "d.npz", images=images, labels=LABELS)
    code, _, err = charpy("assess", *by_brightness, "--data", "d.npz")
    assert code == 0, err
    report = json.loads(Path("out/report.json").read_text())
    assert (report["dataset"]["samples"], report["dataset"]["unique"]) == (12, 10)
    assert any("2 of 12 images are copies" in warning for warning in report["warnings"])
    assert "10 are unique" in Path("out/report.html").read_text()


def test_good_images_and_labels_are_taken(charpy, folder, by_brightness):
    """The control; uint8 is read as k/255 and that is said."""
    np.savez(folder / "d.npz", images=IMAGES, labels=LABELS)
    code, _, err = charpy("assess", *by_brightness, "--data", "d.npz")
    assert code == 0, err
    notes = json.loads(Path("out/report.json").read_text())["dataset"]["notes"]
    assert "uint8 images were read as k/255" in notes
