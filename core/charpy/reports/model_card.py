"""A section for a model card: `model-index` metadata, as the Hugging Face Hub reads evaluation results, and prose."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from charpy.analysis.document import Assessment, ThreatPart
from charpy.interfaces.report import Report
from charpy.reports.compare_markdown import plain
from charpy.reports.inert import visible
from charpy.reports.markdown import markdown_bytes, section
from charpy.reports.norms import radius, short

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


class ModelCardReport(Report):
    """A model-card section: `model-index` metadata for the Hugging Face Hub, then verdict, levels and limits."""

    suffix: ClassVar[str] = ".model-card.md"

    def render(self, run: RunSummary) -> bytes:
        """UTF-8 Markdown with YAML metadata in front; a model without valid evidence gets no result there."""
        lines = ["---", "model-index:"]
        for part in run.assessments:
            lines += _entry(part)
        lines += ["---", ""]
        for part in run.assessments:
            title = "Adversarial robustness" + (f": {plain(part.model.name)}" if len(run.assessments) > 1 else "")
            lines += [f"## {title}", "", *section(part, "###"), ""]
        return markdown_bytes(lines[:-1])


def _entry(part: Assessment) -> Iterator[str]:
    """One model of the index; every value is written as JSON, which YAML reads as it is."""
    metrics = list(_metrics(part)) if part.status == "valid" else []
    yield f"- name: {_text(part.model.name)}"
    if not metrics:
        yield "  results: []"
        return
    yield "  results:"
    yield '  - task: {"type": "image-classification", "name": "Image classification"}'
    yield f"    dataset: {_json({'type': part.dataset.kind, 'name': part.dataset.name})}"
    yield "    metrics:"
    yield from (f"    - {_json(metric)}" for metric in metrics)


def _metrics(part: Assessment) -> Iterator[dict[str, Any]]:
    if part.clean_accuracy is not None:
        yield _metric("accuracy", "Clean accuracy", part.clean_accuracy, part.clean_interval, {})
    for threat in part.threats:
        if threat.grade == "invalid":
            continue
        where = f"{short(threat.norm)}, {radius(threat.norm, threat.th)}"
        robust, bounds, level = threat.robust_accuracy, threat.interval, _level(threat)
        if robust.proven is not None and part.proofs:
            name = f"Robust accuracy, proven ({where})"
            yield _metric("robust_accuracy_proven", name, robust.proven, bounds.proven, level)
        if robust.not_broken is not None:
            doubt = "" if threat.grade == "supported" else f", {threat.grade} evidence"
            name = f"Robust accuracy, not broken ({where}{doubt})"
            more = {**level, "evidence": threat.grade}
            yield _metric("robust_accuracy_not_broken", name, robust.not_broken, bounds.not_broken, more)


def _metric(
    kind: str, name: str, value: float, bounds: tuple[float, float] | None, more: dict[str, Any]
) -> dict[str, Any]:
    low, high = bounds or (None, None)
    interval = {"low": low and round(low, 6), "high": high and round(high, 6)}
    return {"type": kind, "name": name, "value": round(value, 6), "args": {**interval, **more}, "verified": False}


def _level(threat: ThreatPart) -> dict[str, Any]:
    return {"norm": threat.norm, "th": threat.th, "samples": threat.samples}


def _json(value: dict[str, Any]) -> str:
    return json.dumps({key: visible(item) if isinstance(item, str) else item for key, item in value.items()})


def _text(text: str) -> str:
    return json.dumps(visible(text))
