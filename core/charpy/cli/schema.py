"""`charpy schema`: the JSON Schemas of what goes in and of what comes out."""

from __future__ import annotations

import json
import sys


def schema(*, report: bool = False) -> int:
    """Print the JSON Schema of a run spec, or of report.json.

    Args:
        report: of report.json instead.
    """
    if report:
        from charpy.reports.json_report import report_schema

        document = report_schema()
    else:
        from charpy import specs

        document = specs.schema()
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0
