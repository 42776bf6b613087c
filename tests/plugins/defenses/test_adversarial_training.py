"""Adversarial training: each way to find the images, on a linear network whose worst images are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from charpy.errors import SpecError, UnknownNameError
from charpy.interfaces.defense import Lesson
from charpy_plugins.defenses.adversarial_training import AdversarialTraining

LONG = {"kind": "pgd", "params": {"steps": 10, "step": 0.25}}
"""From any start to any corner."""


def training(**params: object) -> AdversarialTraining:
    return AdversarialTraining(AdversarialTraining.Params(**params))


@pytest.fixture
def lesson() -> Lesson:
    """Ten images well inside the box, for a linear network."""
    draw = torch.Generator().manual_seed(2)
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 2))
    with torch.no_grad():
        module[1].weight.copy_(torch.randn(2, 6, generator=draw))
    images = 0.4 + 0.2 * torch.rand(10, 1, 2, 3, generator=draw)
    return Lesson(module, images, torch.arange(10) % 2, 0.5, 3, 7, module, functional.cross_entropy)


def corners(lesson: Lesson, radius: float) -> torch.Tensor:
    weight = lesson.module[1].weight.detach()
    towards = torch.where(lesson.labels == 0, 1.0, -1.0)[:, None] * (weight[1] - weight[0]).sign()
    return lesson.images + radius * towards.view_as(lesson.images)


@pytest.mark.parametrize(
    "params",
    [
        {"attack": LONG},
        {"attack": {"kind": "fgm"}},
        {"attack": {"kind": "apgd_ce"}},
        {"method": "fast", "step_size": 0.25},
        {"method": "fast", "steps": 9},
    ],
    ids=str,
)
def test_the_images_are_the_worst_of_the_ball(lesson, params):
    found = training(radius=0.1, **params).images_for(lesson)
    torch.testing.assert_close(found, corners(lesson, 0.1))


@pytest.mark.parametrize("params", [{"attack": LONG}, {"method": "fast", "step_size": 0.25}], ids=["replace", "fast"])
def test_share_replaces_the_first_images_and_ramp_shrinks_the_ball(lesson, params):
    found = training(radius=0.1, share=0.3, **params).images_for(lesson)
    torch.testing.assert_close(found[:3], corners(lesson, 0.1)[:3])
    assert torch.equal(found[3:], lesson.images[3:])
    assert training(radius=0.1, share=0, **params).images_for(lesson) is lesson.images
    early = replace(lesson, done=0.1)
    found = training(radius=0.1, ramp=0.4, **params).images_for(early)
    torch.testing.assert_close(found, corners(lesson, 0.025))


def test_fast_steps_one_and_a_quarter_radius_from_a_random_start(lesson):
    torch.manual_seed(0)
    found = training(radius=0.1, method="fast").images_for(lesson)
    torch.manual_seed(0)
    start = torch.empty_like(lesson.images).uniform_(-0.1, 0.1)
    step = (corners(lesson, 1.25 * 0.1) - lesson.images).float()
    torch.testing.assert_close(found, lesson.images + (start + step).clamp(-0.1, 0.1))


def test_draws_of_replace_depend_on_seed_and_step_and_move_no_global_generator(lesson):
    defense = training(radius=0.1, attack={"kind": "square"}, queries=3)
    state = torch.get_rng_state()
    first, again = (defense.images_for(lesson) for _ in range(2))
    assert torch.equal(first, again)
    for changes in ({"step": 4}, {"seed": 8}):
        assert not torch.equal(first, defense.images_for(replace(lesson, **changes)))
    assert torch.equal(torch.get_rng_state(), state)


def test_free_is_algorithm_1(lesson):
    """Three replays and the next batch, a smaller one, against the algorithm written out."""
    defense, delta = training(radius=0.1, method="free", replays=3), torch.zeros_like(lesson.images)
    module = lesson.module
    for turn in range(4):
        count = 10 if turn < 3 else 6
        now = replace(lesson, images=lesson.images[:count], labels=lesson.labels[:count], step=turn)
        shown = defense.images_for(now)
        torch.testing.assert_close(shown.detach(), now.images + delta[:count])
        module.zero_grad()
        functional.cross_entropy(module(shown), now.labels).backward()
        probabilities = module(shown).softmax(1)
        truth = functional.one_hot(now.labels, 2)
        slope = ((probabilities - truth) @ module[1].weight).view_as(now.images)
        delta[:count] = (delta[:count] + 0.1 * slope.sign()).clamp(-0.1, 0.1)
        with torch.no_grad():
            module[1].weight -= 0.5 * module[1].weight.grad
        defense.learned(replace(now, images=shown))
    torch.testing.assert_close(defense.state()["delta"], delta)


def test_free_must_see_its_gradient(lesson):
    defense = training(radius=0.1, method="free")
    shown = defense.images_for(lesson)
    with pytest.raises(SpecError, match="last"):
        defense.learned(replace(lesson, images=shown))


@pytest.mark.parametrize(
    ("params", "error", "words"),
    [
        ({"attack": {"kind": "pdg"}}, UnknownNameError, "pgd"),
        ({"attack": {"kind": "pgd", "params": {"step_size": 3}}}, SpecError, "step_size"),
        ({"attack": {"kind": "standard"}}, SpecError, "battery"),
        ({"norm": "l0"}, SpecError, "does not attack l0"),
        ({"norm": "l2", "method": "fast"}, SpecError, "linf"),
        ({"norm": "l2", "method": "free"}, SpecError, "linf"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(params, error, words):
    with pytest.raises(error, match=words):
        training(radius=0.1, **params)
