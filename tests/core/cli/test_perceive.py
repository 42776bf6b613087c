"""`charpy perceive`: pairs of a dataset, of runs and of folders; answers; what it refuses."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import pytest
from PIL import Image

QUICK = ("--samples", "8", "--metrics", "l2,linf")


def document(folder):
    return json.loads((folder / "perceive.json").read_text(encoding="utf-8"))


def rows(folder):
    with (folder / "pairs.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_dataset(charpy, tmp_path):
    done = charpy("perceive", "--data", "digits", *QUICK)
    assert done.code == 0, done.err
    out = tmp_path / "charpy-perception"
    assert {path.name for path in out.iterdir()} == {"perceive.html", "perceive.json", "pairs.csv"}
    found = document(out)
    assert [part["kind"] for part in found["metrics"]] == ["l2", "linf"]
    assert found["labels"] == "proxy"
    assert found["originals"] == 8
    assert found["settings"]["shift"] == "up to 0.57 pixels"
    assert "proxy, not by people" in done.out
    assert "linf" in done.out
    assert "≤ 8/255" in done.out
    assert (found["verdict"] in done.out) or found["verdict"][:60] in done.out
    again = charpy("perceive", "--data", "digits", *QUICK, "--out", "again")
    assert again.code == 0
    for name in ("perceive.html", "perceive.json", "pairs.csv"):
        assert (tmp_path / "again" / name).read_bytes() == (out / name).read_bytes()
    # The figures of the page are those of the pairs.
    table = rows(out)
    alike = [float(row["linf"]) for row in table if row["label"] == "alike"]
    usual = next(at for at in found["metrics"][1]["thresholds"] if at["title"] == "≤ 0.1")
    assert usual["left_out"]["count"] == sum(value > 0.1 + 1e-6 for value in alike)
    assert usual["left_out"]["total"] == len(alike) == 5 * 8


def test_bounds_and_groups(charpy, tmp_path):
    options = ("--rotation", 0, "--shift", 1, "--scale", 0, "--brightness", 0, "--eps", "0.3", "--blends", "")
    done = charpy("perceive", "--data", "digits", *QUICK, *options, "--outside", "edge", "--out", "few")
    assert done.code == 0, done.err
    names = {part["name"]: part for part in document(tmp_path / "few")["groups"]}
    assert set(names) == {"shifted", "combined, eps 0.3", "another class"}
    assert "up to 1 pixels; the last pixels repeat" in names["shifted"]["text"]


def test_answers_take_the_place_of_the_proxy(charpy, tmp_path):
    assert charpy("perceive", "--data", "digits", *QUICK, "--out", "first").code == 0
    pairs = [row["pair"] for row in rows(tmp_path / "first")]
    answers = [
        f"{pair},{'9/10' if '|rotated' in pair else 'no'}" for pair in pairs if "|rotated" in pair or "|ano" in pair
    ]
    (tmp_path / "answers.csv").write_text("pair,same\n" + "\n".join(answers), encoding="utf-8")
    done = charpy("perceive", "--data", "digits", *QUICK, "--answers", "answers.csv", "--out", "second")
    assert done.code == 0, done.err
    found = document(tmp_path / "second")
    assert found["labels"] == "answers"
    assert (found["alike"], found["different"]) == (16, 8)
    assert "answers in answers.csv" in done.out
    (tmp_path / "answers.csv").write_text("pair,same\n" + pairs[0] + ",perhaps\n", encoding="utf-8")
    done = charpy("perceive", "--data", "digits", *QUICK, "--answers", "answers.csv", "--out", "third")
    assert done.code == 2
    assert "line 2" in done.err
    assert not (tmp_path / "third").exists()


def test_help_names_the_columns_of_answers(charpy):
    said = " ".join(charpy("perceive", "--help").out.replace("│", " ").split())
    for column in ("pair", "original and changed", "same (yes, no, or 7/10)"):
        assert column in said


def test_the_witnesses_of_a_run(charpy, finished, tmp_path):
    done = charpy("perceive", finished, "--metrics", "l0_pixels,linf", "--out", "run")
    assert done.code == 0, done.err
    found = document(tmp_path / "run")
    witnesses = [part for part in found["groups"] if re.search(r"\((L0|Linf)\)$", part["name"])]
    assert witnesses
    assert all(part["alike"] == part["different"] == 0 for part in witnesses)
    l0 = [part for part in witnesses if part["name"].endswith("(L0)")]
    assert all(part["values"]["l0_pixels"]["most"] <= 3 for part in l0)
    name = witnesses[0]["name"]
    done = charpy("perceive", finished, "--metrics", "l0_pixels,linf", "--different", name, "--out", "stated")
    assert done.code == 0, done.err
    assert f"Stated to look different: {name}." in document(tmp_path / "stated")["proxy"]


def test_two_folders(charpy, tmp_path):
    random = np.random.default_rng(0)
    for number in range(4):
        pixels = random.integers(0, 200, (9, 9), dtype=np.uint8)
        for folder, gap in (("a", 0), ("b", 7)):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels + gap).save(tmp_path / folder / f"{number}.png")
    done = charpy("perceive", "--originals", "a", "--changed", "b", "--metrics", "linf,ssim", "--different", "changed")
    assert done.code == 0, done.err
    found = document(tmp_path / "charpy-perception")
    group = found["groups"][0]
    assert (group["name"], group["different"]) == ("changed", 4)
    assert group["values"]["linf"]["median"] == pytest.approx(7 / 255, rel=1e-5)
    assert any("one class" in note for note in found["notes"])
    assert {"0.png", "0.png|rotated"} <= {row["pair"] for row in rows(tmp_path / "charpy-perception")}


def test_two_folders_without_a_label_are_measured_all_the_same(charpy, tmp_path):
    for folder, value in (("a", 0), ("b", 51)):
        (tmp_path / folder).mkdir()
        Image.fromarray(np.full((9, 9), value, np.uint8)).save(tmp_path / folder / "0.png")
    done = charpy("perceive", "--originals", "a", "--changed", "b", "--metrics", "linf,psnr,l1")
    assert done.code == 0, done.err
    line = next(line for line in done.out.splitlines() if "changed" in line)
    assert line.replace("│", "|").replace(" ", "") == "|changed|1|0.2|13.98|16.2|"  # 51/255, -20 log10, 81 values
    page = (tmp_path / "charpy-perception" / "perceive.html").read_text(encoding="utf-8")
    head = page.split("How the pairs were made")[1].split("</thead>")[0]
    assert all(f">{kind}</th>" in head for kind in ("linf", "psnr", "l1"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "which pairs?"),
        (["run", "--data", "digits"], "runs, --data"),
        (["--originals", "a"], "expected: --originals and --changed"),
        (["run", "--samples", "3"], "--samples"),
        (["--data", "digits", "--samples", "0"], "a number, or all"),
        (["--data", "digits", "--samples", "99999"], "more samples are asked for"),
        (["--data", "dgits"], "did you mean digits"),
        (["none"], "no such run file"),
        (["--data", "digits", "--metrics", "l2,vif"], "too small for vif"),
        (["--data", "digits", "--metrics", "l2,,ssim"], "an empty entry"),
        (["--data", "digits", "--metrics", "l2", "--leads", "ssim"], "metric 'ssim' is not measured"),
        (["--data", "digits", "--leads", "l1,l2,ssim"], "too many"),
        (["--data", "digits", "--outside", "grey"], "black or edge"),
        (["--data", "digits", "--rotation", "181"], "0 to 180"),
        (["--data", "digits", "--shift", "nan"], "--shift"),
        (["--data", "digits", "--eps", "0.1,2"], "above 0, at most 1"),
        (["--data", "digits", "--eps", "0.1,x"], "above 0, at most 1"),
        (["--data", "digits", "--alike", "rotatd"], "did you mean rotated"),
        (["--data", "digits", "--answers", "none.csv"], "cannot be read"),
        (["--data", "digits", "--out", "file/out"], "cannot be made"),
    ],
)
def test_what_it_refuses(charpy, tmp_path, arguments, said):
    (tmp_path / "file").write_text("")
    few = [] if "--metrics" in arguments or "--data" not in arguments else ["--metrics", "l1,l2,ssim"]
    few += [] if "--samples" in arguments or "--data" not in arguments else ["--samples", "4"]
    done = charpy("perceive", *arguments, *few)
    assert done.code == 2, done.err
    assert said in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "charpy-perception").exists()
