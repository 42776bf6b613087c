from __future__ import annotations

import gzip
import io
import lzma
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from charpy.checks import check_samples
from charpy.errors import DataError, UnsafeFileError
from charpy.threat import Grid
from charpy_plugins.datasets import cifar10
from charpy_plugins.datasets.cifar10 import Cifar10

ROWS = 4
BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)]
PACK = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}


def rows(seed: int) -> np.ndarray:
    """Four rows of one label byte and 3072 bytes of pixels."""
    random = np.random.default_rng(seed)
    return np.hstack(
        [random.integers(0, 10, (ROWS, 1), dtype=np.uint8), random.integers(0, 256, (ROWS, 3072), dtype=np.uint8)]
    )


@pytest.fixture(autouse=True)
def _small_batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "data" not in {mark.name for mark in request.node.iter_markers()}:
        monkeypatch.setattr(cifar10, "ROWS", ROWS)


def open_(root: Path, **params: Any) -> Cifar10:
    return Cifar10(Cifar10.Params.model_validate({"download": False, "data_dir": str(root), **params}))


def archive(path: Path, members: dict[str, bytes | tarfile.TarInfo]) -> None:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def official(path: Path, **extra: bytes | tarfile.TarInfo) -> None:
    names = [*BATCHES, "test_batch.bin"]
    members = {f"cifar-10-batches-bin/{name}": rows(seed).tobytes() for seed, name in enumerate(names)}
    archive(path, {**extra, "cifar-10-batches-bin/batches.meta.txt": b"airplane\n", **members})


@pytest.mark.parametrize("ending", list(PACK))
@pytest.mark.parametrize("folder", ["cifar10", "cifar-10-batches-bin", "."])
def test_planes_are_red_green_blue_row_by_row(tmp_path: Path, ending: str, folder: str) -> None:
    place = tmp_path / folder
    place.mkdir(exist_ok=True)
    row = np.zeros((ROWS, 3073), np.uint8)
    row[0, 0], row[0, 1], row[0, 1 + 1024 + 33], row[0, 1 + 2048 + 1023] = 9, 255, 254, 253
    (place / f"test_batch.bin{ending}").write_bytes(PACK[ending](row.tobytes()))
    data = open_(tmp_path)
    samples = data.read([0])
    assert samples.labels.tolist() == [9]
    assert data.class_names[9] == "truck"
    places = {tuple(at): round(float(samples.images[tuple(at)]) * 255) for at in samples.images.nonzero().tolist()}
    assert places == {(0, 0, 0, 0): 255, (0, 1, 1, 1): 254, (0, 2, 31, 31): 253}
    assert samples.ids == ("cifar10/test/00000",)


def test_the_train_split_is_the_five_batches_in_order(tmp_path: Path) -> None:
    for seed, name in enumerate(BATCHES):
        (tmp_path / name).write_bytes(rows(seed).tobytes())
    data = open_(tmp_path, split="train")
    expected = np.vstack([rows(seed) for seed in range(5)])
    samples = data.read(range(5 * ROWS))
    assert samples.labels.tolist() == expected[:, 0].tolist()
    assert torch.equal(samples.images, torch.from_numpy(expected[:, 1:].reshape(-1, 3, 32, 32)).float() / 255)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_official_archive_says_the_same_as_its_files(tmp_path: Path, split: str) -> None:
    packed, unpacked = tmp_path / "packed", tmp_path / "unpacked"
    packed.mkdir()
    official(packed / "cifar-10-binary.tar.gz")
    with tarfile.open(packed / "cifar-10-binary.tar.gz") as tar:
        tar.extractall(unpacked, filter="data")
    assert open_(packed, split=split).fingerprint() == open_(unpacked, split=split).fingerprint()
    assert sorted(path.name for path in packed.iterdir()) == ["cifar-10-binary.tar.gz"], "nothing is unpacked"


def _link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "members",
    [
        {"../escape": b"x"},
        {"/tmp/../../escape": b"x"},
        {"link": _link("link", "/etc/passwd", tarfile.SYMTYPE)},
        {"link": _link("link", "../../outside", tarfile.LNKTYPE)},
        {"device": _link("device", "", tarfile.CHRTYPE)},
    ],
)
def test_row_11_an_archive_that_reaches_outside_itself_is_refused(tmp_path: Path, members: dict[str, Any]) -> None:
    official(tmp_path / "cifar-10-binary.tar.gz", **members)
    with pytest.raises(UnsafeFileError, match="outside itself"):
        open_(tmp_path)


def test_row_11_a_bomb_in_front_of_the_data_is_refused_at_the_cap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar10, "MOST_ARCHIVE_BYTES", 1_000_000)
    official(tmp_path / "cifar-10-binary.tar.gz")
    assert len(open_(tmp_path)) == ROWS
    official(tmp_path / "cifar-10-binary.tar.gz", zeros=bytes(30_000_000))
    with pytest.raises(UnsafeFileError, match="bomb"):
        open_(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", rows(0).tobytes()[:-1], rows(0).tobytes() + b"\0", gzip.compress(b"x" * 99)],
    ids=lambda content: f"{len(content)} bytes",  # gzip holds the time: the bytes themselves would not be stable
)
def test_a_batch_of_another_length_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(DataError, match="wrong length"):
        open_(tmp_path)


def test_archives_without_the_batches_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cifar-10-binary.tar.gz"
    archive(path, {"cifar-10-batches-bin/readme.html": b"x"})
    with pytest.raises(DataError, match="lacks a batch"):
        open_(tmp_path)
    official(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(DataError, match="cannot be read"):
        open_(tmp_path)
    path.write_bytes(gzip.compress(b"no archive" * 999))
    with pytest.raises(DataError, match="cannot be read"):
        open_(tmp_path)


def test_row_4_the_pickled_version_is_never_opened(tmp_path: Path) -> None:
    class Witness:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "was-run",))

    (tmp_path / "test_batch").write_bytes(pickle.dumps(Witness()))
    (tmp_path / "test_batch.bin").write_bytes(pickle.dumps(Witness()))
    with pytest.raises(DataError, match="wrong length"):
        open_(tmp_path)
    assert not (tmp_path / "was-run").exists()


def test_row_20_a_label_beyond_nine_is_refused(tmp_path: Path) -> None:
    bad = rows(0)
    bad[2, 0] = 10
    (tmp_path / "test_batch.bin").write_bytes(bad.tobytes())
    with pytest.raises(DataError, match="label 10"):
        open_(tmp_path)


def test_missing_files_say_what_was_sought(tmp_path: Path) -> None:
    for name in BATCHES[:4]:
        (tmp_path / name).write_bytes(rows(0).tobytes())
    with pytest.raises(DataError) as caught:
        open_(tmp_path, split="train")
    for part in ("data_batch_5.bin", "cifar-10-binary.tar.gz", str(tmp_path / "cifar10"), "CHARPY_DATA"):
        assert part in str(caught.value)


def test_accepts_its_name_only() -> None:
    assert Cifar10.accepts("cifar10", None) == {}
    assert Cifar10.accepts("cifar10", "/data") == {"data_dir": "/data"}
    assert Cifar10.accepts("./cifar10", None) is None


@pytest.mark.data
def test_the_real_test_set(data_dir: Path) -> None:
    """1,000 samples a class; the first labels as published (cat, ship, ship, airplane, frog, ...)."""
    data = open_(data_dir)
    labels = torch.cat([data.read(range(start, start + 1000)).labels for start in range(0, 10_000, 1000)])
    assert torch.bincount(labels).tolist() == [1000] * 10
    assert [data.class_names[label] for label in labels[:5]] == ["cat", "ship", "ship", "airplane", "frog"]
    samples = data.read(range(500))
    check_samples(samples, shape=(3, 32, 32), num_classes=10, grid=Grid.EIGHT_BIT, where=data.name)
    # Means of the channels as every CIFAR-10 recipe subtracts them: 0.4914, 0.4822, 0.4465 (of the train split).
    assert samples.images.mean((0, 2, 3)).tolist() == pytest.approx([0.4914, 0.4822, 0.4465], abs=0.02)
