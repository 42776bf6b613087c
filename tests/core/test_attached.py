"""Scores whose slopes are asked after they were seen: the same slopes as the oracle's own, and what they cost."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.errors import AccessError
from charpy.oracle import Oracle
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Norm, ThreatModel


def oracle_of(queries=10, access=Access.GRADIENTS):
    generator = torch.Generator().manual_seed(0)
    model = LinearClassifier(torch.randn(3, 1, 4, 4, generator=generator))
    images = torch.rand(2, 1, 4, 4, generator=generator).mul(255).round().div(255)
    labels = model.predict(images).argmax(1)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, access=access, queries=queries)
    way = Way("as given", model.predict, 1, 1e-6, invariant=True)  # one row a piece
    engine = QueryEngine(model, model.output, way, way, num_classes=3)
    return model, images, Oracle(engine, model, images, labels, None, threat)


def test_slopes_are_any_combination_of_those_of_the_scores():
    model, images, oracle = oracle_of()
    found = oracle.attached(images, torch.arange(2))
    torch.testing.assert_close(found.scores, model.predict(images))
    weights = torch.tensor([[1.0, -2.0, 0.0], [0.0, 0.0, 3.0]])
    expected = torch.einsum("nk,kchw->nchw", weights, model.weight)
    torch.testing.assert_close(found.slope(weights), expected)
    assert oracle.queries.tolist() == [1, 1]
    assert oracle.gradient_rows == 2


def test_the_first_slope_is_free_and_each_further_one_a_query_while_there_are_some():
    _, images, oracle = oracle_of(queries=3)
    found = oracle.attached(images, torch.arange(2))
    one = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    first = found.slope(one)
    assert oracle.queries.tolist() == [1, 1]
    for spent in (2, 3):
        assert torch.equal(found.slope(one), first)
        assert oracle.queries.tolist() == [spent, 1]
    assert not bool(found.slope(one).any())
    assert oracle.queries.tolist() == [3, 1]


def test_rows_beyond_the_budget_have_neither_scores_nor_slopes():
    _, images, oracle = oracle_of(queries=1)
    found = oracle.attached(images[[0, 0, 1]], torch.tensor([0, 0, 1]))
    assert found.scores.isnan().all(1).tolist() == [False, True, False]
    assert found.slope(torch.ones(3, 3)).flatten(1).any(1).tolist() == [True, False, True]


def test_no_gradients_without_access():
    _, images, oracle = oracle_of(access=Access.SCORES)
    with pytest.raises(AccessError, match="GRADIENTS"):
        oracle.attached(images, torch.arange(2))
