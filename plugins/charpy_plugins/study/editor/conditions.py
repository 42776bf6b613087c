"""The painted condition of a study: found, made, and kept true as stimuli come and go."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from charpy.errors import DataError, SpecError
from charpy_plugins.study.document import Condition, Kind, Loss, Stimulus, StudyDocument, Threat
from charpy_plugins.study.editor.model import PaintModel

DEFAULT: Final = "painted"
NOT_PAINTED: Final = "not painted"


def benign_of(document: StudyDocument) -> Condition:
    """The condition whose stimuli are painted over.

    Raises:
        DataError: there is none, it is empty, or its images are neither grey nor RGB.
    """
    found = [condition for condition in document.conditions if condition.kind is Kind.BENIGN]
    if not found or not document.of(found[0].name):
        raise DataError("nothing to paint over", where=document.name, expected="a benign condition with stimuli")
    if document.source.shape[0] not in (1, 3):
        raise DataError(
            "only grey and RGB images can be painted",
            where=document.name,
            found=f"{document.source.shape[0]} channels",
            expected="1 or 3",
        )
    return found[0]


def name_of(document: StudyDocument, wish: str | None) -> str:
    """The painted condition that is meant: the one wished for, else the only one, else a new one, `painted`.

    Raises:
        SpecError: there are several.
    """
    if wish is not None:
        return wish
    found = [condition.name for condition in document.conditions if condition.kind is Kind.PAINTED]
    if len(found) > 1:
        raise SpecError("which of the painted conditions?", where="--condition", expected=f"one of {', '.join(found)}")
    return found[0] if found else DEFAULT


def painted_in(document: StudyDocument, name: str) -> Condition:
    """The painted condition of this name, as it stands in the study or as it would be made.

    Raises:
        DataError: a condition of this name is of another kind.
        SpecError: no name for a condition.
    """
    for condition in document.conditions:
        if condition.name == name:
            if condition.kind is not Kind.PAINTED:
                kinds = [one.name for one in document.conditions if one.kind is Kind.PAINTED]
                raise DataError(
                    "nothing is painted in this condition",
                    where=f"--condition {name}",
                    found=f"kind {condition.kind.value}",
                    expected=f"{' or '.join(kinds) or DEFAULT}, or a new name",
                )
            return condition
    try:
        return Condition(name=name, kind=Kind.PAINTED, text="Painted by hand in `charpy study edit`.")
    except ValidationError as cause:
        raise SpecError(
            "no name for a condition",
            where="--condition",
            found=repr(name[:60]),
            expected="a lower-case letter, then at most 39 of a-z, 0-9, _ and -",
        ) from cause


def repainted(
    document: StudyDocument,
    condition: Condition,
    old: Stimulus | None,
    new: Stimulus | None,
    limit: Threat,
    model: PaintModel,
) -> StudyDocument:
    """The study with `new` in the place of `old`; its condition says what is painted, and by whose scores."""
    stimuli = [one for one in (new if one == old else one for one in document.stimuli) if one is not None]
    if old is None and new is not None:
        stimuli.append(new)
    kept = _kept_true(document, condition, tuple(stimuli), limit, model)
    conditions = tuple(kept if one.name == condition.name else one for one in document.conditions)
    if kept not in conditions:
        conditions += (kept,)
    source = document.source
    named = {} if source.fingerprint or source.reference else _name(model)
    source = source.model_copy(update={"threat": source.threat or limit, **named})
    stimuli.sort(key=lambda stimulus: stimulus.id)  # an order that says nothing, as in a study that was built
    changed = document.model_copy(update={"conditions": conditions, "stimuli": tuple(stimuli), "source": source})
    return StudyDocument.model_validate(changed.model_dump())


def _kept_true(
    document: StudyDocument, condition: Condition, stimuli: tuple[Stimulus, ...], limit: Threat, model: PaintModel
) -> Condition:
    originals = [stimulus.original for stimulus in document.of(benign_of(document).name)]
    painted = {stimulus.original for stimulus in stimuli if stimulus.condition == condition.name}
    left = tuple(original for original in originals if original not in painted)
    losses = tuple(loss for loss in condition.losses if loss.reason != NOT_PAINTED)
    if left:
        losses += (Loss(reason=NOT_PAINTED, originals=left),)
    unit = "pixels" if limit.norm == "l0" else "1/255 steps"
    words = (
        f"Painted with the scores of {model.title} (fingerprint {model.fingerprint}), "
        f"within {limit.level:g} {unit} under {limit.norm}."
    )
    text = condition.text if words in condition.text else f"{condition.text} {words}"
    return condition.model_copy(update={"candidates": len(originals), "losses": losses, "text": text})


def _name(model: PaintModel) -> dict[str, str]:
    return {"model": model.title, "reference": model.reference, "fingerprint": model.fingerprint}
