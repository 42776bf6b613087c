"""What is drawn and what is background, and the box in which no detector of the background sees a change."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy.foreground import ForegroundParams, foreground, ink, unseen_box
from charpy.plugins import registry


def by_loops(image: np.ndarray, params: ForegroundParams) -> np.ndarray:
    """`(H, W)` of an image `(C, H, W)`."""
    height, width = image.shape[1:]
    bright = np.abs(image - np.float32(params.background)).max(0) >= params.stroke
    found = np.zeros((height, width), dtype=bool)
    for y in range(height):
        for x in range(width):
            around = bright[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].sum() - bright[y, x]
            if bright[y, x] and around >= params.support:
                r = params.reach
                found[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1] = True
    return found


@pytest.mark.parametrize("support", [0, 1, 2, 4])
@pytest.mark.parametrize("reach", [0, 1, 3])
@pytest.mark.parametrize("background", [0.0, 1.0, 0.4])
def test_the_foreground_is_what_loops_find(support, reach, background):
    params = ForegroundParams(background=background, stroke=0.55, support=support, reach=reach)
    images = torch.rand(6, 3, 11, 9, generator=torch.Generator().manual_seed(1))
    images = torch.where(images < 0.8, torch.full_like(images, background), images)
    expected = np.stack([by_loops(image, params) for image in images.numpy()])
    assert (foreground(images, params)[:, 0].numpy() == expected).all()
    for image, mask in zip(images, expected, strict=True):
        assert torch.equal(foreground(image[None], params)[0, 0], torch.from_numpy(mask)), "each image by itself"


def test_a_lone_pixel_is_no_stroke():
    images = torch.zeros(2, 1, 9, 9)
    images[0, 0, 4, 4] = 1
    images[1, 0, 4, 4:6] = 1
    assert foreground(images, ForegroundParams()).flatten(1).sum(1).tolist() == [0, 12]
    assert foreground(images, ForegroundParams(support=0)).flatten(1).sum(1).tolist() == [9, 12]


@pytest.mark.parametrize(
    "params",
    [{}, {"background": 1.0}, {"background": 0.3, "stroke": 0.3}, {"support": 3, "reach": 2}, {"stroke": 0.501}],
    ids=str,
)
@pytest.mark.parametrize("radius", [0.1, 0.3, 0.9])
def test_nothing_in_the_box_is_seen(params, radius):
    """Random and extreme points of the box, on the grid: the foreground grows, and the rest is as it was."""
    chosen = ForegroundParams(**params)
    generator = torch.Generator().manual_seed(3)
    digits = registry().create("datasets", "digits").read(range(40)).images
    images = (1 - digits if chosen.background == 1 else digits).mul(255).round().div(255)
    box = unseen_box(images, radius, chosen)
    assert bool((box.low <= images).all() & (images <= box.high).all())
    assert float(box.low.min()) >= 0
    assert float(box.high.max()) <= 1
    before = foreground(images, chosen)
    assert bool(((box.high == box.low) | before).all())
    changed = []
    for share in (torch.zeros(images.shape), torch.ones(images.shape), torch.rand(images.shape, generator=generator)):
        moved = (box.low + share * (box.high - box.low)).mul(255).round().div(255)
        assert bool((~before | foreground(moved, chosen)).all())
        assert torch.equal(moved.masked_fill(before, 0), images.masked_fill(before, 0))
        assert float((moved - images).abs().max()) <= radius + 0.5 / 255 + 1e-6
        changed.append(bool((moved != images).any()))
    assert any(changed)


def test_the_box_is_the_ball_but_for_strokes():
    images = torch.zeros(1, 1, 5, 5)
    images[0, 0, 2, 1:4] = torch.tensor([1.0, 0.6, 0.6])
    box = unseen_box(images, 0.3, ForegroundParams())
    assert box.low[0, 0, 2, 1:4].tolist() == pytest.approx([0.7, 128 / 255, 128 / 255])
    assert box.high[0, 0, 2, 1:4].tolist() == pytest.approx([1.0, 0.9, 0.9])
    assert box.high[0, 0, 1].tolist() == pytest.approx([0.3] * 5)
    assert box.high[0, 0, 0].tolist() == [0.0] * 5
    assert ink(images, ForegroundParams(background=1.0)).amax() == 1
