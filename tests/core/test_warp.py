"""Rotation, shift, scale and flow: scipy's interpolation, exact cases, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform, map_coordinates

from charpy.warp import Outside, affine, flowed

MODES = {Outside.BLACK: "grid-constant", Outside.EDGE: "nearest"}


def pictures(count=3, shape=(2, 9, 12), seed=0, dtype=torch.float64):
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def of(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize("outside", Outside)
def test_equals_scipys_affine_transform(outside):
    images = pictures()
    angles, shifts, scales = of(0, 23.5, -71), of([0, 0], [1.3, -2], [-0.4, 3.5]), of(1, 0.8, 1.6)
    found = affine(images, angles, shifts, scales, outside=outside)
    middle = np.array([(size - 1) / 2 for size in images.shape[2:]])
    for i, angle in enumerate(np.deg2rad(angles.numpy())):
        matrix = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]) / float(scales[i])
        offset = middle - matrix @ (middle + shifts[i].numpy())
        for channel in range(images.shape[1]):
            wanted = affine_transform(images[i, channel].numpy(), matrix, offset, order=1, mode=MODES[outside])
            np.testing.assert_allclose(found[i, channel].numpy(), wanted, atol=1e-9)


@pytest.mark.parametrize("outside", Outside)
def test_a_flow_equals_scipys_map_coordinates(outside):
    images = pictures()
    flow = torch.randn(3, 2, *images.shape[2:], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = flowed(images, flow, outside=outside)
    places = np.stack(np.meshgrid(*map(np.arange, images.shape[2:]), indexing="ij"))
    for i in range(3):
        for channel in range(2):
            wanted = map_coordinates(images[i, channel].numpy(), places + flow[i].numpy(), order=1, mode=MODES[outside])
            np.testing.assert_allclose(found[i, channel].numpy(), wanted, atol=1e-9)


def test_a_quarter_turn_is_counter_clockwise_and_a_shift_is_down_and_right():
    images = pictures(1, (1, 7, 7))
    still = torch.zeros(1, 2, dtype=torch.float64)
    assert torch.allclose(affine(images, of(90), still), torch.rot90(images, 1, (2, 3)))
    moved = affine(images, of(0), of([2, 1]))
    assert torch.allclose(moved[..., 2:, 1:], images[..., :-2, :-1])
    assert torch.cat([moved[..., :2, :].flatten(), moved[..., :1].flatten()]).abs().max() < 1e-12


def test_nothing_moves_nothing_even_in_an_image_of_one_pixel():
    for shape in [(1, 1, 1), (3, 1, 5), (3, 8, 8)]:
        images = pictures(2, shape, dtype=torch.float32)
        zero = torch.zeros(2)
        assert torch.allclose(affine(images, zero, torch.zeros(2, 2)), images, atol=1e-6)
        assert torch.allclose(flowed(images, torch.zeros(2, 2, *shape[1:])), images, atol=1e-6)


def test_rows_of_a_batch_are_alone():
    images, angles, shifts = pictures(), of(5, 9, -8), of([1, 2], [0.5, 0], [-1, 0.25])
    whole = affine(images, angles, shifts)
    for i in range(3):
        assert torch.equal(whole[i : i + 1], affine(images[i : i + 1], angles[i : i + 1], shifts[i : i + 1]))


def test_gradients_reach_every_argument():
    images = pictures(2, (1, 5, 6)).requires_grad_()
    angle, shift, scale = of(7, -13), of([0.3, 0.6], [-0.7, 0.2]), of(0.9, 1.1)
    flow = 0.3 * torch.randn(2, 2, 5, 6, generator=torch.Generator().manual_seed(2), dtype=torch.float64) + 0.1
    for tensor in (angle, shift, scale, flow):
        tensor.requires_grad_()
    torch.autograd.gradcheck(lambda *rest: affine(*rest), (images, angle, shift, scale))
    torch.autograd.gradcheck(lambda *rest: flowed(*rest), (images, flow))
