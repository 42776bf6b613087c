"""`charpy schema`: the JSON Schemas of what goes in and of what comes out."""

from __future__ import annotations

import json
import sys

from charpy.errors import SpecError


def schema(*, report: bool = False, comparison: bool = False, perception: bool = False) -> int:
    """Print the JSON Schema of a run spec, of report.json, of compare.json, or of perceive.json.

    Args:
        report: of report.json instead.
        comparison: of compare.json, which `charpy compare` writes, instead.
        perception: of perceive.json, which `charpy perceive` writes, instead.
    """
    if report + comparison + perception > 1:
        expected = "--report or --comparison, or --perception"
        raise SpecError("two schemas are asked for", where="charpy schema", expected=expected)
    if comparison:
        from charpy.reports.json_report import comparison_schema

        document = comparison_schema()
    elif perception:
        from charpy.reports.json_report import perception_schema

        document = perception_schema()
    elif report:
        from charpy.reports.json_report import report_schema

        document = report_schema()
    else:
        from charpy import specs

        document = specs.schema()
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0
