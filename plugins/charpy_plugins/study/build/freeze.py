"""From chosen stimuli to the study: opaque ids, an order that says nothing, and the document."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Mapping, Sequence

from pydantic import ValidationError

from charpy.errors import SpecError
from charpy.subjects import digest as fingerprint_of
from charpy_plugins.study.build.choose import Rule
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.build.material import Material
from charpy_plugins.study.build.spec import BuildSpec, ConditionSpec
from charpy_plugins.study.build.texts import written
from charpy_plugins.study.document import Condition, Kind, Loss, Source, Stimulus, StudyDocument, Threat
from charpy_plugins.study.model import reference_of
from charpy_plugins.study.studyfile import Study, digest


def frozen(
    drafts: Sequence[Draft],
    threats: Mapping[str, Rule],
    labels: tuple[str, ...],
    spec: BuildSpec,
    name: str,
    material: Material,
) -> Study:
    """The study; its stimuli are in the order of their ids, which says nothing.

    Args:
        drafts: of the conditions with stimuli, checked.
        threats: of the witness conditions, by name.
        labels: as shown.
        spec: what is wanted.
        name: of the study, where the spec has none.
        material: what the runs hold.

    Raises:
        SpecError: it would not be a valid study.
    """
    key = json.dumps([spec.seed, *material.run_ids]).encode()
    stimuli: list[Stimulus] = []
    images: dict[tuple[str, int], bytes] = {}
    for draft in drafts:
        for place, stimulus in enumerate(_stimuli(draft, key)):
            stimuli.append(stimulus)
            images |= {(stimulus.id, size): files[place] for size, files in zip(spec.sizes, draft.files, strict=True)}
    by_name = {draft.name: draft for draft in drafts}
    painted = len(next((draft.ids for draft in drafts if draft.rule.kind is Kind.BENIGN), ()))
    given = spec.texts.given()
    texts = written(
        given, spec.fill, questions=spec.questions, checks=spec.checks, sizes=len(spec.sizes), labels=len(labels)
    )
    subject = material.subject
    try:
        document = StudyDocument(
            name=spec.name or name,
            seed=spec.seed,
            source=Source(
                dataset=str(material.dataset["name"]),
                shape=material.shape,
                class_names=tuple(map(str, material.dataset["class_names"])),
                model=subject.title,
                reference=reference_of(subject.spec),
                fingerprint=fingerprint_of(subject.fingerprint),
                runs=material.run_ids,
                threat=_threat(threats, spec),
            ),
            labels=labels,
            conditions=tuple(
                _condition(title, rule, by_name.get(title), painted) for title, rule in spec.rules.items()
            ),
            stimuli=tuple(sorted(stimuli, key=lambda stimulus: stimulus.id)),
            sizes=spec.sizes,
            resampling=spec.resampling,
            questions=spec.questions,
            checks=spec.checks,
            dropout_minutes=spec.dropout_minutes,
            texts=texts,
            exclusion=spec.exclusion,
        )
    except ValidationError as cause:
        first = cause.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the study"
        raise SpecError("the study would not be valid", where=where, found=first["msg"]) from None
    return Study(document, images)


def _stimuli(draft: Draft, key: bytes) -> list[Stimulus]:
    """One a row; the id is a keyed hash: nobody who sees it learns the condition, the class or the original."""
    found = []
    for place, original in enumerate(draft.ids):
        files = [of_size[place] for of_size in draft.files]
        said = json.dumps([draft.name, original, [digest(data) for data in files]]).encode()
        found.append(
            Stimulus(
                id=hmac.new(key, said, hashlib.sha256).hexdigest()[:16],
                condition=draft.name,
                original=original,
                label=int(draft.labels[place]),
                prediction=draft.predictions[place],
                attack=draft.attacks[place],
                distance=draft.distances[place] if draft.distances else None,
                metrics={kind: at[place] for kind, at in draft.metrics.items() if math.isfinite(at[place])},
                digests=tuple(digest(data) for data in files),
            )
        )
    return found


def _condition(name: str, rule: ConditionSpec, draft: Draft | None, painted: int) -> Condition:
    if draft is None:
        text = rule.text or "painted by hand over the images of the benign condition"
        return Condition(name=name, kind=Kind.PAINTED, text=text, candidates=painted)
    losses = tuple(Loss(reason=why, originals=names) for why, names in by_reason(draft.losses).items())
    return Condition(
        name=name, kind=rule.kind or Kind.WITNESS, text=draft.whole_text, candidates=draft.candidates, losses=losses
    )


def by_reason(losses: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """The originals of each reason, both in order."""
    reasons: dict[str, list[str]] = {}
    for name, why in sorted(losses.items(), key=lambda item: (item[1], item[0])):
        reasons.setdefault(why, []).append(name)
    return {why: tuple(names) for why, names in reasons.items()}


def _threat(threats: Mapping[str, Rule], spec: BuildSpec) -> Threat | None:
    """The threat that all witness conditions share, or without one that of the spec; None where they differ in norm."""
    norms = {rule.norm for rule in threats.values()}
    if len(norms) == 1:
        return Threat(norm=norms.pop(), level=max(rule.level for rule in threats.values()))
    if not norms and spec.norm is not None and spec.level is not None:
        return Threat(norm=spec.norm, level=spec.level)
    return None
