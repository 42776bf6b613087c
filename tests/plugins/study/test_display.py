"""Enlarging, PNG, and the way back: against Pillow, brute force, and what must not change."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from charpy.errors import DataError
from charpy_plugins.study.build.display import brought_back, enlarged, png, read_png
from charpy_plugins.study.document import Resampling

PILLOW = {
    Resampling.NEAREST: Image.Resampling.NEAREST,
    Resampling.BILINEAR: Image.Resampling.BILINEAR,
    Resampling.BICUBIC: Image.Resampling.BICUBIC,
    Resampling.LANCZOS: Image.Resampling.LANCZOS,
}
shapes = st.tuples(st.integers(1, 3), st.sampled_from((1, 3)), st.integers(1, 9), st.integers(1, 9))


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


@pytest.mark.parametrize("resampling", Resampling)
@pytest.mark.parametrize("size", [2, 3, 4])
def test_enlarging_is_pillows(resampling, size):
    pixels = noise(2, 1, 7, 10)
    found = enlarged(pixels, size, resampling).double().numpy()
    for image, large in zip(pixels, found, strict=True):
        # Mode F: Pillow rounds images of bytes after each of its two passes.
        single = Image.fromarray(image[0].numpy().astype(np.float32))
        expected = np.asarray(single.resize((10 * size, 7 * size), PILLOW[resampling])).clip(0, 255)
        assert np.abs(large[0] - expected).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("resampling", Resampling)
def test_a_flat_image_stays_flat_and_size_one_is_the_image_itself(resampling):
    flat = torch.full((1, 3, 5, 4), 77, dtype=torch.uint8)
    assert (enlarged(flat, 4, resampling) == 77).all()
    pixels = noise(1, 3, 5, 4)
    assert torch.equal(enlarged(pixels, 1, resampling), pixels)


@given(shapes, st.integers(1, 5), st.integers(0, 99))
def test_nearest_comes_back_exactly(shape, size, seed):
    pixels = noise(*shape, seed=seed)
    large = enlarged(pixels, size, Resampling.NEAREST)
    assert large.shape == (*shape[:2], size * shape[2], size * shape[3])
    assert torch.equal(brought_back(large, size), pixels)


def test_the_way_back_is_the_mean_of_each_tile():
    large = noise(2, 3, 8, 12)
    found = brought_back(large, 4)
    for n, c, y, x in np.ndindex(2, 3, 2, 3):
        tile = large[n, c, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4].double()
        assert abs(float(found[n, c, y, x]) - float(tile.sum() / 16)) <= 0.5


def test_smooth_enlarging_does_not_come_back():
    pixels = noise(1, 1, 8, 8)
    assert not torch.equal(brought_back(enlarged(pixels, 2, Resampling.LANCZOS), 2), pixels)


@given(shapes, st.integers(0, 99))
def test_a_png_keeps_every_byte(shape, seed):
    pixels = noise(*shape, seed=seed)
    files = png(pixels)
    assert torch.equal(read_png(files, shape[1]), pixels)
    assert files == png(pixels)
    with Image.open(io.BytesIO(files[0])) as image:
        assert image.format == "PNG"
        assert image.mode == ("L" if shape[1] == 1 else "RGB")
        assert image.size == (shape[3], shape[2])
        assert not image.info


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_are_refused(channels):
    with pytest.raises(DataError, match=f"{channels} channels"):
        png(noise(1, channels, 4, 4))


def test_a_png_of_another_kind_is_refused():
    with pytest.raises(DataError, match="mode L"):
        read_png(png(noise(1, 1, 4, 4)), 3)
