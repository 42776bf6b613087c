"""sparse_rs: its three shapes, the rules of its steps, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.errors import SpecError
from charpy.interfaces.attack import Task
from charpy.pixels import quantise
from charpy.random import Random, sample_keys
from charpy.search.painting import Frame, Patch
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm, ThreatModel
from charpy_plugins.attacks.score.sparse_rs import Pixels, SparseRs

GENERATOR = torch.Generator().manual_seed(29)
IMAGES = torch.randint(0, 256, (40, 3, 9, 8), generator=GENERATOR).float() / 255
BINARY = torch.randint(0, 2, (40, 1, 9, 8), generator=GENERATOR).float()


def task_of(images: torch.Tensor, th: int, grid: Grid = Grid.EIGHT_BIT) -> Task:
    threat = ThreatModel.at_level(Norm.L0, th, grid=grid, queries=1000)
    random = Random(0, sample_keys([str(i) for i in range(len(images))]))
    return Task(images, torch.zeros(len(images), dtype=torch.int64), None, threat, None, random)


def state_of(painting, step: int):
    sample = torch.arange(len(painting.images))
    state = painting.begin(sample, torch.zeros_like(sample))
    return {**state, "sample": sample, "run": torch.zeros_like(sample), "step": torch.full_like(sample, step)}


def after(painting, state):
    return painting.render({**state, **painting.propose(state)})


def model_at(gap: float, images: torch.Tensor = IMAGES) -> LinearClassifier:
    """Two classes; the image nearest to the boundary is of class 0 by `gap`."""
    weight = torch.randn(2, *images.shape[1:], generator=torch.Generator().manual_seed(5))
    values = (images * (weight[0] - weight[1])).flatten(1).sum(1)
    return LinearClassifier(weight, torch.tensor([gap - float(values.min()), 0.0]))


@pytest.mark.parametrize("images", [IMAGES, BINARY], ids=["colour", "binary"])
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize(("th", "step"), [(1, 3), (5, 1), (30, 1), (30, 500), (72, 3)])
def test_exactly_th_pixels_are_changed_to_corners(images, grid, th, step):
    pixels = Pixels(task_of(images, th, grid), 1000, 0.3, 0.3, 2)
    originals = quantise(images) if grid is Grid.EIGHT_BIT else images
    for at in (0, step):
        state = state_of(pixels, at)
        image = pixels.render(state) if at == 0 else after(pixels, state)
        changed = (image != originals).any(1)
        assert changed.flatten(1).sum(1).tolist() == [th] * len(images), "no pixel is wasted on the image's own colour"
        painted = image.permute(0, 2, 3, 1)[changed]
        assert set(painted.flatten().tolist()) == {0, 255} if grid is Grid.EIGHT_BIT else {0, 1}


@pytest.mark.parametrize(("step", "swapped"), [(3, 10), (15, 5), (40, 4), (90, 3), (150, 2), (700, 1)])
def test_a_step_exchanges_the_schedules_share(step, swapped):
    pixels = Pixels(task_of(IMAGES, 20), 1000, 1.0, 0.0, 2)
    state = state_of(pixels, step)
    new = pixels.propose(state)
    moved = (new["place"] != state["place"]).sum(1)
    assert int(moved.max()) == swapped
    assert float(moved.float().mean()) > 0.6 * swapped, "but for places drawn twice"
    kept = new["place"] == state["place"]
    own = (new["colour"] == state["colour"]).all(2)
    assert int((kept & own).sum(1).min()) >= 20 - swapped
    for row in new["place"]:
        assert len(set(row.tolist())) == 20


def test_a_far_step_reaches_every_place_outside_the_set():
    pixels = Pixels(task_of(IMAGES[:1], 3), 1000, 0.3, 0.0, 2)
    state = state_of(pixels, 1)
    held = set(state["place"][0].tolist())
    unit = torch.rand(1, 20_000 * 3, generator=GENERATOR).view(20_000, 3)
    seen = set(pixels._far(state["place"].expand(20_000, -1), unit).flatten().tolist())
    assert seen == set(range(72)) - held


def test_a_near_step_stays_near_and_half_of_them_keep_the_colour():
    pixels = Pixels(task_of(IMAGES, 6), 1000, 0.1, 1.0, 2)
    kept = total = 0
    for step in range(100, 160):
        state = state_of(pixels, step)
        new = pixels.propose(state)
        down = (new["place"] // 8 - state["place"] // 8).abs()
        across = (new["place"] % 8 - state["place"] % 8).abs()
        assert int(down.max()) <= 2
        assert int(across.max()) <= 2
        moved = new["place"] != state["place"]
        assert int(moved.sum(1).max()) <= 1
        total += int(moved.sum())
        kept += int((moved & (new["colour"] == state["colour"]).all(2)).sum())
    assert 0.45 < kept / total < 0.65


def test_a_patch_is_a_square_that_moves_and_is_repainted():
    patch = Patch(task_of(IMAGES, 17), 1000, 0.4, 4)
    assert patch.size == 4
    for step, moves in ((4, True), (5, False), (999, False)):
        state = state_of(patch, step)
        new = patch.propose(state)
        assert bool((new["corner"] != state["corner"]).any()) is moves
        assert bool((new["colour"] != state["colour"]).any()) is not moves
        place = new["place"]
        rows, columns = place // 8, place % 8
        assert int((rows.amax(1) - rows.amin(1)).max()) == int((columns.amax(1) - columns.amin(1)).max()) == 3
        assert all(len(set(row.tolist())) == 16 for row in place)
    late = patch.propose(state_of(patch, 999))["colour"] != state_of(patch, 999)["colour"]
    assert late.flatten(1).sum(1).tolist() == [1] * 40, "one channel of one pixel"


@pytest.mark.parametrize(("th", "thickness", "count"), [(30, 1, 30), (51, 1, 30), (52, 2, 52), (72, 4, 72)])
def test_a_frame_lies_along_the_border(th, thickness, count):
    frame = Frame(task_of(IMAGES, th), 1000, 0.5)
    rows, columns = frame.frame // 8, frame.frame % 8
    edge = torch.stack([rows, 8 - rows, columns, 7 - columns]).amin(0)
    assert len(frame.frame) == count
    assert int(edge.max()) == thickness - 1
    state = state_of(frame, 10)
    changed = (after(frame, state) != frame.render(state)).any(1).flatten(1)
    assert int(changed.any(1).sum()) > 20
    assert set(changed.nonzero()[:, 1].tolist()) <= set(frame.frame.tolist())


def test_a_level_without_room_for_a_frame_is_refused(attack_with):
    attack = SparseRs(SparseRs.Params(shape="frame"))
    with pytest.raises(SpecError, match=r"no frame fits[^$]*at least 30"):
        attack_with(attack, model_at(1.0), IMAGES, norm=Norm.L0, th=29)


@pytest.mark.parametrize(("shape", "th"), [("pixels", 6), ("patch", 16), ("frame", 30)])
def test_each_shape_breaks_what_it_can(shape, th, attack_with):
    model = model_at(0.5)
    model.bias = model.bias + torch.tensor([0.0, 1.0])
    attack = SparseRs(SparseRs.Params(shape=shape))
    labels = torch.zeros(len(IMAGES), dtype=torch.int64)
    near = model.smallest(Norm.L0, IMAGES, labels) <= 4
    assert int(near.sum()) >= 2
    near = near & (model.predict(IMAGES).argmax(1) == 0)
    trial = attack_with(attack, model, IMAGES[near], norm=Norm.L0, th=th, queries=1500, labels=labels[near])
    assert all(trial.broken) if shape == "pixels" else any(trial.broken)


@pytest.mark.parametrize(
    ("base", "changed"),
    [
        ({}, {"shape": "patch"}),
        ({}, {"shape": "frame"}),
        ({}, {"alpha_init": 0.9}),
        ({}, {"local": 0.0}),
        ({}, {"reach": 1}),
        ({}, {"restarts": 3}),
        ({}, {"rescale": False}),
        ({"shape": "patch"}, {"alpha_init": 1.0}),
        ({"shape": "patch"}, {"period": 2}),
        ({"shape": "frame"}, {"alpha_init": 1.0}),
    ],
)
def test_every_parameter_has_an_effect(base, changed, attack_with):
    model = model_at(60.0)
    th = 56 if changed == {"alpha_init": 1.0} else 30  # large enough for several sides of the squares
    runs = [
        attack_with(SparseRs(SparseRs.Params(**base, **p)), model, IMAGES[:6], norm=Norm.L0, th=th, queries=150).found
        for p in ({}, {}, changed)
    ]
    assert torch.equal(runs[0].trace.nan_to_num(), runs[1].trace.nan_to_num())
    assert not torch.equal(runs[0].trace.nan_to_num(), runs[2].trace.nan_to_num())


@pytest.mark.parametrize("shape", ["pixels", "patch", "frame"])
def test_a_sample_does_not_depend_on_the_others_or_on_the_batch(shape, attack_with):
    names = tuple(str(i) for i in range(40))
    attack, model = SparseRs(SparseRs.Params(shape=shape)), model_at(1.0)
    labels = torch.zeros(40, dtype=torch.int64)
    fields = {"norm": Norm.L0, "th": 36, "queries": 100}
    whole = attack_with(attack, model, IMAGES, ids=names, labels=labels, **fields).found
    keep = [31, 2, 7]
    part = attack_with(
        attack, model, IMAGES[keep], ids=tuple(names[i] for i in keep), labels=labels[keep], batch=2, **fields
    ).found
    assert torch.equal(part.images, whole.images[keep])
    assert part.queries_to_success.tolist() == whole.queries_to_success[keep].tolist()
