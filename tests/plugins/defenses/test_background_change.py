"""The detector of background changes: what it counts, and what it tells apart on digits of its own making."""

from __future__ import annotations

import pytest
import torch

from charpy.analysis.detection import detection
from charpy.errors import SpecError
from charpy.plugins import registry


def detector(**params):
    return registry().create("defenses", "background_change", params)


def drawings(count: int = 60) -> torch.Tensor:
    """Soft bars on black, 16 x 16: a core at 1, edges at 0.3."""
    images = torch.zeros(count, 1, 16, 16)
    generator = torch.Generator().manual_seed(0)
    for image in images:
        row, column = torch.randint(3, 9, (2,), generator=generator).tolist()
        image[0, row - 1 : row + 3, column - 1 : column + 5] = 0.3
        image[0, row : row + 2, column : column + 4] = 1.0
    return images


def test_clean_drawings_score_nothing_and_each_changed_pixel_one():
    images = drawings(8)
    assert detector().flag(None, images).tolist() == [0] * 8
    assert detector().flag(None, images).dtype == torch.float32
    for count in (1, 5):
        moved = images.clone()
        moved[:, 0, 0, 1 : 1 + count] = 1 / 255
        assert detector().flag(None, moved).tolist() == [count] * 8
        assert detector(tolerance=1 / 255).flag(None, moved).tolist() == [0] * 8
    bright = images.clone()
    bright[:, 0, 14, 14] = 1.0
    assert detector().flag(None, bright).tolist() == [1] * 8
    assert detector(support=0).flag(None, bright).tolist() == [0] * 8
    assert detector(background=1.0).flag(None, 1 - bright).tolist() == [1] * 8


def test_edges_beyond_the_reach_count():
    images = drawings(4)
    images[:, 0] = torch.where(images[:, 0] == 1, images[:, 0], images[:, 0] / 2)
    assert detector(reach=0).flag(None, images).tolist() == [16.0] * 4
    assert detector(reach=0, stroke=0.1).flag(None, images).tolist() == [0.0] * 4


def test_noise_is_told_apart_and_noise_near_the_strokes_is_not():
    images = drawings()
    noise = 0.3 * (torch.rand(images.shape, generator=torch.Generator().manual_seed(1)) - 0.5)
    everywhere = (images + noise).clamp(0, 1)
    near = torch.where(images > 0, everywhere, images)
    scores = [detector().flag(None, part).tolist() for part in (images[:30], images[30:], everywhere, near)]
    found = detection(*scores)
    assert (found.threshold, found.false_positives.value) == (0, 0)
    assert found.successful.value == 1
    assert found.failed.value == 0


def test_a_score_depends_on_no_other_image(monkeypatch):
    images = (drawings(9) + 0.02 * torch.rand(9, 1, 16, 16, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    images[:4] = drawings(4)
    whole = detector().flag(None, images)
    assert whole.max() > whole.min()
    monkeypatch.setattr("charpy_plugins.defenses.background_change.PIECE", 2)
    assert torch.equal(detector().flag(None, images), whole)
    assert torch.equal(detector().flag(None, images.flip(0)), whole.flip(0))
    assert detector().flag(None, images[:0]).shape == (0,)


def test_nan_is_no_background():
    images = drawings(1)
    images[0, 0, 0, 0] = torch.nan
    assert detector().flag(None, images).item() >= 1


def test_bad_parameters_are_refused():
    for bad in ({"stroke": 0}, {"support": 9}, {"reach": -1}, {"background": 2}, {"tolerance": 1}, {"streak": 1}):
        with pytest.raises(SpecError):
            detector(**bad)
