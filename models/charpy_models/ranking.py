"""How well an embedding ranks: whether the nearest images are of the same class."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from charpy.pixels import as_images

CHUNK = 250
"""Anchors, or images to embed, at once."""

Embed = Callable[[torch.Tensor], torch.Tensor]
"""Images `(N, C, H, W)` -> embeddings `(N, D)`."""


class Ranking(NamedTuple):
    """How many of N anchors have a nearest neighbour of their class, and how many of all triplets are in order."""

    nearest: int
    anchors: int
    ordered: int
    triplets: int


@torch.inference_mode()
def embeddings_of(embed: Embed, images: torch.Tensor, device: torch.device) -> torch.Tensor:
    """`(N, D)` on the CPU, of `images` `(N, C, H, W)`, uint8, or float32 in [0, 1]."""
    return torch.cat([embed(as_images(piece.to(device))).cpu() for piece in torch.split(images, CHUNK)])


@torch.inference_mode()
def rank(embeddings: torch.Tensor, labels: torch.Tensor) -> Ranking:
    """Every one of the embeddings `(N, D)` is an anchor once, the others are compared with it; L2 distances.

    `nearest` over N is the recall at 1. A triplet, anchor, positive and negative, is in order when the positive is the
    nearer one; all that there are are counted, by ranks: for each negative, the positives nearer than it.
    """
    nearest = ordered = triplets = 0
    for rows in torch.split(torch.arange(len(labels)), CHUNK):
        apart = torch.cdist(embeddings[rows].double(), embeddings.double())
        apart[torch.arange(len(rows)), rows] = torch.inf
        alike = labels[rows, None] == labels
        nearest += int((labels[apart.argmin(1)] == labels[rows]).sum())
        alike[torch.arange(len(rows)), rows] = False
        negative = labels[rows, None] != labels
        positives = apart.masked_fill(~alike, torch.inf).sort(dim=1).values
        nearer = torch.searchsorted(positives, apart)  # positives that are strictly nearer
        ordered += int(nearer[negative].sum())
        triplets += int((alike.sum(1) * negative.sum(1)).sum())
    return Ranking(nearest, len(labels), ordered, triplets)
