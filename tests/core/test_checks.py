from __future__ import annotations

import math

import pytest
import torch

from charpy.checks import Duplicates, check_samples, check_threat, largest_level
from charpy.errors import DataError, SpecError
from charpy.interfaces.dataset import Samples
from charpy.threat import FIRST_LEVEL, LAST_LEVEL, Grid, Norm, ThreatModel

SHAPE = (1, 2, 2)


def samples(images: object = None, labels: object = None, ids: tuple[str, ...] | None = None) -> Samples:
    images = torch.arange(12, dtype=torch.float32).reshape(3, 1, 2, 2) / 255 if images is None else images
    labels = torch.tensor([0, 1, 2]) if labels is None else labels
    return Samples(images, labels, ("a", "b", "c") if ids is None else ids)  # type: ignore[arg-type]


def check(piece: Samples, *, num_classes: int | None = 3, grid: Grid = Grid.EIGHT_BIT) -> None:
    check_samples(piece, shape=SHAPE, num_classes=num_classes, grid=grid, where="their data")


def refusal(piece: Samples, *, num_classes: int | None = 3, grid: Grid = Grid.EIGHT_BIT) -> DataError:
    with pytest.raises(DataError) as caught:
        check(piece, num_classes=num_classes, grid=grid)
    assert caught.value.where == "their data"
    return caught.value


def with_value(value: float, row: int = 1) -> torch.Tensor:
    images = torch.zeros(3, 1, 2, 2)
    images[row, 0, 1, 0] = value
    return images


def test_good_samples_pass() -> None:
    check(samples())
    check(samples(), num_classes=None)
    check(samples(images=with_value(0.3)), grid=Grid.NONE)
    check(samples(images=torch.tensor([0.0, 1.0]).repeat(6).reshape(3, 1, 2, 2)))


@pytest.mark.parametrize(
    ("images", "found", "hint"),
    [
        (torch.arange(12).float().reshape(3, 1, 2, 2), "from 0 to 11", "divide the images by 255"),
        (with_value(255.0), "from 0 to 255, the first outside in sample b", "divide the images by 255"),
        (with_value(-2.118), "from -2.118", "undo the normalisation"),
        (with_value(1000.0, row=2), "from 0 to 1000, the first outside in sample c", "largest possible value"),
        (with_value(1.0000001), "to 1.00000012", "rounding error: clip"),
        (with_value(-1e-7), "from -1.0", "rounding error: clip"),
    ],
)
def test_row_18_a_range_that_is_not_the_declared_one_is_shown(images: torch.Tensor, found: str, hint: str) -> None:
    error = refusal(samples(images))
    assert found in str(error.found)
    assert hint in error.hint
    assert error.expected == "[0, 1]"


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.float16, torch.int64])
def test_row_18_another_type_is_refused(dtype: torch.dtype) -> None:
    assert str(dtype) in str(refusal(samples(torch.zeros(3, 1, 2, 2, dtype=dtype))))


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_row_19_a_value_that_is_not_finite_is_refused(value: float, grid: Grid) -> None:
    error = refusal(samples(with_value(value)), grid=grid)
    counts = "1 NaN and 0 infinite" if math.isnan(value) else "0 NaN and 1 infinite"
    assert counts in str(error.found)
    assert "sample b" in str(error.found)


def test_row_19_an_empty_set_is_refused() -> None:
    empty = samples(torch.zeros(0, 1, 2, 2), torch.zeros(0, dtype=torch.int64), ())
    assert "no samples" in refusal(empty).what


@pytest.mark.parametrize(
    "piece",
    [
        samples(labels=torch.tensor([0, 1])),
        samples(ids=("a", "b")),
        samples(images=torch.zeros(2, 1, 2, 2)),
        samples(labels=torch.tensor([0, 1, 2, 2])),
    ],
)
def test_row_19_unequal_numbers_are_refused(piece: Samples) -> None:
    assert "differ in number" in refusal(piece).what


@pytest.mark.parametrize(
    "images", [torch.zeros(3, 2, 2), torch.zeros(3, 2, 2, 1), torch.zeros(3, 3, 2, 2), torch.zeros(3, 1, 4, 4)]
)
def test_another_shape_is_refused(images: torch.Tensor) -> None:
    error = refusal(samples(images))
    assert str(tuple(images.shape)) in str(error.found)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.tensor([0, -1, 2]), "label -1 is no class"),
        (torch.tensor([0, 1, 3]), "label 3 is no class"),
        (torch.tensor([1, 2, 3]), "count classes from 0"),
        (torch.tensor([0.0, 1.0, 2.0]), "torch.float32"),
        (torch.tensor([True, False, True]), "torch.bool"),
        (torch.eye(3, dtype=torch.int64), "labels.argmax(1)"),
        (torch.tensor(1), "no list of class numbers"),
        (torch.tensor([[0], [1], [2]]), "one whole number per image"),
    ],
)
def test_row_20_labels_that_are_no_class_numbers_are_refused(labels: torch.Tensor, says: str) -> None:
    assert says in str(refusal(samples(labels=labels)))


def test_row_20_without_a_number_of_classes_only_negative_labels_are_refused() -> None:
    check(samples(labels=torch.tensor([0, 1, 999])), num_classes=None)
    assert "-1" in refusal(samples(labels=torch.tensor([0, 1, -1])), num_classes=None).what


def test_off_the_grid_is_refused_with_the_way_out() -> None:
    error = refusal(samples(with_value(0.3)))
    assert "grid: none" in error.hint
    assert "1 of 12 values" in str(error.found)


def test_what_is_no_tensor_and_ids_that_repeat_are_refused() -> None:
    assert "no torch tensor" in refusal(samples(images=[[0.5]])).what
    assert refusal(samples(ids=("a", "b", "a"))).found == "a"


def test_row_21_copies_are_counted_over_all_pieces() -> None:
    counter = Duplicates()
    assert counter.warning() == ""
    first = torch.tensor([0.0, 1.0, 2.0]).reshape(3, 1, 1, 1).expand(3, 1, 2, 2) / 255
    counter.add(first)
    assert (counter.total, counter.unique, counter.warning()) == (3, 3, "")
    counter.add(torch.cat([first[1:2], torch.full((1, 1, 2, 2), 9 / 255)]))
    assert (counter.total, counter.unique) == (5, 4)
    assert counter.warning() == "1 of 5 images are copies of another one: 4 are unique"


def test_row_21_one_value_makes_a_difference_and_a_signed_zero_does_not() -> None:
    images = torch.zeros(3, 3, 8, 8)
    images[1] *= -1.0
    images[2, 2, 7, 7] = torch.finfo(torch.float32).tiny
    counter = Duplicates()
    counter.add(images)
    assert counter.unique == 2
    assert torch.signbit(images[1]).all(), "the caller's tensor stays as it is"


@pytest.mark.parametrize(("norm", "largest"), [(Norm.L0, 12.0), (Norm.L1, 36.0), (Norm.L2, 6.0), (Norm.LINF, 1.0)])
def test_row_17_a_radius_ends_at_the_diameter_of_the_image_box(norm: Norm, largest: float) -> None:
    shape = (3, 4, 3)
    check_threat(norm, 0, shape)
    check_threat(norm, largest, shape)
    for bad in (largest + 1, largest + 1e-6, -1.0, -1e-9, float("nan"), float("inf")):
        with pytest.raises(SpecError):
            check_threat(norm, bad, shape)


def test_row_17_more_pixels_than_the_image_has_names_the_largest_level() -> None:
    with pytest.raises(SpecError, match="largest level of l0 here is 64") as caught:
        check_threat(Norm.L0, 65, (1, 8, 8), where="threats.0")
    assert "65 pixels" in str(caught.value)
    assert caught.value.where == "threats.0"


def test_row_17_half_a_pixel_is_refused() -> None:
    with pytest.raises(SpecError, match="whole"):
        check_threat(Norm.L0, 2.5, (1, 8, 8))


@pytest.mark.parametrize(("shape", "l0"), [((1, 8, 8), 64), ((3, 32, 32), LAST_LEVEL), ((3, 1, 1), FIRST_LEVEL)])
def test_the_largest_level_is_at_most_the_number_of_pixels(shape: tuple[int, int, int], l0: int) -> None:
    assert largest_level(Norm.L0, shape) == l0
    assert largest_level(Norm.LINF, shape) == LAST_LEVEL


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 6, 6), (3, 4, 3), (1, 28, 28), (3, 32, 32), (3, 224, 224), (3, 7, 5)])
def test_the_largest_level_of_l1_and_l2_is_the_last_inside_the_image_box(shape: tuple[int, int, int]) -> None:
    values = math.prod(shape)
    assert largest_level(Norm.L1, shape) == 255 * values
    last = largest_level(Norm.L2, shape)
    assert last**2 <= 255**2 * values < (last + 1) ** 2
    for norm in (Norm.L1, Norm.L2):
        last = largest_level(norm, shape)
        check_threat(norm, ThreatModel.at_level(norm, last).radius, shape)
        with pytest.raises(SpecError, match=f"largest level of {norm} here is {last}"):
            check_threat(norm, ThreatModel.at_level(norm, last + 1).radius, shape)
