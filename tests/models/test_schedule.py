"""Schedules of the learning rate against their formulas."""

from __future__ import annotations

import math

import pytest
import torch

from charpy_models.recipe import Recipe
from charpy_models.schedule import schedule_of

PEAK, STEPS = 0.4, 20


def rates(kind: str, warm_up: float) -> list[float]:
    """The rate of each of 20 steps."""
    recipe = Recipe(
        architecture="x:y",
        data="none",
        epochs=1,
        batch_size=1,
        learning_rate=PEAK,
        schedule=kind,
        warm_up=warm_up,
    )
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    schedule, found = schedule_of(recipe, optimiser, STEPS), []
    for _ in range(STEPS):
        found.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        if len(found) < STEPS:
            schedule.step()
    return found


def test_constant():
    assert rates("constant", 0.25) == pytest.approx([PEAK * n / 5 for n in (1, 2, 3, 4)] + [PEAK] * 16)


def test_cosine():
    down = [PEAK * (1 + math.cos(math.pi * n / 15)) / 2 for n in range(15)]
    assert rates("cosine", 0.25) == pytest.approx([PEAK * n / 5 for n in (1, 2, 3, 4, 5)] + down)


def test_one_cycle():
    found = rates("one-cycle", 0.25)
    assert found[0] == pytest.approx(PEAK / 25)
    assert max(found) == found[4] == pytest.approx(PEAK)  # the fifth of twenty
    assert found[-1] == pytest.approx(PEAK / 25 / 1e4)
    assert found[4:] == sorted(found[4:], reverse=True)


def test_a_warm_up_shorter_than_a_step_starts_at_the_peak():
    assert rates("constant", 0.001) == pytest.approx([PEAK] * STEPS)
