"""Starting points, rendering and bisection of the attacks that see labels only."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.interfaces.attack import Task
from charpy.interfaces.model import Output
from charpy.oracle import Oracle
from charpy.random import Random, sample_keys
from charpy.search.boundary_search import Rendering, adversarial, bisect, starting_points
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Goal, Grid, Norm, ThreatModel


def task_of(model, images, *, norm=Norm.L2, queries=500, targets=None, grid=Grid.NONE, ids=None, seed=0):
    goal = Goal.UNTARGETED if targets is None else Goal.TARGETED
    threat = ThreatModel(norm=norm, radius=1000, queries=queries, goal=goal, access=Access.LABELS, grid=grid)
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    labels = model.predict(images)
    engine = QueryEngine(model, model.output, way, way, num_classes=model.num_classes)
    oracle = Oracle(engine, model, images, labels, targets, threat, minimise=True)
    keys = sample_keys(ids or tuple(f"sample {i}" for i in range(len(images))))
    return Task(images, labels, targets, threat, oracle, Random(seed, keys))


@pytest.fixture
def images():
    return (torch.rand(6, 3, 6, 6, generator=torch.Generator().manual_seed(1)) * 255).round() / 255


@pytest.fixture
def classifier():
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(4, 3, 6, 6, generator=generator)
    return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1), Output.LABELS)


@pytest.mark.parametrize("targeted", [False, True])
def test_starting_points_are_adversarial(classifier, images, targeted):
    targets = (classifier.predict(images) + 1) % 4 if targeted else None
    task = task_of(classifier, images, targets=targets)
    found = starting_points(task, 200)
    assert bool(found.found.all())
    answers = classifier.predict(found.images)
    assert bool((answers == targets if targeted else answers != task.labels).all())


def test_corner_starting_points_have_only_black_and_white_values(classifier, images):
    found = starting_points(task_of(classifier, images), 200, corners=True)
    assert bool(found.found.all())
    assert set(found.images.unique().tolist()) <= {0.0, 1.0}


def test_no_more_rows_than_tries_and_none_for_a_sample_that_has_its_start(images):
    never = LinearModel(torch.zeros(3, 6, 6), bias=1.0, output=Output.LABELS)
    task = task_of(never, images)
    found = starting_points(task, 23)
    assert not bool(found.found.any())
    assert torch.equal(found.images, images)
    assert task.oracle.queries.tolist() == [23] * 6
    bright = LinearModel(torch.ones(3, 6, 6), bias=-54.0, output=Output.LABELS)
    task = task_of(bright, images * 0.5)  # dark images: the inverted image, the second try, is bright
    assert bool(starting_points(task, 23).found.all())
    assert int(task.oracle.queries.max()) <= 2


def test_a_sample_starts_alike_in_any_company(classifier, images):
    ids = tuple("abcdef")
    whole = starting_points(task_of(classifier, images, ids=ids), 50)
    part = starting_points(task_of(classifier, images[[4, 2]], ids=("e", "c")), 50)
    assert torch.equal(part.images, whole.images[[4, 2]])
    other = starting_points(task_of(classifier, images, ids=ids, seed=1), 50)
    assert not torch.equal(other.images, whole.images)


def test_refused_rows_are_not_adversarial(classifier, images):
    targets = torch.full((6,), 3)
    task = task_of(classifier, images, queries=1, targets=targets)
    owner = torch.arange(6)
    adversarial(task, images, owner)
    assert adversarial(task, images, owner).tolist() == [False] * 6
    task = task_of(classifier, images, queries=1)
    adversarial(task, images, owner)
    assert adversarial(task, images, owner).tolist() == [False] * 6


def crossing(model, images, outside):
    """Where along each segment the linear model's value is 0, in closed form."""
    here = (images * model.weight).flatten(1).sum(1) + model.bias
    there = (outside - images).mul(model.weight).flatten(1).sum(1)
    return -here / there


def test_bisection_of_a_segment_ends_within_the_tolerance_outside_the_boundary(images):
    model = LinearModel(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(5)), output=Output.LABELS)
    task = task_of(model, images)
    starts = starting_points(task, 50)
    assert bool(starts.found.all())
    near = bisect(task, Norm.L2, starts.images, torch.arange(6), 1e-3, Rendering(task))
    exact = crossing(model, images, starts.images)
    share = (near - images).flatten(1).norm(dim=1) / (starts.images - images).flatten(1).norm(dim=1)
    assert bool((model.predict(near) != task.labels).all())
    assert bool(((share - exact > -1e-5) & (share - exact < 1e-3 + 1e-5)).all())


def test_bisection_of_a_ball_finds_the_least_clipping_radius(images):
    model = LinearModel(torch.randn(3, 6, 6, generator=torch.Generator().manual_seed(5)), output=Output.LABELS)
    task = task_of(model, images, norm=Norm.LINF)
    outside = torch.where(model.weight > 0, 1.0, 0.0).expand(6, -1, -1, -1).clone()
    outside[task.labels == 1] = 1 - outside[task.labels == 1]
    near = bisect(task, Norm.LINF, outside, torch.arange(6), 1e-4, Rendering(task))
    radius = (near - images).flatten(1).abs().amax(1)
    least = model_least(model, images, outside, task.labels)
    assert torch.allclose(radius, least, atol=2e-4)


def model_least(model, images, outside, labels):
    """The least radius whose clipping is adversarial, by trying 20,000 of them."""
    found = torch.full((len(images),), torch.inf)
    for step in range(20_000, 0, -1):
        radius = step / 20_000
        hit = model.predict(images + (outside - images).clamp(-radius, radius)) != labels
        found[hit] = radius
        if not bool(hit.any()):
            break
    return found


def test_a_dithered_rendering_is_right_on_average_and_keeps_whole_steps(images):
    model = LinearModel(torch.ones(3, 6, 6), output=Output.LABELS)
    task = task_of(model, images, grid=Grid.EIGHT_BIT)
    owner = torch.arange(6)
    render = Rendering(task, dither=True)
    assert torch.equal((render(images, owner) * 255).round(), (images * 255).round())
    between = torch.full_like(images, 100.3 / 255)
    steps = render(between, owner) * 255
    assert set(steps.round().unique().tolist()) == {100.0, 101.0}
    assert abs(float(steps.mean()) - 100.3) < 0.06
    assert torch.equal(steps, render(between, owner) * 255)
    assert set((Rendering(task)(between, owner) * 255).round().unique().tolist()) == {100.0}


def test_off_the_grid_images_are_only_brought_into_the_box(images):
    task = task_of(LinearModel(torch.ones(3, 6, 6), output=Output.LABELS), images)
    moved = images * 3 - 1
    assert torch.equal(Rendering(task, dither=True)(moved, torch.arange(6)), moved.clamp(0, 1))
