"""Attacks that see labels only, held against optima that are known and properties that can be checked."""

from __future__ import annotations

import pytest
import torch

from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Grid, Norm

COUNT = 6


def problem(pixels: int = 5):
    """Three classes on 3 x n x n images; grey lies on every boundary."""
    generator = torch.Generator().manual_seed(11)
    weight = torch.randn(3, 3, pixels, pixels, generator=generator)
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1), Output.LABELS)
    noise = torch.randn(COUNT, 3, pixels, pixels, generator=generator) * 0.1
    images = 0.5 + noise + 0.12 * weight[torch.arange(COUNT) % 3]
    return model, images.clamp(0.1, 0.9).mul(255).round().div(255)


def sizes(norm: Norm, moved: torch.Tensor) -> torch.Tensor:
    flat = moved.flatten(1)
    if norm is Norm.L0:
        return (moved != 0).any(1).flatten(1).sum(1).float()
    return flat.abs().amax(1) if norm is Norm.LINF else flat.norm(dim=1)


@pytest.mark.parametrize(
    ("kind", "norm", "ratio"),
    [
        ("hopskipjump", Norm.L2, 1.25),
        ("hopskipjump", Norm.LINF, 1.4),
        ("boundary", Norm.L2, 1.6),
        ("rays", Norm.LINF, 1.15),
        ("sparse_eda", Norm.L0, 1.25),
        ("pointwise", Norm.L0, 2.0),
    ],
)
@pytest.mark.parametrize("grid", [Grid.EIGHT_BIT, Grid.NONE])
def test_comes_near_the_optimum_with_a_thousand_labels(kind, norm, ratio, grid, attack_with):
    model, images = problem()
    optimum = model.smallest(norm, images, model.predict(images))
    radius = {Norm.L0: 25.0, Norm.LINF: 1.0, Norm.L2: 75**0.5}[norm]
    attack = registry().create("attacks", kind, {})
    found = attack_with(attack, model, images, norm=norm, radius=radius, queries=1000, grid=grid).found
    assert bool(found.found.all())
    reached = found.images.float() / 255 if grid is Grid.EIGHT_BIT else found.images
    moved = torch.where((reached - images).abs() < 1e-6, 0.0, reached - images)
    assert 1 - 1e-3 <= float(sizes(norm, moved).mean() / optimum.mean()) <= ratio


def test_what_pointwise_leaves_is_needed_to_the_pixel(attack_with):
    """After one search without a limit: no changed pixel can be set back."""
    model, images = problem()
    attack = registry().create("attacks", "pointwise", {"restarts": 1})
    run = attack_with(attack, model, images, norm=Norm.L0, radius=25.0, queries=2000)
    labels = model.predict(images)
    assert int(run.found.queries.max()) < 2000
    for sample in range(COUNT):
        image = run.found.images[sample].float() / 255
        for place in (image != images[sample]).any(0).nonzero().tolist():
            less = image.clone()
            less[:, place[0], place[1]] = images[sample][:, place[0], place[1]]
            assert int(model.predict(less[None])) == int(labels[sample])


def test_pointwise_in_groups_needs_fewer_rows(attack_with):
    model, images = problem(pixels=16)
    params = {"restarts": 1, "initial_share": 0.9}
    spent = [
        attack_with(
            registry().create("attacks", "pointwise", {**params, "largest_group": size}), model, images, norm=Norm.L0,
            radius=256.0, queries=2000,
        ).found.queries.float().mean()
        for size in (1, 128)
    ]  # fmt: skip
    assert spent[1] < spent[0]


@pytest.mark.parametrize("kind", ["rays", "sparse_eda"])
def test_ends_where_nothing_smaller_exists(kind, attack_with):
    """One step (Linf) or one pixel (L0) changes the class: no further row is spent."""
    model = LinearModel(torch.ones(1, 4, 4), bias=-8.0, output=Output.LABELS)
    images = torch.full((2, 1, 4, 4), 128 / 255)
    images[:, 0, 0, 0] = 121 / 255
    labels = model.predict(images)
    attack = registry().create("attacks", kind, {})
    norm = next(iter(attack.norms))
    found = attack_with(attack, model, images, norm=norm, radius=1.0, labels=labels, queries=3000).found
    assert bool(found.found.all())
    assert int(found.queries.max()) < 3000
    moved = sizes(norm, found.images.float() / 255 - images)
    assert torch.allclose(moved, torch.full((2,), 1.0 if norm is Norm.L0 else 1 / 255))


def test_dithering_sees_progress_below_one_grid_step(attack_with):
    """The same search told only whole steps stops farther away."""
    model, images = problem(pixels=8)
    size = {}
    for dither in (1, 16):
        attack = registry().create("attacks", "rays", {"dither": dither})
        found = attack_with(attack, model, images, norm=Norm.LINF, radius=1.0, queries=700).found
        size[dither] = float(sizes(Norm.LINF, found.images.float() / 255 - images).mean())
    assert size[16] < size[1]


def test_the_normal_that_hopskipjump_follows_is_the_boundarys(attack_with):
    """On two classes, away from the box, ten good estimates of the normal lead to the foot of the perpendicular."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 6, 6, generator=generator)
    images = 0.5 + 0.05 * torch.randn(4, 1, 6, 6, generator=generator)
    value = (images * weight).flatten(1).sum(1)
    model = LinearModel(weight, bias=-float(value.max()) - 0.3 * float(weight.norm()), output=Output.LABELS)
    found = {}
    for steps, evaluations in ((1, 2), (10, 300)):
        attack = registry().create("attacks", "hopskipjump", {"steps": steps, "initial_evaluations": evaluations})
        run = attack_with(attack, model, images, norm=Norm.L2, radius=6.0, queries=5000, grid=Grid.NONE)
        found[steps] = sizes(Norm.L2, run.found.images - images)
    optimum = (value + model.bias).abs() / weight.norm()
    assert bool((found[10] < 1.1 * optimum).all())
    assert float((found[1] / optimum).mean()) > float((found[10] / optimum).mean())


@pytest.mark.parametrize("kind", ["boundary", "hopskipjump", "rays", "pointwise", "sparse_eda"])
def test_a_class_that_no_image_has_is_held_without_a_crash(kind, attack_with):
    model, images = problem()
    model.bias[2] = -1e6
    keep = model.predict(images) != 2
    targets = torch.full((int(keep.sum()),), 2)
    attack = registry().create("attacks", kind, {})
    for norm in sorted(attack.norms):
        run = attack_with(attack, model, images[keep], norm=norm, radius=5.0, targets=targets, queries=60)
        assert not bool(run.found.found.any())
