"""One witness of each original, by the rule of a condition: the best that is what it is said to be, as it is shown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.analysis.verdict import SPOKEN
from charpy.errors import DataError
from charpy.interfaces.metric import Direction, Metric
from charpy.pixels import as_images, distances, inside
from charpy.threat import COUNTED, Norm, ThreatModel
from charpy_plugins.study.build.choose import Rule
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.build.material import Material, Witness
from charpy_plugins.study.build.spec import ConditionSpec, Pick

SLACK = 1e-6
"""How far a value may be beyond a bound, as a share of it: metrics compute in float32, where 25/255 is not exact."""

BATCH = 1 << 20
"""Image values in one call of a metric."""


def witness_draft(
    name: str,
    rule: ConditionSpec,
    threat: Rule,
    witnesses: Sequence[Witness],
    material: Material,
    metrics: Mapping[str, Metric],
    check: Callable[[Draft], Draft],
) -> Draft:
    """Of each original the witness that `rule` picks among those that pass `check`, measured as its PNG is.

    A distance that rounding took beyond the level, and a value beyond a bound, rule a witness out before one is picked.
    Equals are settled by the order of the runs. Where the best does not pass `check`, which gives a draft back without
    those that fail, the next best is tried. An original without a witness that passes is lost, with the reason of its
    last one and how many were tried.
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
    bounds = ", ".join(f"{kind} {bound}" for kind, bound in rule.bounds.items())
    text = rule.text or _text(rule, threat, bounds)

    def draft(places: NDArray[np.int64]) -> Draft:
        chosen, names = [witnesses[place] for place in places], [ids[place] for place in owner[places]]
        return Draft(
            name=name,
            rule=rule,
            text=text,
            ids=tuple(names),
            pixels=material.images(chosen) if chosen else torch.zeros(0, *material.shape, dtype=torch.uint8),
            labels=torch.tensor([material.labels[name] for name in names], dtype=torch.int64),
            attacks=tuple(item.attack for item in chosen),
            distances=tuple(distance[places].tolist()),
            metrics={kind: tuple(found[places].tolist()) for kind, found in values.items()},
        )

    tried: Counter[str] = Counter()
    failed: dict[str, str] = {}
    kept, left = None, bounded.copy()
    while kept is None or left.any():
        places = _best(owner, left, values[rule.metric], rule.pick is _largest(metrics[rule.metric]))
        drafted = draft(places)
        passed = check(drafted)
        tried.update(drafted.ids)
        failed |= passed.losses
        kept = passed if kept is None else kept.joined(passed)
        left[places] = False
        left &= ~np.isin(owner, [row[name] for name in passed.ids])
    some_within = set(owner[within].tolist())
    losses = {
        name: f"no witness with {bounds}" if row[name] in some_within else f"beyond {said(threat)} once rounded"
        for name in ids
        if not tried[name]
    }
    for original in sorted(tried.keys() - set(kept.ids)):
        count = tried[original]
        losses[original] = failed[original] + (f"; the last of {count} witnesses tried" if count > 1 else "")
    return replace(kept, losses=losses, failed={name: tried[name] - 1 for name in kept.ids if tried[name] > 1})


def said(threat: Rule) -> str:
    """`12 pixels (L0)` or `Linf 25/255`."""
    if threat.norm is Norm.UNRESTRICTED:
        return SPOKEN[threat.norm]
    return f"{threat.level:g} pixels (L0)" if threat.norm in COUNTED else f"{SPOKEN[threat.norm]} {threat.level:g}/255"


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
