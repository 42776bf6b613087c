"""The training loop: seeds, every parameter of a recipe, held-out images, precision."""

from __future__ import annotations

import pytest
import torch

from charpy.errors import ModelError
from charpy.specs import ComponentSpec
from charpy.training import pgd
from charpy_models.accuracy import count_correct, count_robust
from charpy_models.fit import fit as trained_by
from charpy_models.recipe import Augmentation, Precision, Recipe
from charpy_models.schedule import schedule_of
from charpy_models.training import Images, Progress

TINY = Recipe(
    architecture="charpy_models.architectures.digits_cnn:DigitsCNN",
    architecture_params={"num_classes": 2, "widths": (3, 4), "hidden": 5},
    data="none",
    epochs=2,
    batch_size=8,
    learning_rate=0.01,
)

MADRY = {"method": "fast", "radius": 0.1, "steps": 2, "step_size": 0.075}


class Brightness(torch.nn.Module):
    """Class 1 where the mean is above 1/2: the margin falls by exactly the Linf radius, whatever the image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        mean = images.flatten(1).mean(1)
        return torch.stack([0.5 - mean, mean - 0.5], dim=1)


@pytest.fixture
def dark_and_bright() -> tuple[torch.Tensor, torch.Tensor]:
    """48 images that a threshold of their mean tells apart."""
    draw = torch.Generator().manual_seed(7)
    labels = torch.arange(48) % 2
    images = torch.randint(0, 100, (48, 1, 8, 8), generator=draw) + 150 * labels[:, None, None, None]
    return images.to(torch.uint8), labels


def fit(*args, **options) -> torch.nn.Module:
    """The network alone."""
    return trained_by(*args, **options).module


def equal(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_it_learns_what_can_be_learnt(dark_and_bright):
    images, labels = dark_and_bright
    told: list[Progress] = []
    module = fit(TINY.model_copy(update={"epochs": 20}), images, labels, seed=1, listen=told.append)
    assert count_correct(module, images, labels) == 48
    ends = [now for now in told if now.loss is not None]
    assert [now.epoch for now in ends] == list(range(1, 21))
    assert ends[-1].loss < ends[0].loss
    assert [(now.epoch, now.step, now.steps) for now in told[:8]] == [(1, min(n, 6), 6) for n in range(1, 8)] + [
        (2, 1, 6)
    ]
    assert all(now.kept is None for now in told)
    assert not module.training


def test_the_seed_decides(dark_and_bright):
    first, again, other = (fit(TINY, *dark_and_bright, seed=seed) for seed in (3, 3, 4))
    assert equal(first, again)
    assert not equal(first, other)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 3},
        {"batch_size": 16},
        {"learning_rate": 0.02},
        {"warm_up": 0.5},
        {"schedule": "cosine"},
        {"schedule": "constant"},
        {"weight_decay": 0.5},
        {"augmentation": Augmentation(flip=True)},
        {"augmentation": Augmentation(shift=1)},
        {"architecture_params": {"num_classes": 2, "widths": (3, 4), "hidden": 5, "mean": (0.5,)}},
        {"defenses": (ComponentSpec(kind="adversarial_training", params=MADRY),)},
    ],
    ids=lambda change: ",".join(change),
)
def test_every_parameter_has_an_effect(dark_and_bright, change):
    assert not equal(fit(TINY, *dark_and_bright, seed=3), fit(TINY.model_copy(update=change), *dark_and_bright, seed=3))


@pytest.mark.parametrize("schedule", ["one-cycle", "cosine", "constant"])
def test_the_learning_rate_is_the_recipes_under_every_schedule(dark_and_bright, schedule):
    slow, fast = (
        fit(TINY.model_copy(update={"schedule": schedule, "learning_rate": rate}), *dark_and_bright, seed=3)
        for rate in (0.01, 0.02)
    )
    assert not equal(slow, fast)


def test_the_callers_generator_and_images_are_left_alone(dark_and_bright):
    images, labels = dark_and_bright
    before, state = images.clone(), torch.get_rng_state()
    fit(TINY, images, labels, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(images, before)


def test_divergence_is_an_error(dark_and_bright):
    with pytest.raises(ModelError, match="diverged") as caught:
        fit(TINY.model_copy(update={"learning_rate": 1e30}), *dark_and_bright, seed=3)
    assert "learning_rate" in caught.value.hint


def test_the_best_epoch_on_held_out_images_is_kept(dark_and_bright):
    """Held-out images that say the opposite of what is learnt: the best epoch is not the last."""
    images, labels = dark_and_bright
    held_out, told = Images(images, 1 - labels), []
    recipe = TINY.model_copy(update={"epochs": 12})
    done = trained_by(recipe, images, labels, seed=1, held_out=held_out, listen=told.append)
    kept = [round(now.kept * 48) for now in told if now.kept is not None]
    assert len(kept) == 12
    assert kept[-1] < max(kept)
    assert done.correct == max(kept) == count_correct(done.module, *held_out)
    assert done.epoch == 12 - kept[::-1].index(max(kept))  # of equals the last
    assert not done.module.training


def test_held_out_images_change_no_step(dark_and_bright):
    images, labels = dark_and_bright
    plain: list[Progress] = []
    judged: list[Progress] = []
    fit(TINY, images, labels, seed=3, listen=plain.append)
    fit(TINY, images, labels, seed=3, held_out=Images(images[:8], labels[:8]), listen=judged.append)
    assert [now.loss for now in plain] == [now.loss for now in judged]


def test_an_adversarial_training_is_judged_under_attack(dark_and_bright):
    images, labels = dark_and_bright
    held_out = Images(images, labels)
    done = trained_by(adversarially(), images, labels, seed=3, held_out=held_out)
    assert done.correct == count_robust(done.module, images, labels, radius=0.1, steps=10, seed=3)
    assert done.correct <= count_correct(done.module, images, labels)


@pytest.mark.parametrize("precision", [Precision.BFLOAT16, Precision.FLOAT16])
def test_mixed_precision_computes_in_another_precision_and_keeps_float32_weights(dark_and_bright, precision):
    images, labels = dark_and_bright
    recipe = TINY.model_copy(update={"epochs": 20})
    full, mixed = (fit(recipe, images, labels, seed=3, precision=kind) for kind in (Precision.FLOAT32, precision))
    assert {value.dtype for value in mixed.parameters()} == {torch.float32}
    assert not equal(full, mixed)
    assert count_correct(mixed, images, labels) == 48


def test_a_step_that_overflows_float16_is_left_out(dark_and_bright, monkeypatch):
    """From a scale at which every gradient overflows: halved until one fits, with the weights as they were."""
    images, labels = dark_and_bright
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *args, **rest: scaler(*args, init_scale=2.0**40, **rest))
    start = fit(TINY.model_copy(update={"learning_rate": 1e-30}), images, labels, seed=3)
    one_epoch = TINY.model_copy(update={"epochs": 1})
    left_out = fit(one_epoch, images, labels, seed=3, precision=Precision.FLOAT16)
    assert equal(start, left_out)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_count_correct(batch_size):
    images = torch.tensor([0, 255, 10, 200, 255], dtype=torch.uint8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    labels = torch.tensor([0, 1, 1, 1, 0])
    assert count_correct(Brightness(), images, labels, batch_size=batch_size) == 3
    assert count_correct(Brightness(), images / 255, labels, batch_size=batch_size) == 3


def adversarially(**changes) -> Recipe:
    defense = ComponentSpec(kind="adversarial_training", params={**MADRY, **changes})
    return TINY.model_copy(update={"defenses": (defense,)})


@pytest.mark.parametrize("change", [{"radius": 0.2}, {"steps": 3}, {"step_size": 0.05}, {"ramp": 0.5}], ids=str)
def test_every_parameter_of_adversarial_training_has_an_effect(dark_and_bright, change):
    plain = fit(adversarially(), *dark_and_bright, seed=3)
    assert not equal(plain, fit(adversarially(**change), *dark_and_bright, seed=3))


def test_the_seed_decides_adversarial_training(dark_and_bright):
    state = torch.get_rng_state()
    first, again, other = (fit(adversarially(), *dark_and_bright, seed=seed) for seed in (3, 3, 4))
    assert equal(first, again)
    assert not equal(first, other)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_radius_ramps_up_evenly(dark_and_bright, monkeypatch):
    seen = []

    def spy(module, images, labels, **rest):
        seen.append((rest["radius"], rest["step_size"], rest["steps"]))
        return images

    monkeypatch.setattr("charpy_plugins.defenses.adversarial_training.pgd", spy)
    fit(adversarially(ramp=0.5), *dark_and_bright, seed=3)  # two epochs of six batches
    shares = [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1, 1, 1, 1, 1, 1]
    assert [radius for radius, *_ in seen] == pytest.approx([0.1 * share for share in shares])
    assert [step for _, step, *_ in seen] == pytest.approx([0.075 * share for share in shares])
    assert {steps for *_, steps in seen} == {2}


def test_the_attack_moves_neither_batch_normalisation_nor_gradients(dark_and_bright):
    images, labels = dark_and_bright
    change = {
        "architecture": "charpy_models.architectures.resnet:ResNet",
        "architecture_params": {
            "in_channels": 1,
            "num_classes": 2,
            "blocks": 1,
            "widths": (3,),
            "mean": (0.5,),
            "std": (0.5,),
        },
    }
    module = fit(adversarially().model_copy(update=change), images, labels, seed=3)
    tracked = {int(value) for name, value in module.state_dict().items() if name.endswith("num_batches_tracked")}
    assert tracked == {12}  # two epochs of six batches, each seen once in training mode
    module.zero_grad(set_to_none=True)
    pgd(module, images / 255, labels, radius=0.1, steps=2, step_size=0.1)
    assert all(parameter.grad is None for parameter in module.parameters())


def test_pgd_finds_the_corner_of_the_ball_and_box():
    images, labels = torch.rand(20, 1, 4, 4), torch.arange(20) % 2
    found = pgd(Brightness(), images, labels, radius=0.2, steps=5, step_size=0.1)
    towards = torch.where(labels == 0, 0.2, -0.2)[:, None, None, None]
    torch.testing.assert_close(found, (images + towards).clamp(0, 1))
    assert not found.requires_grad


def test_pgd_starts_anywhere_in_the_ball():
    images, labels = torch.rand(50, 1, 4, 4), torch.zeros(50, dtype=torch.int64)
    moved = pgd(Brightness(), images, labels, radius=0.2, steps=1, step_size=1e-6) - images
    assert 0.19 < float(moved.abs().max()) <= 0.2 + 1e-6
    inner = (images > 0.2) & (images < 0.8)  # not cut by the box
    assert abs(float(moved[inner].mean())) < 0.03
    assert float(moved[inner].std()) == pytest.approx(0.4 / 12**0.5, rel=0.1)


@pytest.mark.parametrize("batch_size", [1, 100])
def test_count_robust(batch_size):
    levels, labels = torch.tensor([0.1, 0.45, 0.55, 0.75, 0.9]), torch.tensor([0, 0, 1, 1, 0])
    images = levels[:, None, None, None].expand(-1, 1, 3, 3)
    counts = [
        count_robust(Brightness(), images, labels, radius=radius, steps=20, seed=0, batch_size=batch_size)
        for radius in (0.01, 0.1, 0.3)
    ]
    assert counts == [4, 2, 1]  # the last image is wrong from the start


def test_adversarial_training_makes_robust(dark_and_bright):
    """One pixel tells the classes apart by far more than the radius, all others together by less than it each."""
    labels = dark_and_bright[1]
    draw = torch.Generator().manual_seed(7)
    images = 0.5 + 0.06 * (2.0 * labels - 1)[:, None, None, None] + 0.02 * torch.rand(48, 1, 8, 8, generator=draw)
    images[:, 0, 3, 3] = labels.float()
    robust = []
    for recipe in (TINY, adversarially(step_size=0.1)):
        module = fit(recipe.model_copy(update={"epochs": 25}), images, labels, seed=1)
        assert count_correct(module, images, labels) == 48
        robust.append(count_robust(module, images, labels, radius=0.1, steps=10, seed=0))
    assert robust[0] <= 24
    assert robust[1] == 48


@pytest.mark.parametrize(("steps", "warm_up"), [(4, 0.25), (2, 0.5), (10, 0.1), (1, 0.25), (3, 0.25)])
def test_one_cycle_over_a_few_steps_rises_and_falls(steps, warm_up):
    """A warm-up of exactly one step, as of 60 images in batches of 16, is no division by zero."""
    recipe = Recipe(
        architecture="torch.nn:Flatten", data="digits", epochs=1, batch_size=1, learning_rate=0.1, warm_up=warm_up
    )
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))])
    schedule = schedule_of(recipe, optimiser, steps)
    rates = []
    for _ in range(steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step() if len(rates) < steps else None
    assert all(0 < rate <= 0.1 for rate in rates)
    assert rates[0] == pytest.approx(0.004) or steps == 1 or warm_up * steps < 1
