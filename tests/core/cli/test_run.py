"""`charpy run`: a spec file over several models."""

from __future__ import annotations

import json

from charpy.analysis.document import Assessment, AssessmentSet

SPEC = """
name: two shades
seed: 4
data: {kind: shades, params: {size: 12}}
models:
  - {reference: brightness}
  - name: "brightness / 2 bits"
    reference: brightness
    defenses: [{kind: bit_reduction, params: {bits: 2}}]
threats:
  - norm: l0
    levels: [1, 6]
    queries: 40
    battery: [{kind: corner_pixels, name: corners}]
metrics: [{kind: changed_share}]
"""


def test_several_models_in_one_report_and_one_document_each(charpy, tmp_path):
    (tmp_path / "two.yaml").write_text(SPEC)
    done = charpy("run", "two.yaml")
    assert done.code == 0, done.err
    out = tmp_path / "charpy-two"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "brightness / 2 bits" in page
    plain = Assessment.model_validate_json((out / "brightness" / "report.json").read_text(encoding="utf-8"))
    bits = Assessment.model_validate_json((out / "brightness-2-bits" / "report.json").read_text(encoding="utf-8"))
    assert (plain.model.name, bits.model.name) == ("brightness", "brightness / 2 bits")
    assert bits.model.defenses == ("bit_reduction",)
    assert [attack.name for attack in plain.attacks] == ["corners", "corners"]
    both = AssessmentSet.model_validate_json((out / "report.json").read_text(encoding="utf-8"))
    assert both.reports == (plain, bits)
    for path in ("charpy-two/report.html", "charpy-two/brightness-2-bits/report.json", "charpy-two/run.charpy"):
        assert path in done.out.split()
    assert done.out.count("L0 (pixels)") == 2


def test_one_model_needs_no_folder_of_its_own(charpy, tmp_path):
    spec = {"data": {"kind": "shades", "params": {"size": 4}}, "models": [{"reference": "brightness"}],
            "threats": [{"norm": "l0", "levels": [1], "queries": 5, "battery": "corner_pixels"}]}  # fmt: skip
    (tmp_path / "one.json").write_text(json.dumps(spec))
    assert charpy("run", "one.json", "--out", "here").code == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} == {"run.charpy", "report.json", "report.html"}
    assert charpy("run", "one.json", "--out", "here").code == 0


def test_a_spec_that_changed_is_refused_naming_the_field(charpy, tmp_path):
    (tmp_path / "two.yaml").write_text(SPEC)
    assert charpy("run", "two.yaml").code == 0
    (tmp_path / "two.yaml").write_text(SPEC.replace("queries: 40", "queries: 41"))
    done = charpy("run", "two.yaml")
    assert done.code == 2
    assert "queries: 40 -> 41" in done.err


def test_what_it_refuses(charpy, tmp_path):
    for text, expected in (
        (SPEC.replace("queries", "querys"), "did you mean 'queries'"),
        (SPEC.replace("seed: 4", "seed: 4\nseed: 5"), "seed"),
        (SPEC.replace("levels: [1, 6]", "levels: [0]"), "1..127"),
        (SPEC.replace("corner_pixels", "corner_pixel"), "did you mean corner_pixels"),
        (SPEC.replace("changed_share", "changed"), "changed_share"),
        (SPEC.replace("bits: 2", "bits: 9"), "bits"),
        ("models: [", "bad.yaml"),
        ("", "bad.yaml"),
    ):
        (tmp_path / "bad.yaml").write_text(text)
        done = charpy("run", "bad.yaml")
        assert done.code == 2, (text, done.out)
        assert expected in done.err
        assert "Traceback" not in done.err
        assert [path.name for path in tmp_path.iterdir()] == ["bad.yaml"]
    done = charpy("run", "nowhere.yaml")
    assert done.code == 2
    assert "nowhere.yaml" in done.err
