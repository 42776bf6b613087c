"""What a run is about, as a resume and a verification compare it: the spec, the data, the models, the plugins in it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, get_args

from charpy.errors import CharpyError
from charpy.interfaces.attack import Attack
from charpy.interfaces.component import Component, locations
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.metric import Metric
from charpy.own_levels import digest_of
from charpy.planned import DEFAULT_CERTIFIERS
from charpy.plugins import Registry
from charpy.specs import ComponentSpec, ModelSpec, OwnLevels, RunSpec, parse
from charpy.subjects import resolved


def identity_of(
    spec: RunSpec, dataset: Dataset, fingerprints: Mapping[str, Mapping[str, str]], registry: Registry
) -> dict[str, str]:
    """What a run is about, as key -> value: the spec, the data, the models, the plugins in it.

    Of the spec every field but where a unit is computed, which changes nothing, the gates, which only judge, and the
    parameters that say where something lies, for which the fingerprint of what was found there stands.
    """
    taken = _taken_from_elsewhere(spec, registry)
    tables = {
        f"threats.{n}.levels": threat.levels
        for n, threat in enumerate(spec.threats)
        if isinstance(threat.levels, OwnLevels)
    }
    left_out = {*locations_of(spec, registry), *_locations_of_attacks(spec, registry, taken)}
    identity = {f"spec.{key}": value for key, value in spec_values(spec) if not stands_in(key, left_out)}
    identity["data.fingerprint"] = dataset.fingerprint()
    identity |= {f"spec.{place}": digest_of(levels) for place, levels in tables.items()}
    for attack, fingerprint in taken.items():
        identity |= {f"attack.{attack}.{key}": value for key, value in fingerprint.items()}
    for item in spec.metrics:
        metric: Metric = registry.create("metrics", item.kind, item.params)
        identity |= {f"metric.{item.kind}.{key}": value for key, value in metric.fingerprint().items()}
    for title, fingerprint in fingerprints.items():
        identity |= {f"model.{title}.{key}": value for key, value in fingerprint.items()}
    parts = components_of(spec, registry)
    identity |= {f"plugin.{part}": version for part, version in parts.items() if not part.startswith("executors/")}
    return identity


def locations_of(spec: RunSpec, registry: Registry) -> Iterator[str]:
    """Where in the spec the parameters stand that are no part of the identity, but for those of the attacks.

    Of a component that cannot be imported any may be one.
    """
    yield from _of_component("data", "datasets", spec.data, registry)
    for number, model in enumerate(spec.models):
        yield from _of_model(f"models.{number}", model, registry)
    for number, metric in enumerate(spec.metrics):
        yield from _of_component(f"metrics.{number}", "metrics", metric, registry)
    for number, threat in enumerate(spec.threats):
        if isinstance(threat.levels, OwnLevels):
            yield f"threats.{number}.levels"


def stands_in(key: str, places: Collection[str]) -> bool:
    """Whether `key`, such as `models.0.params.path`, is one of `places` or inside one."""
    parts = key.split(".")
    return any(".".join(parts[:length]) in places for length in range(1, len(parts) + 1))


def without_locations(spec: ModelSpec, registry: Registry) -> dict[str, Any]:
    """The parameters of a model that stay its own wherever it lies; all of them where its kind cannot be imported."""
    try:
        kind, _ = resolved(spec, registry)
        left_out = locations(registry.load("models", kind).Params)
    except CharpyError:
        return spec.params
    return {name: value for name, value in spec.params.items() if name not in left_out}


def _of_model(place: str, spec: ModelSpec, registry: Registry) -> Iterator[str]:
    if spec.params:
        try:
            kind, _ = resolved(spec, registry)
        except CharpyError:
            yield from (f"{place}.params.{name}" for name in spec.params)
        else:
            yield from _of_component(place, "models", ComponentSpec(kind=kind, params=spec.params), registry)
    for number, defense in enumerate(spec.defenses):
        yield from _of_component(f"{place}.defenses.{number}", "defenses", defense, registry)


def _of_component(place: str, hook: str, spec: ComponentSpec, registry: Registry) -> Iterator[str]:
    if not spec.params:
        return
    try:
        component = registry.load(hook, spec.kind)
    except CharpyError:
        yield from (f"{place}.params.{name}" for name in spec.params)
        return
    if not (isinstance(component, type) and issubclass(component, Component)):
        return
    yield from (f"{place}.params.{name}" for name in locations(component.Params))
    for name, field in component.Params.model_fields.items():
        inner = spec.params.get(name)
        if isinstance(inner, Mapping) and ModelSpec in (field.annotation, *get_args(field.annotation)):
            yield from _of_model(f"{place}.params.{name}", parse(ModelSpec, inner, where=place), registry)


def _locations_of_attacks(spec: RunSpec, registry: Registry, taken: Collection[str]) -> Iterator[str]:
    for number, threat in enumerate(spec.threats):
        for step, item in enumerate(() if isinstance(threat.battery, str) else threat.battery):
            if (place := f"threats.{number}.battery.{step}") in taken:
                yield from _of_component(place, "attacks", item, registry)


def components_of(spec: RunSpec, registry: Registry) -> dict[str, str]:
    """Every named component of the spec -> the package and version that it comes from."""
    named: list[tuple[str, str]] = [("executors", spec.executor.kind), ("datasets", spec.data.kind)]
    named += [("models", model.kind) for model in spec.models if model.kind]
    named += [("defenses", defense.kind) for model in spec.models for defense in model.defenses]
    proofs = spec.certify.certifiers
    named += [
        ("certifiers", kind) for kind in (DEFAULT_CERTIFIERS if isinstance(proofs, str) else [p.kind for p in proofs])
    ]
    named += [("metrics", metric.kind) for metric in spec.metrics]
    for threat in spec.threats:
        battery: Sequence[ComponentSpec] | str = threat.battery
        named += [("attacks", battery)] if isinstance(battery, str) else [("attacks", item.kind) for item in battery]
    known = {(entry.hook, entry.kind): f"{entry.package} {entry.version}" for entry in registry.entries()}
    return {f"{hook}/{kind}": known[hook, kind] for hook, kind in sorted(set(named)) if (hook, kind) in known}


def _taken_from_elsewhere(spec: RunSpec, registry: Registry) -> dict[str, Mapping[str, str]]:
    """The fingerprints of those attacks that have one, by their place in the spec."""
    taken = {}
    for number, threat in enumerate(spec.threats):
        for place, item in enumerate(() if isinstance(threat.battery, str) else threat.battery):
            attack = registry.create("attacks", item.kind, item.params)
            if isinstance(attack, Attack) and (fingerprint := attack.fingerprint()):
                taken[f"threats.{number}.battery.{place}"] = fingerprint
    return taken


def spec_values(spec: RunSpec) -> list[tuple[str, str]]:
    """What of a spec a run is about: every field but where units are computed, and the gates that only judge."""
    return leaves(spec.model_dump(mode="json", exclude={"gates", "executor"}))


def leaves(value: Any, path: str = "") -> list[tuple[str, str]]:
    """`(path.to.it, JSON)` of every value in nested mappings and lists."""
    if isinstance(value, dict) and value:
        return [leaf for key, item in value.items() for leaf in leaves(item, f"{path}.{key}" if path else key)]
    if isinstance(value, list) and value:
        return [leaf for i, item in enumerate(value) for leaf in leaves(item, f"{path}.{i}")]
    return [(path, json.dumps(value))]
