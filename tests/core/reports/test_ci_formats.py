"""JUnit, SARIF, CSV, Markdown and model cards: their structure, what they say of a run, and that names stay names."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from ruamel.yaml import YAML

from charpy.analysis.summary import RunSummary
from charpy.gates import read_gate
from charpy.reports.csv_report import CsvReport
from charpy.reports.junit import JunitReport
from charpy.reports.markdown import MarkdownReport
from charpy.reports.model_card import ModelCardReport
from charpy.reports.sarif import RULES, SarifReport

REPORTS = (CsvReport, JunitReport, MarkdownReport, ModelCardReport, SarifReport)
HOSTILE = "=cmd()</failure>]]><script>|x| [a](http://x) {0}\"'\x00\x1b[31m\u202e\ufffe\n---\n# x\r\t{{7*7}}"
HIDDEN = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u202a-\u202e\u2066-\u2069\ufffe]")

GATES = (
    "clean_accuracy >= 0.4",
    "l0 th=3 robust_accuracy >= 0.5",
    "linf th=3 robust_accuracy >= 0.1",
    "l2 th=64 proven >= 0.1",
)

JUNIT = {  # of the published schema (Jenkins' junit-10.xsd): element -> attributes needed, allowed, and children
    "testsuites": ((), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": (
        ("name", "tests", "failures", "errors"),
        {"name", "tests", "failures", "errors", "time", "skipped"},
        {"testcase"},
    ),
    "testcase": (("name",), {"name", "time", "classname"}, {"failure", "error", "skipped", "system-out"}),
    "failure": ((), {"type", "message"}, set()),
    "error": ((), {"type", "message"}, set()),
    "skipped": ((), {"type", "message"}, set()),
    "system-out": ((), set(), set()),
}
SUREFIRE_TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]{0,3})?")


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


TEXT = {"type": "string", "minLength": 1}
MESSAGE = _object(("text",), text=TEXT)
LEVEL = {"enum": ["none", "note", "warning", "error"]}
SARIF = _object(  # the part of the OASIS schema that is used here, written from the standard; nothing else is allowed
    ("version", "runs"),
    **{"$schema": {"type": "string", "pattern": "sarif-schema-2.1.0.json$"}},
    version={"const": "2.1.0"},
    runs={
        "type": "array",
        "items": _object(
            ("tool",),
            tool=_object(
                ("driver",),
                driver=_object(
                    ("name",),
                    name=TEXT,
                    version=TEXT,
                    rules={
                        "type": "array",
                        "uniqueItems": True,
                        "items": _object(
                            ("id",),
                            id=TEXT,
                            name=TEXT,
                            shortDescription=MESSAGE,
                            fullDescription=MESSAGE,
                            help=MESSAGE,
                            defaultConfiguration=_object(level=LEVEL),
                        ),
                    },
                ),
            ),
            invocations={
                "type": "array",
                "items": _object(
                    ("executionSuccessful",),
                    executionSuccessful={"type": "boolean"},
                    toolExecutionNotifications={
                        "type": "array",
                        "items": _object(("message",), level=LEVEL, message=MESSAGE),
                    },
                ),
            },
            results={
                "type": "array",
                "items": _object(
                    ("message",),
                    ruleId=TEXT,
                    ruleIndex={"type": "integer", "minimum": 0},
                    level=LEVEL,
                    message=MESSAGE,
                    partialFingerprints={"type": "object", "additionalProperties": {"type": "string"}},
                    locations={
                        "type": "array",
                        "items": _object(
                            physicalLocation=_object(
                                ("artifactLocation",),
                                artifactLocation=_object(uri={"type": "string"}, uriBaseId=TEXT),
                                region=_object(startLine={"type": "integer", "minimum": 1}),
                            ),
                            logicalLocations={
                                "type": "array",
                                "uniqueItems": True,
                                "items": _object(name=TEXT, fullyQualifiedName=TEXT),
                            },
                        ),
                    },
                ),
            },
        ),
    },
)


def junit(summary: RunSummary) -> ElementTree.Element:
    """The report, after its structure was held against the published schema."""
    root = ElementTree.fromstring(JunitReport().render(summary))
    assert root.tag == "testsuites"
    for element in root.iter():
        needed, allowed, children = JUNIT[element.tag]
        assert set(needed) <= set(element.attrib) <= allowed, element.tag
        assert {child.tag for child in element} <= children, element.tag
        assert SUREFIRE_TIME.fullmatch(element.get("time", ""))
        for name in {"tests", "failures", "errors", "skipped"} & set(element.attrib):
            tags = {"failures": "failure", "errors": "error", "skipped": "skipped", "tests": "testcase"}
            assert int(element.get(name)) == len(list(element.iter(tags[name]))), (element.tag, name)
    return root


def sarif(summary: RunSummary) -> dict[str, Any]:
    """The one run of the log, after it was held against the schema and the rules of the standard that it cannot say."""
    log = json.loads(SarifReport().render(summary))
    jsonschema.validate(log, SARIF)
    (run,) = log["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert all(rules[result["ruleIndex"]] == result["ruleId"] for result in run["results"])
    prints = [result["partialFingerprints"]["primaryLocationLineHash"] for result in run["results"]]
    assert len(set(prints)) == len(prints)
    return run


@pytest.fixture
def weak(synthetic: ModuleType, tmp_path: Path) -> Iterator[RunSummary]:
    """FRAIL and SICK; under linf FRAIL is weak evidence; gates on both."""
    with synthetic.build(tmp_path / "run.charpy", drills=synthetic.DRILLS, warnings=["a warning"]) as run:
        yield RunSummary.of(run, gates=map(read_gate, GATES))


def cases(root: ElementTree.Element) -> dict[str, dict[str, str]]:
    """suite -> case -> how it ended, '' for a pass."""
    return {
        suite.get("name"): {
            case.get("name"): "".join(child.tag for child in case if child.tag != "system-out") for case in suite
        }
        for suite in root
    }


def test_junit_has_a_suite_a_model_and_norm_and_a_case_a_gate_and_level(weak: RunSummary) -> None:
    found = cases(junit(weak))
    levels = {f"th={th}": "" for th in (1, 3, 5, 10)}
    assert list(found) == [
        "frail",
        "frail, L0",
        "frail, Linf",
        "frail, L2",
        "sick",
        "sick, L0",
        "sick, Linf",
        "sick, L2",
    ]
    assert found["frail"] == {"gate: clean_accuracy lower bound >= 0.4": ""}
    assert found["frail, L0"] == {"gate: l0 th=3 robust_accuracy lower bound >= 0.5": "failure", **levels}
    assert found["frail, Linf"] == {"gate: linf th=3 robust_accuracy lower bound >= 0.1": "failure", **levels}
    assert found["frail, L2"] == {"gate: l2 th=64 proven lower bound >= 0.1": "failure"}


def test_junit_says_error_where_there_is_no_valid_evidence(weak: RunSummary) -> None:
    found = cases(junit(weak))
    assert found["sick"] == {"gate: clean_accuracy lower bound >= 0.4": "error", "evidence": "error"}
    assert set(found["sick, L0"].values()) == {"error"}
    assert len(found["sick, L0"]) == 5


def test_junit_skips_what_an_unfinished_run_has_not_attacked(synthetic: ModuleType, tmp_path: Path) -> None:
    plans = (synthetic.FRAIL,)
    with synthetic.build(tmp_path / "run.charpy", plans, finished=False, stop_after=16) as run:
        found = cases(junit(RunSummary.of(run)))
    assert set(found["frail, Linf"].values()) == {"skipped"}
    assert "skipped" not in found["frail, L0"].values()


def test_junit_names_lost_work_as_an_error(summary: RunSummary) -> None:
    from dataclasses import replace

    from charpy.analysis.document import LostPart

    lost = LostPart(what="few-de", norm="l0", th=3, samples=4, reason="it hung")
    part = summary.assessments[0].model_copy(update={"lost": (lost,)})
    root = junit(replace(summary, assessments=(part,)))
    assert cases(root)["frail, L0"]["lost: few-de, th=3"] == "error"
    assert "4 samples: it hung" in {error.get("message") for error in root.iter("error")}
    (result,) = [r for r in sarif(replace(summary, assessments=(part,)))["results"] if r["ruleId"] == "outcome/lost"]
    assert (result["level"], "it hung" in result["message"]["text"]) == ("error", True)


def test_sarif_has_what_a_reviewer_should_look_at_and_nothing_else(weak: RunSummary) -> None:
    run = sarif(weak)
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == list(RULES)
    frail = [r for r in run["results"] if r["message"]["text"].startswith("frail")]
    seen = [(r["ruleId"], r["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]) for r in frail]
    assert ("gate/robust_accuracy", "frail/l0/th=3") in seen
    assert ("gate/robust_accuracy", "frail/linf/th=3") in seen
    assert ("gate/proven", "frail/l2/th=64") in seen
    assert not any(rule == "gate/clean_accuracy" for rule, _ in seen)
    broken = [where for rule, where in seen if rule == "outcome/broken"]
    assert broken == [f"frail/{norm}/th={th}" for norm in ("l0", "linf") for th in (1, 3, 5, 10)]
    (third,) = [r for r in frail if "changing up to 3 pixels" in r["message"]["text"]]
    assert third["message"]["text"].endswith("breaks 3 of 7 correctly classified images (43 %)")
    assert {rule for rule, _ in seen if rule.startswith("indicator/")} >= {"indicator/planted"}
    sick = {r["ruleId"] for r in run["results"] if r["message"]["text"].startswith("sick")}
    assert "outcome/invalid" in sick
    assert "outcome/broken" not in sick
    (invocation,) = run["invocations"]
    assert invocation["executionSuccessful"] is False
    assert [note["message"]["text"] for note in invocation["toolExecutionNotifications"]] == ["a warning"]


@pytest.mark.parametrize(
    ("reference", "source", "place"),
    [
        ("net.onnx", "", {"uri": "net.onnx", "uriBaseId": "%SRCROOT%"}),
        ("a b/w.safetensors@digits-cnn", "", {"uri": "a%20b/w.safetensors", "uriBaseId": "%SRCROOT%"}),
        ("pkg.module:scores", "", {"uri": "pkg.module%3Ascores", "uriBaseId": "%SRCROOT%"}),
        ("/data/net.onnx", "", {"uri": "file:///data/net.onnx"}),
        ("/data/net.onnx", "ci/spec.yaml", {"uri": "ci/spec.yaml", "uriBaseId": "%SRCROOT%"}),
    ],
)
def test_sarif_points_at_the_spec_or_at_the_model(
    synthetic: ModuleType, tmp_path: Path, reference: str, source: str, place: dict[str, str]
) -> None:
    with synthetic.build(tmp_path / "run.charpy", (synthetic.FRAIL,)) as run:
        run.set_meta(spec={**run.spec, "models": [{"name": "frail", "reference": reference}]})
        results = sarif(RunSummary.of(run, source=source))["results"]
    assert all(r["locations"][0]["physicalLocation"]["artifactLocation"] == place for r in results)


def test_csv_has_a_row_a_level_with_the_figures_of_the_report(weak: RunSummary) -> None:
    rows = list(csv.DictReader(io.StringIO(CsvReport().render(weak).decode(), newline="")))
    assert [(row["model"], row["norm"], row["th"]) for row in rows] == [
        (part.model.name, threat.norm, str(threat.th)) for part in weak.assessments for threat in part.threats
    ]
    third = rows[1]
    assert [int(third[name]) for name in ("clean_error", "broken", "held", "proven", "invalid")] == [1, 3, 4, 0, 0]
    assert float(third["robust_not_broken"]) == 0.5
    assert float(third["robust_not_broken_low"]) == pytest.approx(0.15701, abs=2e-5)
    assert (third["grade"], rows[5]["grade"], rows[9]["status"]) == ("supported", "weak", "invalid")


def test_markdown_says_what_a_figure_does_not_show(weak: RunSummary) -> None:
    text = MarkdownReport().render(weak).decode()
    assert text.count("\n### Limits\n") == 2
    assert "| L0 | 3 pixels | 3 of 7 |" in text
    assert "**FAILED**" in text
    assert "**INVALID:**" in text
    assert "- Nothing is proven here." in text
    assert "L0 up to 10 pixels; Linf up to 10/255" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert len(re.findall(r"(?<!\\)\|", line)) in (4, 6, 9)


def front_matter(summary: RunSummary) -> Any:
    text = ModelCardReport().render(summary).decode()
    assert text.startswith("---\n")
    return YAML(typ="safe").load(text.split("\n---\n")[0]), text


def test_a_model_card_has_results_of_what_is_evidence_only(weak: RunSummary) -> None:
    metadata, text = front_matter(weak)
    frail, sick = metadata["model-index"]
    assert (frail["name"], sick) == ("frail", {"name": "sick", "results": []})
    (result,) = frail["results"]
    assert result["task"]["type"] == "image-classification"
    assert result["dataset"] == {"type": "arrays", "name": "by hand"}
    clean, *robust = result["metrics"]
    assert (clean["type"], clean["value"]) == ("accuracy", 0.875)
    assert [metric["type"] for metric in robust] == ["robust_accuracy_not_broken"] * 8  # no certifier was asked
    assert (robust[1]["name"], robust[1]["value"]) == ("Robust accuracy, not broken (L0, 3 pixels)", 0.5)
    assert robust[5]["name"].endswith("weak evidence)")
    assert text.count("## Adversarial robustness: ") == 2


@pytest.mark.parametrize("report", REPORTS)
def test_the_same_run_gives_the_same_bytes(report: type, weak: RunSummary) -> None:
    assert report().render(weak) == report().render(weak)


@pytest.mark.parametrize("report", REPORTS)
def test_a_run_without_samples_makes_a_report(report: type, synthetic: ModuleType, tmp_path: Path) -> None:
    with synthetic.build(tmp_path / "run.charpy", [synthetic.Plan("nothing", predictions=())], labels=()) as run:
        assert report().render(RunSummary.of(run, gates=map(read_gate, GATES)))


@pytest.fixture
def hostile(synthetic: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunSummary]:
    plan = synthetic.Plan(
        HOSTILE, finds=synthetic.FRAIL.finds, rejected={("l0", 5, 3): HOSTILE}, invalid={("l0", 6, 3): HOSTILE}
    )
    other = synthetic.Plan(HOSTILE + "2", finds=synthetic.FRAIL.finds)
    monkeypatch.setattr(synthetic, "ATTACKS", {"l0": (HOSTILE, "b"), "linf": (HOSTILE + "2", "b")})
    drills = [{**drill, "attack": HOSTILE} for drill in synthetic.DRILLS]
    drills += [{**drill, "model": 1} for drill in drills]
    path = tmp_path / "run.charpy"
    with synthetic.build(path, (plan, other), class_names=(HOSTILE, "x"), warnings=[HOSTILE], drills=drills) as run:
        spec = {**run.spec, "name": HOSTILE}
        run.set_meta(spec=spec, dataset={**run.meta("dataset"), "name": HOSTILE + "\ud800", "kind": HOSTILE})
        yield RunSummary.of(run, gates=map(read_gate, GATES))


@pytest.mark.parametrize("report", REPORTS)
def test_what_is_hidden_in_a_name_is_visible(report: type, hostile: RunSummary) -> None:
    text = report().render(hostile).decode("utf-8")
    assert not HIDDEN.search(text)
    assert "[U+202E]" in text.replace("\\", "")
    assert "[U+0000]" in text.replace("\\", "")


def test_names_stay_names_in_every_format(hostile: RunSummary) -> None:
    root = junit(hostile)
    assert root[0].get("name").startswith("=cmd()</failure>]]><script>|x|")
    for result in sarif(hostile)["results"]:
        assert "](" not in result["message"]["text"]
    rows = list(csv.reader(io.StringIO(CsvReport().render(hostile).decode(), newline="")))
    assert {len(row) for row in rows} == {len(rows[0])}
    assert not [cell for row in rows for cell in row if cell.lstrip()[:1] in {"=", "+", "-", "@", "\t"}]
    assert rows[1][0].startswith("'=cmd()")
    text = MarkdownReport().render(hostile).decode()
    assert "<script" not in text.replace("\\<script", "")
    assert not re.search(r"(?<!\\)\]\(", text)
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]
    metadata, card = front_matter(hostile)
    assert metadata["model-index"][1]["name"].startswith("=cmd()")
    assert len(re.findall("^---$", card, re.MULTILINE)) == 2
