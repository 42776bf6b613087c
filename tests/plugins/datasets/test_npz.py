from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charpy.errors import DataError, UnsafeFileError
from charpy.threat import Grid
from charpy_plugins.datasets.npz import Npz

LABELS = np.array([1, 0, 2])


def pixels(shape: tuple[int, ...] = (3, 3, 6, 5)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def save(path: Path, compress: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if compress else np.savez)(path, **arrays)
    return path


def open_(path: Path, **params: Any) -> Npz:
    return Npz(Npz.Params.model_validate({"path": str(path), **params}))


def npy(header: str, content: bytes = b"", version: int = 1) -> bytes:
    """The bytes of an .npy file with any header."""
    text = header.encode() + b"\n"
    length = len(text).to_bytes(2 if version == 1 else 4, "little")
    return b"\x93NUMPY" + bytes([version, 0]) + length + text + content


def pack(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def labels_npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, LABELS)
    return buffer.getvalue()


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("images", "y")])
def test_arrays_are_found_under_their_usual_names(tmp_path: Path, compress: bool, names: tuple[str, str]) -> None:
    path = save(tmp_path / "my set.npz", compress, **{names[0]: pixels(), names[1]: LABELS})
    data = open_(path)
    samples = data.read([2, 0])
    assert torch.equal(samples.images, torch.from_numpy(pixels()[[2, 0]]).float() / 255)
    assert (samples.labels.tolist(), samples.ids) == ([2, 1], ("my set/00002", "my set/00000"))
    assert any("uint8" in note for note in data.notes)
    assert any("read as nchw" in note for note in data.notes)


def test_arrays_may_be_named(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", x=pixels(), x_test=pixels()[::-1], y_test=LABELS)
    assert torch.equal(
        open_(path, images="x_test", labels="y_test").read([2]).images * 255, torch.from_numpy(pixels()[:1])
    )
    with pytest.raises(DataError) as caught:
        open_(path)
    assert str(caught.value.found) == "x, x_test, y_test"
    assert caught.value.expected == "labels or y"


def test_the_layout_is_told_where_it_is_clear_and_asked_for_where_it_is_not(tmp_path: Path) -> None:
    last = save(tmp_path / "last.npz", images=pixels().transpose(0, 2, 3, 1), labels=LABELS)
    first = save(tmp_path / "first.npz", images=pixels(), labels=LABELS)
    assert open_(last).shape == open_(first).shape == (3, 6, 5)
    assert open_(last).fingerprint() == open_(first).fingerprint()
    assert any("read as nhwc" in note for note in open_(last).notes)
    for shape in ((3, 3, 8, 3), (3, 1, 8, 3), (3, 4, 8, 8)):
        path = save(tmp_path / "both.npz", images=pixels(shape), labels=LABELS)
        with pytest.raises(DataError, match="ambiguous") as caught:
            open_(path)
        assert "`layout`" in caught.value.hint
        assert open_(path, layout="nchw").shape == shape[1:]
        assert open_(path, layout="nhwc").shape == (shape[3], *shape[1:3])


def test_grey_images_without_a_channel_axis_are_read(tmp_path: Path) -> None:
    data = open_(save(tmp_path / "a.npz", images=pixels((3, 6, 5)), labels=LABELS))
    assert data.shape == (1, 6, 5)
    assert any("one channel" in note for note in data.notes)


@pytest.mark.parametrize("dtype", ["<f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_float_images_in_any_order_of_bytes_and_axes(tmp_path: Path, dtype: str, order: Any) -> None:
    images = np.asarray(np.random.default_rng(0).random((3, 1, 6, 5)), dtype=dtype, order=order)
    data = open_(save(tmp_path / "a.npz", images=images, labels=LABELS))
    assert data.grid is Grid.NONE
    assert np.array_equal(data.read([0, 1, 2]).images.numpy(), images.astype(np.float32))


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (np.full((3, 1, 2, 2), 200.0), "from 200"),
        (np.full((3, 1, 2, 2), -1.7), "from -1.7"),
        (pixels().astype(int), "int64"),
    ],
)
def test_row_18_images_outside_the_declared_range_are_refused(tmp_path: Path, images: np.ndarray, found: str) -> None:
    with pytest.raises(DataError, match=found):
        open_(save(tmp_path / "a.npz", images=images, labels=LABELS))


def test_row_19_and_20_values_and_labels_are_checked(tmp_path: Path) -> None:
    bad: list[tuple[Any, Any]] = [
        (np.full((3, 1, 2, 2), np.nan), LABELS),
        (pixels(), LABELS[:2]),
        (pixels()[:0], LABELS[:0]),
        (pixels(), -LABELS),
        (pixels(), LABELS / 2),
        (pixels(), np.eye(3)),
    ]
    for images, labels in bad:
        with pytest.raises(DataError):
            open_(save(tmp_path / "a.npz", images=images, labels=labels))


@pytest.mark.parametrize("name", ["images", "labels"])
def test_row_4_object_arrays_are_refused_and_never_unpickled(tmp_path: Path, name: str) -> None:
    class Witness:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "was-run",))

    arrays: dict[str, Any] = {"images": pixels(), "labels": LABELS}
    arrays[name] = np.array([Witness()] * 3, dtype=object)
    with pytest.raises(UnsafeFileError, match="Python objects"):
        open_(save(tmp_path / "a.npz", **arrays))
    assert not (tmp_path / "was-run").exists()


def test_row_11_a_zip_bomb_is_refused_before_it_unfolds(tmp_path: Path) -> None:
    path = save(tmp_path / "bomb.npz", compress=True, images=np.zeros((3, 1, 4000, 4000), np.uint8), labels=LABELS)
    assert path.stat().st_size < 60_000
    with pytest.raises(UnsafeFileError, match="bomb") as caught:
        open_(path)
    assert "uncompressed" in caught.value.hint
    stored = save(tmp_path / "stored.npz", images=np.zeros((3, 1, 400, 400), np.uint8), labels=LABELS)
    assert len(open_(stored)) == 3


def test_row_11_a_bomb_that_lies_about_its_size_is_cut_off(tmp_path: Path) -> None:
    images = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 1000, 1000), }", bytes(3_000_000))
    path = pack(tmp_path / "bomb.npz", {"images.npy": images, "labels.npy": labels_npy()})
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the unpacked size in both headers
        place = content.find(signature) + offset
        content[place : place + 4] = (1000).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(DataError):
        open_(path)


def test_row_11_sorted_labels_may_compress_well(tmp_path: Path) -> None:
    count = 200_000
    path = save(
        tmp_path / "a.npz", compress=True, images=pixels((count, 1, 1, 5)), labels=np.repeat([0, 1], count // 2)
    )
    assert len(open_(path)) == count


@pytest.mark.parametrize("name", ["../images.npy", "/images.npy", "a/../../b.npy", "..\\images.npy"])
def test_row_11_names_outside_the_archive_are_refused(tmp_path: Path, name: str) -> None:
    path = pack(tmp_path / "a.npz", {name: b"", "labels.npy": labels_npy()})
    with pytest.raises(UnsafeFileError, match="not written by NumPy"):
        open_(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_row_11_compression_that_has_no_cap_is_refused(tmp_path: Path, method: int) -> None:
    with pytest.raises(UnsafeFileError, match="compression method"):
        open_(pack(tmp_path / "a.npz", {"images.npy": bytes(9), "labels.npy": labels_npy()}, method))


@pytest.mark.parametrize(
    "images",
    [
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 1, 8, 8), }", bytes(64)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 2, 2), }", bytes(11)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 2, 2), }", bytes(13)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-3, 1, 2, 2), }", bytes(12)),
        npy("{'descr': '|u1', 'shape': (3, 1, 2, 2), }", bytes(12)),
        npy("__import__('os').system('true')", bytes(12)),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1, 2, 2), }", bytes(12), version=3),
        npy("(" * 5000),
        b"",
        b"\x93NUMPY",
        b"no array at all",
    ],
)
def test_a_damaged_array_is_refused(tmp_path: Path, images: bytes) -> None:
    with pytest.raises(DataError):
        open_(pack(tmp_path / "a.npz", {"images.npy": images, "labels.npy": labels_npy()}))


@pytest.mark.parametrize("content", [None, b"", b"no zip", b"PK\x03\x04" + bytes(30)])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        open_(path)
    assert caught.value.where == str(path)


def test_row_3_a_damaged_member_is_refused(tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", images=pixels(), labels=LABELS)
    content = bytearray(path.read_bytes())
    content[200] ^= 255
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        open_(path)


@pytest.mark.parametrize(
    ("reference", "taken"), [("a.npz", True), ("/b/C.NPZ", True), ("a.npy", False), ("npz", False), ("mnist", False)]
)
def test_accepts_paths_that_end_in_npz(reference: str, taken: bool) -> None:
    assert Npz.accepts(reference, "/data") == ({"path": reference} if taken else None)
