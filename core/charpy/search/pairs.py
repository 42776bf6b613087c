"""The best pair of items under a product of sums, without the map of all pairs."""

from __future__ import annotations

import torch

_TILE = 1 << 22
"""Pair values held at a time."""


def best_pair(first: torch.Tensor, second: torch.Tensor, allowed: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The pair p != q with the largest (first_p + first_q) (second_p + second_q), both factors positive.

    If two items r, s have both values at least as large as those of p, then p can be replaced by one of them in every
    pair without loss. So the best pair lies among the items that fewer than two others dominate; they are found by one
    sort and two running maxima, O(D log D), and are few. Only their pairs are compared: the result is that of all D^2.

    Args:
        first, second: `(B, D)`.
        allowed: bool `(B, D)`, the items that may be chosen.

    Returns:
        `(B, 2)` positions, and bool `(B,)`: whether there is such a pair (else the positions mean nothing).
    """
    kept = _undominated(first, second, allowed)
    count = int(kept.sum(1).amax()) if len(kept) else 0
    if count < 2:
        return torch.zeros(len(first), 2, dtype=torch.int64, device=first.device), torch.zeros_like(kept[:, 0])
    place = kept.to(torch.int8).argsort(dim=1, descending=True, stable=True)[:, :count]
    there, a, b = kept.gather(1, place), first.gather(1, place), second.gather(1, place)
    value = torch.full((len(first),), -torch.inf, device=first.device)
    pair = torch.zeros(len(first), 2, dtype=torch.int64, device=first.device)
    tall = max(1, _TILE // (count * len(first)))
    for top in range(0, count, tall):
        rows = slice(top, top + tall)
        ups, downs = a[:, rows, None] + a[:, None, :], b[:, rows, None] + b[:, None, :]
        fits = (ups > 0) & (downs > 0) & there[:, rows, None] & there[:, None, :]
        row = torch.arange(top, top + ups.shape[1], device=a.device)
        fits &= row[:, None] < torch.arange(count, device=a.device)
        best, index = torch.where(fits, ups * downs, -torch.inf).flatten(1).max(1)
        better = best > value
        found = torch.stack([index // count + top, index % count], 1)
        value, pair = torch.where(better, best, value), torch.where(better[:, None], found, pair)
    return place.gather(1, pair), value > -torch.inf


def _undominated(first: torch.Tensor, second: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """bool `(B, D)`: allowed items that fewer than two earlier ones dominate, in the order of `first` and `second`."""
    low = -torch.inf
    a, b = torch.where(allowed, first, low), torch.where(allowed, second, low)
    order = b.argsort(dim=1, descending=True, stable=True)
    order = order.gather(1, a.gather(1, order).argsort(dim=1, descending=True, stable=True))
    b = b.gather(1, order)
    start = torch.full_like(b[:, :1], low)
    highest = torch.cat([start, b.cummax(1).values[:, :-1]], 1)  # of all earlier items
    second_highest = torch.cat([start, torch.minimum(b, highest).cummax(1).values[:, :-1]], 1)
    return torch.empty_like(allowed).scatter_(1, order, b > second_highest) & allowed
