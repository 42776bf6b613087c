"""Batches of model rows: how many where nothing is measured, how many fit the memory, how long they take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from charpy.memory import out_of_memory, release

if TYPE_CHECKING:
    from charpy.interfaces.model import Forward

FIXED_BATCH = 64
"""Rows in a batch, of images that are not large, where a row's bits depend on its neighbours: a tuned size would let
times change results."""

LARGE_BATCH = 2**23
"""Values in such a batch at most: 16 images of 3 x 299 x 299."""

ACCELERATOR = 16
"""On an accelerator every batch size is this much larger."""


@torch.no_grad()
def fitting(forward: Forward, rows: torch.Tensor) -> int:
    """How many of `rows` the model answers at once before memory runs out: all, or these halved and halved again."""
    size = len(rows)
    while True:
        try:
            forward(rows[:size].clone())
            return size
        except Exception as cause:
            if size < 2 or not out_of_memory(cause):
                raise
        release()
        size //= 2


@torch.no_grad()
def slow(forward: Forward, rows: torch.Tensor, seconds: float) -> bool:
    """Whether one batch takes longer than `seconds`; the first row warms up."""
    forward(rows[:1])
    started = time.perf_counter()
    forward(rows)
    _synchroniser(rows)()
    return time.perf_counter() - started > seconds


def fixed_batch(images: torch.Tensor) -> int:
    """Rows of a batch that no measurement decides, by the size of `images` `(N, C, H, W)` and their device."""
    allowed = max(1, LARGE_BATCH // max(1, images[0].numel()))
    size: int = min(FIXED_BATCH, 1 << (allowed.bit_length() - 1))
    return size if images.device.type == "cpu" else size * ACCELERATOR


def _synchroniser(rows: torch.Tensor) -> Callable[[], None]:
    return torch.cuda.synchronize if rows.is_cuda else lambda: None


def best_of(
    forward: Forward, rows: torch.Tensor, size: int, until: float, *, repeats: int = 3
) -> tuple[float, torch.Tensor]:
    """Smallest seconds per row of `repeats` passes in batches of `size`, fewer after the time `until`; an answer."""
    synchronise = _synchroniser(rows)
    shortest, answer = float("inf"), rows
    for _ in range(repeats + 1):  # the first pass warms up, and counts only if there is no time for another
        synchronise()
        before = time.perf_counter()
        answer = torch.cat([forward(piece) for piece in torch.split(rows, size)])
        synchronise()
        shortest = min(shortest, (time.perf_counter() - before) / len(rows))
        if time.perf_counter() > until:
            break
    return shortest, answer


def invariant(forward: Forward, rows: torch.Tensor, answers: list[torch.Tensor]) -> bool:
    """Whether a row's answer is the same to the bit in batches of other sizes and at other places."""
    if len(answers) < 2 or not all(torch.equal(answers[0], answer) for answer in answers):
        return False
    order = torch.arange(len(rows), device=rows.device).flip(0).roll(7)
    moved = torch.cat([forward(piece) for piece in torch.split(rows[order], fixed_batch(rows) // 2 + 1)])
    return torch.equal(moved, answers[0][order])
