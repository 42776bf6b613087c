"""The pages of `charpy magnify`: what their pictures show, and that names stay harmless."""

from __future__ import annotations

import base64
import io
import re
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from charpy.analysis.read_sheet import read_sheet
from charpy.magnification import magnified
from charpy.reports.magnify import Views, views_of
from charpy.reports.magnify_html import render_page
from charpy.reports.magnify_png import GAP, _line, render_png

HOSTILE = "</style><script>alert(1)</script>\u202e"


def drawn_images(norm, distance, shape, grid):
    """Real contrast instead of the flat images of the synthetic runs."""
    random = np.random.default_rng(int(distance * 100))
    original = np.random.default_rng(0).integers(60, 160, shape, np.uint8)
    return torch.from_numpy(original), torch.from_numpy(original + random.integers(0, 9, shape, np.uint8))


@pytest.fixture(params=[(3, 8, 10), (1, 8, 8)], ids=["colour", "grey"])
def views(synthetic: ModuleType, tmp_path, monkeypatch, request) -> Views:
    monkeypatch.setattr(synthetic, "images", drawn_images)
    with synthetic.build(tmp_path / "run.charpy", shape=request.param) as run:
        return views_of(read_sheet([run], "id-2", model="frail"))


def decoded(uri: str) -> np.ndarray:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def test_the_pictures_are_what_they_are_called(views: Views) -> None:
    (_, _, rows), _ = views.sections
    broken, not_run = rows
    found = broken.row.found
    assert found is not None
    assert (broken.witness == found.image).all()
    gap = found.image.astype(float) - views.original
    low, high = gap.min((1, 2), keepdims=True), gap.max((1, 2), keepdims=True)
    assert np.abs(broken.perturbation - (gap - low) / (high - low) * 255).max() <= 0.5
    both = torch.from_numpy(np.stack([views.original, found.image])).double() / 255
    seen = magnified(both)
    assert broken.seen == pytest.approx(float((seen[0] - seen[1]).square().mean().sqrt()), rel=1e-4)
    assert np.abs(broken.magnified - (128 + seen[1] * 63.5).clamp(0, 255).numpy()).max() <= 0.51
    assert np.abs(views.magnified - (128 + seen[0] * 63.5).clamp(0, 255).numpy()).max() <= 0.51
    assert (not_run.witness, not_run.perturbation, not_run.magnified) == (None, None, None)


def test_the_page_shows_every_attack_and_holds_the_original_once(views: Views) -> None:
    text = render_page(views).decode()
    for name in ("few-de", "few-cma", "thr-de", "thr-cma"):
        assert f"<h4>{name}</h4>" in text
    assert "not run: no witness; few-de had broken the sample before it was this attack&#39;s turn" in text
    pictures = re.findall(r'src="(data:[^"]+)"', text)
    assert len(pictures) == 3 * 2
    first = views.sections[0][2][0]
    for uri, expected in zip(pictures, (first.witness, first.perturbation, first.magnified), strict=False):
        assert (decoded(uri) == expected).all()
    shared = re.findall(r"background-image: url\((data:[^)]+)\)", text)
    assert [(decoded(uri) == image).all() for uri, image in zip(shared, (views.original, views.magnified), strict=True)]
    assert text.count('role="img"') == 2 * 2
    assert text.count('alt="') == len(pictures)
    assert "every value within 1/255" in text
    assert "image-rendering: pixelated" in text
    assert "<script" not in text
    assert not re.search(r"https?://", text)


def test_names_are_inert(synthetic: ModuleType, tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(synthetic.ATTACKS, "l0", (HOSTILE, "b"))
    names = (HOSTILE, "dog")
    with synthetic.build(tmp_path / "run.charpy", class_names=names) as run:
        views = views_of(read_sheet([run], "id-2"))
        text = render_page(views).decode()
        assert "<script" not in text
        assert "\u202e" not in text
        assert text.count("</style>") == 1
        assert "[U+202E]" in text
        Image.open(io.BytesIO(render_png(views))).verify()


def test_the_picture_holds_the_same_pixels_enlarged(views: Views) -> None:
    found = render_png(views)
    image = np.asarray(Image.open(io.BytesIO(found)))
    height, width = views.original.shape[1:]
    factor = -(-200 // max(height, width))
    assert image.shape[1] == GAP + 5 * (factor * width + GAP)
    enlarged = (
        np.broadcast_to(views.original, (3, height, width)).transpose(1, 2, 0).repeat(factor, 0).repeat(factor, 1)
    )
    tops = [
        top
        for top in range(image.shape[0] - factor * height)
        if (image[top : top + factor * height, GAP : GAP + factor * width] == enlarged).all()
    ]
    assert len(tops) == 2  # a row under each norm
    left = GAP + factor * width + GAP
    first = views.sections[0][2][0].witness
    assert (image[tops[0] + factor // 2, left + factor // 2 : left + factor * width : factor, 0] == first[0, 0]).all()
    assert render_png(views) == found


def test_a_thin_space_is_drawn_as_a_space() -> None:
    def drawn(text: str) -> bytes:
        canvas = Image.new("RGB", (200, 40), "white")
        _line(ImageDraw.Draw(canvas), 2, text, (0, 0, 0))
        return canvas.tobytes()

    assert drawn("1\u202f564") == drawn("1 564") != drawn("1564")


def test_large_images_are_not_made_coarse(synthetic: ModuleType, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(synthetic, "images", drawn_images)
    with synthetic.build(tmp_path / "run.charpy", shape=(1, 210, 100)) as run:
        views = views_of(read_sheet([run], "id-2", norm="l0", model="frail"))
    assert '<body class="large">' in render_page(views).decode()
    assert Image.open(io.BytesIO(render_png(views))).width == GAP + 5 * (100 + GAP)
