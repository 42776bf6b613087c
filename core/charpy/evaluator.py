"""The evaluator: models x threats x batteries over shards of samples, into one run file that resumes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from charpy import checks
from charpy.engine import QueryEngine
from charpy.environment import environment, now
from charpy.errors import DataError, ModelError
from charpy.interfaces.attack import Family
from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.model import Model
from charpy.judge import Judge
from charpy.levels import LevelSearch
from charpy.outcome import Outcome
from charpy.pixels import as_images
from charpy.plugins import Registry
from charpy.plugins import registry as installed
from charpy.preflight import Preflight, preflight
from charpy.runfile import RunFile, SampleRow, UnitKey, UnitRecord
from charpy.specs import RunSpec, ThreatSpec
from charpy.subjects import (
    PlannedAttack,
    Subject,
    attacks_of,
    chosen_samples,
    components_of,
    identity_of,
    metrics_of,
    open_dataset,
    subject_of,
)
from charpy.threat import Access, Norm, ThreatModel
from charpy.unit import Bench, Shard, compute_unit

PROBE = 64


@dataclass(frozen=True)
class Progress:
    """Where a run stands: units done and planned, the share of the current unit that is settled, what it is."""

    done: int
    planned: int
    share: float
    title: str


def evaluate(
    spec: RunSpec,
    path: Path,
    *,
    registry: Registry | None = None,
    subjects: Sequence[Subject] | None = None,
    dataset: Dataset | None = None,
    listen: Callable[[Progress], None] | None = None,
) -> None:
    """Run `spec` into the run file at `path`; if the file is there, go on where it stands.

    Args:
        subjects, dataset: Python objects to use instead of what the spec names.
        listen: told about progress, many times a second.

    Raises:
        IdentityError: `path` holds a run about something else.
        DataError, ModelError, SpecError: before anything is written, if the input cannot be assessed.
    """
    plugins = registry or installed()
    data = dataset or open_dataset(spec.data, plugins)
    indices = chosen_samples(data, spec.data)
    if not indices:
        raise DataError("no samples", where=data.name, expected="at least one")
    models = list(subjects) if subjects is not None else [subject_of(model, plugins) for model in spec.models]
    opened = [subject.open() for subject in models]
    fingerprints = {subject.title: dict(model.fingerprint()) for subject, model in zip(models, opened, strict=True)}
    identity = identity_of(spec, data, fingerprints, plugins)
    for threat in spec.threats:
        if not isinstance(threat.levels, str):
            radius = ThreatModel.at_level(threat.norm, max(threat.levels)).radius
            checks.check_threat(threat.norm, radius, data.shape, where="threats")
    driver = _Driver(spec, plugins, data, indices, listen)
    if path.exists():
        run = RunFile.open(path)
        with run:
            run.check_identity(identity)
            driver.drive(run, models, opened)
        return
    benches = [driver.bench(subject, model) for subject, model in zip(models, opened, strict=True)]
    for _, found in benches:  # an attack that cannot be used is refused before anything is written
        for threat in spec.threats:
            attacks_of(threat, found.access, plugins)
    with RunFile.create(path, spec.model_dump(mode="json"), identity) as run:
        driver.drive(run, models, opened, benches)


class _Driver:
    """One run: opens what is needed, walks the plan, writes what the executor computes."""

    def __init__(
        self,
        spec: RunSpec,
        registry: Registry,
        data: Dataset,
        indices: list[int],
        listen: Callable[[Progress], None] | None,
    ) -> None:
        self.spec, self.registry, self.data, self.indices = spec, registry, data, indices
        self.executor = registry.create("executors", spec.executor.kind, spec.executor.params)
        self.metrics = metrics_of(spec, registry)
        self.listen = listen
        self.done = 0
        self.planned = 0

    def bench(self, subject: Subject, model: Model) -> tuple[Bench, Preflight]:
        """Check the model on a probe of the data, choose its engine, open the judge's own copy."""
        probe = self.data.read(self.indices[:PROBE])
        checks.check_samples(probe, shape=self.data.shape, num_classes=None, grid=self.spec.grid, where=self.data.name)
        found = preflight(model, probe.images, probe.labels)
        if len(self.data.class_names) > found.num_classes:
            raise ModelError(
                "the data has more classes than the model",
                where=subject.title,
                found=f"{len(self.data.class_names)} classes in {self.data.name}, {found.num_classes} in the model",
                hint="give the data set that the model was trained on",
            )
        engine = QueryEngine.measure(model, found.output, probe.images, batch_size=self.spec.batch_size)
        judge = Judge(subject.open(), found.output, self.data.shape, self.metrics)
        return Bench(model, engine, judge, found.num_classes, self.spec.seed), found

    def drive(
        self,
        run: RunFile,
        subjects: Sequence[Subject],
        opened: Sequence[Model],
        benches: Sequence[tuple[Bench, Preflight]] | None = None,
    ) -> None:
        """Everything that is not in the run file yet."""
        if run.meta("finished"):
            return
        ready = benches or [self.bench(subject, model) for subject, model in zip(subjects, opened, strict=True)]
        attacks = [
            [attacks_of(threat, found.access, self.registry) for threat in self.spec.threats] for _, found in ready
        ]
        self.planned = sum(self._expected(plan) for plan in attacks)
        run.set_meta(
            environment={**environment(str(opened[0].device)), "started": now()},
            plugins=components_of(self.spec, self.registry),
            models=[
                _model_part(subject, model, bench, found, self.data)
                for subject, model, (bench, found) in zip(subjects, opened, ready, strict=True)
            ],
        )
        hooks = self.registry.hooks.hook
        hooks.charpy_run_started(spec=self.spec, units=self.planned)
        finished = run.finished()
        for index, ((bench, found), plans) in enumerate(zip(ready, attacks, strict=True)):
            state = self._clean(run, index, bench)
            for threat, planned in zip(self.spec.threats, plans, strict=True):
                walk = _Walk(self, run, index, bench, found.access, threat, planned, state, finished)
                walk.all()
            _unchanged(subjects[index].title, bench)
        run.set_meta(finished=True, environment={**run.meta("environment"), "finished": now()})
        hooks.charpy_run_finished(path=str(run.path))

    def shards(self) -> list[list[int]]:
        """Positions in `indices`, in pieces of `spec.shard`."""
        positions = list(range(len(self.indices)))
        return [positions[i : i + self.spec.shard] for i in range(0, len(positions), self.spec.shard)]

    def read(self, positions: Sequence[int]) -> Samples:
        """The samples at these positions of the run."""
        return self.data.read([self.indices[position] for position in positions])

    def tell(self, share: float, title: str) -> None:
        """Report progress."""
        if self.listen is not None:
            self.listen(Progress(self.done, self.planned, share, title))

    def _expected(self, plans: Sequence[Sequence[PlannedAttack]]) -> int:
        shards = len(self.shards())
        counts = zip(self.spec.threats, plans, strict=True)
        return sum(len(_plan(threat, attacks, self.spec.carry)) * shards for threat, attacks in counts)

    def _clean(self, run: RunFile, index: int, bench: Bench) -> NDArray[np.bool_]:
        """bool `(S,)`, which samples are valid and correctly classified; predicted and stored if they are not yet."""
        rows = run.samples(index)
        if not rows:
            duplicates = checks.Duplicates()
            for positions in self.shards():
                piece = self.read(positions)
                where = f"{self.data.name}, samples {positions[0]}..{positions[-1]}"
                checks.check_samples(
                    piece, shape=self.data.shape, num_classes=bench.num_classes, grid=self.spec.grid, where=where
                )
                duplicates.add(piece.images)
                labels, valid = bench.judge.classify(piece.images)
                for i, position in enumerate(positions):
                    prediction = int(labels[i]) if bool(valid[i]) else None
                    rows.append(SampleRow(position, piece.ids[i], int(piece.labels[i]), prediction, bool(valid[i])))
            warnings = [warning] if (warning := duplicates.warning()) else []
            run.write_samples(index, rows)
            run.set_meta(dataset=_dataset_part(self.data, self.spec, duplicates.unique, len(rows)), warnings=warnings)
        return np.array([row.valid and row.prediction == row.label for row in rows])


@dataclass
class _Walk:
    """One model under one threat: the plan, and what is known of each sample so far."""

    driver: _Driver
    run: RunFile
    model: int
    bench: Bench
    access: Access
    threat: ThreatSpec
    attacks: list[PlannedAttack]
    correct: NDArray[np.bool_]
    finished: set[UnitKey]

    def __post_init__(self) -> None:
        self.nearest = np.full(len(self.correct), np.inf)
        self.broken_at: dict[int, set[int]] = {}

    def all(self) -> None:
        """The levels in ascending order, or the search for each sample's smallest one."""
        if isinstance(self.threat.levels, str):
            self._minimal()
            return
        for th, step in _plan(self.threat, self.attacks, self.driver.spec.carry):
            shards = [
                (nr, [s for s in shard if self._standing(s, th)]) for nr, shard in enumerate(self.driver.shards())
            ]
            self._units([(self._key(th, step, nr), samples) for nr, samples in shards])

    def _minimal(self) -> None:
        last = checks.largest_level(self.threat.norm, self.driver.data.shape)
        search = LevelSearch(len(self.correct), last=last)
        positions = np.arange(len(self.correct))
        number = 0
        while True:
            th = np.where(self.correct, search.next(), 0)
            if not th.any():
                return
            for level in sorted(set(th[th > 0].tolist())):
                before = self.nearest.copy()
                self.nearest[positions[th == level]] = np.inf  # a new look: an old, farther witness must not end it
                for step in range(len(self.attacks)):
                    for nr, shard in enumerate(self.driver.shards()):
                        samples = [s for s in shard if th[s] == level and self._standing(s, level)]
                        self._units([(self._key(level, step, nr, number), samples)])
                asked = positions[th == level]
                search.tell(asked, np.full(len(asked), level), self.nearest[asked])
                self.nearest = np.minimum(self.nearest, before)
            number += 1

    def _standing(self, sample: int, th: int) -> bool:
        """Whether a sample is worth attacking at a level: correct, and no witness counts there yet."""
        if not self.correct[sample]:
            return False
        if self.driver.spec.carry or isinstance(self.threat.levels, str):
            return bool(self.nearest[sample] > th + 1e-6)
        return sample not in self.broken_at.get(th, set())

    def _key(self, th: int, step: int, shard: int, number: int = 0) -> UnitKey:
        return UnitKey(self.model, self.threat.norm, th, step, shard, number)

    def _units(self, units: Sequence[tuple[UnitKey, list[int]]]) -> None:
        """Compute and write those units that have samples and are not in the run file; learn from all of them."""
        fresh = []
        for key, samples in units:
            if key in self.finished:
                self._learn(key, self.run.distances_of(key))
            elif samples:
                fresh.append((key, samples))
        for (key, _), record in self.driver.executor.map(self._compute, fresh):
            self.run.write_unit(record)
            self._learn(key, {witness.sample: witness.distance for witness in record.witnesses})
            self._announce(record)
        self.driver.done += len(units)
        self.driver.tell(0.0, "")

    def _compute(self, unit: tuple[UnitKey, list[int]]) -> UnitRecord:
        key, samples = unit
        planned = self.attacks[key.step]
        piece = self.driver.read(samples)
        title = f"{self.driver.spec.models[self.model].title}  {key.norm} th={key.th}  {planned.name}"
        threat = ThreatModel.at_level(
            Norm(key.norm),
            key.th,
            goal=self.threat.goal,
            access=self.access,
            queries=planned.queries or self.threat.queries,
            grid=self.driver.spec.grid,
        )
        shard = Shard(samples, as_images(piece.images), piece.labels, piece.ids)
        return compute_unit(key, shard, planned, threat, self.bench, lambda share, _: self.driver.tell(share, title))

    def _learn(self, key: UnitKey, found: Mapping[int, float]) -> None:
        for sample, distance in found.items():
            self.nearest[sample] = min(self.nearest[sample], distance)
            self.broken_at.setdefault(key.th, set()).add(sample)

    def _announce(self, record: UnitRecord) -> None:
        counts = {outcome.value: 0 for outcome in Outcome}
        for row in record.results:
            counts[row.outcome] += 1
        self.driver.registry.hooks.hook.charpy_outcomes(
            unit={**record.key._asdict(), "attack": record.attack, "rows": record.rows, "seconds": record.seconds},
            outcomes=counts,
        )


def _plan(threat: ThreatSpec, attacks: Sequence[PlannedAttack], carry: bool) -> list[tuple[int, int]]:
    """`(th, step)` in order; an attack that finds its own radius runs once, at the largest level, for all."""
    if isinstance(threat.levels, str):
        return [(level, step) for level in (1,) * 16 for step in range(len(attacks))]  # an estimate, for progress only
    minimising = {i for i, item in enumerate(attacks) if carry and item.attack.family is not Family.TARGET_DISTORTION}
    once = [(max(threat.levels), step) for step in sorted(minimising)]
    climbing = [(th, step) for th in threat.levels for step in range(len(attacks)) if step not in minimising]
    return once + climbing


def _unchanged(title: str, bench: Bench) -> None:
    """Refuse a model whose state changed while it was attacked."""
    if bench.model.state_digest() != bench.judge.model.state_digest():
        raise ModelError(
            "the model changed itself while it was attacked",
            where=title,
            hint="freeze batch normalisation and running statistics; its figures would depend on what came before",
        )


def _model_part(subject: Subject, model: Model, bench: Bench, found: Preflight, data: Dataset) -> dict[str, Any]:
    return {
        "name": subject.title,
        "kind": subject.kind,
        "access": found.access.name,
        "output": found.output.value,
        "input_shape": list(model.input_shape or data.shape),
        "num_classes": found.num_classes,
        "engine": bench.engine.chosen.name,
        "micro_batch": bench.engine.chosen.batch,
        "defenses": list(subject.defenses),
        "fingerprint": dict(model.fingerprint()),
        "notes": [*found.notes, *getattr(model, "notes", ()), *bench.engine.notes],
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
