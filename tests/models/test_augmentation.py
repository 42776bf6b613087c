"""Augmentation against brute force."""

from __future__ import annotations

import numpy as np
import torch

from charpy_models.augmentation import augment
from charpy_models.recipe import Augmentation


def test_no_augmentation_changes_nothing():
    images = torch.rand(4, 3, 6, 6)
    assert torch.equal(augment(images, Augmentation()), images)


def test_shift_moves_each_image_by_whole_pixels_and_brings_in_black():
    most = 2
    images = torch.rand(400, 2, 5, 4)
    moved = augment(images, Augmentation(shift=most)).numpy()
    seen = set()
    for image, result in zip(images.numpy(), moved, strict=True):
        frame = np.pad(image, ((0, 0), (most, most), (most, most)))
        matches = [
            (down, right)
            for down in range(2 * most + 1)
            for right in range(2 * most + 1)
            if np.array_equal(frame[:, down : down + 5, right : right + 4], result)
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25  # one of the 25 shifts is missed by 400 draws with probability 2e-6


def test_flip_mirrors_about_half_of_the_images():
    images = torch.rand(400, 1, 3, 4)
    flipped = augment(images, Augmentation(flip=True))
    same = (flipped == images).flatten(1).all(1)
    mirrored = (flipped == torch.from_numpy(images.numpy()[..., ::-1].copy())).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 130 < int(mirrored.sum()) < 270  # seven standard deviations of a fair coin
