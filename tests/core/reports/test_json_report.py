from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from types import ModuleType

import jsonschema
import pytest

from charpy.analysis.document import AssessmentSet, comparable
from charpy.analysis.summary import RunSummary
from charpy.errors import SpecError
from charpy.reports.json_report import JsonReport, report_schema

COMMITTED = Path(__file__).parents[3] / "docs" / "schema" / "report.schema.json"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = report_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_the_one_of_the_code() -> None:
    hint = "rewrite it: python -m charpy.reports.json_report > docs/schema/report.schema.json"
    assert json.loads(COMMITTED.read_text(encoding="utf-8")) == report_schema(), hint


def test_one_model_gives_its_assessment(
    synthetic: ModuleType, tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL]) as run:
        path = JsonReport().write(RunSummary.of(run), tmp_path / "report.json")
    document = json.loads(path.read_bytes())
    validator.validate(document)
    assert document["schema"] == "charpy.report/1"
    assert [t["broken"] for t in document["threats"] if t["norm"] == "l0"] == [1, 3, 3, 3]
    assert set(document["threats"][0]) >= {
        "norm", "th", "samples", "clean_error", "broken", "held", "proven", "invalid", "adversarial_accuracy",
        "robust_accuracy", "interval",
    }  # fmt: skip


def test_a_full_disk_is_refused_and_leaves_the_report_that_is_there(
    synthetic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "report.json").write_text("the old one", encoding="utf-8")

    def full(path: Path, data: bytes) -> None:
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL]) as run:
        summary = RunSummary.of(run)
    with pytest.raises(SpecError, match=r"cannot be written(.|\n)*No space(.|\n)*`charpy report`"):
        JsonReport().write(summary, tmp_path / "report.json")
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == "the old one"
    assert not (tmp_path / "report.json.partial").exists()


def test_four_norms_satisfy_the_same_schema(
    synthetic: ModuleType, tmp_path: Path, validator: jsonschema.Draft202012Validator
) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FOUR], levels=synthetic.FOUR_LEVELS) as run:
        document = json.loads(JsonReport().render(RunSummary.of(run)))
    validator.validate(document)
    found = [(t["th"], t["broken"]) for t in document["threats"] if t["norm"] == "l2"]
    assert found == [(32, 1), (64, 2), (128, 3), (255, 3)]
    assert {part["name"] for part in document["safe"]} >= {"64-l2-safe", "1530-l1-safe"}


def test_several_models_give_a_set(summary: RunSummary, validator: jsonschema.Draft202012Validator) -> None:
    document = json.loads(JsonReport().render(summary))
    validator.validate(document)
    assert document["schema"] == "charpy.reports/1"
    assert [report["model"]["name"] for report in document["reports"]] == ["frail", "sick"]
    assert AssessmentSet.model_validate(document).reports == summary.assessments


@pytest.mark.parametrize("damage", [{"schema": "other/1"}, {"threats": None}, {"surprise": 1}])
def test_the_schema_refuses_another_document(
    summary: RunSummary, validator: jsonschema.Draft202012Validator, damage: dict[str, object]
) -> None:
    document = json.loads(JsonReport().render(summary))["reports"][0]
    validator.validate(document)
    assert not validator.is_valid({**document, **damage})


def test_the_same_run_gives_the_same_bytes_with_sorted_keys(summary: RunSummary) -> None:
    text = JsonReport().render(summary)
    assert text == JsonReport().render(RunSummary.of(summary.run))
    document = json.loads(text)
    assert list(document) == sorted(document)
    assert list(document["reports"][0]["threats"][0]) == sorted(document["reports"][0]["threats"][0])


def test_nothing_that_json_cannot_carry_gets_in(synthetic: ModuleType, tmp_path: Path) -> None:
    environment = {"load": float("nan"), "limit": float("inf"), "cpu": "caf\u00e9 \udc80"}
    with synthetic.build(tmp_path / "run.charpy", [synthetic.FRAIL], environment=environment) as run:
        text = JsonReport().render(RunSummary.of(run))

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    read = json.loads(text, parse_constant=refuse)["environment"]
    assert (read["load"], read["limit"], read["cpu"]) == (None, None, "caf\u00e9 \udc80")


def test_comparable_drops_times_only(summary: RunSummary) -> None:
    document = json.loads(JsonReport().render(summary))["reports"][0]
    left = comparable(document)
    assert "environment" not in left
    assert "seconds" not in left["attacks"][0]
    assert left["threats"] == document["threats"]
