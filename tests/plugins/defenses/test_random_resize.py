"""Random resizing and padding: what is drawn, where it lies, and what a model of one size gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy.errors import ModelError
from charpy.testing.linear import LinearClassifier
from charpy.transforms import Draw
from charpy_plugins.defenses.random_resize import RandomResize
from charpy_plugins.wrappers.callable_model import CallableModel


def resize(**params):
    return RandomResize(RandomResize.Params(**params))


def placed(found: torch.Tensor) -> tuple[int, int, int, int]:
    """top, left, rows and columns of what is not padding."""
    rows, columns = (found[0, 0] > 0).nonzero(as_tuple=True)
    top, left = int(rows.min()), int(columns.min())
    return top, left, int(rows.max()) - top + 1, int(columns.max()) - left + 1


def test_sizes_and_places_are_the_papers():
    """299 becomes 299..330 and is padded to 331, every place equally likely (Xie et al. 2018)."""
    defense, images = resize(padded=331 / 299), torch.ones(1, 1, 299, 299)
    seen = [placed(defense.transform(images, Draw(0, number, images.device))) for number in range(200)]
    sizes = {rows for _, _, rows, _ in seen}
    assert min(sizes) >= 299
    assert max(sizes) <= 330
    assert len(sizes) > 25
    assert all(rows == columns for _, _, rows, columns in seen)
    free = np.array([331 - rows for _, _, rows, _ in seen])
    for place in (0, 1):
        share = np.array([entry[place] for entry in seen]) / free
        assert 0.4 < share.mean() < 0.6
        assert share.min() < 0.1
        assert share.max() > 0.9
    tops, lefts = (np.array([entry[place] for entry in seen]) / free for place in (0, 1))
    assert abs(np.corrcoef(tops, lefts)[0, 1]) < 0.3


def test_the_nearest_pixel_is_taken():
    images = 0.9 * torch.rand(3, 2, 20, 30, generator=torch.Generator().manual_seed(0)) + 0.05
    defense = resize(ratio=0.5)
    for number in range(5):
        found = defense.transform(images, Draw(0, number, images.device))
        assert found.shape == images.shape
        top, left, rows, columns = placed(found)
        assert columns == round(rows * 1.5)
        expected = images[:, :, np.arange(rows) * 20 // rows][..., np.arange(columns) * 30 // columns]
        assert torch.equal(found[..., top : top + rows, left : left + columns], expected)
        assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=1e-5)


def test_a_model_of_one_size_gets_that_size():
    fixed = resize().wrap(LinearClassifier(torch.ones(2, 1, 28, 28)))
    assert fixed.input_shape == (1, 28, 28)
    assert fixed.predict(torch.rand(3, 1, 28, 28)).shape == (3, 2)
    seen = []

    def free(rows):
        seen.append(rows.shape)
        return rows.reshape(len(rows), -1)[:, :2]

    resize(draws=1).wrap(CallableModel.from_callable(free, array="numpy")).predict(torch.rand(3, 1, 28, 28))
    assert seen == [(3, 1, 31, 31)]  # 28 * 331 / 299 = 31.0


def test_the_size_outside_follows_from_that_inside():
    larger = resize(padded=1.25).wrap(LinearClassifier(torch.ones(2, 1, 40, 20)))
    assert larger.input_shape == (1, 32, 16)
    assert larger.predict(torch.rand(3, 1, 32, 16)).shape == (3, 2)
    with pytest.raises(ModelError, match="no image is padded to the size"):
        resize(padded=8).wrap(LinearClassifier(torch.ones(2, 1, 39, 20)))
