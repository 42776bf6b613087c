"""Distances by class against plain loops over digits, the draw, the marks, and the two rules for levels."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import torch

from charpy.analysis.distances.eps import Alike, combination, half
from charpy.analysis.distances.measure import measure, measure_of, nearest_other, off_diagonal, spread
from charpy.analysis.distances.sample import PER_CLASS, Drawn, draw, pieces
from charpy.analysis.distances.survey import EpsWish, Wish, survey
from charpy.arrays import ArrayDataset
from charpy.epsfile import EpsFile, eps_bytes
from charpy.errors import DataError, SpecError, UnknownNameError
from charpy.interfaces.metric import Direction
from charpy.own_levels import own_levels
from charpy.plugins import registry
from charpy.specs import DataSpec, OwnLevels
from charpy.subjects import chosen_samples
from charpy.threat import BALLS, Norm

METRICS = ("l0_pixels", "l1", "l2", "linf")


@pytest.fixture(scope="module")
def digits():
    return registry().create("datasets", "digits")


def in_loops(kind: str, one: np.ndarray, other: np.ndarray) -> float:
    gap = np.abs(one.astype(np.float64) - other.astype(np.float64))
    if kind == "l0_pixels":
        return float((gap != 0).any(axis=0).sum())
    return {"l1": gap.sum(), "l2": np.sqrt((gap**2).sum()), "linf": gap.max()}[kind] / 255


def arrays(*classes: list[list[int]], names: list[str] | None = None) -> ArrayDataset:
    """A dataset of images of one row of pixels, class by class."""
    rows = [row for members in classes for row in members]
    labels = [label for label, members in enumerate(classes) for _ in members]
    images = np.array(rows, dtype=np.uint8)[:, None, None, :]
    return ArrayDataset(images, labels, name="rows", class_names=names, layout="nchw")


@pytest.mark.parametrize("kind", METRICS)
def test_cells_and_nearest_are_what_loops_find(digits, kind):
    drawn = draw(digits, 7, seed=3)
    images, labels, ids = drawn.piece.images.numpy(), drawn.piece.labels.tolist(), drawn.piece.ids
    done = measure(measure_of(kind, registry()), drawn)
    for a, b in itertools.product(range(10), repeat=2):
        values = [
            in_loops(kind, images[i], images[j])
            for i in range(len(ids))
            for j in range(len(ids))
            if labels[i] == a and labels[j] == b and i != j
        ]
        cell = done.cells[a][b]
        assert cell.pairs == len(values) == (42 if a == b else 49)
        expected = (np.mean(values), np.std(values), *np.percentile(values, [0, 25, 50, 75, 100]))
        assert cell[2:] == pytest.approx(expected, rel=1e-6)
    scale = 1 if kind == "l0_pixels" else 255
    for i in range(len(ids)):
        others = [(in_loops(kind, images[i], images[j]), j) for j in range(len(ids)) if labels[j] != labels[i]]
        assert done.nearest.value[i] == pytest.approx(scale * min(others)[0])
        j = ids.index(done.nearest.ids[i])
        assert done.nearest.label[i] == labels[j] != labels[i]
        assert in_loops(kind, images[i], images[j]) == pytest.approx(min(others)[0])


@pytest.mark.parametrize("kind", ["l2", "ssim"])
def test_the_nearest_in_the_whole_dataset(digits, kind, monkeypatch):
    monkeypatch.setattr("charpy.analysis.distances.sample.PIECE_VALUES", 64 * 50)
    some = ArrayDataset(digits.read(range(120)).images, digits.read(range(120)).labels, name="some")
    by, drawn = measure_of(kind, registry()), draw(some, 3, seed=0)
    done = measure(by, drawn, pieces(some)).nearest
    everything = some.read(range(120))
    best = max if kind == "ssim" else min
    for place, (image, label) in enumerate(zip(drawn.piece.images, drawn.piece.labels, strict=True)):
        others = everything.images[everything.labels != label]
        values = by.metric((image / 255).expand_as(others), others).tolist()
        assert done.value[place] * by.scale == pytest.approx(best(values), rel=1e-5)
    assert (nearest_other(by, drawn, pieces(some)).value == done.value).all()
    alone = measure(by, drawn).nearest.value
    assert (nearest_other(by, drawn).value == alone).all()
    assert ((alone <= done.value) if kind == "ssim" else (alone >= done.value)).all()
    assert (alone != done.value).any()


def test_the_draw_depends_on_seed_and_ids_alone(digits):
    samples = digits.read(range(len(digits)))
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(1))
    renamed = (samples.labels[order] + 4) % 10
    other = ArrayDataset(samples.images[order], renamed, ids=[samples.ids[i] for i in order.tolist()])
    first, second = draw(digits, 5, seed=0), draw(other, 5, seed=0)
    for label in range(10):
        one, two = first.rows[label], second.rows[(label + 4) % 10]
        assert first.piece.ids[one] == second.piece.ids[two]
        assert torch.equal(first.piece.images[one], second.piece.images[two])
        assert set(first.piece.labels[one].tolist()) == {label}
    assert set(draw(digits, 5, seed=1).piece.ids) != set(first.piece.ids)
    more = draw(digits, 9, seed=0)
    assert all(
        more.piece.ids[rows][:5] == first.piece.ids[few] for rows, few in zip(more.rows, first.rows, strict=True)
    )


def test_a_permutation_of_the_classes_permutes_the_cells(digits):
    samples = digits.read(range(len(digits)))
    other = ArrayDataset(samples.images, (samples.labels + 4) % 10, ids=samples.ids)
    by = measure_of("l2", registry())
    first, second = (measure(by, draw(data, 6, seed=0)) for data in (digits, other))
    for a, b in itertools.product(range(10), repeat=2):
        assert second.cells[(a + 4) % 10][(b + 4) % 10] == pytest.approx(first.cells[a][b])


def test_how_many_are_drawn(digits):
    assert {rows.stop - rows.start for rows in draw(digits, None, 0).rows} == {58}  # the smallest class, below 100
    assert len(draw(digits, "all", 0).piece.ids) == len(digits)
    many = arrays([[k % 256] * 3 for k in range(130)], [[k % 256, 0, 9] for k in range(140)])
    assert {rows.stop - rows.start for rows in draw(many, None, 0).rows} == {PER_CLASS}


def test_a_wide_class_is_marked_and_a_narrow_one_is_not():
    """Class 0 has two styles far apart; class 1 lies between them."""
    data = arrays([[0, 0], [200, 0]], [[100, 10], [100, 12]], names=["wide", "narrow"])
    document, _ = survey(data, "arrays", Wish(metrics=("l1", "linf", "l0_pixels")), registry())
    found = {part.kind: {(mark.name, mark.nearer_to) for mark in part.marks} for part in document.metrics}
    assert found == {"l1": {("wide", "narrow")}, "linf": {("wide", "narrow")}, "l0_pixels": set()}
    (mark,) = document.metrics[0].marks
    assert mark.within == pytest.approx(200 / 255)
    assert mark.between == pytest.approx(111 / 255)


def test_a_similarity_is_marked_by_its_direction():
    """psnr falls where l2 grows: the same class is marked, and the nearest image is the most alike."""
    data = arrays([[0, 0], [200, 0]], [[100, 10], [110, 12]])
    document, _ = survey(data, "arrays", Wish(metrics=("l2", "psnr")), registry())
    one, other = document.metrics
    assert [mark.name for mark in one.marks] == [mark.name for mark in other.marks] == ["0"]
    assert other.marks[0].within < other.marks[0].between
    assert [near.nearest_id for near in one.nearest] == [near.nearest_id for near in other.nearest]
    assert registry().load("metrics", "psnr").direction is Direction.SIMILARITY


def test_pairs_without_a_value_are_counted_and_left_out():
    """psnr is infinite between equals."""
    data = arrays([[7, 7], [7, 7], [9, 9]], [[100, 0], [0, 100]])
    document, _ = survey(data, "arrays", Wish(metrics=("psnr",), per_class="all"), registry())
    cell = document.metrics[0].cells[0]
    assert (cell.count, cell.undefined) == (4, 2)
    assert cell.mean == pytest.approx(10 * np.log10((255 / 2) ** 2), rel=1e-5)
    assert "2 pairs" in document.notes[0]
    assert spread(np.array([np.nan])) == (0, 1, *[None] * 7)


def test_the_pairs_of_a_class_are_summarised_in_little_memory():
    """The off-diagonal ones, against a mask; two copies of them at most."""
    values = np.random.default_rng(0).random((700, 700))
    expected = values[~np.eye(700, dtype=bool)] * 2
    tracemalloc.start()
    found = spread(off_diagonal(values), 2.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.pairs, found.undefined) == (700 * 699, 0)
    assert (found.mean, found.deviation) == (expected.mean(), expected.std())
    assert (found.least, found.median, found.most) == (expected.min(), np.median(expected), expected.max())
    assert off_diagonal(values).base is not None
    assert peak < 2.5 * values.nbytes


def test_half_the_distance_rounded_down_to_what_does_not_touch():
    assert half(np.array([0.0, 1.0, 2.0, 3.0, 254.0, 255.0, 2.0000001, np.sqrt(101)])).tolist() == [
        0, 0, 0, 1, 126, 127, 1, 5,
    ]  # fmt: skip


@pytest.mark.parametrize("norm", BALLS)
def test_balls_of_half_the_distance_do_not_touch_and_larger_ones_do(digits, norm):
    wish = Wish(metrics=("l1",), per_class=8, eps=EpsWish(norm))
    document, levels = survey(digits, "digits", wish, registry())
    assert levels is not None
    drawn = draw(digits, 8, seed=0)
    kind = {Norm.L0: "l0_pixels"}.get(norm, str(norm))
    scale = 1 if norm is Norm.L0 else 255
    images, labels = drawn.piece.images.numpy(), drawn.piece.labels.tolist()
    assert list(levels.samples) == list(drawn.piece.ids)
    th = list(levels.samples.values())
    largest = [np.inf] * len(th)
    for i, j in itertools.permutations(range(len(th)), 2):
        if labels[i] != labels[j]:
            apart = scale * in_loops(kind, images[i], images[j])
            assert th[i] + th[j] < apart
            largest[i] = min(largest[i], apart)
    assert all(2 * (level + 1) >= apart for level, apart in zip(th, largest, strict=True))
    assert levels.all.th == min(th)
    assert document.eps is not None
    assert document.eps.all == levels.all
    for label in range(10):
        of_class = [level for level, own in zip(th, labels, strict=True) if own == label]
        found = levels.classes[str(label)]
        assert (found.th, found.most, found.samples) == (min(of_class), max(of_class), 8)
        assert (found.q1, found.median, found.q3) == tuple(np.percentile(of_class, [25, 50, 75]))


def every_level(drawn: Drawn, alike: Alike, combine: int, last: int) -> list[int]:
    """The largest level up to which all combinations are alike, level by level."""
    images, labels, found = drawn.piece.images / 255, drawn.piece.labels.tolist(), []
    for image, label in zip(images, labels, strict=True):
        others = [
            images[row]
            for other, rows in zip(drawn.classes, drawn.rows, strict=True)
            if other != label
            for row in range(rows.start, rows.start + combine)
        ]
        th = 0
        while th < last:
            moved = torch.stack([(image + (th + 1) / 255 * other.sign()).clamp(0, 1) for other in others])
            values = alike.by.metric(image.expand_as(moved), moved)
            if not bool((values >= alike.threshold if alike.by.alike else values <= alike.threshold).all()):
                break
            th += 1
        found.append(th)
    return found


@pytest.mark.parametrize(("kind", "threshold"), [("psnr", 30.0), ("l1", 3.0), ("ssim", 0.97)])
def test_combinations_are_alike_up_to_the_level_and_not_at_the_next(digits, kind, threshold):
    drawn = draw(digits, 3, seed=0)
    alike = Alike(measure_of(kind, registry()), threshold)
    found = combination(drawn, alike, combine=2, last=40).tolist()
    assert found == every_level(drawn, alike, 2, 40)
    assert min(found) > 0
    assert len(set(found)) > 1
    assert combination(drawn, alike, combine=1, last=40).tolist() != found


def test_a_level_of_nothing_and_the_last_one(digits):
    drawn = draw(digits, 2, seed=0)
    by = measure_of("l1", registry())
    assert set(combination(drawn, Alike(by, 0.0), combine=1).tolist()) == {0}
    assert set(combination(drawn, Alike(by, 64.0), combine=1).tolist()) == {127}


@pytest.mark.parametrize("seed", [0, 4])
def test_the_images_of_a_run_are_those_that_it_draws(digits, seed):
    """So that each of them has a level; they are grouped by class, as every draw is."""
    spec = DataSpec(kind="digits", samples=60, seed=seed)
    expected = digits.read(chosen_samples(digits, spec))
    drawn = draw(digits, None, seed, samples=60)
    assert sorted(drawn.piece.ids) == sorted(expected.ids)
    label = dict(zip(expected.ids, expected.labels.tolist(), strict=True))
    for one, rows in zip(drawn.classes, drawn.rows, strict=True):
        assert {label[name] for name in drawn.piece.ids[rows]} == {one}
    wish = Wish(metrics=("l2",), samples=60, seed=seed, eps=EpsWish(Norm.LINF, "half", None, None, 2))
    _, levels = survey(digits, "digits", wish, registry())
    assert levels is not None
    assert (levels.settings.samples, levels.settings.per_class) == (60, None)
    assert set(levels.samples) == set(expected.ids)


def test_the_file_comes_back(digits, tmp_path):
    wish = Wish(metrics=("l2",), per_class=2, seed=5, eps=EpsWish(Norm.LINF, "combination", "psnr", 30.0, 2))
    _, levels = survey(digits, "digits", wish, registry())
    assert levels is not None
    path = tmp_path / "eps.json"
    path.write_bytes(eps_bytes(levels))
    assert EpsFile.model_validate_json(path.read_bytes()) == levels
    ids = digits.read(range(len(digits))).ids
    known = [name for name in ids if name in levels.samples]
    own = own_levels(Norm.LINF, OwnLevels(path=str(path)), digits, known)
    assert own == tuple(levels.samples[name] for name in known)
    assert levels.model_dump(by_alias=True)["schema"] == "charpy/eps/1"
    assert levels.data.fingerprint == digits.fingerprint()
    assert levels.settings.model_dump() == {
        "per_class": 2, "samples": None, "seed": 5, "against": None, "metric": "psnr", "threshold": 30.0, "combine": 2,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wish", "error", "text"),
    [
        (Wish(per_class=1), SpecError, "need two images"),
        (Wish(per_class=59), DataError, "at most 58"),
        (Wish(metrics=("l3",)), UnknownNameError, "did you mean"),
        (Wish(metrics=("vif",)), DataError, "too small"),
        (Wish(metrics=()), SpecError, "no metric"),
        (Wish(eps=EpsWish(Norm.L2, "combination")), SpecError, "bounded in linf"),
        (Wish(eps=EpsWish(Norm.L2, "half", "ssim")), SpecError, "rule `combination`"),
        (Wish(eps=EpsWish(Norm.LINF, "combination", "l2")), SpecError, "no other metric"),
        (Wish(eps=EpsWish(Norm.LINF, "combination", "ssim", 1.5)), SpecError, "no such value"),
        (Wish(metrics=("l2",), eps=EpsWish(Norm.LINF, "combination", combine=99)), SpecError, "combined"),
    ],
)
def test_what_it_refuses(digits, wish, error, text):
    with pytest.raises(error, match=text):
        survey(digits, "digits", wish, registry())


def test_data_that_it_refuses():
    for data, text in (
        (arrays([[1, 2], [3, 4]]), "two classes"),
        (arrays([[1, 2], [3, 4]], [[5, 6]]), "one image of class 1"),
    ):
        with pytest.raises(DataError, match=text):
            survey(data, "arrays", Wish(), registry())
