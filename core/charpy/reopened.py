"""The model of a run, opened again after it: the very one, or none."""

from __future__ import annotations

from collections.abc import Mapping

from charpy.errors import CharpyError, ModelError
from charpy.interfaces.model import Model
from charpy.plugins import Registry
from charpy.specs import ModelSpec
from charpy.subjects import subject_of


def reopened(
    spec: ModelSpec, fingerprint: Mapping[str, str], registry: Registry, *, where: str, otherwise: str = ""
) -> Model:
    """The model that `spec` names, with its defences.

    Args:
        spec: as the run has it.
        fingerprint: of the model, as the run has it.
        registry: where wrappers and defences are found.
        where: run and model, for the message.
        otherwise: what can be done without the model, for the message.

    Raises:
        ModelError: it cannot be opened here, or its bytes have changed since the run.
    """
    hint = f", or {otherwise}" if otherwise else ""
    try:
        model = subject_of(spec, registry).open()
        found = dict(model.fingerprint())
    except CharpyError as cause:
        raise ModelError(
            "a model of the run cannot be opened again",
            where=where,
            found=cause.what,
            expected="the model where its spec says it lies, seen from this working directory",
            hint=f"go to the folder where the run was made{hint}",
        ) from cause
    if differing := sorted(key for key in fingerprint.keys() | found.keys() if fingerprint.get(key) != found.get(key)):
        raise ModelError(
            "the model is not the one of the run any more",
            where=where,
            found="; ".join(f"{key}: {found.get(key, '(none)')}" for key in differing),
            expected="; ".join(f"{key}: {fingerprint.get(key, '(none)')}" for key in differing),
            hint=f"put the model of the run back{hint}",
        )
    return model
