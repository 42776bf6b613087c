"""The JSON Schema of analysis.json."""

from __future__ import annotations

from typing import Any

from charpy_plugins.study.analysis.document import StudyAnalysis


def analysis_schema() -> dict[str, Any]:
    """As `charpy study analyse --schema` prints it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **StudyAnalysis.model_json_schema(by_alias=True, mode="serialization"),
        "title": "charpy study analysis",
        "description": "analysis.json of charpy study analyse: what the participants of a study of images said",
    }
