from __future__ import annotations

import struct
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from charpy.arrays import ArrayDataset
from charpy.checks import check_samples
from charpy.errors import DataError, UnsafeFileError
from charpy.threat import Grid
from charpy_plugins.datasets.folder import Folder

SIZE = (6, 4)  # height, width


def pixels(seed: int = 0, channels: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    shape = size if channels == 1 else (*size, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def picture(seed: int = 0, channels: int = 3, size: tuple[int, int] = SIZE) -> Image.Image:
    return Image.fromarray(pixels(seed, channels, size))


def chw(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy()).float() / 255


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes with one good picture each: cat/a.png, dog/a.png."""
    path = tmp_path / "pets"
    for seed, name in enumerate(("cat", "dog")):
        (path / name).mkdir(parents=True)
        picture(seed).save(path / name / "a.png")
    return path


def open_(path: Path, **params: Any) -> Folder:
    return Folder(Folder.Params.model_validate({"path": str(path), **params}))


def noted(data: Folder, text: str) -> bool:
    return any(text in note for note in data.notes)


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_classes_samples_and_ids_are_in_the_order_of_their_names(root: Path) -> None:
    picture(7).save(root / "dog" / "B.bmp")
    data = open_(root)
    samples = data.read([2, 0, 1])
    assert data.class_names == ("cat", "dog")
    assert samples.ids == ("dog/a.png", "cat/a.png", "dog/B.bmp")
    assert samples.labels.tolist() == [1, 0, 1]
    assert torch.equal(samples.images, torch.stack([chw(pixels(1)), chw(pixels(0)), chw(pixels(7))]))
    assert (data.name, data.shape, len(data), data.notes) == ("pets", (3, *SIZE), 3, ())
    check_samples(samples, shape=data.shape, num_classes=2, grid=Grid.EIGHT_BIT, where="pets")


def test_the_fingerprint_is_that_of_the_same_images_in_memory(root: Path) -> None:
    same = ArrayDataset(np.stack([pixels(0), pixels(1)]), [0, 1], layout="nhwc")
    assert open_(root).fingerprint() == same.fingerprint()
    picture(2).save(root / "dog" / "a.png")
    assert open_(root).fingerprint() != same.fingerprint()


def test_pictures_are_decoded_when_they_are_asked_for(root: Path) -> None:
    data = open_(root)
    (root / "dog" / "a.png").unlink()
    assert len(data.read([0]).ids) == 1
    with pytest.raises(DataError):
        data.read([1])
    picture(0, size=(5, 5)).save(root / "dog" / "a.png")
    with pytest.raises(DataError, match="has changed"):
        data.read([1])
    with pytest.raises(DataError, match="no such sample"):
        data.read([2])
    assert tuple(data.read([]).images.shape) == (0, 3, *SIZE)


@pytest.mark.parametrize("ending", ["png", "bmp", "gif", "webp"])
def test_grey_pictures_have_one_channel(tmp_path: Path, ending: str) -> None:
    (tmp_path / "a").mkdir()
    options = {"lossless": True} if ending == "webp" else {}
    grey = Image.fromarray(pixels(channels=1))
    (grey.convert("RGB") if ending == "webp" else grey).save(tmp_path / "a" / f"x.{ending}", **options)
    data = open_(tmp_path, channels=1)
    assert torch.equal(data.read([0]).images[0], chw(pixels(channels=1)))


def test_row_12_a_huge_picture_is_refused_before_it_is_decoded(root: Path) -> None:
    for side in (10_000, 20_000):  # below and above the size at which Pillow itself warns or refuses
        (root / "cat" / "bomb.png").write_bytes(png(side, side, 8, 2, bytes(100)))
        start = time.monotonic()
        with pytest.raises(UnsafeFileError, match="too large") as caught:
            open_(root)
        assert caught.value.where.endswith("bomb.png")
        assert time.monotonic() - start < 2


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp", "gif", "webp"])
def test_row_13_a_truncated_picture_is_refused(root: Path, ending: str) -> None:
    path = root / "cat" / f"half.{ending}"
    picture(3, size=(64, 64)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError) as caught:
        open_(root, resize=SIZE).fingerprint()
    assert caught.value.where == str(path)


@pytest.mark.parametrize(
    "content", [b"", b"GIF89a", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", png(4, 6, 8, 2, b"\x09" * 78)]
)
def test_row_13_what_is_no_picture_is_refused(root: Path, content: bytes) -> None:
    (root / "cat" / "x.png").write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_(root).fingerprint()
    assert caught.value.where.endswith("x.png")


def test_row_13_a_damaged_checksum_is_refused(root: Path) -> None:
    path = root / "cat" / "a.png"
    content = bytearray(path.read_bytes())
    content[60] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError):
        open_(root).fingerprint()


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_row_13_a_palette_is_expanded_and_noted(root: Path, ending: str) -> None:
    indexed = picture(3).quantize(8)
    indexed.save(root / "cat" / f"p.{ending}")
    data = open_(root)
    assert noted(data, "1 of 3 pictures have a palette")
    assert torch.equal(data.read([1]).images[0], chw(np.asarray(indexed.convert("RGB"))))


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_row_13_another_colour_space_is_refused(root: Path, ending: str) -> None:
    if ending == "jpg":
        picture().convert("CMYK").save(root / "cat" / "x.jpg")
    else:
        Image.fromarray(np.zeros(SIZE, np.uint16)).save(root / "cat" / "x.png")
    with pytest.raises(DataError, match="8-bit grey or RGB"):
        open_(root)


def test_row_13_sixteen_bit_colour_that_pillow_would_cut_to_eight_is_refused(root: Path) -> None:
    (root / "cat" / "x.png").write_bytes(png(4, 6, 16, 2, (b"\0" + bytes(24)) * 6))
    with pytest.raises(DataError, match="16 bit"):
        open_(root)


@pytest.mark.parametrize(("orientation", "turned"), [(3, False), (6, True), (8, True)])
def test_row_13_an_exif_rotation_is_applied_and_noted(tmp_path: Path, orientation: int, turned: bool) -> None:
    (tmp_path / "a").mkdir()
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a" / "x.png", exif=exif)
    data = open_(tmp_path)
    assert noted(data, "1 of 1 pictures carry an EXIF orientation, which was applied")
    turns = {3: 2, 6: 3, 8: 1}[orientation]  # quarter turns, anticlockwise, that put it upright
    upright = np.rot90(pixels(), turns)
    assert data.shape == (3, *(SIZE[::-1] if turned else SIZE))
    assert torch.equal(data.read([0]).images[0], chw(upright))


@pytest.mark.parametrize("ending", ["gif", "png", "webp"])
def test_row_13_an_animation_is_refused(root: Path, ending: str) -> None:
    picture(0).save(root / "cat" / f"x.{ending}", save_all=True, append_images=[picture(1)], duration=100)
    with pytest.raises(DataError, match="animated"):
        open_(root)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_row_13_an_alpha_channel_must_be_opaque(root: Path, mode: str) -> None:
    layered = picture(3).convert(mode)
    opaque = np.asarray(layered.convert("RGB"))
    path = root / "cat" / "x.png"
    layered.save(path)
    data = open_(root, channels=3)
    assert noted(data, "1 of 3 pictures have an alpha channel; it must be opaque, and was dropped")
    assert torch.equal(data.read([1]).images[0], chw(opaque))
    layered.putpixel((1, 1), (9,) * (len(mode) - 1) + (254,))
    layered.save(path)
    with pytest.raises(DataError, match="not opaque") as caught:
        open_(root, channels=3).read([1])
    assert caught.value.found == "alpha down to 254"


def test_row_13_a_transparent_palette_entry_is_an_alpha_channel(root: Path) -> None:
    path = root / "cat" / "x.png"
    indexed = picture(3).quantize(8)
    indexed.save(path, transparency=bytes([255] * 8))
    data = open_(root)
    assert noted(data, "alpha")
    assert torch.equal(data.read([1]).images[0], chw(np.asarray(indexed.convert("RGB"))))
    indexed.save(path, transparency=bytes([255] * 7 + [0]))
    with pytest.raises(DataError, match="not opaque"):
        open_(root).read([1])


def test_row_13_a_transparent_colour_is_an_alpha_channel(root: Path) -> None:
    path = root / "cat" / "x.png"
    Image.new("RGB", SIZE[::-1], (1, 2, 3)).save(path, transparency=(1, 2, 3))
    with pytest.raises(DataError, match="not opaque"):
        open_(root).read([1])


def test_row_13_black_and_white_is_read_as_0_and_255(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    bits = pixels(channels=1) > 127
    Image.fromarray(bits).save(tmp_path / "a" / "x.png")
    data = open_(tmp_path)
    assert noted(data, "1 bit")
    assert torch.equal(data.read([0]).images[0, 0], torch.from_numpy(bits).float())


def test_row_13_lossy_pictures_and_colour_profiles_are_noted(root: Path) -> None:
    picture().save(root / "cat" / "x.jpg", quality=95)
    picture().save(root / "dog" / "x.png", icc_profile=b"profile")
    data = open_(root)
    assert noted(data, "1 of 4 pictures are JPEG")
    assert noted(data, "1 of 4 pictures carry a colour profile, which was ignored")


def test_grey_and_colour_are_mixed_only_by_choice(root: Path) -> None:
    picture(3, channels=1).save(root / "cat" / "grey.png")
    with pytest.raises(DataError, match="mixed") as caught:
        open_(root)
    assert caught.value.found == "1 grey, 2 colour"
    assert "`channels`" in caught.value.hint
    colour = open_(root, channels=3)
    assert torch.equal(colour.read([1]).images[0], chw(pixels(3, channels=1)).expand(3, -1, -1))
    assert noted(colour, "1 grey pictures were repeated")
    grey = open_(root, channels=1)
    weights = torch.tensor([0.299, 0.587, 0.114]).reshape(3, 1, 1)  # ITU-R 601-2
    assert (grey.read([0]).images[0] - (chw(pixels(0)) * weights).sum(0)).abs().max() <= 1 / 255
    assert noted(grey, "2 colour pictures were read as ITU-R 601 luma")


def test_several_sizes_are_refused_unless_a_size_is_given(root: Path) -> None:
    picture(3, size=(12, 8)).save(root / "dog" / "z.png")
    with pytest.raises(DataError, match="differ in size") as caught:
        open_(root)
    assert caught.value.where.endswith("z.png")
    assert caught.value.found == "12 x 8 (height x width)"
    assert "resize" in caught.value.hint
    data = open_(root, resize=SIZE)
    assert data.shape == (3, *SIZE)
    assert noted(data, "1 pictures were resized to 6 x 4")
    assert torch.equal(data.read([0]).images[0], chw(pixels(0))), "what has the size stays as it is"
    check_samples(data.read([0, 1, 2]), shape=data.shape, num_classes=2, grid=Grid.EIGHT_BIT, where="pets")


@pytest.mark.parametrize("resize", [(0, 4), (4, -1), (5000, 4)])
def test_a_size_without_sense_is_refused(root: Path, resize: tuple[int, int]) -> None:
    with pytest.raises(DataError, match="no size"):
        open_(root, resize=resize)


def test_what_is_left_out_is_noted(root: Path) -> None:
    for name in ("cat/notes.txt", "cat/.hidden", "dog/Thumbs.db", "labels.csv"):
        (root / name).write_bytes(b"x")
    (root / "dog" / "deeper").mkdir()
    (root / "empty").mkdir()
    (root / ".cache").mkdir()
    data = open_(root)
    assert len(data) == 2
    assert data.class_names == ("cat", "dog", "empty")
    assert noted(data, "3 other files or folders were left out")
    assert noted(data, "classes without a picture: empty")


def test_the_order_of_classes_may_be_given(root: Path) -> None:
    data = open_(root, classes=["dog", "cat"])
    assert data.read([0]).ids == ("dog/a.png",)
    assert data.read([0]).labels.tolist() == [0]
    for classes in (["dog"], ["dog", "cat", "cow"], ["dog", "dog"]):
        with pytest.raises(DataError, match="not the subfolders"):
            open_(root, classes=classes)


def test_numbers_as_class_names_are_in_text_order_with_a_note(tmp_path: Path) -> None:
    for number in (1, 2, 10):
        (tmp_path / str(number)).mkdir()
        picture().save(tmp_path / str(number) / "x.png")
    data = open_(tmp_path)
    assert data.class_names == ("1", "10", "2")
    assert noted(data, "10 before 2")
    assert not noted(open_(tmp_path, classes=["1", "2", "10"]), "10 before 2")


def test_folders_without_classes_or_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder is here"):
        open_(tmp_path / "missing")
    picture().save(tmp_path / "x.png")
    with pytest.raises(DataError, match="no subfolders"):
        open_(tmp_path)
    (tmp_path / "a").mkdir()
    with pytest.raises(DataError, match="no pictures"):
        open_(tmp_path)


def test_accepts_folders_but_not_the_names_of_data_sets(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert Folder.accepts(str(root), None) == {"path": str(root)}
    assert Folder.accepts(str(root / "missing"), None) is None
    assert Folder.accepts(str(root / "cat" / "a.png"), None) is None
    monkeypatch.chdir(root)
    (root / "mnist").mkdir()
    assert Folder.accepts("mnist", None) is None
    assert Folder.accepts("./mnist", None) == {"path": "./mnist"}


@pytest.mark.data
def test_real_photographs(data_dir: Path, tmp_path: Path) -> None:
    """The 50 PNG of the NIPS-2017 development set: 299 x 299 RGB."""
    images = data_dir / "nips2017" / "images"
    if not images.is_dir():
        pytest.skip(f"{data_dir} holds no nips2017/images folder")
    (tmp_path / "photographs").symlink_to(images)
    data = open_(tmp_path)
    assert (len(data), data.shape) == (50, (3, 299, 299))
    check_samples(data.read(range(5)), shape=(3, 299, 299), num_classes=1, grid=Grid.EIGHT_BIT, where=data.name)
