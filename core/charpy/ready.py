"""Models that passed their checks: with an engine, a judge and attacks, before anything is attacked or written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from charpy import checks
from charpy.engine import QueryEngine
from charpy.errors import ModelError
from charpy.global_state import global_state_kept
from charpy.interfaces.model import Model
from charpy.judge import Judge
from charpy.planned import PlannedAttack, attacks_of, metrics_of
from charpy.preflight import Preflight, preflight
from charpy.site import Site
from charpy.specs import Attackers
from charpy.stages import Stage
from charpy.subjects import Subject
from charpy.threat import Access, Goal
from charpy.unit import Bench

PROBE = 64
"""Samples on which a model is tried."""


@dataclass(frozen=True)
class Ready:
    """A model that passed its checks: what its units work with, what the preflight found of the model that is judged,
    what the attacks may use, and the attacks per threat."""

    bench: Bench
    found: Preflight
    access: Access
    attacks: list[list[PlannedAttack]]


def made_ready(
    site: Site,
    subjects: Sequence[Subject],
    opened: Sequence[Model],
    engines: Mapping[str, tuple[str, str | None]] | None = None,
) -> list[Ready]:
    """Check every model on a probe of the data and choose its engine and attacks, before anything is written.

    `engines` are those that a resumed run began with, by title: of forward-only queries, and of gradients.
    """
    spec, data = site.spec, site.data
    probe = site.read(range(min(PROBE, len(site.indices))))
    checks.check_samples(probe, shape=data.shape, num_classes=None, grid=spec.grid, where=data.name)
    metrics = metrics_of(spec, site.registry, probe)
    ready = []
    for subject, model in zip(subjects, opened, strict=True):
        site.watch.enter(Stage("open", f"trying model {subject.title} on {len(probe.labels)} samples"))
        found = preflight(model, probe.images, probe.labels)
        if found.classes_inferred:
            found = replace(found, num_classes=max(found.num_classes, len(data.class_names)))
            if any(threat.goal is Goal.TARGETED for threat in spec.threats):
                raise ModelError(
                    "a targeted threat needs to know the model's classes, and this model only gives labels",
                    where=subject.title,
                    hint="declare the number of classes of the model, or leave the goal untargeted",
                )
        if len(data.class_names) > found.num_classes:
            raise ModelError(
                "the data has more classes than the model",
                where=subject.title,
                found=f"{len(data.class_names)} classes in {data.name}, {found.num_classes} in the model",
                hint="give the data set that the model was trained on",
            )
        facing, seen = subject.facing(model, data.shape), found
        if facing is not model:
            seen = preflight(facing, probe.images, probe.labels)
        access = min(seen.access, Access.SCORES) if subject.attackers is Attackers.BLACK_BOX else seen.access
        attacks = [attacks_of(threat, access, site.registry, subject.attackers) for threat in spec.threats]
        for threat, planned in zip(spec.threats, attacks, strict=True):
            for item in planned:
                item.attack.prepare(threat.norm, threat.goal, (site.read(shard) for shard in site.shards()))
        keep, keep_gradient = (engines or {}).get(subject.title, (None, None))
        with global_state_kept([]):
            engine = QueryEngine.measure(
                facing,
                seen.output,
                probe.images,
                batch_size=spec.batch_size,
                keep=keep,
                gradients=any(item.attack.access is Access.GRADIENTS for planned in attacks for item in planned),
                keep_gradient=keep_gradient,
            )
        judge = Judge(subject.open(), found.output, data.shape, metrics)
        bench = Bench(facing, engine, judge, found.num_classes, spec.seed)
        ready.append(Ready(bench, found, access, attacks))
    return ready
