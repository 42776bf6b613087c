"""`charpy magnify`: a sample's witnesses, attack by attack."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from PIL import Image


@pytest.fixture
def broken(finished):
    """A sample with a witness, its attack and norm, and the ids of all samples."""
    with closing(sqlite3.connect(finished / "run.charpy")) as run:
        row = run.execute(
            "SELECT s.id, s.sample, u.attack, w.norm, MIN(w.distance) FROM witnesses w JOIN units u USING (unit)"
            " JOIN samples s ON s.sample = w.sample GROUP BY s.id, u.attack, w.norm ORDER BY 2 LIMIT 1"
        ).fetchone()
        names = {name for (name,) in run.execute("SELECT DISTINCT attack FROM units")}
    return *row, names


def test_it_draws_every_attack_of_the_run(charpy, finished, broken, tmp_path):
    sample, number, attack, norm, distance, names = broken
    done = charpy("magnify", finished, "--sample", sample, "--out", "seen.html")
    assert done.code == 0, done.err
    assert f"digits-cnn  {norm}  {attack}: broken, at {distance:.4g}" in done.out
    assert done.out.endswith("seen.html\n")
    text = (tmp_path / "seen.html").read_text(encoding="utf-8")
    assert all(f"<h4>{name}</h4>" in text for name in names)
    assert charpy("magnify", finished / "run.charpy", "--sample", number, "--out", "again.html").code == 0
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "seen.html").read_bytes()


def test_a_png_and_one_norm(charpy, finished, broken, tmp_path):
    sample, _, _, norm, _, _ = broken
    done = charpy(
        "magnify", finished, "--sample", sample, "--norm", norm.upper(), "--model", "digits-cnn", "--out", "a/b.PNG"
    )
    assert done.code == 0, done.err
    assert ("  l0  " in done.out) + ("  linf  " in done.out) == 1
    with Image.open(tmp_path / "a" / "b.PNG") as image:
        assert image.format == "PNG"


def test_the_worst_of_an_attack_and_the_default_place(charpy, finished, broken, tmp_path):
    _, _, attack, norm, _, _ = broken
    shutil.copytree(finished, tmp_path / "run")
    with closing(sqlite3.connect(tmp_path / "run" / "run.charpy")) as run:
        query = (
            "SELECT s.id, MIN(w.distance) AS nearest FROM witnesses w JOIN units u USING (unit) JOIN samples s ON"
            " s.sample = w.sample WHERE u.attack = ? AND w.norm = ? GROUP BY s.id ORDER BY nearest DESC, s.sample"
        )
        ((expected, _), *_) = run.execute(query, (attack, norm))
    done = charpy("magnify", "run", "--worst", attack, "--norm", norm)
    assert done.code == 0, done.err
    assert f"sample {expected} " in done.out
    assert (tmp_path / "run" / "magnified.html").is_file()


def test_what_it_refuses(charpy, finished, broken, tmp_path):
    sample, names = broken[0], broken[-1]
    (tmp_path / "empty").mkdir()
    (tmp_path / "taken.html").mkdir()
    (tmp_path / "not.charpy").write_text("not a run file " * 100)
    for arguments, expected in (
        (["--sample", sample], "no run is given"),
        ([finished], "neither --sample nor --worst"),
        ([finished, "--sample", sample, "--worst", "x"], "both --sample and --worst"),
        (["empty", "--sample", sample], "no such run file"),
        (["not.charpy", "--sample", sample], "not a charpy run file"),
        ([finished, "--sample", "digits/9999"], "no such sample"),
        ([finished, "--sample", sample, "--norm", "l1"], "no attack ran under this norm"),
        ([finished, "--sample", sample, "--model", "digits-cn"], "did you mean digits-cnn"),
        ([finished, "--worst", min(names)[:-1]], "unknown attack"),
        ([finished, "--sample", sample, "--out", "seen.jpg"], ".html or .png"),
        ([finished, "--sample", sample, "--out", "not.charpy/seen.html"], "cannot be made"),
        ([finished, "--sample", sample, "--out", "taken.html"], "cannot be written"),
    ):
        done = charpy("magnify", *arguments)
        assert done.code == 2, arguments
        assert expected in done.err, arguments
        assert "Traceback" not in done.err
    assert not list(tmp_path.glob("*.partial"))
