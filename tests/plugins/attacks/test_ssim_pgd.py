"""PGD with SSIM steps: what each iteration does, where it stays, and that its two modes differ."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from charpy.interfaces.attack import Attack
from charpy.plugins import registry
from charpy.structure import Structure
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm

MODES = ["imperceptible", "perceptible"]
RADIUS = 0.1


def made(kind: str = "ssim_pgd", **params: object) -> Attack:
    attack: Attack = registry().create("attacks", kind, params)
    return attack


def held(*shape: int) -> tuple[LinearClassifier, torch.Tensor]:
    """A model that no small change breaks, and noisy, black, white and grey images."""
    generator = torch.Generator().manual_seed(4)
    weight = torch.randn(3, *shape, generator=generator) / 9
    images = torch.rand(6, *shape, generator=generator).mul(255).round().div(255)
    images[2], images[3], images[4] = 0, 1, 0.2
    return LinearClassifier(weight, torch.tensor([99.0, 0, 0])), images


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 15)])
def test_every_image_lies_in_the_ball_and_in_the_box(shape, mode, grid, attack_with):
    model, images = held(*shape)
    attack = made(mode=mode, steps=6, ssim_step=0.5)
    trial = attack_with(attack, model, images, norm=Norm.LINF, radius=RADIUS, grid=grid)
    assert trial.found.queries.tolist() == [7] * 6, "SSIM steps cost no query"
    course = trial.course
    assert bool(course.isfinite().all())
    assert float((course - images).abs().max()) <= RADIUS + 1e-6
    assert float(course.min()) >= 0
    assert float(course.max()) <= 1


def test_without_ssim_steps_it_is_pgd(attack_with):
    model, images = held(3, 9, 9)
    plain, ours = (
        attack_with(attack, model, images, norm=Norm.LINF, radius=RADIUS, seed=3).course
        for attack in (made("pgd", steps=5), made(steps=5, ssim_step=0.0))
    )
    assert torch.equal(plain, ours)


@pytest.mark.parametrize(("mode", "sign"), [("imperceptible", 1), ("perceptible", -1)])
@pytest.mark.parametrize("fade", [False, True])
def test_an_iteration_is_a_step_of_pgd_and_one_along_the_slope_of_the_metric(mode, sign, fade, attack_with):
    model, images = held(3, 9, 9)
    attack = made(mode=mode, steps=4, step=0.3, ssim_step=0.2, start_steps=0, fade=fade)
    course = attack_with(attack, model, images, norm=Norm.LINF, radius=RADIUS, grid=Grid.NONE).course
    metric, last = registry().create("metrics", "ssim"), course[1]
    asked = course[0].clone().requires_grad_(True)
    scores = model.predict(asked)
    (gradient,) = torch.autograd.grad((scores[:, 0] - scores[:, 1:].logsumexp(1)).sum(), asked)

    def back(x: torch.Tensor) -> torch.Tensor:
        return torch.minimum(torch.maximum(x, images - RADIUS), images + RADIUS).clamp(0, 1)

    moved = back(course[0] - 0.3 * RADIUS * gradient.sign()).requires_grad_(True)
    (slope,) = torch.autograd.grad(metric(images, moved).sum(), moved)
    unit = slope / slope.square().mean((1, 2, 3), keepdim=True).sqrt()
    share = 0.75 if fade else 1.0
    torch.testing.assert_close(last, back(moved.detach() + sign * 0.2 * RADIUS * share * unit), atol=2e-5, rtol=0)


def test_ssim_steps_before_the_first_query_raise_or_lower_it(attack_with):
    model, images = held(1, 16, 16)
    similarity = {}
    for mode in MODES:
        for count in (0, 10):
            attack = made(mode=mode, steps=1, start_steps=count)
            course = attack_with(attack, model, images, norm=Norm.LINF, radius=RADIUS, grid=Grid.NONE).course
            similarity[mode, count] = Structure(images).similarity(course[0])
    assert bool((similarity["imperceptible", 10] > similarity["imperceptible", 0]).all())
    assert bool((similarity["perceptible", 10] < similarity["perceptible", 0]).all())


@pytest.mark.parametrize(
    "params",
    [
        {"mode": "perceptible"},
        {"step": 0.05},
        {"steps": 7},
        {"ssim_step": 0.3},
        {"fade": False},
        {"start_steps": 2},
        {"restarts": 2},
        {"loss": "margin"},
        {"window": 5},
    ],
)
def test_every_parameter_has_an_effect(params, attack_with):
    model, images = held(3, 16, 16)
    fields = {"norm": Norm.LINF, "radius": RADIUS, "grid": Grid.NONE}
    one = attack_with(made(**{"steps": 4}), model, images, **fields).course
    other = attack_with(made(**{"steps": 4, **params}), model, images, **fields).course
    assert one.shape != other.shape or not torch.equal(one, other)


def test_the_seed_decides(attack_with):
    model, images = held(1, 9, 9)
    fields = {"norm": Norm.LINF, "radius": RADIUS}
    one, again, other = (attack_with(made(steps=3), model, images, seed=seed, **fields).course for seed in (1, 1, 2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


def nearness(attack_with, model: str, data: str, count: int, reference: object) -> None:
    """Sharif et al. 2018, 4.5: in one ball, both modes fool the model, and one looks less like the original."""
    network = registry().create("models", model)
    samples = registry().create("datasets", data, reference).read(range(count))
    right = network.predict(samples.images).argmax(1) == samples.labels
    images, labels = samples.images[right], samples.labels[right]
    fields = {"norm": Norm.LINF, "radius": RADIUS, "labels": labels}
    plain = attack_with(made("pgd"), network, images, **fields).found.found.sum()
    found = {mode: attack_with(made(mode=mode), network, images, **fields).found for mode in MODES}
    similarity = {mode: Structure(images).similarity(found[mode].images.float() / 255) for mode in MODES}
    both = found["imperceptible"].found & found["perceptible"].found
    lower = (similarity["perceptible"] < similarity["imperceptible"])[both]
    assert len(lower) >= 10
    assert float(lower.float().mean()) >= 0.95
    for mode in MODES:
        assert int(found[mode].found.sum()) >= 0.9 * int(plain)


def test_nearness_in_linf_is_no_likeness(attack_with):
    nearness(attack_with, "digits-cnn", "digits", 100, {})


@pytest.mark.data
@pytest.mark.parametrize(("model", "data"), [("mnist-lenet", "mnist"), ("cifar10-cnn", "cifar10")])
def test_nearness_in_linf_is_no_likeness_in_real_images(model, data, data_dir: Path, attack_with):
    nearness(attack_with, model, data, 40, {"download": False, "data_dir": str(data_dir)})
