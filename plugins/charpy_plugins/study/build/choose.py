"""Which witnesses a condition allows and what is measured of them; pairing of conditions, and the draw."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import torch

from charpy.analysis.verdict import SPOKEN
from charpy.errors import CharpyError, SpecError, unknown_name
from charpy.interfaces.metric import Metric
from charpy.pixels import as_images
from charpy.plugins import Registry
from charpy.threat import Norm
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.build.material import Material, Witness
from charpy_plugins.study.build.spec import BuildSpec, ConditionSpec
from charpy_plugins.study.document import Kind

ALWAYS = ("l0_pixels", "l2", "linf", "ssim")
"""Measured of every pair, where the images are large enough."""


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
