"""What a run is planned to do with a model: the attacks of a threat, the certifiers, the metrics, in order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from charpy.errors import ModelError
from charpy.interfaces.attack import Attack, Battery, Step
from charpy.interfaces.certifier import Certifier
from charpy.interfaces.dataset import Samples
from charpy.interfaces.metric import Metric
from charpy.measured import measured
from charpy.plugins import Registry
from charpy.specs import Attackers, AttackSpec, ComponentSpec, RunSpec, ThreatSpec
from charpy.threat import Access, Norm

DEFAULT_METRICS = ("l0_pixels", "l0_features", "l1", "l2", "linf")
"""What the judge measures when a spec names no metric: the norms, on the 0..255 scale of the dual assessment."""

DEFAULT_CERTIFIERS = ("few_pixels", "crown", "branch_and_bound", "randomized_ablation", "randomized_smoothing")
"""What tries to prove where a spec says `auto`."""


@dataclass(frozen=True)
class PlannedProof:
    """A certifier of a run, constructed, with its kind."""

    kind: str
    certifier: Certifier


@dataclass(frozen=True)
class PlannedAttack:
    """One attack of a battery, constructed, with its name in the report and its own budget if it has one."""

    name: str
    kind: str
    attack: Attack
    queries: int | None


def metrics_of(spec: RunSpec, registry: Registry, samples: Samples) -> dict[str, Metric]:
    """The metrics that the judge computes, by kind; the default set as far as it is installed.

    Each measures one of the samples: one that cannot, for they are too small, says so now, not after the first attack.
    """
    metrics = {item.kind: registry.create("metrics", item.kind, item.params) for item in spec.metrics}
    if not spec.metrics:
        installed = {entry.kind for entry in registry.entries("metrics")}
        for kind in DEFAULT_METRICS:
            if kind in installed:
                scaled = "scale" in registry.load("metrics", kind).Params.model_fields
                metrics[kind] = registry.create("metrics", kind, {"scale": 255} if scaled else {})
    for kind, metric in metrics.items():
        measured(kind, metric, samples.images[:1], samples.images[:1])
    return metrics


def certifiers_of(spec: RunSpec, registry: Registry) -> list[PlannedProof]:
    """The certifiers of a run, in order; with `auto` those of `DEFAULT_CERTIFIERS` that are installed."""
    wanted = spec.certify.certifiers
    if isinstance(wanted, str):
        installed = {entry.kind for entry in registry.entries("certifiers")}
        wanted = tuple(ComponentSpec(kind=kind) for kind in DEFAULT_CERTIFIERS if kind in installed)
    return [PlannedProof(item.kind, registry.create("certifiers", item.kind, item.params)) for item in wanted]


def attacks_of(
    threat: ThreatSpec, access: Access, registry: Registry, attackers: Attackers = Attackers.ADAPTIVE
) -> list[PlannedAttack]:
    """The attacks of a threat against a model that gives `access`, in order.

    A black-box attacker leaves out those of a list that need gradients.

    Raises:
        ModelError: the battery has no attack for this norm and access, or an attack needs more access.
    """
    steps: Sequence[Step | AttackSpec]
    if isinstance(threat.battery, str):
        battery = registry.create("attacks", threat.battery)
        steps = (
            battery.steps(Norm(threat.norm), access) if isinstance(battery, Battery) else (Step(threat.battery, {}),)
        )
    else:
        steps = threat.battery
        if attackers is Attackers.BLACK_BOX:
            steps = [step for step in steps if getattr(registry.load("attacks", step.kind), "access", access) <= access]
    if not steps:
        raise ModelError(
            f"battery {_titled(threat.battery)!r} has no {threat.norm} attack for a model that gives {access.name}",
            hint="name attacks that need less in the spec; `charpy plugins` lists them",
        )
    return [_planned(step, threat, access, registry) for step in steps]


def plan_rows(attacks: Sequence[PlannedAttack]) -> list[dict[str, str]]:
    """What a run file keeps of a battery, so that its plan can be followed without the attacks: names and families."""
    return [{"attack": item.name, "kind": item.kind, "family": item.attack.family.value} for item in attacks]


def _titled(battery: str | Sequence[AttackSpec]) -> str:
    return battery if isinstance(battery, str) else ", ".join(step.kind for step in battery)


def _planned(step: Step | AttackSpec, threat: ThreatSpec, access: Access, registry: Registry) -> PlannedAttack:
    attack = registry.create("attacks", step.kind, step.params)
    where = f"{threat.norm} battery"
    if not isinstance(attack, Attack):
        raise ModelError(
            f"{step.kind!r} is a battery, not an attack", where=where, hint="write `battery: " + step.kind + "`"
        )
    if threat.norm not in attack.norms:
        norms = ", ".join(sorted(norm.value for norm in attack.norms))
        raise ModelError(f"attack {step.kind!r} does not attack {threat.norm}", where=where, expected=norms)
    if threat.goal not in attack.goals:
        raise ModelError(f"attack {step.kind!r} has no {threat.goal} goal", where=where)
    if attack.access > access:
        raise ModelError(
            f"attack {step.kind!r} needs {attack.access.name}, the model gives {access.name}",
            where=where,
            hint="choose attacks that need less; `charpy plugins` lists them",
        )
    if isinstance(step, AttackSpec):
        return PlannedAttack(step.name or step.kind, step.kind, attack, step.queries)
    # A battery's own budget is for what it needs at most: it never exceeds what the threat allows.
    queries = None if step.queries is None else min(step.queries, threat.queries)
    return PlannedAttack(step.kind, step.kind, attack, queries)
