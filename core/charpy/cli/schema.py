"""`charpy schema`: the JSON Schemas of what goes in and of what comes out."""

from __future__ import annotations

import json
import sys

from charpy.errors import SpecError

PAGES = {
    "spec": (
        "Fields of a spec",
        "What `charpy schema --markdown` prints: every field of the file that `charpy run` takes, as the JSON "
        "Schema of `charpy schema` has it. An unknown field is refused, and the nearest one named. "
        "Parameters of a component are those that "
        "`charpy describe HOOK KIND` lists.",
    ),
    "report": (
        "Fields of report.json",
        "What `charpy schema --report --markdown` prints: every field of the document that a run comes down to. "
        "[How to read a report](report.md) says which matter most.",
    ),
    "comparison": ("Fields of compare.json", "What `charpy schema --comparison --markdown` prints."),
    "perception": ("Fields of perceive.json", "What `charpy schema --perception --markdown` prints."),
    "verification": ("Fields of a verification", "What `charpy schema --verification --markdown` prints."),
}


def schema(
    *,
    report: bool = False,
    comparison: bool = False,
    perception: bool = False,
    verification: bool = False,
    markdown: bool = False,
) -> int:
    """Print the JSON Schema of a run spec, of report.json, compare.json or perceive.json, or of a verification.

    Args:
        report: of report.json instead.
        comparison: of compare.json, which `charpy compare` writes, instead.
        perception: of perceive.json, which `charpy perceive` writes, instead.
        verification: of what `charpy verify --json` prints, instead.
        markdown: as a Markdown page of every field, instead of JSON.
    """
    if report + comparison + perception + verification > 1:
        expected = "one of --report, --comparison, --perception and --verification"
        raise SpecError("two schemas are asked for", where="charpy schema", expected=expected)
    if comparison:
        from charpy.reports.json_report import comparison_schema

        name, document = "comparison", comparison_schema()
    elif perception:
        from charpy.reports.json_report import perception_schema

        name, document = "perception", perception_schema()
    elif verification:
        from charpy.reports.json_report import verification_schema

        name, document = "verification", verification_schema()
    elif report:
        from charpy.reports.json_report import report_schema

        name, document = "report", report_schema()
    else:
        from charpy import specs

        name, document = "spec", specs.schema()
    if markdown:
        from charpy.cli.schema_markdown import schema_page

        sys.stdout.write(schema_page(document, *PAGES[name]))
    else:
        sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    return 0
