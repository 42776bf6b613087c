"""A sample under magnification as one PNG, laid out as the page is: a row an attack."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from charpy.reports import norms
from charpy.reports.figures import number
from charpy.reports.images import Pixels, colours
from charpy.reports.inert import visible
from charpy.reports.magnify import View, Views

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

TILE = 200
"""The least side of a picture; smaller images are enlarged by a whole factor."""

GAP, LINE, FONT = 12, 22, 15
COLUMNS = ("original", "witness", "perturbation, scaled", "original, magnified", "witness, magnified")
INK, FAINT, PAPER = (26, 31, 38), (84, 93, 104), (255, 255, 255)


def render_png(views: Views) -> bytes:
    """PNG, as wide as five pictures; the same run gives the same bytes."""
    from PIL import Image, ImageDraw

    factor = max(1, -(-TILE // max(views.original.shape[1:])))
    height, width = (factor * side for side in views.original.shape[1:])
    blocks = [_block(views, norm, view) for _, norm, rows in views.sections for view in rows]
    rows = sum(LINE * 2 + (height + LINE if view.witness is not None else 0) + GAP for _, view in blocks)
    titles = len(views.sections) * (LINE + GAP)
    canvas = Image.new("RGB", (GAP + len(COLUMNS) * (width + GAP), GAP + LINE + GAP + titles + rows), PAPER)
    draw, top = ImageDraw.Draw(canvas), GAP
    top = _line(draw, top, f"{views.sheet.sample}: {views.sheet.label_name}", INK) + GAP
    waiting = iter(blocks)
    for model, norm, section in views.sections:
        top = _line(draw, top, f"{model}, {norms.name(norm)}", INK) + GAP
        for _ in section:
            text, view = next(waiting)
            for line, colour in zip(text, (INK, FAINT), strict=True):
                top = _line(draw, top, line, colour)
            top = _pictures(canvas, draw, top, (views, view), (width, height)) + GAP
    buffer = io.BytesIO()
    canvas.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _block(views: Views, norm: str, view: View) -> tuple[tuple[str, str], View]:
    """The two lines above a row, and the row."""
    row, label = view.row, views.sheet.label_name
    head = f"{row.attack} ({row.run})" if len(views.sheet.runs) > 1 else row.attack
    if row.found is None:
        return (head, f"{row.outcome.replace('_', ' ')}: no witness; {row.reason}"), view
    l2 = "" if norm == "l2" else f", L2 {number(row.found.l2, 1)}"
    moved = norms.moved(norm, row.found.distance)
    said = f"{row.outcome}: {label} -> {row.found.predicted_name}; {moved}{l2}; seen {number(view.seen, 3)}"
    return (head, said), view


def _pictures(
    canvas: Image.Image, draw: ImageDraw.ImageDraw, top: int, row: tuple[Views, View], size: tuple[int, int]
) -> int:
    """The five pictures with their names below; gives the place below them."""
    views, view = row
    if view.witness is None or view.perturbation is None or view.magnified is None:
        return top
    pictures = (views.original, view.witness, view.perturbation, views.magnified, view.magnified)
    for column, (name, pixels) in enumerate(zip(COLUMNS, pictures, strict=True)):
        left = GAP + column * (size[0] + GAP)
        canvas.paste(_enlarged(pixels, size), (left, top))
        _line(draw, top + size[1] + 2, name, FAINT, left)
    return top + size[1] + LINE


def _enlarged(pixels: Pixels, size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    shown = np.ascontiguousarray(np.broadcast_to(colours(pixels), (3, *pixels.shape[1:])).transpose(1, 2, 0))
    return Image.fromarray(shown).resize(size, Image.Resampling.NEAREST)


def _line(draw: ImageDraw.ImageDraw, top: int, text: str, colour: tuple[int, int, int], left: int = GAP) -> int:
    """One line of text; gives the place below it."""
    from PIL import ImageFont

    plain = text.replace("\u202f", " ")  # Pillow's font has no thin space
    draw.text((left, top), visible(plain), fill=colour, font=ImageFont.load_default(FONT))
    return top + LINE
