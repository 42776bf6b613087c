"""The example workflow: valid YAML, and every command in it one that charpy takes."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from charpy.cli.app import build_app
from charpy.gates import gate_of
from charpy.plugins import registry

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.fixture(scope="module")
def steps() -> list[dict[str, Any]]:
    workflow = YAML(typ="safe").load((DOCS / "ci" / "charpy.yml").read_text(encoding="utf-8"))
    assert set(workflow) == {"name", "on", "permissions", "jobs"}
    assert workflow["permissions"]["security-events"] == "write"
    (job,) = workflow["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    return list(job["steps"])


def test_the_command_is_one_that_charpy_takes(steps):
    (command,) = [step["run"] for step in steps if step.get("run", "").startswith("charpy ")]
    words = shlex.split(command)
    _, bound, _ = build_app(registry()).parse_args(words[1:])
    options = bound.arguments
    gates = [gate_of(text, "--gate") for text in options["gate"]]
    levels = [int(th) for th in options["levels"].split(",")]
    assert len(gates) == 3
    assert {gate.th for gate in gates} - {None} <= set(levels)
    assert {kind.kind for kind in registry().entries("reports")} >= set(options["formats"].split(","))


def test_what_is_uploaded_is_what_is_written_and_uploaded_whatever_happened(steps):
    (command,) = [step["run"] for step in steps if step.get("run", "").startswith("charpy ")]
    words = shlex.split(command)
    out, formats = words[words.index("--out") + 1], words[words.index("--format") + 1].split(",")
    written = {f"{out}/report{registry().load('reports', kind).suffix}" for kind in formats}
    uploads = {step["uses"].partition("@")[0]: step for step in steps if "uses" in step}
    assert uploads["github/codeql-action/upload-sarif"]["with"]["sarif_file"] in written
    assert uploads["dorny/test-reporter"]["with"]["path"] in written
    after = [
        step for step in steps if "robustness/" in str(step.get("with", "")) + step.get("run", "").partition(">")[0]
    ]
    assert len(after) == 4
    assert all(step["if"].startswith("always()") for step in after)
