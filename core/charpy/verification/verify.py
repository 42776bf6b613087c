"""A run file verified: check after check, with a fresh model, and without any attack."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from charpy.errors import CharpyError, SpecError, line_of, unknown_name
from charpy.identity import without_locations
from charpy.interfaces.model import Model
from charpy.judge import Judge
from charpy.plugins import Registry
from charpy.preflight import Preflight
from charpy.runfile import RunFile
from charpy.runfile.content import UNREADABLE
from charpy.specs import DataSpec, ModelSpec, RunSpec, parse
from charpy.stages import Progress, Stage, Watch
from charpy.verification.data import Reopened, check_data, opened_data
from charpy.verification.document import Check, Tally
from charpy.verification.models import check_clean, measured, opened_model, output_of, probe_of, tried
from charpy.verification.plan import check_plan
from charpy.verification.records import check_bytes, check_form, check_proofs, check_records
from charpy.verification.witnesses import Rejudge, WithoutModel


@dataclass(frozen=True)
class Places:
    """Where things lie now, if they were moved since the run.

    Attributes:
        models: references by the name of the model in the report.
        data: `{kind, params}`.
        data_dir: the folder of datasets that are given by name.
    """

    models: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] | None = None
    data_dir: str | None = None

    def model(self, spec: ModelSpec, registry: Registry) -> ModelSpec:
        """Where the model lies now."""
        reference = self.models.get(spec.title, self.models.get(_plain(spec)))
        if reference is None:
            return spec
        params = without_locations(spec, registry)
        return spec.model_copy(update={"name": spec.title, "reference": reference, "kind": None, "params": params})

    def dataset(self, spec: DataSpec) -> DataSpec:
        """Where the data lies now."""
        if self.data is not None:
            return spec.model_copy(update=dict(self.data))
        if self.data_dir is not None and "data_dir" in spec.params:
            return spec.model_copy(update={"params": {**spec.params, "data_dir": self.data_dir}})
        return spec


def verify(
    path: Path,
    places: Places,
    registry: Registry,
    *,
    listen: Callable[[Progress], None] | None = None,
    watch: Watch | None = None,
) -> Iterator[Check]:
    """Every check of the run file at `path`, each as soon as it is done; a record that ends them is one that differs.

    Raises:
        RunFileError: it cannot be opened; `ChangedError` where its bytes are not those that were written.
        SpecError: a place is given for a model that the run does not have.
    """
    try:
        yield from _checks(path, places, registry, listen or (lambda now: None), watch or Watch())
    except CharpyError:
        raise
    except UNREADABLE as cause:
        tally = Tally("what charpy writes")
        tally.wrong(str(path), line_of(cause), "records that can be looked at")
        tally.missing("what comes after this")
        yield tally.check()


def _checks(
    path: Path, places: Places, registry: Registry, listen: Callable[[Progress], None], watch: Watch
) -> Iterator[Check]:
    with RunFile.open(path) as run:
        spec = parse(RunSpec, run.spec, where=str(path))
        _check_names(spec, places)
        watch.enter(Stage("verify", "the records of the run file"))
        yield check_bytes(run)
        if (unreadable := check_form(run)) is not None:
            yield unreadable
            return
        yield check_records(run, spec, registry)
        yield check_proofs(run, spec)
        watch.enter(Stage("verify", "the plan"))
        yield check_plan(run, spec, registry)
        if run.meta("dataset") is None or not run.meta("models"):
            return
        watch.enter(Stage("verify", f"the data {spec.data.kind}"))
        tally = Tally("data and originals")
        data = opened_data(run, spec, places.dataset(spec.data), registry, tally)
        yield tally.check() if data is None else check_data(run, spec, data, tally)
        for number, model in enumerate(spec.models):
            watch.enter(Stage("verify", f"opening model {model.title}"))
            place = places.model(model, registry)
            yield from _Subject(run, spec, number, place, data, registry, listen, watch).checks()


@dataclass
class _Subject:
    """One model of the run."""

    run: RunFile
    spec: RunSpec
    number: int
    where: ModelSpec
    data: Reopened | None
    registry: Registry
    told: Callable[[Progress], None]
    watch: Watch

    def checks(self) -> Iterator[Check]:
        """The model itself, what it says of the samples, what it says of the witnesses."""
        part, title = self.run.meta("models")[self.number], self.where.title
        tally = Tally("model", title)
        model = opened_model(self.run, self.where, self.registry, tally)
        found: Preflight | None = None
        if model is not None:
            self.watch.enter(Stage("verify", f"trying model {title}"))
            found = tried(self.run, model, part, self.data, tally)
        metrics, skipped = measured(self.run, self.spec, self.registry, probe_of(self.run, self.data), tally)
        random = found is not None and not (found.deterministic and found.batch_invariant)
        if random:
            tally.note("its answers are left to chance or depend on the batch: one that differs now shows nothing")
        channels, height, width = self.run.meta("dataset")["shape"]
        shape = (channels, height, width)
        asked: Model | None = model if found is not None else None
        judge = WithoutModel(shape, metrics) if asked is None else Judge(asked, output_of(part, found), shape, metrics)
        yield tally.check()
        yield self._clean(title, None if asked is None else judge, random)
        yield self._witnesses(title, judge, found.num_classes if found else part["num_classes"], random, skipped)

    def _clean(self, title: str, judge: Judge | None, random: bool) -> Check:
        tally = Tally("clean predictions", title)
        samples = len(self.run.samples(self.number))
        if judge is None or self.data is None or not self.data.same:
            lacking = "the model" if judge is None else "the data"
            if samples:
                tally.missing(f"{samples} clean predictions: without {lacking} of the run there is nothing to ask")
            return tally.check()
        name = f"{title}  clean predictions"
        self.watch.enter(Stage("verify", name))
        tick = self._tick(name, samples)
        check_clean(self.run, self.number, judge, self.data, tally, tick, random=random)
        return tally.check()

    def _witnesses(self, title: str, judge: Judge, classes: int, random: bool, skipped: set[str]) -> Check:
        tally = Tally("witnesses", title)
        total = self.run.audit().witnesses(self.number)
        name = f"{title}  witnesses"
        self.watch.enter(Stage("verify", name))
        again = Rejudge(self.spec, judge, classes, tally, random=random, skipped=skipped)
        again.all(self.run, self.number, self._tick(name, total))
        if total and isinstance(judge, WithoutModel):
            tally.missing(f"what the model answers to {total} witnesses; their distances and metrics are")
        return tally.check()

    def _tick(self, name: str, total: int) -> Callable[[int], None]:
        def tick(done: int) -> None:
            self.told(Progress(done, total, 0.0, name))

        return tick


def _check_names(spec: RunSpec, places: Places) -> None:
    known = {model.title for model in spec.models} | {_plain(model) for model in spec.models}
    for name in places.models:
        if name not in known:
            raise unknown_name("model of the run", name, known, where="--model")
    if places.data_dir is not None and places.data is None and "data_dir" not in spec.data.params:
        raise SpecError(
            "the data of this run is not found by a folder of datasets",
            where="--data-dir",
            found=spec.data.kind,
            hint="give --data DATA instead",
        )


def _plain(spec: ModelSpec) -> str:
    """The title without the attackers that were added to it."""
    return spec.title.removesuffix(f" ({spec.attackers[0]})")
