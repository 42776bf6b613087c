"""A run as a flat mapping of names to numbers and texts, as experiment trackers want it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from charpy.analysis.document import Assessment
from charpy.gates import spoken_level
from charpy.reports.inert import visible
from charpy.specs import OwnLevels, RunSpec

LONGEST = 250
"""Characters of a name or of a value: what every tracker takes."""

_UNFIT = re.compile(r"[^A-Za-z0-9_. /-]+")


def figures(assessments: Sequence[Assessment]) -> dict[str, float]:
    """`linf/th3/robust_accuracy_not_broken` and the like -> value; of several models, after the model's name.

    A figure that does not exist, and every figure of a run or level without valid evidence, is left out.
    """
    found: dict[str, float | None] = {}
    for part in assessments:
        model = f"{part.model.name}/" if len(assessments) > 1 else ""
        found[f"{model}valid"] = float(part.status == "valid")
        found[f"{model}invalid_samples"] = float(part.invalid.count)
        found[f"{model}gates_failed"] = float(sum(not gate.passed for gate in part.gates))
        if part.status != "valid":
            continue
        found[f"{model}clean_accuracy"] = part.clean_accuracy
        for threat in part.threats:
            at = f"{model}{threat.norm}/th{spoken_level(threat.th)}"
            if threat.grade == "invalid":
                continue
            low, _ = threat.interval.not_broken or (None, None)
            found[f"{at}/adversarial_accuracy"] = threat.adversarial_accuracy
            found[f"{at}/robust_accuracy_proven"] = threat.robust_accuracy.proven
            found[f"{at}/robust_accuracy_not_broken"] = threat.robust_accuracy.not_broken
            found[f"{at}/robust_accuracy_not_broken_low"] = low
            found[f"{at}/supported"] = float(threat.grade == "supported")
    return {fit(name): value for name, value in found.items() if value is not None}


def settings(spec: RunSpec) -> dict[str, str]:
    """What the run is about, as short texts."""
    found: dict[str, Any] = {
        "name": spec.name,
        "seed": spec.seed,
        "data": spec.data.kind,
        "samples": "all" if spec.data.samples is None else spec.data.samples,
        "models": ", ".join(model.title for model in spec.models),
        "grid": spec.grid.value,
    }
    for threat in spec.threats:
        levels = threat.levels
        shown = "own" if isinstance(levels, OwnLevels) else levels if isinstance(levels, str) else list(levels)
        battery = threat.battery if isinstance(threat.battery, str) else [attack.kind for attack in threat.battery]
        found |= {f"{threat.norm}/levels": shown, f"{threat.norm}/queries": threat.queries}
        found |= {f"{threat.norm}/battery": battery}
    return {fit(name): visible(str(value))[:LONGEST] for name, value in found.items()}


def progress(done: int, counts: Mapping[str, int]) -> dict[str, float]:
    """After `done` units, with `counts` of outcomes so far."""
    return {"units": float(done), **{f"outcomes/{fit(name)}": float(count) for name, count in counts.items()}}


def fit(name: str) -> str:
    """`name` of letters, digits and `_ . / - blank` only, and not too long."""
    return _UNFIT.sub("-", name)[:LONGEST]
