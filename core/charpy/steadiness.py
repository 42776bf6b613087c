"""Whether a model's answer to an image is one answer: the same when it is asked again, and at the end of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch

from charpy.judge import Judge
from charpy.preflight import PASSES
from charpy.records import SampleRow


def wavering(judge: Judge, images: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> int:
    """How many of `images` `(N, C, H, W)` are put into another class in one of `PASSES` passes.

    `labels` and `valid` `(N,)` are what the judge's model said in the first of them. The preflight asks about a probe;
    this is for every batch of a run.
    """
    return int(torch.stack([_other(judge, images, labels, valid) for _ in range(PASSES - 1)]).any(0).sum())


def changed(judge: Judge, images: torch.Tensor, rows: Sequence[SampleRow]) -> int:
    """How many of `images` `(N, C, H, W)` are put into another class now than `rows` say they were."""
    labels = torch.tensor([-1 if row.prediction is None else row.prediction for row in rows])
    return int(_other(judge, images, labels, torch.tensor([row.valid for row in rows])).sum())


def answer_warnings(title: str, rows: Sequence[SampleRow], class_names: Sequence[str]) -> list[str]:
    """What a reader must know of how a model sorts the unchanged images: into classes of its own, or all into one."""
    said = [row.prediction for row in rows if row.valid and row.prediction is not None]
    warnings = []
    if refused := sum(label >= len(class_names) for label in said):
        warnings.append(
            f"{title}: {_share(refused, len(said))} of the unchanged images are put into a class that the data does "
            "not have; a rejection counts as an error, and never as robust"
        )
    if len(said) > 1 and len(set(said)) == 1 and len({row.label for row in rows}) > 1:
        warnings.append(f"{title}: every image is put into class {said[0]}: what holds there shows nothing")
    return warnings


def rejection_warning(title: str, predictions: Counter[int], class_names: Sequence[str]) -> str:
    """How many witnesses were rejections, by what the model said of them; '' for none."""
    refused = sum(count for label, count in predictions.items() if label >= len(class_names))
    if not refused:
        return ""
    share = _share(refused, predictions.total())
    return f"{title}: {share} of the witnesses are rejections: put into a class that the data does not have"


def _other(judge: Judge, images: torch.Tensor, labels: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    now, still = judge.classify(images)
    return (valid != still) | (valid & (now != labels))


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({100 * part / whole:.1f} %)"
