"""Pairs made of images: within their bounds, on the grid, of the right classes, whatever the batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from charpy.interfaces.dataset import Samples
from charpy.perception.groups import Look, Originals
from charpy.perception.made import Limits, another_class, look_alikes, mixtures, small_shift
from charpy.threat import Grid
from charpy.warp import Outside, affine


def drawn(count=40, shape=(1, 12, 10), classes=3, grid=Grid.EIGHT_BIT, low=0.0):
    generator = torch.Generator().manual_seed(1)
    images = low + (1 - low) * torch.rand(count, *shape, generator=generator)
    labels = torch.randint(0, classes, (count,), generator=generator)
    names = tuple(f"class {number}" for number in range(classes))
    samples = Samples(images, labels, tuple(f"id/{number}" for number in range(count)))
    return Originals.of("drawn", samples, names, grid)


def made(originals, limits=Limits()):  # noqa: B008 (immutable)
    return {group.name: group for group in look_alikes(originals, limits) + mixtures(originals, limits)}


ALL = torch.arange(40)


def test_the_groups_and_what_the_proxy_says_of_them():
    groups = made(drawn())
    alike = {name for name, group in groups.items() if group.look is Look.ALIKE}
    assert alike == {"rotated", "shifted", "rotated and shifted", "scaled", "brighter or darker"}
    different = {name for name, group in groups.items() if group.look is Look.DIFFERENT}
    assert different == {"combined, eps 0.3", "blended, 50 %", "another class"}
    assert set(groups) - alike - different == {"combined, eps 0.1", "combined, eps 0.2", "blended, 25 %"}
    assert all(len(group) == 40 and len(set(group.pairs)) == 40 for group in groups.values())
    assert groups["rotated"].pairs[3] == "id/3|rotated"


def test_every_pair_lies_in_the_box_on_the_grid_and_depends_on_its_image_alone():
    originals = drawn()
    for group in made(originals).values():
        first, changed = group.read(ALL)
        assert torch.equal(first, originals.images)
        steps = changed * 255
        assert torch.equal(changed, steps.round() / 255)
        assert 0 <= changed.min() <= changed.max() <= 1
        some = torch.tensor([17, 3, 30])
        assert torch.equal(group.read(some)[1], changed[some])
        assert torch.equal(made(originals)[group.name].read(some)[1], changed[some])
    other = made(originals, Limits(seed=1))
    assert not torch.equal(other["rotated"].read(ALL)[1], made(originals)["rotated"].read(ALL)[1])


def test_no_rounding_off_the_grid():
    changed = made(drawn(grid=Grid.NONE))["rotated"].read(ALL)[1]
    assert not torch.equal(changed, (changed * 255).round() / 255)


@pytest.mark.parametrize("outside", Outside)
def test_movements_are_within_their_bounds(outside):
    """A ramp down and one to the right tell where each pixel was taken from."""
    side = 21
    ramp = torch.arange(side).float() / (side - 1)
    two = torch.stack([ramp[:, None].expand(side, side), ramp[None, :].expand(side, side)])
    images = two[:, None].repeat(50, 1, 1, 1)
    ids = tuple(str(number) for number in range(100))
    originals = Originals("ramps", images, torch.zeros(100).long(), ids, ("a",), Grid.NONE)
    limits = Limits(rotation=20, shift=2, scale=0.2, brightness=0.2, outside=outside)
    middle, rows = side // 2, torch.arange(100)
    for name, most in (("shifted", 2.0), ("rotated", 0.0), ("scaled", 0.0)):
        changed = made(originals, limits)[name].read(rows)[1]
        moved = (changed[:, 0, middle, middle] - 0.5).abs() * (side - 1)
        assert moved.max() <= most + 1e-4, name
        assert moved.max() >= 0.9 * most, name
    slopes = {
        name: (made(originals, limits)[name].read(rows)[1].diff(dim=2)[0::2, 0, middle, middle] * (side - 1))
        for name in ("rotated", "scaled")
    }
    assert (slopes["rotated"] >= math.cos(math.radians(20)) - 1e-4).all()
    assert slopes["rotated"].min() < math.cos(math.radians(17))
    assert (slopes["scaled"] >= 1 / 1.2 - 1e-4).all()
    assert (slopes["scaled"] <= 1 / 0.8 + 1e-4).all()
    assert slopes["scaled"].min() < 0.87
    assert slopes["scaled"].max() > 1.15
    corner = made(originals, limits)["rotated"].read(rows)[1][0, 0, 0, 0]
    expected = affine(images[:1], torch.tensor([0.0]), torch.zeros(1, 2), outside=outside)[0, 0, 0, 0]
    assert corner == 0 or outside is Outside.EDGE or expected == 0


def test_brightness_is_one_step_for_the_whole_image():
    originals = drawn(grid=Grid.NONE)
    originals = originals._replace(images=originals.images * 0.5 + 0.25)
    gap = made(originals)["brighter or darker"].read(ALL)
    steps = (gap[1] - gap[0]).flatten(1)
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-6)
    assert 0.08 < steps.abs().max() <= 0.1 + 1e-6
    assert steps.min() < 0 < steps.max()


def test_a_combination_of_digits_is_that_of_the_paper_and_one_of_photographs_shows_the_other_class():
    dark = drawn()
    black = dark.images.clone()
    black[black < 0.6] = 0  # most of every image
    dark = dark._replace(images=black)
    other = dark.images[another_class(dark, 0)]
    for eps in (0.1, 0.3):
        first, changed = made(dark)[f"combined, eps {eps:g}"].read(ALL)
        step = math.floor(eps * 255) / 255
        assert torch.allclose(changed, (first + step * other.sign()).clamp(max=1), atol=0.5 / 255 + 1e-6)
        assert float((changed - first).abs().max()) <= eps
    bright = drawn(low=0.2)
    first, changed = made(bright, Limits(eps=(0.05,)))["combined, eps 0.05"].read(ALL)
    signs = (changed - first).sign().flatten(1)
    assert ((signs < 0).float().mean(1) > 0.3).all()
    assert ((signs > 0).float().mean(1) > 0.3).all()


def test_blends_and_another_class():
    originals = drawn()
    other = another_class(originals, 0)
    assert (originals.labels[other] != originals.labels).all()
    groups = made(originals)
    assert torch.equal(groups["another class"].read(ALL)[1], originals.images[other])
    blend = 0.75 * originals.images + 0.25 * originals.images[other]
    assert torch.allclose(groups["blended, 25 %"].read(ALL)[1], blend, atol=0.5 / 255 + 1e-6)


def test_every_image_of_another_class_is_as_likely():
    originals = drawn(6, classes=2)._replace(labels=torch.tensor([1, 0, 2, 1, 0, 1]))
    counts = np.zeros((6, 6))
    for seed in range(400):
        counts[np.arange(6), another_class(originals, seed).numpy()] += 1
    labels = originals.labels.numpy()
    for row in range(6):
        allowed = labels != labels[row]
        assert counts[row, ~allowed].sum() == 0
        expected = 400 / allowed.sum()
        assert (np.abs(counts[row, allowed] - expected) < 5 * math.sqrt(expected)).all()


def test_what_is_left_out():
    nothing = Limits(rotation=0, shift=0, scale=0, brightness=0, eps=(), blends=())
    assert set(made(drawn(), nothing)) == {"another class"}
    assert made(drawn(classes=1), nothing) == {}
    assert set(made(drawn(), Limits(rotation=0))) & {"rotated", "rotated and shifted"} == set()


def test_a_small_shift_is_small_for_small_images():
    assert small_shift((3, 32, 32)) == small_shift((1, 28, 28)) == small_shift((3, 299, 299)) == 2
    assert small_shift((1, 8, 8)) == pytest.approx(0.57)
