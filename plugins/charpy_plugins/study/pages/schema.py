"""The JSON Schemas of analysis.json and of study.json in a study file.

`python -m charpy_plugins.study.pages.schema analysis` (or `study`) prints them as they stand in docs/schema.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from charpy_plugins.study.analysis.document import StudyAnalysis
from charpy_plugins.study.document import StudyDocument

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def analysis_schema() -> dict[str, Any]:
    """As `charpy study analyse --schema` prints it."""
    return {
        "$schema": DIALECT,
        **StudyAnalysis.model_json_schema(by_alias=True, mode="serialization"),
        "title": "charpy study analysis",
        "description": "analysis.json of charpy study analyse: what the participants of a study of images said",
    }


def study_schema() -> dict[str, Any]:
    """Of study.json, the document in a study file."""
    return {
        "$schema": DIALECT,
        **StudyDocument.model_json_schema(by_alias=True, mode="serialization"),
        "title": "charpy study",
        "description": "study.json in a study file of charpy study build: the whole study but the pixels",
    }


def schema_text(schema: dict[str, Any]) -> str:
    """As it is printed: keys sorted, two spaces, a line end."""
    return json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.stdout.write(schema_text({"analysis": analysis_schema, "study": study_schema}[sys.argv[1]]()))
