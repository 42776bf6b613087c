"""The model that a painter paints against: opened by its reference, known by its fingerprint, asked while painting."""

from __future__ import annotations

import json
import threading
from typing import NamedTuple

import torch

from charpy.engine import as_scores
from charpy.errors import ModelError, SpecError
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Output
from charpy.judge import Judge
from charpy.pixels import as_images
from charpy.plugins import Registry
from charpy.preflight import preflight
from charpy.specs import ModelSpec, parse
from charpy.subjects import digest, subject_of
from charpy_plugins.study.document import Source
from charpy_plugins.study.model import reference_of

METRICS = ("l0_pixels", "l2", "linf", "ssim")
"""Measured on every painted image."""

PROBE = 2
"""Originals that the model is tried on; it may be slow."""


class Answer(NamedTuple):
    """What the model says of one image.

    Attributes:
        prediction: the class; -1 where it has no answer (it fails, or answers NaN or infinity).
        shares: softmax of the scores, one a class; None where it gives a label only.
        lead: score of the true class less the largest other one, on the logit scale: below 0 it is misclassified.
    """

    prediction: int
    shares: tuple[float, ...] | None = None
    lead: float | None = None


NOTHING = Answer(-1)


class PaintModel:
    """One instance answers while somebody paints; every judgement opens another one.

    Attributes:
        reference: how a study file names it.

    Args:
        reference: as on the command line of `charpy assess`, or the JSON text of a model spec.
        originals: uint8 `(N, C, H, W)`, to try the model on.

    Raises:
        ModelError: it does not open, does not take the images, or is not the model of `source` (its fingerprint is
            known and another one) and `another` does not allow that.
    """

    def __init__(
        self, source: Source, reference: str | None, originals: torch.Tensor, registry: Registry, *, another: bool
    ) -> None:
        reference = reference or source.reference
        if not reference:
            raise SpecError(
                "which model? The study names none", where="--model", expected="a zoo name, FILE.onnx, module:callable"
            )
        spec = _spec(reference)
        self.reference = reference_of(spec)
        self._subject = subject_of(spec, registry)
        self._model = self._subject.open()
        self.fingerprint = digest(self._model.fingerprint())
        if source.fingerprint and source.fingerprint != self.fingerprint and not another:
            raise ModelError(
                "not the model of the study",
                where=self.title,
                found=f"fingerprint {self.fingerprint}",
                expected=f"{source.fingerprint}, of {source.model or 'the model of its run'}",
                hint="give the right one with --model, or --another-model to paint against this one",
            )
        found = preflight(self._model, originals[:PROBE])
        self._output, self.notes = found.output, found.notes
        self._shape = source.shape
        self._metrics: dict[str, Metric] = {kind: registry.create("metrics", kind) for kind in METRICS}
        if min(source.shape[1:]) < 3:
            del self._metrics["ssim"]  # it has no window
        self._asked = threading.Lock()

    @property
    def title(self) -> str:
        """Its name on the pages."""
        return self._subject.title

    @property
    def labels_only(self) -> bool:
        """Whether it gives no scores."""
        return self._output is Output.LABELS

    def answer(self, image: torch.Tensor, label: int) -> Answer:
        """What it says of `image` `(C, H, W)`, uint8, whose true class is `label`; one question at a time."""
        with self._asked, torch.no_grad():
            try:
                rows = as_images(image[None]).to(self._model.device).clone()
                scores = as_scores(self._model.predict(rows), self._output).cpu()[0]
            except Exception:  # noqa: BLE001 - a stranger's code; what it raises at has no answer
                return NOTHING
        if scores.ndim == 0:
            return Answer(int(scores))
        if not bool(scores.isfinite().all()):
            return NOTHING
        others = [float(score) for place, score in enumerate(scores) if place != label]
        lead = float(scores[label]) - max(others) if label < len(scores) else None
        return Answer(int(scores.argmax()), tuple(scores.double().softmax(0).tolist()), lead)

    def judge(self) -> Judge:
        """A judge with an instance of the model that has answered nobody yet."""
        return Judge(self._subject.open(), self._output, self._shape, self._metrics)


def _spec(reference: str) -> ModelSpec:
    if not reference.lstrip().startswith("{"):
        return ModelSpec(reference=reference)
    try:
        data = json.loads(reference)
    except ValueError as cause:
        raise SpecError("no model spec", where="--model", found=str(cause), expected="JSON, or a reference") from None
    return parse(ModelSpec, data, where="--model")
