"""Whether each model is the one of the run, and says now what it said then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch

from charpy.errors import CharpyError, told_of
from charpy.interfaces.dataset import Samples
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Model, Output
from charpy.judge import Judge
from charpy.pixels import as_images, unpack
from charpy.planned import DEFAULT_METRICS, metrics_of
from charpy.plugins import Registry
from charpy.preflight import PROBE, Preflight, preflight
from charpy.runfile import RunFile
from charpy.specs import ModelSpec, RunSpec
from charpy.subjects import subject_of
from charpy.threat import Grid
from charpy.verification.data import Reopened
from charpy.verification.document import Tally

HERE = "say where it is now with --model NAME=REFERENCE"


def opened_model(run: RunFile, spec: ModelSpec, registry: Registry, tally: Tally) -> Model | None:
    """The model, fresh; None, and said in `tally`, where it cannot be opened or is another one."""
    try:
        model = subject_of(spec, registry).open()
        found = {str(key): str(value) for key, value in model.fingerprint().items()}
    except CharpyError as cause:
        text = f"the model: {cause.what}" + (f" (found {cause.found})" if cause.found is not None else "")
        tally.missing(f"{text}; {HERE}")
        return None
    except Exception as cause:  # noqa: BLE001 - a stranger's code
        tally.missing(f"the model: {told_of(cause)}; {HERE}")
        return None
    start = f"model.{spec.title}."
    stored = {key.removeprefix(start): value for key, value in run.identity.items() if key.startswith(start)}
    same = [
        tally.equal(f"{spec.title}: {key}", found.get(key, "(none)"), stored.get(key, "(none)"))
        for key in sorted(stored.keys() | found.keys())
    ]
    if not all(same):
        tally.missing(f"what the model answers: it is not the one of the run; {HERE}")
        return None
    return model


def tried(run: RunFile, model: Model, part: Mapping[str, Any], data: Reopened | None, tally: Tally) -> Preflight | None:
    """What a few images show of the model, against what the run says; None where there are no images to try it on."""
    images = probe_of(run, data)
    if images is None:
        return None
    try:
        found = preflight(model, images)
    except CharpyError as cause:
        tally.wrong(f"{part['name']}: answers", f"{cause.what}: {cause.found}", "a model that can be tried")
        return None
    tally.equal(f"{part['name']}: output", found.output.value, part["output"])
    if not found.classes_inferred:
        tally.equal(f"{part['name']}: classes", found.num_classes, part["num_classes"])
    if part.get("deterministic") and not found.deterministic:
        tally.wrong(f"{part['name']}: answers", "left to chance", "the same answers each time")
    return found


def probe_of(run: RunFile, data: Reopened | None) -> torch.Tensor | None:
    """The first images of the run, float32 `(N, C, H, W)`; without the data, of those that have a witness."""
    if data is not None and data.same:
        return data.dataset.read(data.indices[:PROBE]).images
    channels, height, width = run.meta("dataset")["shape"]
    grid = Grid(run.spec["grid"])
    stored = []
    for image in run.audit().first_originals(PROBE):
        with suppress(CharpyError):  # the witnesses will tell
            stored.append(unpack(image, (channels, height, width), grid))
    return as_images(torch.stack(stored)) if stored else None


def check_clean(
    run: RunFile, model: int, judge: Judge, data: Reopened, tally: Tally, tick: Callable[[int], None], *, random: bool
) -> None:
    """What the model says of the unperturbed images."""
    rows = {row.sample: row for row in run.samples(model)}
    for positions, piece in data.pieces():
        labels, valid = judge.classify(piece.images)
        for i, position in enumerate(positions):
            if position not in rows:
                continue  # the records tell
            stored, record = rows[position].prediction, f"samples (model {model}, sample {position})"
            found = int(labels[i]) if bool(valid[i]) else None
            if found != stored:
                alone, answered = judge.classify(piece.images[i : i + 1])
                found = int(alone[0]) if bool(answered[0]) else None
            if found == stored:
                tally.right()
            elif random:
                tally.unsure()
            else:
                tally.wrong(record, _told(found), f"{_told(stored)}, as stored")
        tick(positions.stop)


def _told(prediction: int | None) -> str:
    return "no valid answer" if prediction is None else f"class {prediction}"


def measured(
    run: RunFile, spec: RunSpec, registry: Registry, probe: torch.Tensor | None, tally: Tally
) -> tuple[dict[str, Metric], set[str]]:
    """The metrics of the run that can be measured here, by kind, and the kinds of those that cannot."""
    if probe is None:  # there is no witness either, or none of an original that can be read
        return {}, {item.kind for item in spec.metrics} or set(DEFAULT_METRICS)
    samples = Samples(probe, torch.zeros(len(probe), dtype=torch.int64), ())
    if not spec.metrics:
        found = metrics_of(spec, registry, samples)
        lacking = set(DEFAULT_METRICS) - found.keys()
        for kind in lacking:
            tally.missing(f"metric {kind}: it is not installed")
        return found, lacking
    metrics, skipped = dict[str, Metric](), set[str]()
    for item in spec.metrics:
        try:
            made = metrics_of(spec.model_copy(update={"metrics": (item,)}), registry, samples)
        except CharpyError as cause:
            tally.missing(f"metric {item.kind}: {cause.what}")
        else:
            if _same_metric(run, item.kind, made[item.kind], tally):
                metrics |= made
                continue
        skipped.add(item.kind)
    return metrics, skipped


def _same_metric(run: RunFile, kind: str, metric: Metric, tally: Tally) -> bool:
    """Whether a metric with a fingerprint, such as one that has weights, is the one of the run."""
    names = {f"metric.{kind}.{key}": value for key, value in metric.fingerprint().items()}
    same = [tally.equal(name, value, run.identity.get(name, "(none)")) for name, value in names.items()]
    return all(same)


def output_of(part: Mapping[str, Any], found: Preflight | None) -> Output:
    """How answers are read."""
    return found.output if found is not None else Output(part["output"])
