"""Every filter against an independent truth: scipy, Pillow, numpy from the definition, a convex reference."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage, optimize

from charpy.bilateral import bilateral
from charpy.windows import neighbours, reflected
from charpy_plugins.filters.bit_depth import bit_depth
from charpy_plugins.filters.gaussian import gaussian
from charpy_plugins.filters.jpeg import jpeg
from charpy_plugins.filters.median import median
from charpy_plugins.filters.non_local_means import non_local_means
from charpy_plugins.filters.squeezers import squeezer
from charpy_plugins.filters.total_variation import least_variation


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def natural(*shape: int, seed: int = 0) -> torch.Tensor:
    """Smooth images with some noise, on k/255: what a compressor is made for."""
    smooth = ndimage.gaussian_filter(drawn(*shape, seed=seed).numpy(), (0, 0, 2, 2)) * 4 - 1.5
    noisy = smooth + 0.02 * np.random.default_rng(seed).normal(size=shape)
    return torch.from_numpy((np.clip(noisy, 0, 1) * 255).round() / 255).float()


@pytest.mark.parametrize(("edge", "mode"), [(True, "symmetric"), (False, "reflect")])
@pytest.mark.parametrize("around", [(0, 0, 0, 0), (1, 2, 3, 0), (9, 4, 12, 7)])
def test_images_are_mirrored_as_numpy_does(edge, mode, around):
    images = drawn(2, 3, 4, 5)
    top, bottom, left, right = around
    expected = np.pad(images.numpy(), ((0, 0), (0, 0), (top, bottom), (left, right)), mode=mode)
    assert np.array_equal(reflected(images, *around, edge=edge).numpy(), expected)


def test_a_single_pixel_is_mirrored_into_copies_of_itself():
    pixel = drawn(1, 2, 1, 1)
    assert torch.equal(reflected(pixel, 2, 1, 0, 3, edge=False), pixel.expand(1, 2, 4, 4))
    assert all(torch.equal(view, pixel) for view in neighbours(pixel, 3, 2))


@pytest.mark.parametrize(("height", "width"), [*itertools.product((1, 2, 3, 4, 5), (1, 2, 3)), (9, 9)])
@pytest.mark.parametrize("levels", [255, 3])  # with few levels most windows have ties
def test_medians_are_scipys(height, width, levels):
    images = (drawn(3, 2, 7, 9) * levels).round() / levels
    expected = ndimage.median_filter(images.numpy(), size=(1, 1, height, width), mode="reflect")
    assert np.array_equal(median(images, height, width).numpy(), expected)


def test_the_median_passes_the_gradient_of_the_value_that_it_takes():
    images = drawn(2, 1, 5, 6).double().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda x: median(x, 3, 2), images)
    chosen = torch.autograd.grad(median(images, 3, 3).sum(), images)[0]
    assert float(chosen.sum()) == 2 * 30
    assert torch.equal(chosen, chosen.round())


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.5])
def test_gaussian_smoothing_is_scipys(sigma):
    images = drawn(2, 3, 8, 11)
    expected = ndimage.gaussian_filter(images.double().numpy(), (0, 0, sigma, sigma), mode="reflect", truncate=4)
    np.testing.assert_allclose(gaussian(images, sigma).numpy(), expected, atol=1e-6)
    assert torch.autograd.gradcheck(lambda x: gaussian(x, sigma), images[:1, :1].double().requires_grad_(True))


def test_the_bilateral_filter_is_its_definition():
    images = drawn(2, 3, 5, 6).double()
    found = bilateral(images, 3, 1.2, 0.3)
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="symmetric")
    for n, row, column in itertools.product(range(2), range(5), range(6)):
        here, total, mean = images[n, :, row, column].numpy(), 0.0, np.zeros(3)
        for dy, dx in itertools.product((-1, 0, 1), repeat=2):
            there = padded[n, :, 1 + row + dy, 1 + column + dx]
            weight = np.exp(-(dy**2 + dx**2) / (2 * 1.2**2) - ((there - here) ** 2).sum() / (2 * 0.3**2))
            total, mean = total + weight, mean + weight * there
        np.testing.assert_allclose(found[n, :, row, column].numpy(), mean / total, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda x: bilateral(x, 3, 1.2, 0.3), images[:1].clone().requires_grad_(True))


def test_a_bilateral_filter_that_sees_no_colours_is_a_gaussian():
    images = drawn(2, 1, 9, 9).double()
    torch.testing.assert_close(bilateral(images, 9, 1.0, 1e6), gaussian(images, 1.0))
    torch.testing.assert_close(bilateral(images, 5, 2.0, 1e-5), images)


@pytest.mark.parametrize(("search", "patch", "strength"), [(5, 3, 0.2), (3, 1, 0.1), (7, 3, 0.05)])
def test_non_local_means_are_their_definition(search, patch, strength):
    images = drawn(2, 3, 5, 4).double()
    found = non_local_means(images, search, patch, strength)
    reach, around = search // 2, patch // 2
    width = reach + around
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (width, width), (width, width)), mode="reflect")

    def surroundings(n, row, column):
        rows, columns = row + width, column + width
        return padded[n, :, rows - around : rows + around + 1, columns - around : columns + around + 1]

    for n, row, column in itertools.product(range(2), range(5), range(4)):
        here, total, mean = surroundings(n, row, column), 0.0, np.zeros(3)
        for dy, dx in itertools.product(range(-reach, reach + 1), repeat=2):
            there = surroundings(n, row + dy, column + dx)
            weight = np.exp(-((there - here) ** 2).mean() / strength**2)
            total, mean = total + weight, mean + weight * there[:, around, around]
        np.testing.assert_allclose(found[n, :, row, column].numpy(), mean / total, rtol=1e-10)


@pytest.mark.parametrize("bits", range(1, 9))
def test_bit_depth_is_the_formula_and_idempotent(bits):
    images = torch.arange(256).float().view(1, 1, 16, 16) / 255
    found, steps = bit_depth(images, bits), 2**bits - 1
    assert np.array_equal(found.numpy(), np.round(images.numpy() * steps) / np.float32(steps))
    assert len(found.unique()) == 2**bits
    assert torch.equal(bit_depth(found, bits), found)
    if bits == 8:
        assert torch.equal(found, images)


@pytest.mark.parametrize("quality", [1, 10, 49, 50, 75, 95, 100])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("shape", [(9, 1, 28, 28), (9, 3, 32, 32), (9, 3, 25, 19), (9, 3, 9, 4), (9, 3, 5, 6)])
def test_jpeg_is_pillows(quality, subsampling, shape):
    images = torch.cat([natural(*shape), drawn(*shape)])
    found = (jpeg(images, quality, subsampling) * 255).round().int().numpy()
    expected = np.stack([_through_pillow(image, quality, subsampling) for image in images])
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999


def _through_pillow(image, quality, subsampling):
    pixels = (image * 255).round().byte().permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(
        file, "JPEG", quality=quality, subsampling=subsampling
    )
    found = np.asarray(Image.open(file)).astype(int)
    return found[None] if found.ndim == 2 else found.transpose(2, 0, 1)


def test_jpeg_lies_on_the_grid_and_does_not_depend_on_the_batch():
    images = drawn(70, 3, 17, 20)
    found = jpeg(images, 60, "4:2:0")
    assert torch.equal((found * 255).round() / 255, found)
    assert torch.equal(jpeg(images[31:33], 60, "4:2:0"), found[31:33])
    assert torch.equal(jpeg(images.flip(0), 60, "4:2:0"), found.flip(0))
    assert torch.equal(jpeg(images, 60, "4:4:4")[:1], jpeg(images[:1], 60, "4:4:4"))
    assert not torch.equal(jpeg(images, 60, "4:4:4"), found)


def test_channels_that_are_no_colours_are_grey_images():
    images = natural(4, 2, 16, 16)
    expected = torch.cat([jpeg(images[:, :1], 75, "4:2:0"), jpeg(images[:, 1:], 75, "4:2:0")], 1)
    assert torch.equal(jpeg(images, 75, "4:2:0"), expected)


def _objective(found, images, kept, weight, variation):
    fit = 0.5 * (kept * (found - images)).square().sum()
    down, right = found.diff(dim=-2), found.diff(dim=-1)
    if variation == "rows":
        return fit + weight * (down.norm(dim=-1).sum() + right.norm(dim=-2).sum())
    down, right = torch.nn.functional.pad(down, (0, 0, 0, 1)), torch.nn.functional.pad(right, (0, 1))
    return fit + weight * (down.square() + right.square() + 1e-14).sqrt().sum()


@pytest.mark.parametrize("variation", ["rows", "pixels"])
@pytest.mark.parametrize("weight", [0.01, 0.03, 0.2])
def test_the_least_variation_is_as_low_as_scipy_finds_it(variation, weight):
    images, kept = natural(2, 1, 6, 6).double(), (drawn(1, 6, 6, seed=5) > 0.5).double()
    found = least_variation(images, kept[None], weight, variation, 3000)
    for image, own in zip(images, found, strict=True):

        def function(flat, image=image):
            z = torch.from_numpy(flat).view(1, 6, 6).requires_grad_(True)
            value = _objective(z, image, kept, weight, variation)
            return value.item(), torch.autograd.grad(value, z)[0].flatten().numpy()

        reference = min(
            optimize.minimize(
                function, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-13}
            ).fun
            for start in (image.flatten().numpy(), own.flatten().numpy())
        )
        assert float(_objective(own, image, kept, weight, variation)) <= reference * (1 + 1e-5)
    quick = least_variation(images, kept[None], weight, variation, 100)
    for image, own, best in zip(images, quick, found, strict=True):
        least = float(_objective(best, image, kept, weight, variation))
        assert float(_objective(own, image, kept, weight, variation)) <= least * (
            1.02 if variation == "pixels" else 1.003
        )


@pytest.mark.parametrize("variation", ["rows", "pixels"])
def test_a_step_loses_the_height_that_the_closed_form_says(variation):
    step = torch.cat([torch.full((1, 1, 1, 4), 0.2), torch.full((1, 1, 1, 6), 0.9)], -1).double()
    found = least_variation(step, torch.ones(1, 1, 1, 10), 0.12, variation, 3000)
    expected = torch.cat([torch.full((4,), 0.2 + 0.12 / 4), torch.full((6,), 0.9 - 0.12 / 6)]).double()
    torch.testing.assert_close(found[0, 0, 0], expected, atol=1e-6, rtol=0)


def test_what_is_dropped_is_not_used_and_no_image_waits_for_another():
    images, kept = drawn(5, 2, 7, 6), drawn(1, 2, 7, 6, seed=3) > 0.4
    found = least_variation(images, kept, 0.03, "rows", 60)
    other = torch.where(kept, images, drawn(5, 2, 7, 6, seed=9))
    assert torch.equal(least_variation(other, kept, 0.03, "rows", 60), found)
    torch.testing.assert_close(least_variation(images[2:3], kept, 0.03, "rows", 60), found[2:3])
    nothing = least_variation(images, torch.zeros_like(kept), 0.03, "pixels", 5)
    assert torch.equal(nothing, torch.zeros_like(images))


@pytest.mark.parametrize(
    "name",
    ["bit_depth_0", "bit_depth_9", "bit_depth_1_2", "median_filter_2", "median_filter_0_2", "median_filter_10_3",
     "non_local_means_12_3_4", "non_local_means_13_3_0", "non_local_means_13_3", "jpeg_75", "bit_depth_-1", ""],
)  # fmt: skip
def test_what_is_no_squeezer_is_refused_with_the_forms(name):
    with pytest.raises(ValueError, match="is no squeezer: bit_depth_B"):
        squeezer(name)


def test_squeezers_are_the_filters_that_they_name():
    images = drawn(2, 3, 9, 9)
    assert torch.equal(squeezer("bit_depth_3").apply(images), bit_depth(images, 3))
    assert torch.equal(squeezer("median_filter_2_3").apply(images), median(images, 2, 3))
    assert torch.equal(squeezer("non_local_means_5_3_40").apply(images), non_local_means(images, 5, 3, 40 / 255))
