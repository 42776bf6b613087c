"""`charpy assess`: its files, its output, its options, resuming, and what it refuses."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from charpy.analysis.document import Assessment, comparable


def stored(path):
    with closing(sqlite3.connect(path)) as database:
        return json.loads(database.execute("SELECT value FROM meta WHERE key = 'spec'").fetchone()[0])


def test_it_writes_the_run_and_both_reports(finished):
    assert {path.name for path in finished.iterdir()} >= {"run.charpy", "report.json", "report.html"}
    document = Assessment.model_validate_json((finished / "report.json").read_text(encoding="utf-8"))
    assert document.dataset.samples == 12
    assert [(threat.norm, threat.th) for threat in document.threats] == [
        ("l0", 1), ("l0", 3), ("linf", 1), ("linf", 3),
    ]  # fmt: skip
    assert (finished / "report.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_stdout_is_for_results_and_stderr_for_progress(charpy, quick):
    done = charpy("assess", "digits-cnn", "--data", "digits", *quick)
    assert done.code == 0
    document = json.loads(Path("charpy-digits-cnn-digits/report.json").read_text(encoding="utf-8"))
    for text in ("L0 (pixels)", "Linf (1/255)", document["verdict"]):
        assert text in " ".join(done.out.split())
    lines = done.out.split()
    for name in ("run.charpy", "report.json", "report.html"):
        assert f"charpy-digits-cnn-digits/{name}" in lines
    progress = [line for line in done.err.splitlines() if line.strip()]
    assert progress == [
        f"charpy: digits-cnn  {norm} th={th}  ({nr} of 4 units done)"
        for nr, (norm, th) in enumerate([("l0", 1), ("l0", 3), ("linf", 1), ("linf", 3)])
    ]


def test_the_same_command_again_goes_on_and_changes_nothing(charpy, finished, quick):
    again = charpy("assess", "digits-cnn", "--data", "digits", *quick, "--out", finished)
    assert again.code == 0
    assert not again.err
    before = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    fresh = charpy("assess", "digits-cnn", "--data", "digits", *quick, "--out", "fresh")
    assert fresh.code == 0
    after = json.loads(Path("fresh/report.json").read_text(encoding="utf-8"))
    assert comparable(before) == comparable(after)


def test_another_run_into_the_same_folder_is_refused_naming_the_difference(charpy, finished, quick):
    done = charpy("assess", "digits-cnn", "--data", "digits", *quick, "--seed", "1", "--out", finished)
    assert done.code == 2
    assert "spec.seed: 0 -> 1" in done.err
    assert not done.out


def test_options_reach_the_spec(charpy):
    done = charpy(
        "assess", "brightness", "--data", "shades", "--samples", 8, "--levels", "5, 2", "--norms", "L0",
        "--queries", 40, "--seed", 3, "--battery", "corner_pixels", "--grid", "8bit", "--batch-size", 16,
        "--name", "A title", "--out", "deep/er/out",
    )  # fmt: skip
    assert done.code == 0, done.err
    spec = stored("deep/er/out/run.charpy")
    assert spec["name"] == "A title"
    assert spec["seed"] == 3
    assert spec["data"] == {"kind": "shades", "params": {}, "samples": 8, "seed": 0}
    assert spec["models"][0]["reference"] == "brightness"
    assert spec["models"][0]["name"] == "A title"
    (threat,) = spec["threats"]
    assert (threat["norm"], threat["levels"], threat["queries"]) == ("l0", [2, 5], 40)
    assert threat["battery"] == "corner_pixels"
    assert (spec["grid"], spec["batch_size"]) == ("8bit", 16)


@pytest.mark.parametrize(
    ("options", "levels"),
    [
        ((), {"l0": [1, 3, 5, 10], "linf": [1, 3, 5, 10], "l2": [32, 64, 128, 255]}),
        (("--levels", "l2=128,32"), {"l0": [1, 3, 5, 10], "linf": [1, 3, 5, 10], "l2": [32, 128]}),
        (("--levels", "l0=1,3, LINF = 2, 4,l2=128"), {"l0": [1, 3], "linf": [2, 4], "l2": [128]}),
        (("--levels", "3"), {"l0": [3], "linf": [3], "l2": [3]}),
        (("--minimal",), {"l0": "minimal", "linf": "minimal", "l2": "minimal"}),
    ],
)
def test_every_norm_has_its_levels(monkeypatch, charpy, options, levels):
    """What is parsed is the spec of the run; whether anything attacks it is another matter."""
    specs = []
    monkeypatch.setattr("charpy.cli.execute.execute", lambda spec, out, formats: specs.append(spec) or 0)
    done = charpy("assess", "digits-cnn", "--data", "digits", "--norms", "l0,linf,l2", *options)
    assert done.code == 0, done.err
    stored = specs[0].model_dump(mode="json")["threats"]
    assert {threat["norm"]: threat["levels"] for threat in stored} == levels


def test_minimal_searches_each_samples_smallest_level(charpy):
    done = charpy(
        "assess", "brightness", "--data", "shades", "--samples", 4, "--norms", "l0", "--queries", 30,
        "--battery", "corner_pixels", "--minimal", "--out", "out",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert stored("out/run.charpy")["threats"][0]["levels"] == "minimal"
    (part,) = json.loads(Path("out/report.json").read_text(encoding="utf-8"))["minimal"]
    assert part["samples"] == part["broken"] == sum(part["counts"].values()) == 4


def test_the_default_is_a_hundred_samples_or_all_where_there_are_fewer(charpy):
    options = ("--norms", "l0", "--levels", 1, "--queries", 2, "--battery", "corner_pixels")
    charpy("assess", "brightness", "--data", "shades", *options)
    assert stored("charpy-brightness-shades/run.charpy")["data"]["samples"] == 40
    charpy("assess", "digits-cnn", "--data", "digits", *options)
    assert stored("charpy-digits-cnn-digits/run.charpy")["data"]["samples"] == 100
    charpy("assess", "brightness", "--data", "shades", *options, "--samples", "all", "--out", "all")
    assert stored("all/run.charpy")["data"]["samples"] is None


def test_files_are_found_by_what_they_are(charpy):
    images = np.random.default_rng(0).integers(0, 256, (6, 1, 8, 8), dtype=np.uint8)
    np.savez("mine.npz", images=images, labels=np.arange(6) % 2)
    Path("mine.py").write_text(
        "import torch\n"
        "def model(images):\n"
        "    mean = images.flatten(1).mean(1)\n"
        "    return torch.stack([0.5 - mean, mean - 0.5], 1) * 20\n"
    )
    done = charpy("assess", "mine:model", "--data", "mine.npz", "--levels", "1", "--queries", "20")
    assert done.code == 0, done.err
    assert stored("charpy-mine-model-mine.npz/run.charpy")["data"]["kind"] == "npz"


REFUSED = {
    "no data": (("digits-cnn",), "--data"),
    "unknown option": (("digits-cnn", "--data", "digits", "--sampels", "3"), "--sampels"),
    "unknown model": (("digts-cnn", "--data", "digits"), "did you mean digits-cnn"),
    "unknown data": (("digits-cnn", "--data", "digts"), "did you mean digits"),
    "missing file": (("nowhere.onnx", "--data", "digits"), "nowhere.onnx"),
    "samples 0": (("digits-cnn", "--data", "digits", "--samples", "0"), "samples"),
    "too many samples": (("digits-cnn", "--data", "digits", "--samples", "99999"), "99999"),
    "samples text": (("digits-cnn", "--data", "digits", "--samples", "many"), "many"),
    "level 0": (("digits-cnn", "--data", "digits", "--levels", "0,1"), "1..127"),
    "level 128": (("digits-cnn", "--data", "digits", "--levels", "128"), "1..127"),
    "level 100 of 64 pixels": (("digits-cnn", "--data", "digits", "--levels", "100"), "64"),
    "level twice": (("digits-cnn", "--data", "digits", "--levels", "1,1"), "twice"),
    "level text": (("digits-cnn", "--data", "digits", "--levels", "1,x"), "'x' is no whole number"),
    "level real": (("digits-cnn", "--data", "digits", "--levels", "1.5"), "whole number"),
    "level empty": (("digits-cnn", "--data", "digits", "--levels", "1,,3"), "empty entry"),
    "norm": (("digits-cnn", "--data", "digits", "--norms", "l7"), "l7"),
    "attack of no l2": (
        ("digits-cnn", "--data", "digits", "--norms", "l2", "--battery", "few_pixel"),
        "'few_pixel' does not attack l2",
    ),
    "level 0 of l2": (("digits-cnn", "--data", "digits", "--norms", "l2", "--levels", "0"), "levels [0] are outside"),
    "level beyond the image": (
        ("digits-cnn", "--data", "digits", "--norms", "l1", "--levels", "16321"),
        "the largest level of l1 here is 16320",
    ),
    "levels of a norm not assessed": (("digits-cnn", "--data", "digits", "--levels", "l2=64"), "not assessed"),
    "levels of no norm": (("digits-cnn", "--data", "digits", "--levels", "1,l0=3"), "a level of no norm"),
    "levels of a norm twice": (("digits-cnn", "--data", "digits", "--levels", "l0=1,l0=3"), "'l0' is named twice"),
    "levels of a norm empty": (("digits-cnn", "--data", "digits", "--levels", "l0="), "'' is no whole number"),
    "norm twice": (("digits-cnn", "--data", "digits", "--norms", "l0,l0"), "once"),
    "queries 0": (("digits-cnn", "--data", "digits", "--queries", "0"), "queries"),
    "seed negative": (("digits-cnn", "--data", "digits", "--seed=-1"), "seed"),
    "batch 0": (("digits-cnn", "--data", "digits", "--batch-size", "0"), "batch_size"),
    "grid": (("digits-cnn", "--data", "digits", "--grid", "7bit"), "7bit"),
    "battery": (("digits-cnn", "--data", "digits", "--battery", "standrd"), "did you mean standard"),
    "battery empty": (("digits-cnn", "--data", "digits", "--battery", ""), "--battery"),
    "name empty": (("digits-cnn", "--data", "digits", "--name", ""), "--name"),
    "attack of another norm": (("digits-cnn", "--data", "digits", "--battery", "few_pixel"), "linf"),
    "another shape": (("digits-cnn", "--data", "shades"), "6"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_with_a_readable_line_and_leaves_nothing(charpy, tmp_path, case):
    arguments, expected = REFUSED[case]
    done = charpy("assess", *arguments)
    assert done.code == 2
    assert expected in done.err
    assert "Traceback" not in done.err
    assert not done.out
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_output_folder(charpy, tmp_path, quick):
    (tmp_path / "out").write_text("in the way")
    done = charpy("assess", "digits-cnn", "--data", "digits", *quick, "--out", "out")
    assert done.code == 2
    assert "out" in done.err
    assert (tmp_path / "out").read_text() == "in the way"
