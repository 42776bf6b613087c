"""The evaluator: models x threats x batteries over shards of samples, into one run file that resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charpy import checks
from charpy.aftermath import doubts, look_back, models_with
from charpy.environment import environment, now
from charpy.errors import DataError, ModelError
from charpy.global_state import global_state_kept
from charpy.identity import components_of, identity_of
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.model import Model
from charpy.lock import only_writer
from charpy.outcome import Outcome
from charpy.own_levels import own_levels
from charpy.planned import certifiers_of, plan_rows
from charpy.plugins import Registry
from charpy.plugins import registry as installed
from charpy.proofs import Proofs
from charpy.ready import Ready, made_ready
from charpy.records import SampleRow
from charpy.runfile import RunFile
from charpy.runfile.resumable import resumable
from charpy.site import Site
from charpy.specs import Attackers, OwnLevels, RunSpec
from charpy.stages import Progress, Stage, Watch
from charpy.steadiness import answer_warnings, wavering
from charpy.subjects import Subject, chosen_samples, open_dataset, subject_of
from charpy.texts import check_texts
from charpy.threat import ThreatModel
from charpy.unit import Bench
from charpy.walk import Walk, plan

PLANTED = 8
"""Samples on which every attack is tried with a planted adversarial example."""


def evaluate(
    spec: RunSpec,
    path: Path,
    *,
    registry: Registry | None = None,
    subjects: Sequence[Subject] | None = None,
    dataset: Dataset | None = None,
    listen: Callable[[Progress], None] | None = None,
    watch: Watch | None = None,
) -> None:
    """Run `spec` into the run file at `path`; if the file is there, go on where it stands.

    Args:
        subjects, dataset: Python objects to use instead of what the spec names.
        listen: told about progress, many times a second.
        watch: told what begins, and says what must be given up (`charpy.supervisor`).

    Raises:
        IdentityError: `path` holds a run about something else.
        DataError, ModelError, SpecError: before anything is written, if the input cannot be assessed.
    """
    plugins, watch = registry or installed(), watch or Watch()
    check_texts(spec.model_dump(), where="spec")
    path = path.absolute()  # wherever a stranger's code changes the working directory to
    watch.enter(Stage("open", f"opening the data {spec.data.kind}"))
    data = dataset or open_dataset(spec.data, plugins)
    check_texts({"name": data.name, "class_names": data.class_names}, where="data", error=DataError)
    indices = chosen_samples(data, spec.data)
    if not indices:
        raise DataError("no samples", where=data.name, expected="at least one", hint="give at least one image")
    models = list(subjects) if subjects is not None else [subject_of(model, plugins) for model in spec.models]
    check_texts([subject.title for subject in models], where="models", error=ModelError)
    opened = [_opened(subject, watch) for subject in models]
    fingerprints = {subject.title: dict(model.fingerprint()) for subject, model in zip(models, opened, strict=True)}
    identity = identity_of(spec, data, fingerprints, plugins)
    for threat in spec.threats:
        if isinstance(threat.levels, tuple):
            radius = ThreatModel.at_level(threat.norm, max(threat.levels)).radius
            checks.check_threat(threat.norm, radius, data.shape, where="threats")
    executor = plugins.create("executors", spec.executor.kind, spec.executor.params)
    named = subjects is None and dataset is None
    site = Site(spec, plugins, data, indices, executor, listen, watch=watch, named=named)
    executor.unit_seconds, executor.alive = spec.limits.unit_seconds, lambda: site.tell(0.0, "")
    site.own = {
        threat.norm: own_levels(
            threat.norm, threat.levels, data, (name for shard in site.shards() for name in site.read(shard).ids)
        )
        for threat in spec.threats
        if isinstance(threat.levels, OwnLevels)
    }
    try:
        with only_writer(path), global_state_kept([]):
            _run(site, path, identity, models, opened)
    finally:
        executor.close()


def _opened(subject: Subject, watch: Watch) -> Model:
    watch.enter(Stage("open", f"opening model {subject.title}"))
    return subject.open()


def _run(
    site: Site, path: Path, identity: Mapping[str, str], models: Sequence[Subject], opened: Sequence[Model]
) -> None:
    """Begin the run file, or go on with it."""
    if path.exists():
        with RunFile.open(path) as run:
            run.check_identity(identity)
            engines = resumable(run, models=len(models), samples=len(site.indices))
            if engines is not None:
                _drive(site, run, models, made_ready(site, models, opened, engines))
            if run.protected == "rows":  # also one that somebody was reading when it ended
                run.seal()
        return
    ready = made_ready(site, models, opened)
    with RunFile.create(path, site.spec.model_dump(mode="json"), identity) as run:
        try:
            _drive(site, run, models, ready)
            run.seal()
        except DataError:
            if not run.finished():  # a later piece of the data is refused: leave nothing that only half began
                run.remove()
            raise


def _drive(site: Site, run: RunFile, subjects: Sequence[Subject], ready: Sequence[Ready]) -> None:
    """Everything that is not in the run file yet."""
    spec, registry = site.spec, site.registry
    site.planned = len(site.shards()) * sum(
        len(plan(threat, attacks, site))
        for item in ready
        for threat, attacks in zip(spec.threats, item.attacks, strict=True)
    )
    run.set_meta(
        environment={**environment(str(ready[0].bench.model.device)), "started": now()},
        plugins=components_of(spec, registry),
        models=[_model_part(subject, item, site.data) for subject, item in zip(subjects, ready, strict=True)],
        own_levels={norm: list(levels) for norm, levels in site.own.items()},
        plan=[
            {threat.norm.value: plan_rows(attacks) for threat, attacks in zip(spec.threats, item.attacks, strict=True)}
            for item in ready
        ],
    )
    finished = run.finished()
    registry.notify(
        "charpy_run_started",
        spec=spec,
        units=site.planned,
        run_id=run.meta("run_id", ""),
        done=len(finished),
        outcomes=_outcomes(run, len(ready)),
    )
    for index, item in enumerate(ready):
        correct = _clean(site, run, index, subjects[index].title, item.bench)
        for threat, attacks in zip(spec.threats, item.attacks, strict=True):
            walk = Walk(site, run, index, item.bench, item.access, threat, attacks, correct, finished)
            walk.all()
            if subjects[index].attackers is Attackers.ADAPTIVE:  # proofs are of the model, whoever attacks it
                Proofs(walk, certifiers_of(spec, registry), spec.certify.seconds, run.proofs_finished()).all()
            known = run.meta("drills", [])
            if not any((row["model"], row["norm"]) == (index, threat.norm) for row in known):
                run.set_meta(drills=known + walk.drills(PLANTED))
        look_back(site, run, index, subjects[index], item.bench)
    listeners = _listeners(registry)
    run.set_meta(
        finished=True,
        environment={**run.meta("environment"), "finished": now()},
        warnings=[*run.meta("warnings", []), *doubts(site, run, subjects, ready), *listeners],
    )
    registry.notify("charpy_run_finished", path=str(run.path))
    if late := [failure for failure in _listeners(registry) if failure not in listeners]:
        run.set_meta(warnings=[*run.meta("warnings"), *late])


def _outcomes(run: RunFile, models: int) -> dict[str, int]:
    """How many samples ended how, over all units that are there."""
    units = [unit for index in range(models) for unit in run.units(index)]
    return {outcome.value: sum(unit.get(outcome.value, 0) for unit in units) for outcome in Outcome}


def _listeners(registry: Registry) -> list[str]:
    """The listeners that raised, and what."""
    return [f"plugin {failure.plugin}: {failure.cause}" for failure in registry.failures if not failure.package]


def _clean(site: Site, run: RunFile, index: int, title: str, bench: Bench) -> NDArray[np.bool_]:
    """bool `(S,)`, which samples are valid and correctly classified; predicted and stored if they are not yet."""
    data, spec = site.data, site.spec
    rows = run.samples(index)
    if not rows:
        duplicates, lost, wavered = checks.Duplicates(), list[str](), 0
        for positions in site.shards():
            piece = site.read(positions)
            where = f"{data.name}, samples {positions[0]}..{positions[-1]}"
            checks.check_samples(piece, shape=data.shape, num_classes=bench.num_classes, grid=spec.grid, where=where)
            duplicates.add(piece.images)
            stage = Stage("clean", f"{title} on samples {positions[0]} to {positions[-1]}", (index, positions[0]))
            if why := site.watch.enter(stage):
                lost.append(f"{stage.title}: no answer: {why}")
                labels, valid = piece.labels, torch.zeros(len(positions), dtype=torch.bool)
            else:
                labels, valid = bench.judge.classify(piece.images)
                wavered += wavering(bench.judge, piece.images, labels, valid)
            for i, position in enumerate(positions):
                prediction = int(labels[i]) if bool(valid[i]) else None
                rows.append(SampleRow(position, piece.ids[i], int(piece.labels[i]), prediction, bool(valid[i])))
        warnings = [*lost, *([warning] if (warning := duplicates.warning()) else [])]
        warnings += answer_warnings(title, rows, data.class_names)
        facts: dict[str, Any] = {"dataset": _dataset_part(data, spec, duplicates.unique, len(rows))}
        if wavered:
            note = f"randomised: {wavered} of {len(rows)} labels changed when all images were shown again"
            facts["models"] = models_with(run, index, note=note, deterministic=False)
        run.write_samples(index, rows, warnings=warnings, **facts)
    return np.array([row.valid and row.prediction == row.label for row in rows])


def _model_part(subject: Subject, item: Ready, data: Dataset) -> dict[str, Any]:
    bench, found, model = item.bench, item.found, item.bench.judge.model
    return {
        "name": subject.title,
        "kind": subject.kind,
        "access": item.access.name,
        "output": found.output.value,
        "input_shape": list(model.input_shape or data.shape),
        "num_classes": found.num_classes,
        "deterministic": found.deterministic,
        "batch_invariant": found.batch_invariant,
        "steady": True,
        "engine": bench.engine.chosen.name,
        "gradient_engine": bench.engine.gradient.name if bench.engine.gradient else None,
        "micro_batch": bench.engine.chosen.batch,
        "defenses": list(subject.defenses),
        "attackers": subject.attackers.value,
        "fingerprint": dict(model.fingerprint()),
        "notes": list(dict.fromkeys([*found.notes, *getattr(model, "notes", ())])),
        "engine_notes": list(bench.engine.notes),
    }


def _dataset_part(data: Dataset, spec: RunSpec, unique: int, samples: int) -> dict[str, Any]:
    return {
        "name": data.name,
        "kind": spec.data.kind,
        "samples": samples,
        "unique": unique,
        "shape": list(data.shape),
        "class_names": list(data.class_names),
        "grid": spec.grid.value,
        "fingerprint": data.fingerprint(),
        "notes": list(data.notes),
    }
