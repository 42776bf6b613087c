from __future__ import annotations

import tracemalloc
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from charpy.errors import DataError
from charpy.pixels import REAL_TOLERANCE, as_images, distances, inside, on_grid, pack, quantise, snap, unpack
from charpy.threat import BALLS, Grid, Norm, ThreatModel

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=5)
PIXELS = SHAPES.flatmap(lambda shape: hnp.arrays(np.uint8, shape))
PAIRS = hnp.array_shapes(min_dims=4, max_dims=4, min_side=1, max_side=4).flatmap(
    lambda shape: st.tuples(hnp.arrays(np.uint8, shape), hnp.arrays(np.uint8, shape))
)
quick = settings(max_examples=60)


def brute(norm: Norm, a: np.ndarray, b: np.ndarray) -> list[float]:
    """Distances by counting, one pixel after the other; 1/255 steps, pixels for L0."""
    result = []
    for x, y in zip(a.astype(int), b.astype(int), strict=True):
        changed, total, squares, largest = 0, 0, 0, 0
        for row in range(x.shape[1]):
            for column in range(x.shape[2]):
                steps = [abs(int(x[c, row, column]) - int(y[c, row, column])) for c in range(x.shape[0])]
                changed += any(steps)
                total += sum(steps)
                squares += sum(step * step for step in steps)
                largest = max(largest, *steps)
        result.append({Norm.L0: changed, Norm.L1: total, Norm.L2: squares**0.5, Norm.LINF: largest}[norm])
    return result


@quick
@given(PIXELS)
def test_an_image_on_the_grid_survives_storing_and_every_conversion(pixels: np.ndarray) -> None:
    image = torch.from_numpy(pixels)
    shape = tuple(pixels.shape)
    assert torch.equal(unpack(pack(image, Grid.EIGHT_BIT), shape, Grid.EIGHT_BIT), image)
    assert torch.equal(unpack(pack(as_images(image), Grid.EIGHT_BIT), shape, Grid.EIGHT_BIT), image)
    assert torch.equal(quantise(as_images(image)), image)
    assert on_grid(as_images(image))


@quick
@given(SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))))
def test_an_image_off_the_grid_survives_storing_bit_for_bit(values: np.ndarray) -> None:
    image = torch.from_numpy(values)
    assert torch.equal(unpack(pack(image, Grid.NONE), tuple(values.shape), Grid.NONE), image)


@quick
@given(SHAPES.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=st.floats(0, 1, width=32))))
def test_quantise_finds_the_nearest_grid_point(values: np.ndarray) -> None:
    found = quantise(torch.from_numpy(values)).numpy().astype(float)
    assert (np.abs(found - values.astype(float) * 255) <= 0.5 + 1e-4).all()


def test_as_images_is_the_float_nearest_to_k_over_255() -> None:
    found = as_images(torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)).flatten()
    expected = np.array([np.float32(k / 255) for k in range(256)])
    assert (found.numpy() == expected).all()


@pytest.mark.parametrize("value", [0.5, 1 / 512, float("nan"), float("inf")])
def test_on_grid_is_false_for_one_value_beside_the_grid(value: float) -> None:
    images = torch.zeros(2, 1, 3, 3)
    images[1, 0, 2, 2] = value
    assert not on_grid(images)


@pytest.mark.parametrize("grid", list(Grid))
def test_a_stored_image_with_other_bytes_is_refused(grid: Grid) -> None:
    shape = (3, 4, 4)
    image = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    data = pack(image, grid)
    for damaged in (
        b"",
        b"no zlib",
        data[:-1],
        data[:-4],
        data + b"x",
        zlib.compress(b"\0" * 7),
        zlib.compress(b"\0" * 10**6),
    ):
        with pytest.raises(DataError, match="stored image"):
            unpack(damaged, shape, grid)
    with pytest.raises(DataError, match="wrong size"):
        unpack(data, (3, 4, 5), grid)


@quick
@given(PAIRS, st.sampled_from(list(BALLS)))
def test_distances_agree_with_counting(pair: tuple[np.ndarray, np.ndarray], norm: Norm) -> None:
    a, b = (torch.from_numpy(part) for part in pair)
    expected = brute(norm, *pair)
    assert distances(norm, a, b).tolist() == pytest.approx(expected, rel=1e-12, abs=0)
    assert distances(norm, as_images(a), as_images(b)).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert distances(norm, as_images(a), b).tolist() == pytest.approx(expected, rel=1e-5, abs=1e-4)
    if norm is not Norm.L2:
        assert distances(norm, a, b).tolist() == expected


@pytest.mark.parametrize("norm", list(BALLS))
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_distances_leave_their_arguments_alone(norm: Norm, dtype: torch.dtype) -> None:
    a, b = torch.zeros(1, 1, 2, 2, dtype=dtype), torch.ones(1, 1, 2, 2, dtype=dtype)
    distances(norm, a, b)
    assert torch.equal(b, torch.ones_like(b))
    assert torch.equal(a, torch.zeros_like(a))


@quick
@given(PAIRS, st.sampled_from([Norm.L0, Norm.LINF]), st.integers(0, 255))
def test_inside_is_exact_on_the_grid(pair: tuple[np.ndarray, np.ndarray], norm: Norm, th: int) -> None:
    threat = ThreatModel.at_level(norm, th)
    expected = [distance <= th for distance in brute(norm, *pair)]
    assert inside(threat, *(torch.from_numpy(part) for part in pair)).tolist() == expected


@pytest.mark.parametrize("th", range(1, 128))
def test_inside_at_the_very_boundary(th: int) -> None:
    original = torch.full((1, 1, 12, 12), 64, dtype=torch.uint8)
    at, beyond = original.clone(), original.clone()
    at[0, 0, 3, 3] += th
    beyond[0, 0, 3, 3] += th + 1
    linf = ThreatModel.at_level(Norm.LINF, th)
    assert inside(linf, original, at).item()
    assert not inside(linf, original, beyond).item()
    at, beyond = original.clone(), original.clone()
    at.view(-1)[:th] = 0
    beyond.view(-1)[: th + 1] = 0
    l0 = ThreatModel.at_level(Norm.L0, th)
    assert inside(l0, original, at).item()
    assert not inside(l0, original, beyond).item()


@pytest.mark.parametrize("steps", range(1, 256))
def test_inside_at_the_boundary_of_l2(steps: int) -> None:
    """A radius of sqrt(steps)/255: `steps` values changed by one step lie on the sphere, one more lies outside."""
    original = torch.zeros((1, 1, 16, 16), dtype=torch.uint8)
    at, beyond = original.clone(), original.clone()
    at.view(-1)[:steps] = 1
    beyond.view(-1)[: steps + 1] = 1
    threat = ThreatModel(norm=Norm.L2, radius=steps**0.5 / 255)
    assert inside(threat, original, at).item()
    assert not inside(threat, original, beyond).item()


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2, Norm.LINF])
def test_off_the_grid_the_slack_is_the_stated_one(norm: Norm) -> None:
    original = torch.full((1, 1, 2, 2), 0.25, dtype=torch.float64)
    threat = ThreatModel(norm=norm, radius=0.125, grid=Grid.NONE)
    for excess, allowed in ((0.0, True), (REAL_TOLERANCE / 2, True), (REAL_TOLERANCE * 2, False)):
        image = original.clone()
        image[0, 0, 0, 0] += 0.125 + excess
        assert inside(threat, original, image).item() is allowed


@quick
@given(st.sampled_from(list(BALLS)), st.integers(0, 17), st.sampled_from([float("nan"), float("inf"), -float("inf")]))
def test_row_19_an_image_that_is_not_finite_is_never_inside(norm: Norm, place: int, value: float) -> None:
    originals = torch.full((2, 2, 3, 3), 0.5)
    images = originals.clone()
    images[1].view(-1)[place] = value
    threat = ThreatModel(norm=norm, radius=9999.0, grid=Grid.NONE)
    assert inside(threat, originals, images).tolist() == [True, False]


@pytest.mark.parametrize("value", [-1e-6, 1.000001, -3.0, 255.0])
@pytest.mark.parametrize("norm", list(BALLS))
def test_peer_defect_18_there_is_no_slack_outside_the_box(norm: Norm, value: float) -> None:
    originals = torch.full((1, 1, 2, 2), 1.0 if value > 0 else 0.0)
    images = originals.clone()
    images[0, 0, 1, 1] = value
    assert not inside(ThreatModel(norm=norm, radius=9999.0, grid=Grid.NONE), originals, images).item()


def near_the_edge(norm: Norm, radius: float, seed: int, *, dense: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Originals on the grid, and real images a hair inside the ball around them, some of whose values meet the box."""
    generator = torch.Generator().manual_seed(seed)
    originals = torch.randint(0, 256, (6, 3, 8, 8), generator=generator).to(torch.uint8)
    delta = torch.randn(originals.shape, generator=generator)
    if not dense:
        delta *= torch.rand(originals.shape, generator=generator) < 0.1
    flat = delta.flatten(1).double()
    size = {Norm.L1: flat.abs().sum(1), Norm.L2: flat.norm(dim=1), Norm.LINF: flat.abs().amax(1)}[norm]
    scale = (radius / size * (1 - 1e-6)).float()[:, None, None, None]
    return originals, (as_images(originals) + delta * scale).clamp(0, 1)


EDGES = [(norm, levels / 255) for norm in (Norm.L1, Norm.L2) for levels in (3, 100.5, 800)] + [
    (Norm.LINF, levels / 255) for levels in (1, 2.5, 8)
]


@quick
@given(st.sampled_from(EDGES), st.integers(0, 10**6), st.booleans())
def test_snapping_never_leaves_a_ball_that_the_image_was_inside(
    edge: tuple[Norm, float], seed: int, dense: bool
) -> None:
    norm, radius = edge
    threat = ThreatModel(norm=norm, radius=radius)
    originals, images = near_the_edge(norm, radius, seed, dense=dense)
    assert inside(ThreatModel(norm=norm, radius=radius, grid=Grid.NONE), as_images(originals), images).all()
    found = snap(threat, originals, images)
    assert found.dtype == torch.uint8
    assert inside(threat, originals, found).all()


@quick
@given(st.sampled_from(EDGES), st.integers(0, 10**6), st.booleans())
def test_snapping_takes_the_nearest_grid_point_wherever_that_is_inside(
    edge: tuple[Norm, float], seed: int, dense: bool
) -> None:
    norm, radius = edge
    threat = ThreatModel(norm=norm, radius=radius)
    originals, images = near_the_edge(norm, radius * 0.7, seed, dense=dense)
    nearest = quantise(images)
    good = inside(threat, originals, nearest)
    assert torch.equal(snap(threat, originals, images)[good], nearest[good])


@pytest.mark.parametrize(("norm", "radius"), [(Norm.L1, 0.5), (Norm.L2, 0.01), (Norm.LINF, 1 / 255), (Norm.L0, 2.0)])
def test_snapping_an_image_outside_the_ball_is_plain_rounding(norm: Norm, radius: float) -> None:
    """It cannot become a witness; an attack that looks for its own radius must be asked what it meant."""
    originals, images = near_the_edge(Norm.L2, 3.0, 0, dense=True)
    assert torch.equal(snap(ThreatModel(norm=norm, radius=radius), originals, images), quantise(images))


@pytest.mark.parametrize("norm", [Norm.L1, Norm.L2])
@pytest.mark.parametrize("levels", [400, 800, 2000])
def test_snapping_costs_little_of_the_radius(norm: Norm, levels: int) -> None:
    """Sparse changes of several steps each: at most a step per changed value is lost in L1, a share of it in L2."""
    radius = levels / 255 if norm is Norm.L1 else levels / 255 / 4
    originals, images = near_the_edge(norm, radius, 1, dense=False)
    before = distances(norm, as_images(originals), images)
    after = distances(norm, originals, snap(ThreatModel(norm=norm, radius=radius), originals, images)).double()
    changed = (quantise(images) != originals).flatten(1).sum(1)
    lost = before - after
    assert bool((lost <= (changed / 2 if norm is Norm.L1 else changed.sqrt() / 2)).all())
    assert float((after / before).min()) > 0.93


def test_snapping_leaves_whole_pixels_and_uint8_alone() -> None:
    originals = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    pixels = torch.full((2, 1, 4, 4), 9, dtype=torch.uint8)
    for norm in BALLS:
        assert torch.equal(snap(ThreatModel(norm=norm, radius=1.0), originals, pixels), pixels)


def test_a_pixel_is_nearest_to_what_lies_outside_the_box_too() -> None:
    values = torch.tensor([-0.5, 1.5, 1.002, torch.nan, torch.inf, -torch.inf, -1e-9])
    assert quantise(values).tolist() == [0, 255, 255, 0, 255, 0, 0]
    assert values[0] == -0.5, "the images themselves are left alone"


@pytest.mark.parametrize("norm", list(BALLS))
def test_snapping_never_moves_an_image_of_pixels(norm: Norm) -> None:
    """Not even one outside the ball: 1, seen as an image value, would be as white as its original, 255."""
    originals = torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)
    pixels = torch.ones_like(originals)
    assert torch.equal(snap(ThreatModel(norm=norm, radius=1 / 255), originals, pixels), pixels)


def moved(originals: torch.Tensor, *steps: float) -> torch.Tensor:
    """Images `steps` of 1/255 away from `originals`, one value after the other."""
    delta = torch.zeros(originals.shape)
    delta.view(-1)[: len(steps)] = torch.tensor(steps)
    return (originals.float() + delta) / 255


def test_snapping_asks_in_the_balls_own_norm_whether_an_image_was_inside() -> None:
    """Three times 1.6 steps are 4.8 in L1, outside 4, and 2.8 in L2: rounded as they are."""
    originals = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    found = snap(ThreatModel(norm=Norm.L1, radius=4 / 255), originals, moved(originals, 1.6, 1.6, 1.6))
    assert found.flatten().tolist() == [102, 102, 102, 100]


def test_snapping_ends_on_the_sphere_where_a_point_of_the_grid_lies_there() -> None:
    """0.6 + 0.8 + 1.6 steps round to 4 of them; nine tenths of these to 1 + 1 + 1, the radius."""
    originals = torch.full((1, 1, 2, 2), 100, dtype=torch.uint8)
    images = moved(originals, 0.6, 0.8, 1.6)
    found = snap(ThreatModel(norm=Norm.L1, radius=3 / 255), originals, images)
    assert found.flatten().tolist() == [101, 101, 101, 100]
    found = snap(ThreatModel(norm=Norm.L1, radius=3 / 255), originals, moved(originals, 0.502, 2.3))
    assert found.flatten().tolist() == [101, 102, 100, 100], "the nearest point lies on the sphere: it is taken"


def test_snapping_loses_no_more_than_cutting_off_would() -> None:
    """Where rounding half of the way still goes too far, values that are cut off may lie further out."""
    originals = torch.full((1, 3, 20, 20), 100, dtype=torch.uint8)
    steps = [2.9] * 4 + [0.99] * 1196
    threat = ThreatModel(norm=Norm.L1, radius=(sum(steps) - 0.01) / 255)
    images = moved(originals, *(step * (1 - 3e-5) for step in steps))
    found = snap(threat, originals, images)
    assert inside(threat, originals, found).all()
    assert distances(Norm.L1, originals, found) >= 8


@quick
@given(st.sampled_from([edge for edge in EDGES if edge[0] is not Norm.LINF]), st.integers(0, 10**6))
def test_snapping_goes_back_hardly_further_than_it_must(edge: tuple[Norm, float], seed: int) -> None:
    """Against all shares of the way, in steps of 1/512: at most 1/64 less than the largest whose rounding fits."""
    norm, radius = edge
    threat = ThreatModel(norm=norm, radius=radius)
    originals, images = near_the_edge(norm, radius, seed, dense=True)
    exact, reached = originals.double(), distances(norm, originals, snap(threat, originals, images)).double()
    delta = images.double() * 255 - exact
    shares = torch.arange(513) / 512
    rounded = (delta[None] * shares[:, None, None, None, None]).round().flatten(2)
    far = rounded.abs().sum(2) if norm is Norm.L1 else rounded.norm(dim=2)
    fits = far <= radius * 255 + 1e-9
    largest = (fits * (torch.arange(513) + 1)[:, None]).amax(0) - 1
    least = far.gather(0, (largest - 8).clamp_min(0)[None])[0]
    assert bool((reached >= least - 1e-3).all())


@quick
@given(st.sampled_from(EDGES), st.integers(0, 10**6))
def test_snapping_an_image_that_leaves_the_box_stays_in_box_and_ball(edge: tuple[Norm, float], seed: int) -> None:
    norm, radius = edge
    threat = ThreatModel(norm=norm, radius=radius)
    generator = torch.Generator().manual_seed(seed)
    originals = torch.full((6, 3, 8, 8), 128, dtype=torch.uint8)
    originals[:3, 0, 0, 0], originals[3:, 0, 0, 0] = 255, 0
    delta = torch.randn(originals.shape, generator=generator).double()
    delta[:, 0, 0, 0] = torch.tensor([1.0] * 3 + [-1.0] * 3) * delta.flatten(1).abs().amax(1)
    size = {Norm.L1: delta.flatten(1).abs().sum(1), Norm.L2: delta.flatten(1).norm(dim=1)}
    length = size.get(norm, delta.flatten(1).abs().amax(1))[:, None, None, None]
    outside = as_images(originals) + (delta / length * radius * (1 - 1e-6)).float()
    assert bool(((outside < 0) | (outside > 1)).flatten(1).any(1).all())
    assert inside(threat, originals, snap(threat, originals, outside)).all()


def test_a_bomb_is_refused_before_it_is_inflated() -> None:
    bomb = zlib.compress(bytes(2 * 10**7))
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="wrong size"):
            unpack(bomb, (1, 2, 2), Grid.EIGHT_BIT)
        assert tracemalloc.get_traced_memory()[1] < 10**6
    finally:
        tracemalloc.stop()


def test_damage_is_told_with_what_was_found_and_expected() -> None:
    with pytest.raises(DataError) as caught:
        unpack(zlib.compress(bytes(5)), (1, 2, 2), Grid.EIGHT_BIT)
    assert caught.value.what
    assert caught.value.found == "5 bytes"
    assert str(caught.value.expected).startswith("4 ")
    with pytest.raises(DataError) as caught:
        unpack(b"no zlib", (1, 2, 2), Grid.NONE)
    assert isinstance(caught.value.found, zlib.error)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_without_a_ball_images_are_the_same_or_not(dtype: torch.dtype) -> None:
    originals = torch.zeros(3, 2, 2, 2, dtype=dtype)
    images = originals.clone()
    images[1, 1, 0, 1] = 1
    images[2] = 1
    found = distances(Norm.UNRESTRICTED, originals, images)
    assert found.tolist() == [0, 1, 1]
    assert found.dtype == torch.int64
    assert inside(ThreatModel(norm=Norm.UNRESTRICTED, radius=1, grid=Grid.NONE), originals, images).all()


def test_off_the_grid_pixels_are_counted_as_on_it() -> None:
    """However little a pixel is changed, and in however many channels."""
    originals = torch.full((5, 3, 2, 2), 0.5)
    images = originals.clone()
    for count in range(5):
        images[count].view(3, 4)[: 1 + count % 3, :count] += 1e-6
    threat = ThreatModel(norm=Norm.L0, radius=2, grid=Grid.NONE)
    assert inside(threat, originals, images).tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(("first", "step"), [(254, 2), (1, -2)])
def test_a_pixel_that_is_moved_back_from_outside_the_box_ends_at_its_edge(first: int, step: int) -> None:
    """Rounded with the others it leaves the ball; alone it is two steps off, of which the box leaves one."""
    originals = torch.full((1, 1, 3, 3), 100, dtype=torch.uint8)
    originals[0, 0, 0, 0] = first
    delta = torch.full((1, 1, 3, 3), 0.6, dtype=torch.float64)
    delta[0, 0, 0, 0] = step
    radius = float(delta.norm()) / 255
    found = snap(ThreatModel(norm=Norm.L2, radius=radius), originals, ((originals + delta) / 255).float())
    assert int(found[0, 0, 0, 0]) == first + step // 2
    assert torch.equal(found.flatten()[1:], originals.flatten()[1:])


def test_snapping_makes_nothing_on_the_default_device() -> None:
    originals, threat = torch.full((2, 1, 3, 3), 100, dtype=torch.uint8), ThreatModel(norm=Norm.L2, radius=1.8 / 255)
    images = (originals + 0.6) / 255
    expected = snap(threat, originals, images)
    assert torch.equal(expected, originals), "each value rounded up would leave the ball"
    with torch.device("meta"):
        assert torch.equal(snap(threat, originals, images), expected)
