"""A study of runs: choose stimuli, check each as it is shown, and freeze everything in one document."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from charpy.errors import SpecError
from charpy.judge import Judge
from charpy.plugins import Registry
from charpy.reopened import reopened
from charpy.reports.inert import visible
from charpy.runfile import RunFile
from charpy_plugins.study.build.check import checked
from charpy_plugins.study.build.choose import Rule, drawn, lacking, metrics_for, rule_of
from charpy_plugins.study.build.display import check_channels
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.build.freeze import by_reason, frozen
from charpy_plugins.study.build.material import Material, read_material
from charpy_plugins.study.build.pick import witness_draft
from charpy_plugins.study.build.spec import BuildSpec, ConditionSpec
from charpy_plugins.study.document import Kind
from charpy_plugins.study.studyfile import Study

SMALL = 80
"""CSS pixels; a study whose largest images are smaller is built with a note."""


@dataclass(frozen=True)
class Built:
    """A study, and what a researcher should know about how it came out."""

    study: Study
    notes: tuple[str, ...]


def build(
    runs: Sequence[RunFile], spec: BuildSpec, name: str, registry: Registry, data_dir: Path | None = None
) -> Built:
    """The study that `spec` asks for, of `runs`.

    Args:
        runs: open run files, one at least.
        spec: what is wanted.
        name: of the study, where the spec has none.
        registry: where models, data and metrics are found.
        data_dir: where the data set lies, if not where the run found it.

    Raises:
        CharpyError: runs that do not go together, a model or data that is not that of the run any more, images that
            cannot be shown, a condition without enough stimuli.
    """
    material = read_material(runs, spec.model)
    check_channels(material.shape[0])
    labels = _labels(spec, material)
    judge = _judge(material, registry)
    rules = {name: rule for name, rule in spec.rules.items() if rule.kind is Kind.WITNESS}
    check = partial(checked, judge=judge, sizes=spec.sizes, resampling=spec.resampling)
    threats: dict[str, Rule] = {}
    drafts: dict[str, Draft] = {}
    for title, rule in rules.items():
        threats[title], witnesses = rule_of(title, rule, spec, material)
        metrics = metrics_for(spec, material.kept([witnesses[0].original]), registry)
        drafts[title] = witness_draft(title, rule, threats[title], witnesses, material, metrics, check)
    having = {title: set(draft.ids) for title, draft in drafts.items()}
    lost = lacking(material.labels, having) if spec.paired else {}
    for title, rule in spec.rules.items():
        if rule.kind is Kind.BENIGN:
            draft = _benign(title, rule, material, lost, registry, data_dir)
            drafts[title] = check(draft)
            having[title] = {*drafts[title].ids, *lost}
    order = [drafts[title] for title in spec.conditions if title in drafts]
    if spec.paired:
        order = [draft.without(lacking(draft.ids, having)) for draft in order]
    chosen = drawn(order, spec.stimuli, spec.seed, balanced=spec.balanced)
    _check_enough(chosen, spec)
    return Built(frozen(chosen, threats, labels, spec, name, material), _notes(chosen, spec, material))


def _labels(spec: BuildSpec, material: Material) -> tuple[str, ...]:
    names = tuple(visible(str(name)) for name in material.dataset["class_names"])
    if spec.labels is not None and len(spec.labels) != len(names):
        raise SpecError(
            "as many labels as classes are needed",
            where="labels",
            found=f"{len(spec.labels)}: {', '.join(spec.labels)}",
            expected=f"{len(names)}, for {', '.join(names)}",
        )
    labels = spec.labels or names
    if len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise SpecError(
            "two classes have one name, or one has none",
            where="labels",
            found=", ".join(map(repr, labels)),
            hint="name every class so that a participant can tell them apart: --labels, or `labels` in the spec",
        )
    return labels


def _judge(material: Material, registry: Registry) -> Judge:
    subject = material.subject
    where = f"{material.runs[0].path}: {subject.title}"
    model = reopened(subject.spec, subject.fingerprint, registry, where=where)
    return Judge(model, subject.output, material.shape)


def _benign(
    name: str,
    rule: ConditionSpec,
    material: Material,
    lost: Mapping[str, str],
    registry: Registry,
    data_dir: Path | None,
) -> Draft:
    """Unchanged images; those of originals that are lost already are not even read."""
    wanted = sorted(material.labels.keys() - lost.keys())
    return Draft(
        name=name,
        rule=rule,
        text=rule.text or f"unchanged images that {material.subject.title} classifies correctly",
        ids=tuple(wanted),
        pixels=material.originals(wanted, registry, data_dir),
        labels=torch.tensor([material.labels[original] for original in wanted], dtype=torch.int64),
        attacks=("",) * len(wanted),
        losses=lost,
    )


def _fitting(shape: tuple[int, int, int]) -> int:
    """The smallest size at which images of a shape are not small, if a study may have it."""
    return min(16, math.ceil(SMALL / min(shape[1:])))


def _check_enough(drafts: Sequence[Draft], spec: BuildSpec) -> None:
    for draft in drafts:
        if len(draft.ids) < spec.questions:
            reasons = by_reason(draft.losses)
            lost = "; ".join(f"{len(names)} lost: {why}" for why, names in reasons.items())
            raise SpecError(
                "a condition has fewer stimuli than a participant has questions",
                where=f"condition {draft.name}",
                found=f"{len(draft.ids)} stimuli of {draft.candidates} candidates" + (f" ({lost})" if lost else ""),
                expected=f"{spec.questions} at least",
                hint="ask fewer questions (--questions), or give a run over more samples"
                + (", or --unpaired" if spec.paired and len(drafts) > 1 else ""),
            )


def _notes(drafts: Sequence[Draft], spec: BuildSpec, material: Material) -> tuple[str, ...]:
    notes = []
    if not material.subject.deterministic:
        notes.append(f"{material.subject.title} answers at random: another draw may classify a stimulus otherwise")
    notes += [
        f"{draft.name}: of {len(draft.failed)} originals the best witness did not pass the check; the next best that "
        "did was taken"
        for draft in drafts
        if draft.failed
    ]
    largest = max(spec.sizes) * min(material.shape[1:])
    if largest < SMALL and max(spec.sizes) < 16:
        notes.append(
            f"the largest image is {largest} CSS pixels a side, about as large as a few letters; --sizes with a larger "
            f"one, such as {','.join(map(str, (*spec.sizes, _fitting(material.shape))))}, shows more"
        )
    shown = [(draft, set(zip(draft.ids, draft.files[0], strict=True))) for draft in drafts if draft.files]
    for place, (draft, files) in enumerate(shown):
        for other, others in shown[place + 1 :]:
            if same := len(files & others):
                notes.append(
                    f"{same} of {len(draft.ids)} images are the same in {draft.name} and {other.name}: the runs hold "
                    "one witness of these originals that both rules allow"
                )
    if any(draft.rule.kind is not Kind.BENIGN for draft in drafts) and not spec.paired:
        notes.append("conditions hold different originals: a difference between them may be one of the originals")
    return tuple(notes)
