"""docs/schema has the schemas of a study and of its analysis as they are, and both fit what is written."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

from charpy.reports.json_report import json_bytes
from charpy_plugins.study.analysis.analyse import analysed
from charpy_plugins.study.pages.schema import analysis_schema, schema_text, study_schema
from charpy_plugins.study.responses import Responses
from charpy_plugins.study.simulation import population

FOLDER = Path(__file__).parents[3] / "docs" / "schema"
BOTH = {"study": ("study", study_schema), "analysis": ("study-analysis", analysis_schema)}


@pytest.mark.parametrize("name", BOTH)
def test_the_committed_schema_is_current(name):
    stem, schema = BOTH[name]
    hint = f"rewrite it: python -m charpy_plugins.study.pages.schema {name} > docs/schema/{stem}.schema.json"
    assert (FOLDER / f"{stem}.schema.json").read_text(encoding="utf-8") == schema_text(schema()), hint


def test_a_study_fits_its_schema_and_a_changed_one_does_not(study):
    document = json.loads(study.document.canonical())
    jsonschema.validate(document, study_schema())
    for changed in ({**document, "questions": 0}, {**document, "extra": 1}, {**document, "texts": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, study_schema())


def test_an_analysis_fits_its_schema_with_and_without_answers(study):
    names = [condition.name for condition in study.document.conditions]
    people = population(study.document, dict.fromkeys(names, 0.8), dict.fromkeys(names, 3), seed=0)
    for responses in (people, Responses((), ())):
        analysis = analysed(study.document, responses, draws=200, models=False)
        document = json.loads(json_bytes(analysis))
        jsonschema.validate(document, analysis_schema())
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**document, "extra": 1}, analysis_schema())
