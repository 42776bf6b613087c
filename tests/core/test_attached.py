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


def test_a_row_whose_slope_was_asked_stays_paid_while_others_are_asked():
    _, images, oracle = oracle_of(queries=10)
    found = oracle.attached(images, torch.arange(2))
    first, second = torch.tensor([[1.0, 0, 0], [0, 0, 0]]), torch.tensor([[0, 0, 0], [1.0, 0, 0]])
    for weights, spent in ((first, [1, 1]), (second, [1, 1]), (first, [2, 1]), (second, [2, 2])):
        found.slope(weights)
        assert oracle.queries.tolist() == spent
    assert oracle.gradient_rows == 4
    oracle.attached(images, torch.arange(2))
    assert oracle.gradient_rows == 6, "another call's rows are added"


class Odd(LinearClassifier):
    """Its first score has slopes that are no numbers; its second one hangs on no image."""

    def __init__(self):
        super().__init__(torch.ones(2, 1, 2, 2))
        self.own = torch.ones((), requires_grad=True)

    def predict(self, images):
        root = (images[:, 0, 0, 0] - images[:, 0, 0, 0]).abs().sqrt()  # its slope is infinite times nothing: NaN
        steep = images[:, 0, 0, 1].sqrt() - images[:, 0, 1, 0].sqrt()  # at 0 infinite, and infinite downwards
        return torch.stack([root + steep + images[:, 0, 1, 1], self.own.expand(len(images))], 1)


def test_what_is_no_number_in_a_slope_is_zero_and_so_is_what_hangs_on_no_image():
    model, images = Odd(), torch.zeros(1, 1, 2, 2)
    way = Way("as given", model.predict, 4, 1e-6, invariant=True)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, access=Access.GRADIENTS, queries=10)
    engine = QueryEngine(model, model.output, way, way, num_classes=2)
    oracle = Oracle(engine, model, images, torch.tensor([1]), None, threat)
    of_first = torch.tensor([[[[0.0, 0.0], [0.0, 1.0]]]])
    found = oracle.attached(images, torch.tensor([0]))
    assert torch.equal(found.slope(torch.tensor([[1.0, 0.0]])), of_first)
    assert not found.slope(torch.tensor([[0.0, 1.0]])).any()
    jacobian = oracle.jacobian(images, torch.tensor([0]), torch.tensor([[0, 1]]))
    assert torch.equal(jacobian.gradients, torch.stack([of_first, torch.zeros(1, 1, 2, 2)], 1))
    gradient = oracle.loss_and_gradient(images, torch.tensor([0]), lambda scores, rows: scores[:, 0]).gradient
    assert torch.equal(gradient, of_first)


def test_where_no_score_hangs_on_the_image_every_slope_is_zero():
    class Fixed(LinearClassifier):
        own = torch.ones((), requires_grad=True)

        def predict(self, images):
            return self.own * torch.ones(len(images), 2)

    model, images = Fixed(torch.ones(2, 1, 2, 2)), torch.zeros(1, 1, 2, 2)
    way = Way("as given", model.predict, 4, 1e-6, invariant=True)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, access=Access.GRADIENTS, queries=10)
    engine = QueryEngine(model, model.output, way, way, num_classes=2)
    oracle = Oracle(engine, model, images, torch.tensor([0]), None, threat)
    assert not oracle.attached(images, torch.tensor([0])).slope(torch.ones(1, 2)).any()
    assert not oracle.loss_and_gradient(images, torch.tensor([0])).gradient.any()


def test_a_plant_changes_the_answer_of_each_rows_own_sample():
    seen = []

    def plant(rows, owner, answers):
        seen.append(owner.tolist())
        return answers + owner[:, None]

    model, images, plain = oracle_of()
    way = Way("as given", model.predict, 1, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=3)
    oracle = Oracle(engine, model, images, torch.tensor([0, 0]), None, plain.threat, plant=plant)
    found = oracle.attached(images[[1, 0]], torch.tensor([1, 0]))
    torch.testing.assert_close(found.scores, model.predict(images[[1, 0]]) + torch.tensor([[1.0], [0.0]]))
    assert seen == [[1], [0]]


def test_where_no_query_is_left_the_model_is_not_asked():
    model, images, oracle = oracle_of(queries=1)
    oracle.attached(images, torch.arange(2))
    asked = model.rows
    found = oracle.attached(images, torch.arange(2))
    assert model.rows == asked
    assert found.scores.isnan().all()
    assert not found.slope(torch.ones(2, 3)).any()
    assert oracle.gradient_rows == 2
