"""`charpy schema`: what it prints is a JSON Schema, and it judges as charpy does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator, ValidationError


@pytest.mark.parametrize("arguments", [(), ("--report",), ("--comparison",), ("--perception",), ("--verification",)])
def test_it_is_a_json_schema(charpy, arguments):
    done = charpy("schema", *arguments)
    assert done.code == 0
    Draft202012Validator.check_schema(json.loads(done.out))


def test_one_schema_at_a_time(charpy):
    done = charpy("schema", "--comparison", "--perception")
    assert done.code == 2
    assert "two schemas are asked for" in done.err


def test_the_run_schema_takes_a_spec_and_refuses_a_typo(charpy):
    validator = Draft202012Validator(json.loads(charpy("schema").out))
    spec = {"data": {"kind": "digits"}, "models": [{"reference": "digits-cnn"}]}
    validator.validate(spec)
    with pytest.raises(ValidationError, match="seeed"):
        validator.validate({**spec, "seeed": 1})
    with pytest.raises(ValidationError):
        validator.validate({**spec, "models": []})


def test_the_report_schema_takes_a_report_and_refuses_half_of_one(charpy, finished):
    validator = Draft202012Validator(json.loads(charpy("schema", "--report").out))
    report = json.loads((finished / "report.json").read_text(encoding="utf-8"))
    validator.validate(report)
    del report["threats"]
    with pytest.raises(ValidationError):
        validator.validate(report)


def test_the_published_schema_of_a_verification_is_the_one_of_the_code():
    from charpy.reports.json_report import verification_schema

    committed = Path(__file__).parents[3] / "docs" / "schema" / "verification.schema.json"
    hint = "rewrite it: python -m charpy.reports.json_report verification > docs/schema/verification.schema.json"
    assert json.loads(committed.read_text(encoding="utf-8")) == verification_schema(), hint
