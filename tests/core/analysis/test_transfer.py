"""The transfer matrix: counted by hand on classifiers that read one pixel."""

from __future__ import annotations

import pytest
import torch

from charpy.analysis.transfer import Crafted, crafted_by, transfer_matrix
from charpy.errors import DataError
from charpy.threat import Norm


def reads(place: int):
    """Class 1 where the pixel at `place` is bright."""
    return lambda images: (images.flatten(1)[:, place] > 0.5).long()


def crafted() -> Crafted:
    """Five dark images of class 0: pixel 0 of all is lit, pixel 1 of two; the last is bright at 2 from the start."""
    originals = torch.zeros(5, 1, 2, 2, dtype=torch.uint8)
    originals[4, 0, 1, 0] = 255
    images = originals.clone()
    images[:, 0, 0, 0] = 255
    images[:2, 0, 0, 1] = 255
    distances = torch.tensor([2.0, 2.0, 1.0, 1.0, 1.0], dtype=torch.float64)
    return Crafted(originals, images, torch.zeros(5, dtype=torch.int64), distances)


def cells(found: Crafted, targets) -> dict[str, tuple[int, int]]:
    matrix = transfer_matrix({("first", Norm.L0): found}, targets)
    assert {(cell.source, cell.norm) for cell in matrix} == {("first", Norm.L0)}
    return {cell.target: (cell.fooled.count, cell.fooled.total) for cell in matrix}


def test_each_target_is_fooled_by_the_witnesses_that_light_its_pixel():
    targets = {"own": reads(0), "second": reads(1), "blind": reads(3)}
    assert cells(crafted(), targets) == {"own": (5, 5), "second": (2, 5), "blind": (0, 5)}


def test_an_original_that_the_target_misclassifies_is_not_counted():
    assert cells(crafted(), {"third": reads(2)}) == {"third": (0, 4)}


def test_within_keeps_the_near_ones():
    assert cells(crafted().within(1), {"own": reads(0), "second": reads(1)}) == {"own": (3, 3), "second": (0, 3)}


def test_scores_and_labels_count_the_same_and_an_interval_comes_with_the_share():
    def scores(images):
        bright = images.flatten(1)[:, 1]
        return torch.stack([1 - bright, bright], 1)

    (cell,) = transfer_matrix({("first", Norm.L0): crafted()}, {"second": scores})
    assert (cell.fooled.count, cell.fooled.total) == (2, 5)
    assert cell.fooled.value == pytest.approx(0.4)
    assert cell.fooled.low < 0.4 < cell.fooled.high


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(DataError, match="NaN"):
        transfer_matrix({("first", Norm.L0): crafted()}, {"sick": lambda images: images.flatten(1) * torch.nan})


def test_the_witnesses_of_a_run_are_read_with_labels_and_distances(synthetic, tmp_path):
    with synthetic.build(tmp_path / "run.charpy") as run:
        found = crafted_by(run, 0, Norm.L0)
        nothing = crafted_by(run, 0, Norm.L2)
    assert nothing is None
    assert found.labels.tolist() == [0, 0, 1]  # samples 2, 3 and 4
    assert found.distances.tolist() == [1, 2, 3]
    moved = (found.images != found.originals).any(1).flatten(1).sum(1)
    assert moved.tolist() == [1, 2, 3]
