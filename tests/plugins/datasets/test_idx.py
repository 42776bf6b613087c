from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charpy.checks import check_samples
from charpy.errors import DataError, UnsafeFileError
from charpy.threat import Grid
from charpy_plugins.datasets import decompress
from charpy_plugins.datasets.fashion_mnist import FashionMnist
from charpy_plugins.datasets.idx import IdxDataset, read_idx
from charpy_plugins.datasets.mnist import Mnist

PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def images(count: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)


def shelf(root: Path, folder: str = "mnist", ending: str = ".gz", prefix: str = "t10k", dot: str = "-") -> str:
    """A data folder with three images and labels."""
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    pack = PACK[ending if ending in PACK else ""]
    seed = len(prefix)
    (place / f"{prefix}-images{dot}idx3-ubyte{ending}").write_bytes(pack(idx(images(seed=seed))))
    (place / f"{prefix}-labels{dot}idx1-ubyte{ending}").write_bytes(pack(idx(np.array([3, 0, 9], np.uint8))))
    return str(root)


def open_(kind: type[IdxDataset], **params: Any) -> IdxDataset:
    return kind(kind.Params.model_validate({"download": False, **params}))


@pytest.mark.parametrize("ending", list(PACK))
def test_an_array_survives_the_file_however_it_is_packed(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "some name"
    path.write_bytes(PACK[ending](idx(images())))
    assert np.array_equal(read_idx(path, 3), images())


@pytest.mark.parametrize(
    ("kind", "folder", "ending", "dot"),
    [
        (Mnist, "mnist", ".gz", "-"),
        (Mnist, "MNIST/raw", "", "-"),
        (Mnist, "mnist", "", "."),
        (FashionMnist, "fashion-mnist", ".gz", "-"),
        (FashionMnist, "FashionMNIST/raw", "", "-"),
    ],
)
def test_both_splits_are_found_where_they_usually_lie(
    tmp_path: Path, kind: type[IdxDataset], folder: str, ending: str, dot: str
) -> None:
    root = shelf(tmp_path, folder, ending, dot=dot)
    shelf(tmp_path, folder, ending, prefix="train", dot=dot)
    test, train = open_(kind, data_dir=root), open_(kind, data_dir=root, split="train")
    samples = test.read([0, 1, 2])
    check_samples(samples, shape=(1, 28, 28), num_classes=10, grid=test.grid, where="it")
    assert torch.equal(samples.images, torch.from_numpy(images(seed=4))[:, None].float() / 255)
    assert samples.labels.tolist() == [3, 0, 9]
    assert samples.ids[2] == f"{kind.title}/test/00002"
    assert len(test.class_names) == 10
    assert torch.equal(train.read([0]).images, torch.from_numpy(images(seed=5))[:1, None].float() / 255)


def test_the_folder_itself_and_the_environment_name_the_place_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf(tmp_path)
    assert len(open_(Mnist, data_dir=str(tmp_path / "mnist"))) == 3
    monkeypatch.setenv("CHARPY_DATA", str(tmp_path))
    assert len(open_(Mnist)) == 3
    with pytest.raises(DataError):
        open_(FashionMnist)


def test_missing_files_say_what_was_sought_where_and_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError) as caught:
        open_(Mnist, data_dir=str(tmp_path))
    text = str(caught.value)
    for part in (str(tmp_path / "mnist"), "t10k-images-idx3-ubyte.gz", "CHARPY_DATA", "--data-dir", "charpy[data]"):
        assert part in text
    monkeypatch.delenv("CHARPY_DATA", raising=False)
    with pytest.raises(DataError, match="CHARPY_DATA is not set"):
        open_(Mnist)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08",
        b"not an IDX file at all",
        struct.pack(">BBBBI", 0, 0, 8, 1, 3) + b"abc",  # labels in place of images
        struct.pack(">BBBBIII", 0, 0, 13, 3, 1, 1, 1) + b"\0\0\0\0",  # float
        idx(images())[:-1],
        idx(images()) + b"\0",
        gzip.compress(idx(images()))[:-20],
        gzip.compress(idx(images())) + b"junk",
        lzma.compress(idx(images()))[:-20],
        b"\x1f\x8b" + b"\0" * 20,
        b"\xfd7zXZ\x00" + b"\0" * 20,
    ],
    ids=lambda content: f"{len(content)} bytes",  # gzip holds the time: the bytes themselves would not be stable
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, 3)
    assert caught.value.where == str(path)


@pytest.mark.parametrize("ending", [".gz", ".xz"])
def test_row_11_a_bomb_is_refused_before_it_unfolds(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "bomb"
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, 40_000, 28, 28)
    path.write_bytes(PACK[ending](header + bytes(40_000 * 784)))
    with pytest.raises(UnsafeFileError, match="bomb"):
        read_idx(path, 3)


def test_row_11_a_file_that_holds_more_than_its_header_says_is_read_no_further(tmp_path: Path) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(gzip.compress(idx(images()) + bytes(50_000_000)))
    with pytest.raises(DataError, match="more than 2352 bytes"):
        read_idx(path, 3)


@pytest.mark.parametrize("shape", [(2**32 - 1, 2**32 - 1, 2**32 - 1), (70_000, 10_000, 10_000)])
def test_row_11_a_header_beyond_the_memory_is_refused(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(struct.pack(">BBBBIII", 0, 0, 8, 3, *shape) + bytes(100))
    with pytest.raises(UnsafeFileError, match="bomb"):
        read_idx(path, 3)


def test_row_11_an_xz_file_that_needs_much_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "greedy"
    path.write_bytes(lzma.compress(idx(images())))
    monkeypatch.setattr(decompress, "XZ_MEMORY", 1 << 16)
    with pytest.raises(DataError, match=r"[Mm]emory"):
        read_idx(path, 3)


def test_row_11_few_bytes_may_compress_well(tmp_path: Path) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(idx(np.zeros(100_000, np.uint8))))
    assert len(read_idx(path, 1)) == 100_000


def test_other_sizes_and_unequal_numbers_are_refused(tmp_path: Path) -> None:
    root = shelf(tmp_path)
    path = tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros((3, 32, 32), np.uint8))))
    with pytest.raises(DataError, match="wrong shape"):
        open_(Mnist, data_dir=root)
    path.write_bytes(gzip.compress(idx(images(4))))
    with pytest.raises(DataError, match="differ in number"):
        open_(Mnist, data_dir=root)


def test_row_20_a_label_beyond_nine_is_refused(tmp_path: Path) -> None:
    root = shelf(tmp_path)
    labels = gzip.compress(idx(np.array([3, 0, 10], np.uint8)))
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(labels)
    with pytest.raises(DataError, match="label 10"):
        open_(Mnist, data_dir=root)


@pytest.mark.parametrize("kind", [Mnist, FashionMnist])
def test_accepts_its_name_only(kind: type[IdxDataset]) -> None:
    assert kind.accepts(kind.title, None) == {}
    assert kind.accepts(kind.title, "/data") == {"data_dir": "/data"}
    assert kind.accepts(f"./{kind.title}", "/data") is None
    assert kind.accepts("digits", None) is None


# Counts and first labels as published with the data sets.
MNIST_TEST = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
MNIST_TRAIN = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "split", "counts", "first"),
    [
        (Mnist, "test", MNIST_TEST, [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]),
        (Mnist, "train", MNIST_TRAIN, [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]),
        (FashionMnist, "test", [1000] * 10, [9, 2, 1, 1, 6, 1, 4, 6, 5, 7]),
    ],
)
def test_the_real_data_sets(
    data_dir: Path, kind: type[IdxDataset], split: str, counts: list[int], first: list[int]
) -> None:
    data = open_(kind, data_dir=str(data_dir), split=split)
    labels = torch.cat([data.read(range(start, start + 1000)).labels for start in range(0, len(data), 1000)])
    assert torch.bincount(labels).tolist() == counts
    assert labels[:10].tolist() == first
    assert data.grid is Grid.EIGHT_BIT
    check_samples(data.read(range(500)), shape=(1, 28, 28), num_classes=10, grid=data.grid, where=data.name)


@pytest.mark.data
def test_the_real_mnist_is_the_published_one_byte_for_byte(data_dir: Path) -> None:
    """SHA-256 of the unpacked official files."""
    import hashlib

    raw = {
        "t10k-images-idx3-ubyte": (3, "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
        "t10k-labels-idx1-ubyte": (1, "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
    }
    for name, (axes, digest) in raw.items():
        assert hashlib.sha256(idx(read_idx(data_dir / "mnist" / f"{name}.gz", axes))).hexdigest() == digest
