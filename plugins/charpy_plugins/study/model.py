"""How a study file names the model that its images fool, and how it is opened again."""

from __future__ import annotations

import json

from charpy.errors import ModelError
from charpy.interfaces.model import Model
from charpy.plugins import Registry
from charpy.specs import ModelSpec, parse
from charpy.subjects import digest, subject_of
from charpy_plugins.study.document import Source


def reference_of(spec: ModelSpec) -> str:
    """The model of a run as one text: what a run spec says of it, defences included, as JSON."""
    return json.dumps(spec.model_dump(mode="json", exclude_defaults=True), sort_keys=True)


def model_of(source: Source, registry: Registry) -> Model:
    """The model that the stimuli of a study fool, with its defences.

    Raises:
        ModelError: the study names none, it cannot be opened here, or it is not the one of the study any more.
    """
    if not source.reference:
        raise ModelError("the study names no model", where=source.model, expected="a study made of a run")
    where = source.model
    try:
        spec = parse(ModelSpec, json.loads(source.reference), where=where)
    except (json.JSONDecodeError, TypeError) as cause:
        raise ModelError("the study does not say how its model is opened", where=where, found=cause) from None
    model = subject_of(spec, registry).open()
    found = digest(dict(model.fingerprint()))
    if found != source.fingerprint:
        raise ModelError(
            "the model is not the one of the study any more",
            where=where,
            found=f"fingerprint {found}",
            expected=f"fingerprint {source.fingerprint}",
            hint="put the model back, or build the study again of a run of this one",
        )
    return model
