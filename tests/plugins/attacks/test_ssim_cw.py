"""C&W with SSIM in its distance: what it minimises, that it is C&W without, and the similarity that it gains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from charpy.geometry import norm_of
from charpy.interfaces.attack import Attack
from charpy.plugins import registry
from charpy.search.adam import direction, moments
from charpy.structure import Structure
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.rand(8, 3, 8, 8, generator=GENERATOR) * 0.4 + 0.3
MODEL = LinearClassifier(torch.randn(4, 3, 8, 8, generator=GENERATOR))
LABELS = MODEL.predict(IMAGES).argmax(1)
REAL = {"norm": Norm.L2, "grid": Grid.NONE, "radius": 1e3}


def made(kind: str = "ssim_cw", **params: object) -> Attack:
    attack: Attack = registry().create("attacks", kind, params)
    return attack


@pytest.mark.parametrize("queries", [60, 200])
def test_without_ssim_it_is_cw(queries, attack_with):
    plain, ours = (
        attack_with(attack, MODEL, IMAGES, queries=queries, **REAL)
        for attack in (made("cw"), made(ssim_weight=0.0, l2_weight=1.0))
    )
    assert torch.equal(plain.course.nan_to_num(), ours.course.nan_to_num())
    assert torch.equal(plain.found.images, ours.found.images)


@pytest.mark.parametrize("weight", [0.1, 1.0])
def test_reaches_the_known_optimum(weight, attack_with):
    """On noise, where no place hides a change, SSIM and the length want nearly the same."""
    trial = attack_with(made(ssim_weight=weight), MODEL, IMAGES, queries=600, **REAL)
    assert all(trial.broken)
    optimum = MODEL.smallest(Norm.L2, IMAGES, LABELS)
    size = norm_of(Norm.L2, trial.found.images - IMAGES)
    assert float((size / optimum).min()) > 1 - 1e-4
    assert float(size.mean() / optimum.mean()) < 1.05


@pytest.mark.parametrize(("ssim_weight", "l2_weight"), [(2.0, 1.0), (3.0, 0.0), (0.0, 0.5)])
def test_the_steps_are_adams_on_the_sum(ssim_weight, l2_weight, attack_with):
    """By hand from autograd and the metric; full-length descents, whose learning rate is the one given."""
    one = {"steps": 4, "searches": 1, "constant": 0.7, "abort_early": False, "line_search": 0}
    attack = made(ssim_weight=ssim_weight, l2_weight=l2_weight, **one)
    course = attack_with(attack, MODEL, IMAGES, queries=4, **REAL).course
    metric = registry().create("metrics", "ssim")
    w = torch.atanh((2 * IMAGES - 1).clamp(-0.999999, 0.999999))
    state = moments(IMAGES)
    for asked in course:
        torch.testing.assert_close(asked, (torch.tanh(w) + 1) / 2, atol=2e-5, rtol=0)
        w.requires_grad_(True)
        x = (torch.tanh(w) + 1) / 2
        scores = MODEL.predict(x)
        margin = scores.gather(1, LABELS[:, None])[:, 0] - scores.scatter(1, LABELS[:, None], -torch.inf).amax(1)
        unlike = 1 - metric(IMAGES, x) if bool((x != IMAGES).any()) else torch.zeros(8)
        length = (x - IMAGES).square().sum((1, 2, 3))
        loss = l2_weight * length + ssim_weight * unlike + 0.7 * margin.clamp_min(0)
        (gradient,) = torch.autograd.grad(loss.sum(), w)
        w = w.detach() - 0.01 * direction(state, gradient)


def textured() -> tuple[LinearClassifier, torch.Tensor]:
    """An image that is noise on the left and grey on the right, where SSIM sees the same change far more."""
    generator = torch.Generator().manual_seed(8)
    images = torch.full((1, 1, 24, 24), 0.5)
    images[..., :12] = torch.rand(24, 12, generator=generator)
    weight = torch.randn(2, 1, 24, 24, generator=generator)
    return LinearClassifier(weight, torch.tensor([12.0, 0.0]) - (weight * images).flatten(1).sum(1)), images


def test_ssim_moves_the_change_to_where_it_is_seen_less(attack_with):
    model, images = textured()
    similarity, flat = [], []
    for params in ({"ssim_weight": 0.0}, {"ssim_weight": 30.0}, {"ssim_weight": 1.0, "l2_weight": 0.0}):
        found = attack_with(made(**params), model, images, queries=500, **REAL).found
        assert bool(found.found.all())
        delta = found.images - images
        similarity.append(float(Structure(images).similarity(found.images)))
        flat.append(float(delta[..., 12:].square().sum() / delta.square().sum()))
    assert similarity[0] < min(similarity[1:]), similarity
    assert flat[0] == pytest.approx(0.5, abs=0.1), "the length alone does not care"
    assert max(flat[1:]) < 0.85 * flat[0], flat


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 15)])
def test_flat_and_saturated_images(shape, attack_with):
    generator = torch.Generator().manual_seed(4)
    images = torch.tensor([0.0, 1.0, 0.3]).view(3, 1, 1, 1).expand(3, *shape).contiguous()
    model = LinearClassifier(torch.randn(3, *shape, generator=generator), torch.tensor([0.1, 0.0, 0.0]))
    trial = attack_with(made(), model, images, queries=300, norm=Norm.L2, radius=50.0)
    course = trial.course
    assert bool(course[:200].isfinite().all())
    assert all(trial.broken)


@pytest.mark.parametrize(
    "params",
    [
        {"ssim_weight": 9.0},
        {"l2_weight": 0.1},
        {"steps": 5},
        {"searches": 3},
        {"learning_rate": 0.1},
        {"constant": 10.0},
        {"confidence": 1.0},
        {"line_search": 0},
        {"window": 3},
    ],
)
def test_every_parameter_has_an_effect(params, attack_with):
    one, other = (
        attack_with(made(**given), MODEL, IMAGES, queries=120, **REAL)
        for given in ({"constant": 0.5}, {"constant": 0.5, **params})
    )
    assert one.course.shape != other.course.shape or not torch.equal(one.course.nan_to_num(), other.course.nan_to_num())


def test_it_may_end_descents_early(attack_with):
    spent = [
        int(
            attack_with(
                made(steps=50, searches=2, abort_early=early, line_search=0), MODEL, IMAGES, queries=500, **REAL
            ).found.queries.sum()
        )
        for early in (True, False)
    ]
    assert spent[0] < spent[1] == 8 * 2 * 50


def test_the_same_again_is_the_same(attack_with):
    one, again = (attack_with(made(), MODEL, IMAGES, queries=80, **REAL).course for _ in range(2))
    assert torch.equal(one.nan_to_num(), again.nan_to_num())


def likeness(attack_with, model: str, data: str, count: int, reference: object) -> None:
    """The witnesses are more like their originals than those of C&W."""
    network = registry().create("models", model)
    samples = registry().create("datasets", data, reference).read(range(count))
    right = network.predict(samples.images).argmax(1) == samples.labels
    images, labels = samples.images[right], samples.labels[right]
    unlike = {}
    for kind, params in (("cw", {}), ("ssim_cw", {"ssim_weight": 10.0})):
        found = attack_with(
            made(kind, **params), network, images, labels=labels, queries=300, **{**REAL, "radius": 20.0}
        ).found
        assert bool(found.found.all())
        unlike[kind] = 1 - Structure(images).similarity(found.images)
    assert float(unlike["ssim_cw"].mean()) < 0.9 * float(unlike["cw"].mean())


def test_digits_are_more_like_themselves(attack_with):
    likeness(attack_with, "digits-cnn", "digits", 24, {})


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(("model", "data"), [("mnist-lenet", "mnist"), ("cifar10-cnn", "cifar10")])
def test_real_images_are_more_like_themselves(model, data, data_dir: Path, attack_with):
    likeness(attack_with, model, data, 10, {"download": False, "data_dir": str(data_dir)})
