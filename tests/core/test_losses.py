"""The losses: closed forms, torch's own, and what happens at the ends of float32."""

from __future__ import annotations

import pytest
import torch

from charpy import losses
from charpy.errors import UnknownNameError

SCORES = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * 4
LABELS = torch.randint(0, 6, (40,), generator=torch.Generator().manual_seed(1))
TARGETS = (LABELS + 2) % 6


def test_confidence_is_the_probability_that_is_to_fall_or_what_the_targets_lacks():
    odds = SCORES.double().exp()
    shares, each = odds / odds.sum(1, keepdim=True), torch.arange(len(SCORES))
    torch.testing.assert_close(losses.confidence(SCORES, LABELS).double(), shares[each, LABELS])
    torch.testing.assert_close(losses.confidence(SCORES, LABELS, TARGETS).double(), 1 - shares[each, TARGETS])


def test_cross_entropy_is_torchs():
    expected = torch.nn.functional.cross_entropy(SCORES, LABELS, reduction="none")
    assert torch.allclose(losses.cross_entropy(SCORES, LABELS), -expected, atol=1e-5)
    toward = torch.nn.functional.cross_entropy(SCORES, TARGETS, reduction="none")
    assert torch.allclose(losses.cross_entropy(SCORES, LABELS, TARGETS), toward, atol=1e-5)


def test_log_odds_order_and_point_as_the_cross_entropy_does():
    leaf = SCORES.clone().requires_grad_(True)
    odds = losses.log_odds(leaf, LABELS)
    assert torch.equal(odds.argsort(), losses.cross_entropy(SCORES, LABELS).argsort())
    slope = torch.autograd.grad(odds.sum(), leaf)[0]
    plain = torch.autograd.grad(losses.cross_entropy(leaf, LABELS).sum(), leaf)[0]
    assert torch.allclose(slope / slope.norm(dim=1, keepdim=True), plain / plain.norm(dim=1, keepdim=True), atol=1e-4)
    assert torch.equal(losses.log_odds(SCORES, LABELS, LABELS), -losses.log_odds(SCORES, LABELS))


@pytest.mark.parametrize("loss", [losses.log_odds, losses.margin, losses.dlr])
def test_a_confident_model_still_has_a_gradient(loss):
    """At a margin of 300 the probability of the true class is 1 in float32, and its gradient 0."""
    leaf = torch.tensor([[300.0, 0.0, -1.0, -2.0]], requires_grad=True)
    slope = torch.autograd.grad(loss(leaf, torch.tensor([0])).sum(), leaf)[0]
    assert slope.abs().max() > 1e-4


def test_the_true_class_stays_in_the_gradient_of_the_cross_entropy():
    leaf = torch.tensor([[20.0, 0.0, -1.0, -2.0]], requires_grad=True)
    slope = torch.autograd.grad(losses.cross_entropy(leaf, torch.tensor([0])).sum(), leaf)[0][0]
    assert float(slope[0]) == pytest.approx(-float(slope[1:].sum()), rel=1e-4)
    assert slope[0] > 0


def test_dlr_by_hand_and_free_of_scale():
    scores, label = torch.tensor([[3.0, 1.0, 0.5, -1.0]]), torch.tensor([0])
    assert float(losses.dlr(scores, label)) == pytest.approx(2.0 / 2.5)
    assert float(losses.dlr(scores, label, torch.tensor([2]))) == pytest.approx(2.5 / (3 - (0.5 - 1.0) / 2))
    assert torch.allclose(losses.dlr(100 * SCORES, LABELS), losses.dlr(SCORES, LABELS), atol=1e-5)


@pytest.mark.parametrize("classes", [3, 4, 5, 6])
def test_dlr_of_any_number_of_classes_divides_by_the_largest_third_and_fourth_score(classes):
    scores, labels = SCORES[:, :classes], LABELS % classes
    targets = (labels + 1) % classes
    for row, values in enumerate(scores.tolist()):
        own, target = values[labels[row]], values[targets[row]]
        first, _, third, *rest = sorted(values, reverse=True)
        fourth = rest[0] if rest else third
        best = max(value for place, value in enumerate(values) if place != labels[row])
        here = slice(row, row + 1)
        assert float(losses.dlr(scores[here], labels[here])) == pytest.approx((own - best) / (first - third), rel=1e-4)
        expected = (own - target) / (first - (third + fourth) / 2)
        assert float(losses.dlr(scores[here], labels[here], targets[here])) == pytest.approx(expected, rel=1e-4)


def test_dlr_of_two_classes_is_the_margin():
    scores, labels = SCORES[:, :2], LABELS % 2
    assert torch.equal(losses.dlr(scores, labels), losses.margin(scores, labels))
    assert torch.equal(losses.dlr(scores, labels, 1 - labels), losses.margin(scores, labels, 1 - labels))
    for targets in (None, labels):
        assert torch.equal(losses.dlr(scores, labels, targets), losses.margin(scores, labels, targets))


def test_dlr_of_two_classes_has_a_gradient():
    leaf, label = torch.tensor([[1.5, -0.5]], requires_grad=True), torch.tensor([0])
    for targets in (None, torch.tensor([1])):
        slope = torch.autograd.grad(losses.dlr(leaf, label, targets).sum(), leaf)[0]
        assert slope.tolist() == [[1.0, -1.0]]


def test_an_unknown_name_lists_the_near_ones():
    with pytest.raises(UnknownNameError, match=r"loss.*margn") as caught:
        losses.loss_named("margn")
    assert "margin" in str(caught.value)


@pytest.mark.parametrize("name", ["margin", "confidence", "cross_entropy", "log_odds", "dlr"])
def test_each_loss_is_asked_for_by_its_own_name(name):
    assert losses.loss_named(name) is getattr(losses, name)


def test_a_row_with_a_score_that_is_no_number_reaches_nothing_and_the_others_do():
    aim = losses.Aim(torch.tensor([0, 1]))
    assert aim.targets is None
    scores = torch.tensor([[0.0, 1.0], [torch.nan, 1.0], [0.0, torch.inf], [1.0, 0.0]])
    assert aim.reached(scores, torch.tensor([0, 0, 0, 1])).tolist() == [True, False, False, True]


@pytest.mark.parametrize(("scale", "unit"), [(1e30, 1e27), (1e5, 1e2), (10.0, 1.0), (1e-3, 1e-3), (0.0, 1.0)])
def test_the_unit_brings_the_largest_slope_into_the_range(scale, unit):
    slope = scale * torch.tensor([0.5, -1.0, 0.0, 0.1]).view(1, 1, 2, 2)
    assert losses.unit_of(slope, 1.0, 1e3).tolist() == pytest.approx([unit])
