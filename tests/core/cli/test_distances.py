"""`charpy distances`: the files, the tables, the page, and what it refuses."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from charpy.analysis.distances.document import Distances
from charpy.epsfile import EpsFile
from charpy.reports.distances_html import render_page
from charpy.reports.json_report import json_bytes

HOSTILE = "<script>alert(1)</script>\u202e"


def test_the_files_and_the_tables(charpy, tmp_path):
    done = charpy("distances", "digits", "--per-class", "6", "--metrics", "l2, psnr", "--eps-norm", "l2", "--out", "d")
    assert done.code == 0, done.err
    assert done.out.endswith("d/distances.json\nd/distances.html\nd/eps.json\n")
    data = (tmp_path / "d" / "distances.json").read_bytes()
    document = Distances.model_validate_json(data)
    assert json_bytes(document) == data
    assert json.loads(data)["schema"] == "charpy.distances/1"
    assert (tmp_path / "d" / "distances.html").read_bytes() == render_page(document)
    levels = EpsFile.model_validate_json((tmp_path / "d" / "eps.json").read_bytes())
    assert document.eps is not None
    assert levels.classes == document.eps.classes
    assert len(levels.samples) == 60
    for part in document.metrics:
        assert f"mean {part.kind}" in done.out
        assert f"{part.cells[0].mean:.4g}" in done.out
        assert bool(part.marks) == ("*" in done.out.split(f"mean {part.kind}")[1].split("* nearer")[0])
    again = charpy("distances", "digits", "--per-class", "6", "--metrics", "l2,psnr", "--eps-norm", "l2", "--out", "e")
    assert again.code == 0
    for name in ("distances.json", "distances.html", "eps.json"):
        assert (tmp_path / "d" / name).read_bytes() == (tmp_path / "e" / name).read_bytes()
    assert charpy("distances", "digits", "--per-class", "6", "--seed", "1", "--metrics", "l2", "--out", "e").code == 0
    assert (tmp_path / "d" / "distances.json").read_bytes() != (tmp_path / "e" / "distances.json").read_bytes()


def test_other_splits_the_whole_set_and_the_default_place(charpy, tmp_path):
    done = charpy("distances", "digits", "--per-class", "3", "--split", "train", "--against", "all", "--metrics", "l1")
    assert done.code == 0, done.err
    document = Distances.model_validate_json((tmp_path / "charpy-distances-digits" / "distances.json").read_bytes())
    assert document.data.samples == 1201
    assert document.against == "all"
    assert not (tmp_path / "charpy-distances-digits" / "eps.json").exists()


def test_many_classes_and_hostile_names_stay_harmless(charpy, tmp_path):
    """More classes than a table has room for."""
    random = np.random.default_rng(0)
    for label in range(23):
        folder = tmp_path / "images" / (f"{label:02d}" if label else "00 &lt;b&gt;")
        folder.mkdir(parents=True)
        from PIL import Image

        for number in range(2):
            Image.fromarray(random.integers(0, 256, (6, 6), np.uint8)).save(folder / f"{number}.png")
    done = charpy("distances", "images/", "--metrics", "l2", "--out", "d", "--eps-norm", "linf")
    assert done.code == 0, done.err
    assert "within" in done.out
    document = Distances.model_validate_json((tmp_path / "d" / "distances.json").read_bytes())
    hostile = document.model_dump_json(by_alias=True).replace("00 &lt;b&gt;", HOSTILE.encode("unicode_escape").decode())
    text = render_page(Distances.model_validate_json(hostile)).decode()
    assert "<script" not in text
    assert "\u202e" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;[U+202E]" in text


def test_the_page_marks_what_is_marked(charpy, tmp_path):
    images = np.array([[0, 0], [200, 0], [100, 10], [100, 12]], np.uint8).reshape(4, 1, 1, 2)
    np.savez(tmp_path / "rows.npz", images=images, labels=[0, 0, 1, 1])
    done = charpy("distances", "rows.npz", "--metrics", "l1,l0_pixels", "--out", "d")
    assert done.code == 0, done.err
    assert "l1: 0: 0.784 among themselves, nearer to 1 (0.435)" in done.out
    assert "l0_pixels: No class is further apart within than to another class." in done.out
    page = (tmp_path / "d" / "distances.html").read_text(encoding="utf-8")
    assert page.count('class="marked"') == 1
    assert page.count('class="within"') == 4
    shares = [float(share) for share in re.findall(r"--share:([0-9.]+)", page)]
    assert (min(shares), max(shares)) == (0, 100)
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--per-class", "60"], "at most 58, the images of class"),
        (["--metrics", "l2,,l1"], "an empty entry"),
        (["--metrics", "ms_ssim"], "too small"),
        (["--rule", "combination"], "levels of which norm"),
        (["--combine", "2"], "--eps-norm linf --rule combination"),
        (["--eps-norm", "l0", "--threshold", "2"], "--eps-norm linf --rule combination"),
        (["--eps-norm", "l0", "--rule", "combination"], "bounded in linf"),
        (["--split", "validation"], "split"),
    ],
)
def test_what_it_refuses(charpy, tmp_path, options, text):
    done = charpy("distances", "digits", *options)
    assert done.code == 2
    assert text in done.err
    assert "Traceback" not in done.err
    assert not list(tmp_path.iterdir())


def test_places_that_cannot_be_written(charpy, tmp_path):
    (tmp_path / "file").write_text("")
    done = charpy("distances", "digits", "--per-class", "2", "--metrics", "l1", "--out", "file/inside")
    assert (done.code, "cannot be made" in done.err) == (2, True)
    (tmp_path / "d" / "distances.html").mkdir(parents=True)
    done = charpy("distances", "digits", "--per-class", "2", "--metrics", "l1", "--out", "d")
    assert (done.code, "cannot be written" in done.err) == (2, True)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["distances.html"]
    (tmp_path / "e" / "distances.json.partial").mkdir(parents=True)
    done = charpy("distances", "digits", "--per-class", "2", "--metrics", "l1", "--out", "e")
    assert (done.code, "cannot be written" in done.err, "Traceback" in done.err) == (2, True, False)
    assert [path.name for path in (tmp_path / "e").iterdir()] == ["distances.json.partial"]


def test_two_draws_at_once_are_refused(charpy, tmp_path):
    done = charpy("distances", "digits", "--samples", "40", "--per-class", "5", "--out", "d")
    assert done.code == 2
    assert "two draws are asked for" in done.err
    assert not (tmp_path / "d").exists()
