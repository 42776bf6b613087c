"""An ONNX file that returns nothing but a class gets a dual report."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from charpy.analysis.document import Assessment
from charpy.cli.app import run_program
from charpy.pixels import as_images, unpack
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.threat import Grid


@pytest.fixture(scope="module")
def label_only_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """digits-cnn with its scores replaced by their ArgMax."""
    path = tmp_path_factory.mktemp("onnx") / "classes.onnx"
    registry().create("models", "digits-cnn", {"device": "cpu"}).export(path)
    model = onnx.load(path)
    scores = model.graph.output[0].name
    model.graph.node.append(helper.make_node("ArgMax", [scores], ["class"], axis=1, keepdims=0))
    del model.graph.output[:]
    model.graph.output.append(helper.make_tensor_value_info("class", TensorProto.INT64, ["N"]))
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def assessed(path: Path, out: Path, *options: str) -> Assessment:
    common = ["--data", "digits", "--queries", "300", "--levels", "1,10"]
    assert run_program(["assess", str(path), *common, *options, "--out", str(out)]) == 0
    return Assessment.model_validate_json((out / "report.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def by_battery(label_only_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Assessment, Path]:
    out = tmp_path_factory.mktemp("label-only") / "out"
    return assessed(label_only_file, out, "--samples", "12", "--battery", "label-only"), out


def test_a_label_only_onnx_file_gets_a_report_of_both_norms(by_battery):
    report, _ = by_battery
    assert report.model.output == "labels"
    assert [(threat.norm, threat.th) for threat in report.threats] == [
        ("l0", 1), ("l0", 10), ("linf", 1), ("linf", 10),
    ]  # fmt: skip
    for threat in report.threats:
        assert threat.invalid == 0
        assert threat.clean_error + threat.broken + threat.held + threat.proven == threat.samples == 12
    broken = {(threat.norm, threat.th): threat.broken for threat in report.threats}
    assert broken["l0", 10] > broken["l0", 1]
    assert broken["linf", 10] >= broken["linf", 1]


def test_the_witnesses_fool_the_network_whose_scores_were_taken_away(by_battery):
    _, out = by_battery
    network = registry().create("models", "digits-cnn", {"device": "cpu"})
    with RunFile.open(out / "run.charpy") as run:
        labels = {row.sample: row.label for row in run.samples(0)}
        witnesses = list(run.witnesses(0))
    assert "l0" in {row.norm for row in witnesses}
    for row in witnesses:
        image = as_images(unpack(row.image, (1, 8, 8), Grid.EIGHT_BIT))
        assert int(network.predict(image[None]).argmax()) != labels[row.sample]


def test_the_default_battery_attacks_it_in_both_norms_too(label_only_file, tmp_path):
    report = assessed(label_only_file, tmp_path / "out", "--samples", "4")
    assert {threat.norm for threat in report.threats} == {"l0", "linf"}
    assert sum(threat.broken for threat in report.threats if threat.th == 10) > 0
