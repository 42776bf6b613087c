from __future__ import annotations

import base64
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from charpy.analysis.gallery import GalleryItem
from charpy.analysis.summary import RunSummary
from charpy.magnification import magnified
from charpy.reports.charts import curve_points, curves_svg
from charpy.reports.figures import duration, interval, number, percent, queries
from charpy.reports.images import Picture, pictures, scaled
from charpy.reports.inert import visible


def decoded(uri: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,")))))


def picture(shown: GalleryItem) -> Picture:
    return pictures([shown])[0]


def item(original: np.ndarray, witness: np.ndarray, norm: str = "linf") -> GalleryItem:
    return GalleryItem(0, "a", 0, "a", 1, "b", norm, 1, 1.0, 1.0, None, "x", original, witness)


def test_curve_starts_at_the_clean_accuracy(summary: RunSummary) -> None:
    points = {(p.norm, p.th): p.value for p in curve_points(summary.assessments[0])}
    assert points["l0", 0] == points["linf", 0] == 7 / 8
    assert points["l0", 1] == 6 / 8
    assert points["linf", 10] == 4 / 8


def test_the_largest_of_a_few_levels_is_a_tick_of_a_long_axis(summary: RunSummary) -> None:
    assessment = summary.assessments[0]
    threats = tuple(part.model_copy(update={"th": 26 if part.th == 10 else part.th}) for part in assessment.threats)
    ((_, chart),) = curves_svg(assessment.model_copy(update={"threats": threats}), "chart")
    assert ">26</text>" in chart
    assert ">10</text>" not in chart


def test_pngs_hold_the_exact_pixels() -> None:
    original = np.arange(48, dtype=np.uint8).reshape(3, 4, 4)
    witness = original.copy()
    witness[1, 2, 3] += 5
    shown = picture(item(original, witness))
    assert (decoded(shown.original).transpose(2, 0, 1) == original).all()
    assert (decoded(shown.witness).transpose(2, 0, 1) == witness).all()


@pytest.mark.parametrize(
    ("step", "factor", "shown_as"), [(1, "127", 255), (-2, "63", 2), (100, "1", 228), (-200, "½", 28)]
)
def test_the_difference_is_magnified_as_stated(step: int, factor: str, shown_as: int) -> None:
    original = np.full((1, 2, 2), 220 if step < 0 else 20, np.uint8)
    witness = original.copy()
    witness[0, 1, 0] = int(original[0, 1, 0]) + step
    shown = picture(item(original, witness))
    assert shown.factor == factor
    assert decoded(shown.difference).tolist() == [[128, 128], [shown_as, 128]]


def test_the_gallery_magnifies_original_and_witness_alike() -> None:
    random = np.random.default_rng(0)
    original = random.integers(0, 200, (3, 9, 12), np.uint8)
    witness = original + random.integers(0, 40, (3, 9, 12), np.uint8)
    first, second = pictures([item(original, witness), item(witness, original)])
    batch = torch.from_numpy(np.stack([original, witness])).double() / 255
    expected = (128 + magnified(batch) * 127 / 2).round().clamp(0, 255).permute(0, 2, 3, 1).numpy()
    for uri, image in zip(first.magnified, expected, strict=True):
        assert np.abs(decoded(uri) - image).max() <= 1
        assert image.std() > 40
    assert second.magnified == first.magnified[::-1]
    assert first.side == 0
    assert pictures([]) == []


@pytest.mark.parametrize("shape", [(3, 110, 130), (1, 120, 60)])
def test_of_a_large_image_the_part_that_changed_most_is_magnified(shape: tuple[int, int, int]) -> None:
    original = np.random.default_rng(0).integers(0, 250, shape, np.uint8)
    witness = original.copy()
    witness[:, 105:, -5:] += 5  # the corner, so that the part has to lie there
    witness[:, 0, 0] += 1
    shown = picture(item(original, witness))
    width = min(96, shape[2])
    part = torch.from_numpy(witness[None, :, -96:, -width:]).double() / 255
    expected = (128 + magnified(part)[0] * 127 / 2).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert shown.side == 96
    assert np.abs(decoded(shown.magnified[1]).reshape(expected.shape) - expected).max() <= 1
    assert decoded(shown.witness).shape[:2] == shape[1:]


def test_a_scaled_perturbation_is_stretched_channel_by_channel() -> None:
    gap = np.array([[[0.0, 1.0, 3.0]], [[-2.0, 0.0, 0.0]], [[0.5, 0.5, 0.5]]])
    assert scaled(gap).tolist() == [[[0, 85, 255]], [[0, 255, 255]], [[128, 128, 128]]]


def test_marks_stand_on_the_changed_pixels_of_l0_only() -> None:
    original = np.zeros((3, 4, 6), np.uint8)
    witness = original.copy()
    witness[2, 3, 5] = 9  # one channel is enough
    assert picture(item(original, witness, "l0")).marks == ((5.0, 3.0, 1.0),)
    assert picture(item(original, witness, "linf")).marks == ()


def test_marks_of_large_images_are_large_enough_to_see() -> None:
    original = np.zeros((1, 220, 220), np.uint8)
    witness = original.copy()
    witness[0, 100, 50] = 255
    ((x, y, side),) = picture(item(original, witness, "l0")).marks
    assert side == 20
    assert (x + side / 2, y + side / 2) == (50.5, 100.5)


def test_images_off_the_grid_are_shown_to_the_nearest_255th() -> None:
    original = np.full((1, 1, 1), 0.5, np.float32)
    assert decoded(picture(item(original, original)).original).tolist() == [[128]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain name_1.0", "plain name_1.0"),
        ("Größe 猫 é", "Größe 猫 é"),
        ("a\x1b[31mb", "a[U+001B][31mb"),
        ("a\u202eb\u2069", "a[U+202E]b[U+2069]"),
        ("zero\u200bwidth", "zero[U+200B]width"),
        ("two\nlines\t", "two[U+000A]lines[U+0009]"),
        ("line\u2028sep \ud800", "line[U+2028]sep [U+D800]"),
    ],
)
def test_hidden_characters_become_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


@given(st.text())
def test_visible_text_has_no_control_character_left(text: str) -> None:
    assert all(char.isprintable() or char.isspace() for char in visible(text))
    assert "\n" not in visible(text)
    assert visible("a\nb", keep="\n") == "a\nb"


def test_figures_as_a_reader_meets_them() -> None:
    assert percent(None) == "\u2013"
    assert percent(0.5) == "50\u00a0%"
    assert interval((0.0, 0.0365)) == "0 to 3.6\u00a0%"
    assert interval(None) == "\u2013"
    assert number(1234567.0) == "1\u202f234\u202f567"
    assert number(2.50, 2) == "2.5"
    assert number(3.0, 2) == "3"
    assert queries(12.5) == "12.5"
    assert queries(1200.5) == "1\u202f200"
    assert [duration(s) for s in (0.25, 42, 125, 7500)] == ["0.25\u00a0s", "42\u00a0s", "2 min 5 s", "2 h 5 min"]
