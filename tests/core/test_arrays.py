from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from charpy.arrays import ArrayDataset, likely_layout
from charpy.errors import DataError
from charpy.pixels import as_images
from charpy.threat import Grid

LABELS = np.array([2, 0, 1])


def pixels(channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (3, channels, 5, 4), dtype=np.uint8)


def refusal(images: Any, labels: Any = LABELS, **options: Any) -> DataError:
    with pytest.raises(DataError) as caught:
        ArrayDataset(images, labels, name="mine", **options)
    assert caught.value.where == "mine"
    return caught.value


def test_bytes_are_read_as_k_over_255_with_a_note() -> None:
    data = ArrayDataset(pixels(), LABELS)
    found = data.read([2, 0])
    assert torch.equal(found.images, torch.from_numpy(pixels()[[2, 0]]).float() / 255)
    assert (found.labels.tolist(), found.ids) == ([1, 2], ("arrays/00002", "arrays/00000"))
    assert found.labels.dtype == torch.int64
    assert (len(data), data.shape, data.grid) == (3, (1, 5, 4), Grid.EIGHT_BIT)
    assert data.class_names == ("0", "1", "2")
    assert data.notes == ("uint8 images were read as k/255",)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, ">f4"])
def test_float_images_on_the_grid_are_found_to_be_so_and_kept_exactly(dtype: Any) -> None:
    data = ArrayDataset((pixels() / 255).astype(dtype), LABELS)
    assert (data.grid, data.notes) == (Grid.EIGHT_BIT, ())
    assert torch.equal(data.read(range(3)).images, as_images(torch.from_numpy(pixels())))
    assert data.fingerprint() == ArrayDataset(pixels(), LABELS).fingerprint()


def test_float_images_a_hair_beside_the_grid_are_moved_to_it_with_a_note() -> None:
    near = np.clip(pixels() / np.float32(255) + np.float32(2e-7), 0, 1)
    data = ArrayDataset(near, LABELS)
    assert torch.equal(data.read(range(3)).images, as_images(torch.from_numpy(pixels())))
    assert any("moved to k/255" in note for note in data.notes)


def test_float_images_off_the_grid_are_kept_bit_for_bit() -> None:
    images = np.random.default_rng(1).random((3, 1, 5, 4), dtype=np.float32)
    data = ArrayDataset(torch.from_numpy(images), torch.from_numpy(LABELS))
    assert (data.grid, data.notes) == (Grid.NONE, ())
    assert torch.equal(data.read([0, 1, 2]).images, torch.from_numpy(images))


def test_one_value_off_the_grid_in_any_piece_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("charpy.arrays.PIECE_VALUES", 20)  # one image a piece
    images = (pixels() / 255).astype(np.float32)
    assert ArrayDataset(images, LABELS).grid is Grid.EIGHT_BIT
    images[2, 0, 4, 3] = 0.5
    assert ArrayDataset(images, LABELS).grid is Grid.NONE
    images[:, 0, 4, 3] = (0.5, 0, 0)
    assert ArrayDataset(images, LABELS).grid is Grid.NONE, "also in the first"
    images[2, 0, 4, 3] = 1.5
    assert "mine/00002" in str(refusal(images).found)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_another_float_type_is_noted(dtype: torch.dtype) -> None:
    images = torch.full((3, 1, 2, 2), 0.3, dtype=dtype)
    data = ArrayDataset(images, LABELS)
    assert data.grid is Grid.NONE
    assert torch.equal(data.read([0]).images, images[:1].float())
    if dtype is not torch.bfloat16:
        assert any("read as float32" in note for note in data.notes)


def test_what_is_read_is_a_copy() -> None:
    images = np.random.default_rng(1).random((3, 1, 5, 4), dtype=np.float32)
    for source in (images, pixels()):
        data = ArrayDataset(source, LABELS)
        before = data.read([0]).images.clone()
        data.read([0]).images.fill_(0.25)
        data.read([0]).labels.fill_(9)
        assert torch.equal(data.read([0]).images, before)
        assert data.read([0]).labels.item() == 2


def test_read_only_arrays_and_tensors_with_a_gradient_are_taken() -> None:
    frozen = pixels()
    frozen.flags.writeable = False
    labels = LABELS.copy()
    labels.flags.writeable = False
    assert len(ArrayDataset(frozen, labels).read([0, 1]).ids) == 2
    assert not ArrayDataset(torch.rand(3, 1, 2, 2, requires_grad=True), labels).read([0]).images.requires_grad


def test_nested_lists_are_taken() -> None:
    data = ArrayDataset([[[[0.0, 1.0]]], [[[0.5, 0.25]]]], [1, 0])
    assert torch.equal(data.read([1]).images, torch.tensor([[[[0.5, 0.25]]]]))


def test_three_axes_are_one_channel_with_a_note() -> None:
    data = ArrayDataset(pixels()[:, 0], LABELS)
    assert data.shape == (1, 5, 4)
    assert any("one channel" in note for note in data.notes)
    assert data.fingerprint() == ArrayDataset(pixels(), LABELS).fingerprint()


def test_the_layout_is_the_declared_one_and_never_guessed_silently() -> None:
    channels_last = pixels(3).transpose(0, 2, 3, 1)
    error = refusal(channels_last)
    assert "layout='nhwc'" in error.hint
    data = ArrayDataset(channels_last, LABELS, layout="nhwc")
    assert torch.equal(data.read(range(3)).images, ArrayDataset(pixels(3), LABELS).read(range(3)).images)
    assert ArrayDataset(channels_last, LABELS, layout="nchw").shape == (5, 4, 3)


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((9, 3, 8, 8), "nchw"),
        ((9, 8, 8, 3), "nhwc"),
        ((9, 1, 8, 3), None),
        ((9, 8, 8, 8), None),
        ((1, 8, 3, 1), "nhwc"),
    ],
)
def test_likely_layout(shape: tuple[int, ...], layout: str | None) -> None:
    assert likely_layout(shape) == layout


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (np.full((3, 1, 2, 2), 128.0), "from 128 to 128"),
        (np.full((3, 1, 2, 2), -0.5), "from -0.5 to -0.5"),
        (np.full((3, 1, 2, 2), 7), "images.astype(numpy.uint8)"),
        (np.full((3, 1, 2, 2), True), "bool"),
        (np.eye(2, dtype=np.uint8)[[0, 1, 0]][:, None, None], "hold only 0 and 1"),
    ],
)
def test_row_18_images_that_are_not_in_the_declared_range_are_refused(images: np.ndarray, says: str) -> None:
    assert says in str(refusal(images))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_row_19_values_that_are_not_finite_are_refused(value: float) -> None:
    images = np.zeros((3, 1, 2, 2))
    images[1, 0, 1, 1] = value
    assert "mine/00001" in str(refusal(images).found)


def test_row_19_empty_sets_and_unequal_numbers_are_refused() -> None:
    assert "no samples" in refusal(np.zeros((0, 1, 2, 2)), np.zeros(0, int)).what
    assert "differ in number" in refusal(pixels(), LABELS[:2]).what
    assert "differ in number" in refusal(pixels(), ids=["a", "b"]).what
    assert "names two samples" in refusal(pixels(), ids=["a", "b", "a"]).what


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([0, -1, 1], "label -1"),
        ([0.0, 1.0, 2.0], "labels.astype(int)"),
        ([True, False, True], "bool"),
        (np.eye(3), "labels.argmax(1)"),
        (np.eye(3, dtype=int), "labels.argmax(1)"),
        (["cat", "dog", "cat"], "labels are no numbers"),
        (np.array([0, 1, None]), "labels are no numbers"),
        (np.array([0, 1, 2**63], dtype=np.uint64), "is no class"),
        (np.array([0, 1, 10**6]), "is no class"),
        ([[0], [1, 2], [3]], "labels are no array"),
    ],
)
def test_row_20_labels_that_are_no_class_numbers_are_refused(labels: Any, says: str) -> None:
    assert says in str(refusal(pixels(), labels))


def test_row_20_a_label_without_a_class_name_is_refused() -> None:
    assert ArrayDataset(pixels(), LABELS, class_names=["a", "b", "c"]).class_names == ("a", "b", "c")
    assert "label 2" in refusal(pixels(), class_names=["a", "b"]).what


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, ">i4", np.uint64])
def test_whole_numbers_of_any_size_are_labels(dtype: Any) -> None:
    assert ArrayDataset(pixels(), LABELS.astype(dtype)).read([0, 1, 2]).labels.tolist() == [2, 0, 1]


@pytest.mark.parametrize("images", [None, "images", np.array([object()]), [[1.0], [1.0, 2.0]], 3.0, np.zeros((3, 4))])
def test_what_holds_no_images_is_refused(images: Any) -> None:
    refusal(images)


@pytest.mark.parametrize("shape", [(3, 1, 0, 4), (3, 0, 4, 4), (3, 1, 2, 2, 2)])
def test_images_without_pixels_or_with_too_many_axes_are_refused(shape: tuple[int, ...]) -> None:
    assert "wrong shape" in refusal(np.zeros(shape)).what


@pytest.mark.parametrize("rows", [[3], [-1], [0, 99]])
def test_samples_that_are_not_there_are_refused(rows: list[int]) -> None:
    with pytest.raises(DataError, match="no such sample"):
        ArrayDataset(pixels(), LABELS).read(rows)


def test_no_samples_can_be_read() -> None:
    assert tuple(ArrayDataset(pixels(), LABELS).read([]).images.shape) == (0, 1, 5, 4)


def test_the_fingerprint_is_the_documented_one() -> None:
    images, labels = pixels(), LABELS.astype("<i8")
    expected = hashlib.sha256(b"uint8 (3, 1, 5, 4)\n" + images.tobytes() + labels.tobytes()).hexdigest()
    assert ArrayDataset(images, labels).fingerprint() == expected


def test_the_fingerprint_sees_every_change() -> None:
    def of(images: np.ndarray, labels: Any) -> str:
        return ArrayDataset(images, labels).fingerprint()

    changed = pixels()
    changed[2, 0, 4, 3] ^= 1
    prints = [
        of(pixels(), LABELS),
        of(pixels()[::-1], LABELS),
        of(pixels(), LABELS[::-1]),
        of(changed, LABELS),
        of(pixels().reshape(3, 1, 4, 5), LABELS),
        of((pixels() / 255 * 0.9).astype(np.float32), LABELS),
    ]
    assert len(set(prints)) == len(prints)
    assert of(pixels(3), LABELS) == ArrayDataset(pixels(3).transpose(0, 2, 3, 1), LABELS, layout="nhwc").fingerprint()
