"""charpy's own plugin: the commands and report formats of the core, registered through the hooks like a stranger's."""

from __future__ import annotations

from collections.abc import Mapping

from charpy.hookspecs import hookimpl


@hookimpl
def charpy_commands() -> Mapping[str, str]:
    """The commands of the `charpy` program."""
    return {
        "assess": "charpy.cli.assess:assess",
        "attacks": "charpy.cli.attacks:attacks",
        "certify": "charpy.cli.certify:certify",
        "compare": "charpy.cli.compare:compare",
        "describe": "charpy.cli.describe:describe",
        "distances": "charpy.cli.distances:distances",
        "export": "charpy.cli.export:export",
        "magnify": "charpy.cli.magnify:magnify",
        "new-plugin": "charpy.cli.new_plugin:new_plugin",
        "perceive": "charpy.cli.perceive:perceive",
        "plugins": "charpy.cli.plugins:plugins",
        "report": "charpy.cli.report:report",
        "run": "charpy.cli.run:run",
        "schema": "charpy.cli.schema:schema",
        "verify": "charpy.cli.verify:verify",
    }


@hookimpl
def charpy_reports() -> Mapping[str, str]:
    """The formats in which a run is written."""
    return {
        "csv": "charpy.reports.csv_report:CsvReport",
        "html": "charpy.reports.html:HtmlReport",
        "json": "charpy.reports.json_report:JsonReport",
        "junit": "charpy.reports.junit:JunitReport",
        "markdown": "charpy.reports.markdown:MarkdownReport",
        "model-card": "charpy.reports.model_card:ModelCardReport",
        "sarif": "charpy.reports.sarif:SarifReport",
    }
