"""Before anything is scored: does the model answer as its contract says?

Runs the model as given on a small probe, on copies, several times and in several orders. What cannot be scored is
refused here with the shapes; what can be scored but must be known is noted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from charpy.errors import DataError, ModelError
from charpy.global_state import global_state_kept
from charpy.interfaces.model import Model, Output
from charpy.memory import out_of_memory, release
from charpy.pixels import as_images
from charpy.questioner import Questioner, name_of
from charpy.threat import Access

PROBE = 64
"""Images that are looked at, at most."""

PASSES = 5
"""How often the same images are shown: a random answer that agrees this often is rare enough to matter little."""

DRIFT = 1e-4
"""Largest change of a score, relative to the largest score (at least 1), that rounding may explain."""

SUM_TOLERANCE = 1e-3
"""How far the sum of a row may be from 1 for the row to count as a probability distribution (half precision: 1e-3)."""


@dataclass(frozen=True)
class Preflight:
    """What the probe showed.

    Attributes:
        num_classes: K. For a model that only gives labels: as declared, else one more than the largest label seen.
        output: what the answers are; `probabilities` where logits were declared but probabilities came.
        access: the most that the model gives; lower than declared where gradients do not reach the images.
        notes: what the reader of a report must know.
        deterministic: the same images got the same answers every time.
        batch_invariant: an image's answer does not depend on its neighbours (not tested where answers are random).
        classes_inferred: `num_classes` is only the least it can be: a model that gives labels does not say.
    """

    num_classes: int
    output: Output
    access: Access
    notes: tuple[str, ...]
    deterministic: bool
    batch_invariant: bool
    classes_inferred: bool = False


def preflight(model: Model, images: torch.Tensor, labels: torch.Tensor | None = None) -> Preflight:
    """Check `model` on the first `PROBE` of `images` `(N, C, H, W)`, uint8 or float32 in [0, 1].

    `labels` int64 `(N,)`, if given, must be classes that the model has.

    Raises:
        ModelError: the answers have the wrong shape or type, K varies or is below 2, declared probabilities are none,
            the model changes its images or itself, or it fails.
        DataError: no images, or a label that the model has no class for.
    """
    try:
        return _looked_at(model, images[:PROBE], labels)
    except ModelError as error:
        fewer = min(len(images), PROBE) // 2
        if not fewer or not out_of_memory(error.__cause__ or error):
            raise
    release()
    found = preflight(model, images[:fewer], labels)
    return replace(found, notes=(*found.notes, f"memory ran out at {2 * fewer} images: the probe was {fewer}"))


def _looked_at(model: Model, images: torch.Tensor, labels: torch.Tensor | None) -> Preflight:
    """`preflight` of all `images`."""
    if not len(images):
        raise DataError("no images to try the model on", expected="at least one", hint="give at least one image")
    probe = as_images(images.to(model.device))
    _check_input_shape(model, probe)
    state = model.state_digest()
    notes: list[str] = []
    with global_state_kept(notes):
        questioner = Questioner(model, notes)
        answers = [questioner.ask(probe) for _ in range(PASSES)]
        questioner.note_reseeding()
        first = answers[0]
        deterministic = _same_answers(first, answers[1:], notes)
        batch_invariant = not deterministic or _batch_invariant(questioner, probe, first, notes)
        access = _access(questioner, probe, notes)
    if model.state_digest() != state:
        raise ModelError(
            "the model changes itself when it predicts",
            where=name_of(model),
            found="parameters, buffers or train mode differ after the probe",
            hint="put it in eval mode; BatchNorm statistics and caches must not be updated",
        )
    notes += [note for note in getattr(model, "notes", ()) if note not in notes]
    output = _output(model, first, notes)
    classes = _num_classes(model, first, labels)
    inferred = output is Output.LABELS and model.num_classes is None
    return Preflight(classes, output, access, tuple(notes), deterministic, batch_invariant, inferred)


def _check_input_shape(model: Model, probe: torch.Tensor) -> None:
    if model.input_shape is not None and tuple(probe.shape[1:]) != tuple(model.input_shape):
        raise ModelError(
            "the images do not have the model's shape",
            where=name_of(model),
            found=f"images (C, H, W) = {tuple(probe.shape[1:])}",
            expected=f"{tuple(model.input_shape)}",
            hint="give the data set that the model was trained on, or images of that size",
        )


def _same_answers(first: torch.Tensor, others: list[torch.Tensor], notes: list[str]) -> bool:
    changed = torch.stack([_labels(other) != _labels(first) for other in others]).any(0)
    if changed.any():
        notes.append(f"randomised: {int(changed.sum())} of {len(first)} labels changed in {PASSES} passes")
        return False
    if any(_drift(first, other) > DRIFT for other in others):
        notes.append(f"randomised: scores changed in {PASSES} passes over the same images")
        return False
    return True


def _batch_invariant(questioner: Questioner, probe: torch.Tensor, first: torch.Tensor, notes: list[str]) -> bool:
    """Whether answers stay when the order, the neighbours and the size of the batch change."""
    order = torch.arange(len(probe) - 1, -1, -1, device=probe.device)
    half = len(probe) // 2 + 1
    trials = [
        (questioner.ask(probe[order]), first[order.to(first.device)]),
        (questioner.ask(probe[:half]), first[:half]),
    ]
    trials.append((questioner.ask(probe[:1]), first[:1]))
    changed = max(int((_labels(found) != _labels(expected)).sum()) for found, expected in trials)
    if changed or any(_drift(expected, found) > DRIFT for found, expected in trials):
        what = f"{changed} of {len(probe)} labels changed" if changed else "scores changed"
        notes.append(f"answers depend on the batch: {what} in another order or batch size")
        return False
    return True


def _access(questioner: Questioner, probe: torch.Tensor, notes: list[str]) -> Access:
    """The access that the model really gives."""
    model = questioner.model
    if model.output is Output.LABELS:
        return Access.LABELS
    if model.access is not Access.GRADIENTS:
        return model.access
    with torch.enable_grad():
        images = probe[:1].clone().requires_grad_(True)
        try:
            answer = questioner.ask(images, gradients=True)
        except ModelError as cause:
            notes.append(f"no gradients: {cause.found or cause.what}")
            return Access.SCORES
    # an answer may ask for a gradient for the model's parameters alone
    slope = torch.autograd.grad(answer.sum(), images, allow_unused=True)[0] if answer.requires_grad else None
    if slope is None:
        notes.append("no gradients: the scores do not depend on the images for autograd (detached or rounded)")
        return Access.SCORES
    return Access.GRADIENTS


def _output(model: Model, answer: torch.Tensor, notes: list[str]) -> Output:
    """What the scores are, whatever was declared."""
    if model.output is Output.LABELS:
        return Output.LABELS
    rows = answer[answer.isfinite().all(1)]
    sums = rows.double().sum(1)
    # half-precision softmax: each of K rounded terms may be off
    tolerance = max(SUM_TOLERANCE, answer.shape[1] * 1e-5)
    distribution = (rows >= -tolerance).all(1) & ((sums - 1).abs() <= tolerance)
    if model.output is Output.PROBABILITIES:
        if not distribution.all():
            raise ModelError(
                "the model declares probabilities but gives none",
                where=name_of(model),
                found=f"values in [{float(rows.min()):.4g}, {float(rows.max()):.4g}], "
                f"row sums in [{float(sums.min()):.4g}, {float(sums.max()):.4g}]",
                expected="values in [0, 1] that add up to 1",
                hint="declare `output: logits`",
            )
        return Output.PROBABILITIES
    if len(rows) and bool(distribution.all()):
        notes.append("logits were declared but every answer is a probability distribution; read as probabilities")
        return Output.PROBABILITIES
    return Output.LOGITS


def _num_classes(model: Model, answer: torch.Tensor, labels: torch.Tensor | None) -> int:
    largest = int(labels.max()) if labels is not None and len(labels) else -1
    if model.output is Output.LABELS:
        classes = model.num_classes or max(int(answer.max()), largest, 1) + 1
        if int(answer.min()) < 0 or int(answer.max()) >= classes:
            raise ModelError(
                "the model predicts a label that is no class",
                where=name_of(model),
                found=f"labels {int(answer.min())}..{int(answer.max())}",
                expected=f"0..{classes - 1}",
                hint="map other codes (a rejection, names) to classes of their own",
            )
    else:
        classes = answer.shape[1]
    if largest >= classes:
        raise DataError(
            "the data has classes that the model does not have",
            where=name_of(model),
            found=f"label {largest}, so at least {largest + 1} classes in the data",
            expected=f"at most {classes} classes, as many as the model has",
            hint="give the data set that the model was trained on",
        )
    return classes


def _labels(answer: torch.Tensor) -> torch.Tensor:
    return answer if answer.ndim == 1 else answer.argmax(1)


def _drift(expected: torch.Tensor, found: torch.Tensor) -> float:
    """Largest difference of two answers relative to the largest score; NaN and infinity must stay where they are."""
    if expected.ndim == 1:
        return float((expected != found).any())
    finite = expected.isfinite()
    if not torch.equal(finite, found.isfinite()):
        return float("inf")
    if not finite.any():
        return 0.0
    return float((expected - found)[finite].abs().max() / expected[finite].abs().max().clamp_min(1.0))
