"""Which images become stimuli: one witness of each original by a rule, pairing of conditions, and the draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.analysis.verdict import SPOKEN
from charpy.errors import CharpyError, DataError, SpecError, unknown_name
from charpy.interfaces.metric import Direction, Metric
from charpy.pixels import as_images, distances, inside
from charpy.plugins import Registry
from charpy.threat import COUNTED, Norm, ThreatModel
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.build.material import Material, Witness
from charpy_plugins.study.build.spec import BuildSpec, ConditionSpec, Pick
from charpy_plugins.study.document import Kind

ALWAYS = ("l0_pixels", "l2", "linf", "ssim")
"""Measured of every pair, where the images are large enough."""

SLACK = 1e-6
"""How far a value may be beyond a bound, as a share of it: metrics compute in float32, where 25/255 is not exact."""

BATCH = 1 << 20
"""Image values in one call of a metric."""


class Rule(NamedTuple):
    """A rule of witnesses with its threat: `level` in pixels or 1/255 steps."""

    norm: Norm
    level: float


def metrics_for(spec: BuildSpec, probe: torch.Tensor, registry: Registry) -> dict[str, Metric]:
    """What is measured of pairs, by kind, norms on the 0..255 scale; `probe` uint8 `(N, C, H, W)`, N >= 1.

    Raises:
        CharpyError: a metric of the spec that is unknown, or cannot measure such images.
    """
    witnesses = [rule for rule in spec.rules.values() if rule.kind is Kind.WITNESS]
    asked = {kind for rule in witnesses for kind in (rule.metric, *rule.bounds)}
    metrics: dict[str, Metric] = {}
    for kind in (*ALWAYS, *sorted(asked - set(ALWAYS))):
        scaled = "scale" in registry.load("metrics", kind).Params.model_fields
        metric: Metric = registry.create("metrics", kind, {"scale": 255} if scaled else {})
        try:
            metric(as_images(probe[:1]), as_images(probe[:1]))
        except CharpyError:
            if kind in asked:
                raise
        else:
            metrics[kind] = metric
    return metrics


def rule_of(name: str, rule: ConditionSpec, spec: BuildSpec, material: Material) -> tuple[Rule, list[Witness]]:
    """The threat of a witness condition, and the witnesses that its rule allows by what the runs say of them.

    Raises:
        UnknownNameError: no such run or attack.
        SpecError: no norm is named and there are several, or nothing is left.
    """
    where = f"conditions.{name}"
    if rule.run is not None and rule.run not in material.titles:
        raise unknown_name("run", rule.run, material.titles, where=f"{where}.run")
    known = {label for item in material.witnesses for label in (item.attack, item.called)}
    for attack in rule.attacks:
        if attack not in known:
            raise unknown_name("attack with a witness", attack, known, where=f"{where}.attacks")
    allowed = [
        item
        for item in material.witnesses
        if rule.run in (None, material.titles[item.run])
        and (not rule.attacks or item.attack in rule.attacks or item.called in rule.attacks)
    ]
    norm = rule.norm or spec.norm or _only_norm(allowed, where)
    allowed = [item for item in allowed if item.norm == norm]
    level = rule.level if rule.level is not None else spec.level
    if level is None:
        level = max((item.level for item in allowed), default=0.0)
    if not allowed:
        raise SpecError(
            "there is no witness for this condition",
            where=where,
            found=f"{len(material.witnesses)} witnesses in the runs, of {material.subject.title}",
            expected=f"some under {SPOKEN[norm]}, by the rule of the condition",
            hint="give a run in which an attack broke the model, or another rule",
        )
    return Rule(norm, level), allowed


def _only_norm(witnesses: Sequence[Witness], where: str) -> Norm:
    norms = list(dict.fromkeys(item.norm for item in witnesses))
    if len(norms) > 1:
        hint = "name one: --norm, or `norm` in the spec or its condition"
        raise SpecError("witnesses under which norm?", where=where, found=", ".join(norms), hint=hint)
    if not norms:
        raise SpecError("there is no witness for this condition", where=where, hint="give a run of a model that breaks")
    return Norm(norms[0])


def witness_draft(
    name: str,
    rule: ConditionSpec,
    threat: Rule,
    witnesses: Sequence[Witness],
    material: Material,
    metrics: Mapping[str, Metric],
) -> Draft:
    """Of each original the witness that `rule` picks, measured as its PNG is; losers by the reason.

    A distance that rounding took beyond the level, and a value beyond a bound, rule a witness out before one is picked.
    Equals are settled by the order of the runs.
    """
    ids = sorted({item.original for item in witnesses})
    row = {name: place for place, name in enumerate(ids)}
    owner = np.array([row[item.original] for item in witnesses])
    originals = material.kept(ids)
    distance, within, values = _measured(threat, originals, owner, witnesses, material, metrics)
    bounded = within.copy()
    for kind, bound in rule.bounds.items():
        found = values[kind]
        least, most = bound.least, bound.most
        bounded &= ~np.isnan(found) if least is None else found >= least - SLACK * max(1.0, abs(least))
        bounded &= ~np.isnan(found) if most is None else found <= most + SLACK * max(1.0, abs(most))
    best = _best(owner, bounded, values[rule.metric], rule.pick is _largest(metrics[rule.metric]))
    chosen = [witnesses[place] for place in best]
    some_within = set(owner[within].tolist())
    bounds = ", ".join(f"{kind} {bound}" for kind, bound in rule.bounds.items())
    losses = {
        ids[place]: f"no witness with {bounds}" if place in some_within else f"beyond {said(threat)} once rounded"
        for place in sorted(set(range(len(ids))) - set(owner[best].tolist()))
    }
    kept = [ids[place] for place in owner[best]]
    return Draft(
        name=name,
        rule=rule,
        text=rule.text or _text(rule, threat, bounds),
        ids=tuple(kept),
        pixels=material.images(chosen) if chosen else torch.zeros(0, *material.shape, dtype=torch.uint8),
        labels=torch.tensor([material.labels[name] for name in kept], dtype=torch.int64),
        attacks=tuple(item.attack for item in chosen),
        distances=tuple(distance[best].tolist()),
        metrics={kind: tuple(found[best].tolist()) for kind, found in values.items()},
        losses=losses,
    )


def said(threat: Rule) -> str:
    """`12 pixels (L0)` or `Linf 25/255`."""
    if threat.norm is Norm.UNRESTRICTED:
        return SPOKEN[threat.norm]
    return f"{threat.level:g} pixels (L0)" if threat.norm in COUNTED else f"{SPOKEN[threat.norm]} {threat.level:g}/255"


def lacking(originals: Iterable[str], having: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Those of `originals` that have no stimulus in some condition, and in which; `having`: the originals of each."""
    found = {original: [name for name, ids in having.items() if original not in ids] for original in originals}
    return {name: f"the original has no stimulus in {', '.join(names)}" for name, names in found.items() if names}


def drawn(drafts: Sequence[Draft], count: int | None, seed: int, *, balanced: bool) -> list[Draft]:
    """At most `count` originals of each draft: the first of one random order of all, the same for every draft.

    Args:
        drafts: of all conditions with stimuli.
        count: None: all.
        seed: of the order.
        balanced: take the classes in turn.
    """
    if count is None:
        return list(drafts)
    labels = {name: label for draft in drafts for name, label in zip(draft.ids, draft.labels.tolist(), strict=True)}
    names = sorted(labels)
    order = torch.randperm(len(names), generator=torch.Generator().manual_seed(seed)).tolist()
    shuffled = [names[place] for place in order]
    found = []
    for draft in drafts:
        own = set(draft.ids)
        queue = [name for name in shuffled if name in own]
        left = (_in_turn(queue, labels) if balanced else queue)[count:]
        found.append(draft.without(dict.fromkeys(left, f"not among the {count} drawn with seed {seed}")))
    return found


def _in_turn(names: Sequence[str], labels: Mapping[str, int]) -> list[str]:
    """In rounds over the classes, each round in the given order."""
    seen: Counter[int] = Counter()
    rounds = {}
    for name in names:
        rounds[name] = seen[labels[name]]
        seen[labels[name]] += 1
    return sorted(names, key=rounds.__getitem__)


def _measured(
    threat: Rule,
    originals: torch.Tensor,
    owner: NDArray[np.int64],
    witnesses: Sequence[Witness],
    material: Material,
    metrics: Mapping[str, Metric],
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
    """Distances, whether they are within the threat, and values by metric, `(M,)` each, of the rounded pairs."""
    radius = threat.level if threat.norm in COUNTED else threat.level / 255
    model = ThreatModel(norm=threat.norm, radius=radius)
    found: dict[str, list[torch.Tensor]] = {kind: [] for kind in metrics}
    far, within = [], []
    for places in torch.split(torch.arange(len(witnesses)), max(1, BATCH // originals[0].numel())):
        changed = material.images(witnesses[place] for place in places.tolist())
        first = originals[owner[places.numpy()]]
        far.append(distances(threat.norm, first, changed).double())
        within.append(inside(model, first, changed))
        pair = as_images(first), as_images(changed)
        with torch.no_grad():
            for kind, metric in metrics.items():
                values = metric(*pair)
                if values.shape != (len(places),):
                    raise DataError("a metric gives one value a pair", where=kind, found=tuple(values.shape))
                found[kind].append(values.double().cpu())
    return (
        torch.cat(far).numpy(),
        torch.cat(within).numpy(),
        {kind: torch.cat(pieces).numpy() for kind, pieces in found.items()},
    )


def _largest(metric: Metric) -> Pick:
    """The pick that takes the largest value of `metric`."""
    return Pick.NEAREST if metric.direction is Direction.SIMILARITY else Pick.FARTHEST


def _best(
    owner: NDArray[np.int64], allowed: NDArray[np.bool_], values: NDArray[np.float64], largest: bool
) -> NDArray[np.int64]:
    """The place of the best allowed row of each owner, by owner; NaN is never better than a number."""
    places = np.flatnonzero(allowed)
    key = -values[places] if largest else values[places]
    order = places[np.lexsort((places, key, owner[places]))]  # NaN is sorted last
    first = np.ones(len(order), bool)
    first[1:] = owner[order][1:] != owner[order][:-1]
    found: NDArray[np.int64] = order[first]
    return found


def _text(rule: ConditionSpec, threat: Rule, bounds: str) -> str:
    word = "most" if rule.pick is Pick.NEAREST else "least"
    parts = [f"of each original the witness {word} alike to it by {rule.metric}", f"within {said(threat)}"]
    parts += [f"of {', '.join(rule.attacks)}"] if rule.attacks else []
    parts += [f"of run {rule.run}"] if rule.run is not None else []
    return ", ".join(parts + ([f"with {bounds}"] if bounds else []))
