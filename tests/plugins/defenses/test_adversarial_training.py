"""Adversarial training: each way to find the images, on a linear network whose worst images are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.nn import functional

from charpy.errors import SpecError, UnknownNameError
from charpy.interfaces.defense import Lesson
from charpy.training import least_likely
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


def unlikely(lesson: Lesson) -> torch.Tensor:
    """The direction of the step towards the class of the smaller score, whatever the label: two classes, one line."""
    weight = lesson.module[1].weight.detach()
    scores = lesson.module(lesson.images).detach()
    least = scores.argmin(1)
    return (weight[least] - weight[1 - least]).sign().view_as(lesson.images)


def test_least_likely_steps_towards_that_class_and_knows_no_label(lesson):
    radius = torch.linspace(0, 0.1, 10)
    for labels in (lesson.labels, 1 - lesson.labels):
        torch.manual_seed(0)
        found = training(radius=0.1, method="least_likely").images_for(replace(lesson, labels=labels))
        lengths = (found - lesson.images).flatten(1).abs()
        torch.testing.assert_close(lengths, lengths[:, :1].expand_as(lengths), atol=1e-6, rtol=0)
        assert bool(((lengths > 0) & (lengths <= 0.1 + 1e-6)).all())
        torch.testing.assert_close((found - lesson.images).sign(), unlikely(lesson))
    found = least_likely(lesson.module, lesson.images, radius=radius)
    torch.testing.assert_close(found, lesson.images + radius.view(-1, 1, 1, 1) * unlikely(lesson))


def test_least_likely_of_many_classes_is_the_smallest_score_and_stays_in_the_box(lesson):
    """Of logits z = W x the slope of the cross-entropy of class k is W^T (p - e_k)."""
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(6, 5)).train()
    weight = module[2].weight.detach()
    scores = (lesson.images.flatten(1) @ weight.T + module[2].bias).detach()
    slope = (scores.softmax(1) - functional.one_hot(scores.argmin(1), 5)) @ weight
    found = least_likely(module, lesson.images, radius=torch.full((10,), 0.7))
    expected = (lesson.images - 0.7 * slope.sign().view_as(lesson.images)).clamp(0, 1)
    torch.testing.assert_close(found, expected)
    assert (found == 0).any(), "no value is clipped"
    assert (found == 1).any(), "no value is clipped"
    assert all(parameter.grad is None for parameter in module.parameters())
    assert module[1].training
    assert not found.requires_grad


@pytest.mark.parametrize(("ramp", "limit"), [(0.0, 0.1), (0.8, 0.0625)])
def test_lengths_of_least_likely_are_those_of_a_truncated_normal(lesson, ramp, limit):
    """|g|, g normal of deviation limit / 2 between -limit and limit: a half-normal, cut at two deviations."""
    torch.manual_seed(1)
    many = replace(lesson, images=lesson.images[:1].expand(4000, -1, -1, -1), labels=torch.zeros(4000).long())
    found = training(radius=0.1, ramp=ramp, method="least_likely").images_for(many)
    lengths = (found - many.images).flatten(1).abs().mean(1).double().numpy()
    assert lengths.max() <= limit + 1e-6
    normal = stats.truncnorm(-2, 2, scale=limit / 2)
    assert stats.kstest(lengths, lambda size: normal.cdf(size) - normal.cdf(-size)).pvalue > 0.01
    assert stats.kstest(lengths, lambda size: np.clip(size / limit, 0, 1)).pvalue < 1e-6, "uniform lengths would pass"


def test_share_ramp_and_radius_of_least_likely(lesson):
    found = training(radius=0.1, share=0.5, method="least_likely").images_for(lesson)
    assert bool((found[:5] != lesson.images[:5]).flatten(1).all(1).all())
    assert torch.equal(found[5:], lesson.images[5:])
    assert training(radius=0, method="least_likely").images_for(lesson) is lesson.images
    begun = training(radius=0.1, ramp=0.5, method="least_likely").images_for(replace(lesson, done=0.0))
    assert torch.equal(begun, lesson.images)


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
        ({"norm": "l2", "method": "least_likely"}, SpecError, "linf"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_by_name(params, error, words):
    with pytest.raises(error, match=words):
        training(radius=0.1, **params)
