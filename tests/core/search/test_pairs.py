"""The best pair without the map of all pairs, against that map."""

from __future__ import annotations

import pytest
import torch

from charpy.search import pairs
from charpy.search.pairs import best_pair

GENERATOR = torch.Generator().manual_seed(2)


def brute_force(first: torch.Tensor, second: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """`(B,)` the largest product over all pairs, -inf where no pair has two positive sums."""
    ups, downs = first[:, :, None] + first[:, None], second[:, :, None] + second[:, None]
    fits = (ups > 0) & (downs > 0) & allowed[:, :, None] & allowed[:, None]
    fits &= ~torch.eye(first.shape[1], dtype=torch.bool)
    return torch.where(fits, ups * downs, -torch.inf).flatten(1).amax(1)


def items(kind: str, size: int, rows: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    first = torch.randn(rows, size, generator=GENERATOR)
    other = torch.randn(rows, size, generator=GENERATOR)
    if kind == "independent":
        return first, other
    if kind == "opposed":  # nothing dominates anything: every item stays
        return first, -first + 0.5
    if kind == "equal":  # whole numbers, so many ties
        return (first * 1.5).round(), (other * 1.5).round()
    if kind == "negative":  # few rows have a pair at all
        return first - 2.2, other - 2.2
    return first, first  # what softmax probabilities give


@pytest.mark.parametrize("size", [2, 3, 37, 120])
@pytest.mark.parametrize("kind", ["independent", "opposed", "equal", "negative", "same"])
def test_it_is_the_best_of_all_pairs(kind, size):
    first, second = items(kind, size)
    allowed = torch.rand(first.shape, generator=GENERATOR) < 0.8
    best = brute_force(first, second, allowed)
    pair, found = best_pair(first, second, allowed)
    assert torch.equal(found, best.isfinite())
    pair, first, second, allowed = pair[found], first[found], second[found], allowed[found]
    assert bool((pair[:, 0] != pair[:, 1]).all())
    assert bool(allowed.gather(1, pair).all())
    value = first.gather(1, pair).sum(1) * second.gather(1, pair).sum(1)
    assert torch.equal(value, best[found])


def test_tiles_change_nothing(monkeypatch):
    first, second = items("opposed", 90)
    allowed = torch.ones_like(first, dtype=torch.bool)
    whole = best_pair(first, second, allowed)
    monkeypatch.setattr(pairs, "_TILE", 90 * 40 * 7)
    tiled = best_pair(first, second, allowed)
    assert torch.equal(whole[0], tiled[0])
    assert torch.equal(whole[1], tiled[1])


def test_only_the_pairs_of_few_items_are_compared():
    first, second = items("independent", 5000)
    kept = pairs._undominated(first, second, torch.ones_like(first, dtype=torch.bool))
    assert int(kept.sum(1).max()) < 60


def test_a_row_does_not_depend_on_the_others():
    first, second = items("equal", 37)
    allowed = torch.ones_like(first, dtype=torch.bool)
    whole, _ = best_pair(first, second, allowed)
    for row in (0, 11):
        assert torch.equal(best_pair(first[row, None], second[row, None], allowed[row, None])[0][0], whole[row])


def test_without_two_allowed_items_there_is_no_pair():
    first = torch.ones(2, 5)
    allowed = torch.zeros(2, 5, dtype=torch.bool)
    allowed[1, 3] = True
    assert not best_pair(first, first, allowed)[1].any()
