"""The run as JSON, for programs; its schema is published under docs/schema."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, TypeAdapter

from charpy.analysis.document import Assessment, AssessmentSet
from charpy.interfaces.report import Report

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


class JsonReport(Report):
    """The assessment of a run as JSON, to be read by programs.

    A run over one model gives that model's `Assessment`; a run over several gives an `AssessmentSet`. The same run
    gives the same bytes: keys are sorted, and a NaN or infinity (only a free-form part can hold one) is null.
    """

    suffix: ClassVar[str] = ".json"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 JSON, indented, with a final newline."""
        if len(run.assessments) == 1:
            return json_bytes(run.assessments[0])
        return json_bytes(AssessmentSet(name=run.name, attackers=run.attackers, reports=run.assessments))


def json_bytes(document: BaseModel) -> bytes:
    """A document as UTF-8 JSON: sorted keys, indented, with a final newline."""
    data = document.model_dump(mode="json", by_alias=True)
    text = json.dumps(data, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
    # A lone surrogate in a name cannot be written as UTF-8; it becomes an escape instead of an error.
    return (text + "\n").encode("utf-8", errors="backslashreplace")


def report_schema() -> dict[str, Any]:
    """The JSON Schema of `report.json`: one assessment, or a set of them."""
    adapter: TypeAdapter[Assessment | AssessmentSet] = TypeAdapter(Assessment | AssessmentSet)
    schema = adapter.json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "charpy report",
        "description": "report.json of a charpy run: one assessment, or, of a run over several models, a set of them",
        **schema,
    }


def comparison_schema() -> dict[str, Any]:
    """The JSON Schema of `compare.json`."""
    from charpy.analysis.comparison.document import Comparison

    schema = Comparison.model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "charpy comparison",
        "description": "compare.json of charpy compare: the models and attacks of one or more runs side by side",
    }


def perception_schema() -> dict[str, Any]:
    """The JSON Schema of `perceive.json`."""
    from charpy.analysis.perception.document import Perception

    schema = Perception.model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "charpy perception",
        "description": "perceive.json of charpy perceive: whether nearness is necessary and sufficient for likeness",
    }


def verification_schema() -> dict[str, Any]:
    """The JSON Schema of what `charpy verify --json` prints."""
    from charpy.verification.document import Verification

    schema = Verification.model_json_schema(by_alias=True, mode="serialization")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": "charpy verification",
        "description": "charpy verify RUN --json: what of a run file was checked, what agrees and what does not",
    }


if __name__ == "__main__":
    schemas = {
        "comparison": comparison_schema,
        "perception": perception_schema,
        "verification": verification_schema,
    }
    wanted = schemas[sys.argv[1]]() if sys.argv[1:] else report_schema()
    print(json.dumps(wanted, indent=2, sort_keys=True))
