"""A randomised defence scored over other draws: what was found against one set of draws need not last, nor hold."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from charpy.judge import Judge
from charpy.pixels import unpack
from charpy.records import WitnessRow
from charpy.site import Site
from charpy.threat import DISTANCE_TOLERANCE, OWN, default_levels

DRAWS = 10
"""Other seeds of the defence: 1 to 10 more than the spec's."""

PIECE = 256
"""Witnesses in one batch."""


def redrawn_rows(site: Site, judge: Judge, witnesses: Iterable[WitnessRow]) -> list[dict[str, Any]]:
    """`norm`, `th`, `robust` and `samples` under one draw; norm '' and th 0: without any change.

    Robust at a level: right without a change, and fooled by none of the stored `witnesses` within the level.

    Args:
        judge: of the model behind its defences with that draw.
        witnesses: all of the model's, under every norm.
    """
    pieces = [site.read(shard) for shard in site.shards()]
    labels = torch.cat([piece.labels for piece in pieces])
    right = torch.cat([_right(judge, piece.images, piece.labels) for piece in pieces])
    rows = list(witnesses)
    shape = (site.data.shape[0], site.data.shape[1], site.data.shape[2])
    fooled: list[WitnessRow] = []
    for start in range(0, len(rows), PIECE):
        part = rows[start : start + PIECE]
        images = torch.stack([unpack(row.image, shape, site.spec.grid) for row in part])
        kept = _right(judge, images, labels[[row.sample for row in part]])
        fooled += [row for row, still in zip(part, kept.tolist(), strict=True) if not still]
    levels = [("", 0)]
    for threat in site.spec.threats:
        if threat.norm in site.own:
            levels.append((threat.norm.value, OWN))
        else:
            wanted = threat.levels if isinstance(threat.levels, tuple) else default_levels(threat.norm)
            levels += [(threat.norm.value, th) for th in wanted]
    found = []
    for norm, th in levels:
        standing, own = right.clone(), site.own.get(norm, ()) if th == OWN else ()
        within = [row for row in fooled if row.norm == norm]
        within = [row for row in within if row.distance <= (own[row.sample] if own else th) + DISTANCE_TOLERANCE]
        standing[[row.sample for row in within]] = False
        found.append({"norm": norm, "th": th, "robust": int(standing.sum()), "samples": len(standing)})
    return found


def _right(judge: Judge, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    predicted, valid = judge.classify(images)
    return (predicted == labels) & valid
