"""Every stimulus as it will be shown, read back and put before the model again, at every size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from charpy.judge import Judge
from charpy_plugins.study.build.display import brought_back, enlarged, png, read_png
from charpy_plugins.study.build.draft import Draft
from charpy_plugins.study.document import Kind, Resampling

ENLARGED = 1 << 23
"""Values of enlarged images that are in memory at once."""


def checked(draft: Draft, judge: Judge, sizes: Sequence[int], resampling: Resampling) -> Draft:
    """The stimuli of `draft` with their PNG files, without those that are not what the condition says at some size.

    Each PNG is read back and brought to the size that the model takes; then a benign image must be classified
    correctly, and a witness must not. Whoever fails is lost, with the sizes in the reason.
    """
    if not draft.ids:
        return replace(draft, files=tuple(() for _ in sizes))
    files, seen = _shown(draft.pixels, sizes, resampling)
    answers: list[tuple[torch.Tensor, torch.Tensor]] = []
    for place, images in enumerate(seen):
        same = next((first for first in range(place) if torch.equal(seen[first], images)), None)
        answers.append(judge.classify(images) if same is None else answers[same])
    benign = draft.rule.kind is Kind.BENIGN
    wrong = "not classified correctly" if benign else "classified correctly"
    sizes_of: dict[str, dict[str, list[str]]] = {}
    for size, (predicted, valid) in zip(sizes, answers, strict=True):
        bad = (predicted == draft.labels) != benign
        for why, places in ((wrong, bad & valid), ("no valid answer of the model", ~valid)):
            for place in places.nonzero()[:, 0].tolist():
                sizes_of.setdefault(draft.ids[place], {}).setdefault(why, []).append(f"x{size}")
    plain = tuple(answers[list(sizes).index(1)][0].tolist())
    shown = replace(draft, predictions=plain, files=tuple(map(tuple, files)))
    return shown.without(
        {name: "; ".join(f"{why} at {', '.join(of)}" for why, of in found.items()) for name, found in sizes_of.items()}
    )


def _shown(
    pixels: torch.Tensor, sizes: Sequence[int], resampling: Resampling
) -> tuple[list[list[bytes]], list[torch.Tensor]]:
    """For every size, the PNG files of `pixels` uint8 `(N, C, H, W)`, and what is read back of them, of that shape."""
    files: list[list[bytes]] = [[] for _ in sizes]
    seen: list[list[torch.Tensor]] = [[] for _ in sizes]
    for piece in torch.split(pixels, max(1, ENLARGED // (pixels[0].numel() * max(sizes) ** 2))):
        for place, size in enumerate(sizes):
            written = png(enlarged(piece, size, resampling))
            files[place] += written
            seen[place].append(brought_back(read_png(written, pixels.shape[1]), size))
    return files, [torch.cat(pieces) for pieces in seen]
