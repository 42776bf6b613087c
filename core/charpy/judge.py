"""The judge: checks every claimed witness from its stored bytes, with a model of its own; trusts nobody."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from charpy.engine import as_scores
from charpy.errors import ServiceError
from charpy.global_state import default_dtype_kept
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Model, Output
from charpy.measured import measured
from charpy.pixels import as_images, distances, inside, unpack
from charpy.threat import ThreatModel

BATCH = 64

NO_ANSWER = "the model fails, or answers NaN or infinity"
RIGHT = "classified correctly"
NOT_THE_TARGET = "not classified as the target"


@dataclass(frozen=True)
class Claim:
    """An image that is said to be adversarial: stored bytes of the original and of the image, and the classes."""

    original: bytes
    image: bytes
    label: int
    target: int | None = None


@dataclass(frozen=True)
class Verdict:
    """What the judge found; `reason` is '' for a confirmed witness.

    `distance` is exact: pixels for L0, 1/255 steps otherwise. `valid`: the model has an answer to the image.
    """

    reason: str
    distance: float
    prediction: int
    metrics: dict[str, float]
    valid: bool = True

    @property
    def confirmed(self) -> bool:
        """Whether the image is a witness."""
        return not self.reason


class Judge:
    """Decides over claims against one model.

    Args:
        model: opened for the judge alone, the defended model where there is a defence.
        output: what its answers are.
        shape: `(C, H, W)` of the images.
        metrics: computed on every image, by name.
    """

    def __init__(
        self, model: Model, output: Output, shape: tuple[int, int, int], metrics: dict[str, Metric] | None = None
    ) -> None:
        self.model, self.output, self.shape, self.metrics = model, output, shape, metrics or {}

    def classify(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`(labels, valid)` of images `(N, C, H, W)`; a row is valid when all its scores are finite.

        Where the model raises, its batch is asked row by row, and what it raises at is not valid.
        """
        with torch.no_grad(), default_dtype_kept():
            found = [answer for piece in torch.split(images, BATCH) for answer in self._classified(piece)]
        return torch.cat([labels for labels, _ in found]), torch.cat([valid for _, valid in found])

    def _classified(self, images: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        try:
            rows = as_images(images).to(self.model.device).clone()
            answers = as_scores(self.model.predict(rows), self.output).cpu()
        except ServiceError:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 - a stranger's code; what it raises at has no answer
            if len(images) == 1:
                return [(torch.zeros(1, dtype=torch.int64), torch.zeros(1, dtype=torch.bool))]
            return [answer for row in torch.split(images, 1) for answer in self._classified(row)]
        if answers.ndim == 2:
            return [(answers.argmax(1), answers.isfinite().all(1))]
        return [(answers, torch.ones(len(answers), dtype=torch.bool))]

    def decide(self, claims: Sequence[Claim], threat: ThreatModel) -> list[Verdict]:
        """One verdict per claim, from the stored bytes alone."""
        if not claims:
            return []
        originals = torch.stack([unpack(claim.original, self.shape, threat.grid) for claim in claims])
        images = torch.stack([unpack(claim.image, self.shape, threat.grid) for claim in claims])
        finite = images.isfinite().flatten(1).all(1)
        allowed = inside(threat, originals, images)
        distance = distances(threat.norm, originals, images)
        predicted, valid = self.classify(torch.where(finite[:, None, None, None], images, originals))
        values = self._measure(as_images(originals), as_images(images))
        verdicts = []
        for i, claim in enumerate(claims):
            prediction = int(predicted[i])
            reason = (
                ("holds NaN or infinity" if not finite[i] else "")
                or (_outside(threat, images[i], float(distance[i])) if not allowed[i] else "")
                or (NO_ANSWER if not valid[i] else "")
                or _missed(claim, prediction)
            )
            metrics = {name: float(value[i]) for name, value in values.items()}
            verdicts.append(Verdict(reason, float(distance[i]), prediction, metrics, bool(valid[i])))
        return verdicts

    def _measure(self, originals: torch.Tensor, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {name: measured(name, metric, originals, images) for name, metric in self.metrics.items()}


def _outside(threat: ThreatModel, image: torch.Tensor, distance: float) -> str:
    if image.is_floating_point() and not bool(((image >= 0) & (image <= 1)).all()):
        return "outside the box [0, 1]"
    unit = "pixels" if threat.norm == "l0" else "1/255 steps"
    return f"outside the {threat.norm} ball: {distance:g} {unit}"


def _missed(claim: Claim, prediction: int) -> str:
    if claim.target is not None and prediction != claim.target:
        return NOT_THE_TARGET
    return RIGHT if prediction == claim.label else ""
