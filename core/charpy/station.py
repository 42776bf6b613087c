"""One model under one threat, ready to compute its units; a pickled one makes itself ready wherever it arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from charpy.errors import IdentityError, ServiceError, SpecError
from charpy.identity import components_of
from charpy.pixels import as_images
from charpy.planned import PlannedAttack
from charpy.plugins import registry
from charpy.ready import made_ready
from charpy.records import UnitKey, UnitRecord
from charpy.site import Site
from charpy.specs import RunSpec, ThreatSpec
from charpy.stages import Stage
from charpy.subjects import chosen_samples, open_dataset, subject_of
from charpy.threat import Access, Norm, ThreatModel
from charpy.unit import Bench, Shard, compute_unit, lost_unit

Unit = tuple[UnitKey, list[int]]
"""What to compute, and for which samples of the run."""


@dataclass
class Station:
    """What computes the units of one model under one threat.

    In this process it works on the models that are open. Pickled, it is only what says how to open them, and they must
    be the same there: data, models and plugins are compared.
    """

    site: Site
    model: int
    bench: Bench
    access: Access
    threat: ThreatSpec
    attacks: list[PlannedAttack]

    def __call__(self, unit: Unit) -> UnitRecord:
        """The attack of one unit on its samples, judged."""
        key, samples = unit
        planned = self.attacks[key.step]
        title, threat = self.title(key.th, planned), self.threat_at(key.th, planned)
        if why := self.site.watch.enter(Stage("unit", title, key)):
            return self.lost(unit, why)
        shard = self.shard_of(samples)
        try:
            return compute_unit(key, shard, planned, threat, self.bench, lambda share, _: self.site.tell(share, title))
        except ServiceError as gone:
            what = f"{gone.what}, while {title} was computed, which is lost"
            raise ServiceError(
                what, where=gone.where, found=gone.found, expected=gone.expected, hint=gone.hint
            ) from None

    def lost(self, unit: Unit, why: str) -> UnitRecord:
        """A unit that nobody could compute."""
        key, samples = unit
        planned = self.attacks[key.step]
        return lost_unit(key, samples, planned, self.threat_at(key.th, planned), self.bench, why)

    def title(self, th: int, planned: PlannedAttack) -> str:
        """Model, norm, level and attack."""
        return f"{self.site.spec.models[self.model].title}  {self.threat.norm} th={th}  {planned.name}"

    def shard_of(self, samples: list[int]) -> Shard:
        """The images of these samples of the run, with their labels and ids."""
        piece = self.site.read(samples)
        return Shard(samples, as_images(piece.images), piece.labels, piece.ids)

    def threat_at(self, th: int, planned: PlannedAttack) -> ThreatModel:
        """What an attack faces at a level."""
        return ThreatModel.at_level(
            Norm(self.threat.norm),
            th,
            goal=self.threat.goal,
            access=min(self.access, planned.attack.access),
            queries=planned.queries or self.threat.queries,
            grid=self.site.spec.grid,
        )

    def __reduce__(self) -> tuple[Callable[..., Station], tuple[Any, ...]]:
        """Raises `SpecError` for models that only exist in this process."""
        site, engine = self.site, self.bench.engine
        if not site.named:
            raise SpecError(
                "models and data that are Python objects cannot be opened elsewhere",
                where="executor",
                found=site.spec.executor.kind,
                expected="a run whose spec names its models and its data, or the executor `inline`",
            )
        same = tuple(_same(site, self.model, self.bench).items())
        engines = (engine.chosen.name, engine.gradient.name if engine.gradient else None)
        return _elsewhere, (site.spec.model_dump_json(), self.model, self.threat.norm.value, engines, same)


def _same(site: Site, model: int, bench: Bench) -> dict[str, str]:
    """What must be the same wherever a unit is computed."""
    judged = bench.judge.model.fingerprint()
    return {
        f"data {site.data.name}": site.data.fingerprint(),
        **{f"model {site.spec.models[model].title}, {key}": value for key, value in judged.items()},
        **{f"plugin {name}": version for name, version in components_of(site.spec, site.registry).items()},
    }


@cache
def _elsewhere(
    spec: str, model: int, norm: str, engines: tuple[str, str | None], same: tuple[tuple[str, str], ...]
) -> Station:
    """The station in another process, which opens the data and the model once.

    Raises:
        IdentityError: it is not the same data, model or plugin there.
    """
    parsed, plugins = RunSpec.model_validate_json(spec), registry()
    subject, data = subject_of(parsed.models[model], plugins), open_dataset(parsed.data, plugins)
    executor = plugins.create("executors", "inline", {})
    site = Site(parsed, plugins, data, chosen_samples(data, parsed.data), executor)
    (ready,) = made_ready(site, [subject], [subject.open()], {subject.title: engines})
    number = next(place for place, threat in enumerate(parsed.threats) if threat.norm == norm)
    _compare(dict(same), _same(site, model, ready.bench))
    return Station(site, model, ready.bench, ready.access, parsed.threats[number], ready.attacks[number])


def _compare(there: Mapping[str, str], here: Mapping[str, str]) -> None:
    differing = sorted(key for key in there.keys() | here.keys() if there.get(key) != here.get(key))
    if differing:
        key = differing[0]
        raise IdentityError(
            "a worker has something else than the run is about",
            where=key,
            found=here.get(key, "(none)"),
            expected=there.get(key, "(none)"),
            hint="install the same packages, and put the same files, on every machine",
        )
