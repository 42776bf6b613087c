"""Bounds of random networks against dense sampling, of linear ones against their exact extremes."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from charpy.bounds.backward import lower_bounds
from charpy.bounds.forward import forward_bounds
from charpy.bounds.from_torch import graph_of_module
from charpy.bounds.graph import Graph, UnsupportedError
from charpy.bounds.inner import known_bounds, lines_of
from charpy.bounds.regions import Ball, Box, FewPixels, FewValues
from charpy.bounds.slopes import best_lower_bounds
from charpy.threat import Norm

SHAPE = (2, 6, 6)
GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.rand(3, *SHAPE, generator=GENERATOR)
MANY = 2000


KINDS = (
    "dense",
    "max pool",
    "max pool of three",
    "max pool below no relu",
    "average pool",
    "residual",
    "joined",
)


@pytest.fixture
def graph_of(network):
    return lambda kind, seed=0: graph_of_module(network(kind, seed), SHAPE)


def backward(graph: Graph, region, steps: int = 0) -> torch.Tensor:
    known = known_bounds(graph, region, steps)
    rows = torch.eye(graph.num_classes)[None].expand(len(region), -1, -1)
    return best_lower_bounds(graph, len(graph.nodes) - 1, rows, known, lines_of(graph, known), region, steps)


def sampled(low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """`(MANY, B, C, H, W)`: corners, edges and inner points."""
    share = torch.rand(MANY, *low.shape, generator=GENERATOR)
    share[: MANY // 2] = share[: MANY // 2].round()
    return low + share * (high - low)


@pytest.mark.parametrize("kind", KINDS)
def test_a_graph_answers_as_its_module(kind, network):
    module, images = network(kind, 1), torch.rand(7, *SHAPE)
    assert torch.allclose(graph_of_module(module, SHAPE)(images), module(images), atol=1e-5)


@pytest.mark.parametrize("steps", [0, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_no_sample_of_a_box_lies_below_the_bound(kind, steps, graph_of):
    for seed in range(5):
        graph = graph_of(kind, seed)
        for radius in (0.0, 0.02, 0.2, 1.0):
            box = Box.around(IMAGES, radius)
            bound = backward(graph, box, steps)
            found = graph(sampled(box.low, box.high).flatten(0, 1)).view(MANY, 3, -1).amin(0)
            assert bool((found >= bound - 1e-4).all()), (seed, radius)
            if radius == 0:
                assert torch.allclose(bound, graph(IMAGES), atol=1e-4), "a point is its own bound"


@pytest.mark.parametrize("kind", KINDS)
def test_better_slopes_never_make_a_bound_worse(kind, graph_of):
    graph, box = graph_of(kind), Box.around(IMAGES, 0.1)
    plain, better = backward(graph, box), backward(graph, box, 8)
    assert bool((better >= plain - 1e-5).all())
    if kind in {"max pool", "residual"}:
        assert float((better - plain).max()) > 1e-3


@pytest.mark.parametrize("kind", KINDS)
def test_every_inner_value_lies_between_its_bounds(kind, graph_of):
    graph, box = graph_of(kind), Box.around(IMAGES, 0.05)
    known = known_bounds(graph, box)
    for image in sampled(box.low, box.high)[:500]:
        values = [image]
        for node in graph.nodes[1:]:
            values.append(node.op(*(values[place] for place in node.inputs)))
        for place, (low, high) in known.items():
            assert bool((values[place] >= low - 1e-4).all()), place
            assert bool((values[place] <= high + 1e-4).all()), place


@pytest.mark.parametrize("kind", KINDS)
def test_forward_bounds_hold_where_few_values_are_free(kind, graph_of):
    for seed in range(5):
        graph = graph_of(kind, seed)
        places = torch.rand(3, 72, generator=GENERATOR).argsort(1)[:, :3]
        ends = torch.rand(3, 3, 2, generator=GENERATOR)
        region = FewValues(IMAGES, places, ends.amin(2), ends.amax(2))
        low, high = forward_bounds(graph, region)
        found = graph(sampled(*region.hull()).flatten(0, 1)).view(MANY, 3, -1)
        assert bool((found.amin(0) >= low - 1e-4).all())
        assert bool((found.amax(0) <= high + 1e-4).all())
        assert bool((backward(graph, region) <= found.amin(0) + 1e-4).all())


def random_changes(images: torch.Tensor, groups: tuple[torch.Tensor, ...], counts: tuple[int, ...]) -> torch.Tensor:
    """Images with at most so many pixels of each group changed."""
    changed = images.repeat(MANY, 1, 1, 1)
    flat = changed.flatten(2)
    for group, count in zip(groups, counts, strict=True):
        own = group.repeat(MANY, 1)
        order = torch.rand(own.shape, generator=GENERATOR).masked_fill(own < 0, 2).argsort(1)[:, :count]
        pixels = own.gather(1, order)
        value = torch.rand(len(flat), 2, count, generator=GENERATOR)
        value = torch.where(torch.rand(value.shape, generator=GENERATOR) < 0.7, value.round(), value)
        index = pixels.clamp_min(0)[:, None].expand(-1, 2, -1)
        kept = (pixels >= 0)[:, None] & (torch.rand(len(flat), 1, count, generator=GENERATOR) < 0.9)
        flat.scatter_(2, index, torch.where(kept, value, flat.gather(2, index)))
    return flat.view_as(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_for_every_change_of_few_pixels(kind, graph_of):
    groups = (torch.arange(0, 12).expand(3, -1), torch.tensor([12, 13, 14, -1]).expand(3, -1))
    for seed in range(3):
        graph, region = graph_of(kind, seed), FewPixels(IMAGES, groups, (2, 1))
        found = graph(random_changes(IMAGES, groups, (2, 1))).view(MANY, 3, -1).amin(0)
        assert bool((found >= forward_bounds(graph, region)[0] - 1e-4).all())
        assert bool((found >= backward(graph, region) - 1e-4).all())


def test_the_least_change_of_few_pixels_is_that_of_all_enumerated():
    images, groups, counts = IMAGES[:1, :, :2, :3], (torch.tensor([[0, 2, 5]]), torch.tensor([[1, 3]])), (2, 1)
    region, row = FewPixels(images, groups, counts), torch.randn(1, 1, 2, 2, 3, generator=GENERATOR)
    values = [
        sum(
            torch.minimum(-row[0, 0, :, p // 3, p % 3] * images[0, :, p // 3, p % 3],
                          row[0, 0, :, p // 3, p % 3] * (1 - images[0, :, p // 3, p % 3])).sum()
            for p in (*first, *second)
        )
        for first in itertools.chain.from_iterable(itertools.combinations((0, 2, 5), n) for n in range(3))
        for second in ((), (1,), (3,))
    ]  # fmt: skip
    assert float(region.lowest(row)) == pytest.approx(float((row[0, 0] * images[0]).sum() + min(map(float, values))))


@pytest.mark.parametrize(("norm", "radius"), [(Norm.L2, 0.4), (Norm.L1, 0.4)])
def test_a_ball_bounds_a_linear_function_by_its_dual_norm(norm, radius):
    images, row = torch.full((1, *SHAPE), 0.5), torch.randn(1, 1, *SHAPE, generator=GENERATOR)
    dual = row.norm() if norm is Norm.L2 else row.abs().max()
    exact = 0.5 * row.sum() - radius * dual
    ball = Ball(images, radius, norm)
    low, high = ball.hull()
    assert float(ball.lowest(row)) == pytest.approx(float(exact), rel=1e-4)
    assert bool((low >= 0).all())
    assert bool((high <= 1).all())


def test_a_network_without_activations_is_bounded_exactly():
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 3))
    graph, box = graph_of_module(module, SHAPE), Box.around(IMAGES, 0.1)
    slope = torch.autograd.functional.jacobian(lambda x: module(x).sum(0), IMAGES[:1])[:, 0]
    middle, half = (box.low + box.high) / 2, (box.high - box.low) / 2
    exact = module(middle) - (slope.abs()[None] * half[:, None]).flatten(2).sum(2)
    rows = torch.eye(3)[None].expand(3, -1, -1)
    assert torch.allclose(lower_bounds(graph, len(graph.nodes) - 1, rows, {}, box), exact, atol=1e-4)


def test_margins_are_the_differences_of_scores(graph_of):
    graph = graph_of("residual")
    scores = graph(IMAGES)
    assert torch.allclose(graph.margins(1)(IMAGES), scores[:, 1:2] - scores[:, [0, 2]], atol=1e-5)
    assert len(graph.margins(1).nodes) == len(graph.nodes), "one with the last layer"


class Odd(nn.Module):
    """Uses an operator that has no bounds."""

    def forward(self, x):
        return x.flatten(1).cumsum(1)[:, :3]


def test_an_operator_without_bounds_is_named_with_where_it_would_be_added():
    with pytest.raises(UnsupportedError, match=r"cumsum(.|\n)*from_torch.py"):
        graph_of_module(Odd(), SHAPE)


def test_a_network_that_mixes_the_images_of_a_batch_is_refused():
    class Mixing(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 3)

    with pytest.raises(UnsupportedError):
        graph_of_module(Mixing(), SHAPE)
