"""The training loop: augmentation against brute force, seeds, and every parameter of a recipe."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy.errors import ModelError, UnknownNameError
from charpy_models.recipes import RECIPES, Augmentation, Recipe, recipe_for
from charpy_models.training import augment, count_correct, fit

TINY = Recipe(
    architecture="charpy_models.architectures.digits_cnn:DigitsCNN",
    architecture_params={"num_classes": 2, "widths": (3, 4), "hidden": 5},
    data="none",
    epochs=2,
    batch_size=8,
    learning_rate=0.01,
)


@pytest.fixture
def dark_and_bright() -> tuple[torch.Tensor, torch.Tensor]:
    """48 images that a threshold of their mean tells apart."""
    draw = torch.Generator().manual_seed(7)
    labels = torch.arange(48) % 2
    images = torch.randint(0, 100, (48, 1, 8, 8), generator=draw) + 150 * labels[:, None, None, None]
    return images.to(torch.uint8), labels


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


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


def test_it_learns_what_can_be_learnt(dark_and_bright):
    images, labels = dark_and_bright
    losses = []
    module = fit(
        TINY.model_copy(update={"epochs": 20}),
        images,
        labels,
        seed=1,
        progress=lambda epoch, loss: losses.append((epoch, loss)),
    )
    assert count_correct(module, images, labels) == 48
    assert [epoch for epoch, _ in losses] == list(range(1, 21))
    assert losses[-1][1] < losses[0][1]
    assert not module.training


def test_the_seed_decides(dark_and_bright):
    first, again, other = (fit(TINY, *dark_and_bright, seed=seed) for seed in (3, 3, 4))
    assert equal(first, again)
    assert not equal(first, other)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"batch_size": 16},
        {"learning_rate": 0.02},
        {"warm_up": 0.5},
        {"weight_decay": 0.5},
        {"augmentation": Augmentation(flip=True)},
        {"augmentation": Augmentation(shift=1)},
        {"architecture_params": {"num_classes": 2, "widths": (3, 4), "hidden": 5, "mean": (0.5,)}},
    ],
    ids=lambda change: ",".join(change),
)
def test_every_parameter_has_an_effect(dark_and_bright, change):
    assert not equal(fit(TINY, *dark_and_bright, seed=3), fit(TINY.model_copy(update=change), *dark_and_bright, seed=3))


def test_the_callers_generator_and_images_are_left_alone(dark_and_bright):
    images, labels = dark_and_bright
    before, state = images.clone(), torch.get_rng_state()
    fit(TINY, images, labels, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


def test_divergence_is_an_error(dark_and_bright):
    with pytest.raises(ModelError, match="diverged") as caught:
        fit(TINY.model_copy(update={"learning_rate": 1e30}), *dark_and_bright, seed=3)
    assert "learning_rate" in caught.value.hint


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_count_correct(batch_size):
    class Brightness(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mean = images.flatten(1).mean(1)
            return torch.stack([0.5 - mean, mean - 0.5], dim=1)

    images = torch.tensor([0, 255, 10, 200, 255], dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor([0, 1, 1, 1, 0])
    assert count_correct(Brightness(), images, labels, batch_size=batch_size) == 3
    assert count_correct(Brightness(), images / 255, labels, batch_size=batch_size) == 3


def test_recipes_are_found_by_name():
    assert recipe_for("digits-cnn") is RECIPES["digits-cnn"]
    with pytest.raises(UnknownNameError, match="mnist-lenet"):
        recipe_for("mnist-lenett")
