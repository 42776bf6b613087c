"""The whole way as a user goes it: a run, a study, its pages, people, the analysis, and the verdict on metrics."""

from __future__ import annotations

import csv
import json

import pytest

from charpy_plugins.study.studyfile import read_study

RUN = """
contest: true
data: {kind: digits, samples: 8}
models: [{reference: digits-cnn}]
threats:
  - norm: linf
    levels: [60]
    battery: [{kind: ssim_pgd, params: {mode: perceptible, steps: 8}}]
"""

BUILD = """
conditions:
  benign:
  changed: {pick: farthest, metric: ssim}
questions: 4
stimuli: 4
exclusion: {failed_checks: 0, fastest_median: 0}
fill: {researcher: A, institution: B, ethics board and approval number: C, payment: D, how long: E, contact: F}
"""


@pytest.mark.slow
def test_from_a_run_to_what_people_say_of_metrics(charpy, serve, visit, tmp_path, monkeypatch):
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.05)
    for name, text in (("run.yaml", RUN), ("build.yaml", BUILD)):
        (tmp_path / name).write_text(text)
    steps = [
        ("run", "run.yaml", "--out", "run"),
        ("study", "build", "run", "--spec", "build.yaml", "--out", "small.study"),
    ]
    for step in steps:
        done = charpy(*step)
        assert done.code == 0, done
    server = serve(read_study(tmp_path / "small.study"))
    document = server.study.document
    truth = {one.id: one.label for one in document.stimuli}
    for _ in range(6):
        visitor = visit(server).join()
        condition = server.newest()[0].condition
        while visitor.at_question:
            address = visitor.page.locator("main img").first.get_attribute("src") or ""
            here = truth[address.split("/")[-1].split("-x")[0]]
            label = (here + (condition == "changed")) % 10  # changed: always one digit too many
            if visitor.is_check:
                label = document.labels.index(visitor.page.inner_text("legend strong"))
            visitor.answer(label=label, confidence=4)
    analysed = charpy(
        "study", "analyse", "small.study", "--answers", server.answers, "--draws", "200", "--out", "found"
    )
    assert analysed.code == 0, analysed
    found = json.loads((tmp_path / "found" / "analysis.json").read_text())
    accuracy = {one["name"]: one["accuracy"]["value"] for one in found["conditions"]}
    assert accuracy == {"benign": 1.0, "changed": 0.0}
    with (tmp_path / "found" / "human_labels.csv").open(newline="") as file:
        said = list(csv.DictReader(file))
    assert [row["same"] for row in said] == ["0/3"] * 4
    pictures = ("--originals", "found/originals", "--changed", "found/changed", "--answers", "found/human_labels.csv")
    done = charpy("perceive", *pictures, "--metrics", "l2,linf", "--leads", "l2", "--out", "perceived")
    assert done.code == 0, done
    assert any((tmp_path / "perceived").iterdir())
