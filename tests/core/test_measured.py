"""What a stranger's metric says is held against what it promises."""

from __future__ import annotations

import pytest
import torch

from charpy.errors import DataError, PluginError
from charpy.interfaces.component import Params
from charpy.interfaces.metric import Metric
from charpy.measured import SLACK, measured

IMAGES = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
OTHERS = torch.rand(3, 1, 2, 2, generator=torch.Generator().manual_seed(1))


class Said(Metric):
    """Gives what it is told to."""

    unit = "pixels"

    def __init__(self, says, low=0.0, high=1.0, params=None):
        super().__init__(params)
        self.says, self.range = says, (low, high)

    def __call__(self, images, perturbed):
        return self.says(images, perturbed) if callable(self.says) else self.says


def value(number: float) -> torch.Tensor:
    return torch.tensor([0.5, number, 0.5])


def refusal(metric: Metric) -> PluginError:
    with pytest.raises(PluginError) as caught:
        measured("odd", metric, IMAGES, OTHERS)
    error = caught.value
    assert error.where == "metric odd"
    assert error.what
    assert error.expected
    assert error.hint
    return error


def test_gives_the_metrics_values_of_the_pairs():
    found = measured("gap", Said(lambda a, b: (a - b).abs().flatten(1).amax(1)), IMAGES, OTHERS)
    assert torch.equal(found, (IMAGES - OTHERS).abs().flatten(1).amax(1))
    signed = measured("first", Said(lambda a, b: (a - b)[:, 0, 0, 0], low=-1.0), IMAGES, OTHERS)
    assert torch.equal(signed, (IMAGES - OTHERS)[:, 0, 0, 0])


def test_a_metric_may_spoil_what_it_is_given():
    def spoil(images, perturbed):
        images.zero_()
        perturbed.zero_()
        return torch.zeros(3)

    before = IMAGES.clone(), OTHERS.clone()
    measured("spoils", Said(spoil), IMAGES, OTHERS)
    assert torch.equal(IMAGES, before[0])
    assert torch.equal(OTHERS, before[1])


@pytest.mark.parametrize("failure", [ZeroDivisionError("by nought"), SystemExit(0)])
def test_a_metric_that_raises_is_named_with_its_cause(failure):
    def fail(*_):
        raise failure

    error = refusal(Said(fail))
    assert error.found == f"{type(failure).__name__}: {failure}"
    assert error.__cause__ is failure


def test_an_error_that_says_everything_already_is_left_as_it_is():
    error = DataError("too small for this metric")

    def fail(*_):
        raise error

    with pytest.raises(DataError) as caught:
        measured("ssim", Said(fail), IMAGES, OTHERS)
    assert caught.value is error


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (torch.zeros(2), "(2,) torch.float32"),
        (torch.zeros(3, 1), "(3, 1) torch.float32"),
        (torch.zeros(3, dtype=torch.complex64), "(3,) torch.complex64"),
        (0.25, "float"),
        ([0.0, 0.0, 0.0], "list"),
    ],
)
def test_an_answer_of_another_form_is_refused(answer, found):
    error = refusal(Said(answer))
    assert error.found == found
    assert str(error.expected).startswith("(3,)")


@pytest.mark.parametrize(
    ("number", "low", "high", "allowed"),
    [
        (0.0, 0.0, 1.0, True),
        (1.0, 0.0, 1.0, True),
        (-SLACK / 2, 0.0, 1.0, True),
        (1 + SLACK / 2, 0.0, 1.0, True),
        (-2 * SLACK, 0.0, 1.0, False),
        (1 + 2 * SLACK, 0.0, 1.0, False),
        (100 + 50 * SLACK, 0.0, 100.0, True),  # rounding grows with the end of the range
        (100 + 200 * SLACK, 0.0, 100.0, False),
        (-100 - 50 * SLACK, -100.0, 1.0, True),
        (-100 - 200 * SLACK, -100.0, 1.0, False),
        (0.1 + SLACK / 2, 0.0, 0.1, True),  # and is that of 1 for a small one
        (0.1 + 2 * SLACK, 0.0, 0.1, False),
        (1e30, 0.0, float("inf"), True),
    ],
)
def test_a_value_outside_the_metrics_own_range_is_refused(number, low, high, allowed):
    metric = Said(value(number), low, high)
    metric.says[[0, 2]] = 0.05
    if allowed:
        assert torch.equal(measured("odd", metric, IMAGES, OTHERS), metric.says)
    else:
        error = refusal(metric)
        assert error.found == f"{number:g}"
        assert error.expected == f"{low:g}..{high:g} pixels"


def test_a_scale_lifts_the_upper_end_alone():
    class Scaled(Params):
        scale: float = 255.0

    def metric(number):
        return Said(value(number), params=Scaled())

    assert measured("odd", metric(200.0), IMAGES, OTHERS)[1] == 200.0
    assert measured("odd", metric(0.0), IMAGES, OTHERS)[1] == 0.0
    assert measured("odd", metric(-SLACK / 2), IMAGES, OTHERS)[1] < 0
    refusal(metric(-1.0))
    refusal(Said(value(200.0), params=Scaled(scale=1.0)))


def test_no_gradient_is_kept():
    leaf = IMAGES.clone().requires_grad_(True)
    assert not measured("mean", Said(lambda a, b: a.flatten(1).mean(1)), leaf, OTHERS).requires_grad
