"""The training recipes of the zoo: what is trained on what, and how. One recipe per kind of the zoo."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from charpy.errors import unknown_name
from charpy.specs import ComponentSpec
from charpy_models.gan import Gan
from charpy_models.recipe import Augmentation, Recipe

ARCHITECTURES = "charpy_models.architectures"
GREY: Mapping[str, Any] = {"in_channels": 1, "mean": [0.1307], "std": [0.3081]}
"""Keywords of an architecture for MNIST."""
COLOUR: Mapping[str, Any] = {"in_channels": 3, "mean": [0.4914, 0.4822, 0.4465], "std": [0.2470, 0.2435, 0.2616]}
"""Keywords of an architecture for CIFAR-10."""


def _mnist(
    network: str, *, epochs: int, learning_rate: float, defenses: tuple[ComponentSpec, ...] = (), **params: Any
) -> Recipe:
    """A compact `network` for MNIST: a few minutes on one core."""
    return Recipe(
        architecture=f"{ARCHITECTURES}.{network}",
        architecture_params={**GREY, **params},
        data="mnist",
        epochs=epochs,
        batch_size=128,
        learning_rate=learning_rate,
        augmentation=Augmentation(shift=2),
        defenses=defenses,
    )


def _cifar10(
    network: str, *, epochs: int, learning_rate: float, defenses: tuple[ComponentSpec, ...] = (), **params: Any
) -> Recipe:
    """A compact `network` for CIFAR-10: ten to twenty-five minutes on one core."""
    return Recipe(
        architecture=f"{ARCHITECTURES}.{network}",
        architecture_params={**COLOUR, **params},
        data="cifar10",
        epochs=epochs,
        batch_size=128,
        learning_rate=learning_rate,
        weight_decay=0.05,
        augmentation=Augmentation(flip=True, shift=4),
        defenses=defenses,
    )


def _adversarial(radius: float, method: str, **params: Any) -> ComponentSpec:
    """Learning from images of the Linf ball of `radius`: of PGD (`fast`), of a step to the `least_likely` class."""
    return ComponentSpec(kind="adversarial_training", params={"method": method, "radius": radius, **params})


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        "digits-cnn": Recipe(
            architecture="charpy_models.architectures.digits_cnn:DigitsCNN",
            data="digits",
            epochs=80,
            batch_size=64,
            learning_rate=5e-3,
            weight_decay=0.05,
            augmentation=Augmentation(shift=1),
        ),
        "mnist-lenet": Recipe(
            architecture="charpy_models.architectures.lenet:LeNet",
            data="mnist",
            epochs=12,
            batch_size=128,
            learning_rate=5e-3,
            augmentation=Augmentation(shift=2),
        ),
        "cifar10-cnn": Recipe(
            architecture="charpy_models.architectures.small_cnn:SmallCNN",
            data="cifar10",
            epochs=16,
            batch_size=128,
            learning_rate=4e-3,
            weight_decay=0.05,
            augmentation=Augmentation(flip=True, shift=4),
        ),
        "mnist-robust": Recipe(
            architecture="charpy_models.architectures.lenet:LeNet",
            architecture_params={"widths": [16, 32]},
            data="mnist",
            epochs=10,
            batch_size=128,
            learning_rate=3e-3,
            defenses=(_adversarial(0.3, "fast", steps=7, step_size=0.1, ramp=0.4),),
        ),
        "cifar10-resnet8-robust": Recipe(
            architecture="charpy_models.architectures.resnet:ResNet",
            architecture_params={"blocks": 1},
            data="cifar10",
            epochs=16,
            batch_size=128,
            learning_rate=1e-2,
            augmentation=Augmentation(flip=True, shift=4),
            defenses=(_adversarial(8 / 255, "fast", steps=1, step_size=10 / 255, ramp=0.25),),
        ),
        "digits-embedding": Recipe(
            architecture=f"{ARCHITECTURES}.triplet:TripletNet",
            architecture_params={"trunk": "digits_cnn:DigitsCNN", "size": 32},
            data="digits",
            epochs=60,
            batch_size=128,
            learning_rate=5e-3,
            weight_decay=0.05,
            augmentation=Augmentation(shift=1),
        ),
        "mnist-embedding": Recipe(
            architecture=f"{ARCHITECTURES}.triplet:TripletNet",
            architecture_params={"trunk": "lenet:LeNet", "trunk_params": {"widths": [16, 32]}, "size": 64},
            data="mnist",
            epochs=10,
            batch_size=128,
            learning_rate=3e-3,
            augmentation=Augmentation(shift=2),
        ),
        "mnist-allconv": _mnist("all_conv:AllConv", epochs=5, learning_rate=5e-3, widths=[16, 32], dropout=[0.0, 0.0]),
        "mnist-nin": _mnist(
            "nin:NIN", epochs=6, learning_rate=5e-3, widths=[[24, 20, 16], [32, 32, 32], [32, 32]], dropout=0.0
        ),
        "mnist-resnet": _mnist("resnet:ResNet", epochs=6, learning_rate=1e-2, blocks=1, widths=[8, 16, 32]),
        "mnist-wideresnet": _mnist("wide_resnet:WideResNet", epochs=4, learning_rate=1e-2, depth=10, widen=2, base=8),
        "mnist-densenet": _mnist("densenet:DenseNet", epochs=3, learning_rate=2e-2, growth=6, layers=[2, 2, 2]),
        "mnist-capsnet": _mnist("capsnet:CapsNet", epochs=5, learning_rate=5e-3, width=24, kinds=4),
        "mnist-c4": _mnist("c4:C4", epochs=4, learning_rate=2e-3),
        "mnist-c4-at": _mnist(
            "c4:C4",
            epochs=8,
            learning_rate=2e-3,
            defenses=(_adversarial(0.6, "least_likely", share=0.5),),
        ),
        "mnist-lenet-at": _mnist(
            "lenet:LeNet",
            epochs=5,
            learning_rate=5e-3,
            defenses=(_adversarial(0.2, "fast", steps=3, step_size=0.1, ramp=0.4),),
        ),
        "mnist-lenet-trades": _mnist(
            "lenet:LeNet",
            epochs=5,
            learning_rate=5e-3,
            defenses=(ComponentSpec(kind="trades", params={"radius": 0.2, "steps": 3, "step_size": 0.1}),),
        ),
        "mnist-lenet-tvm": _mnist(
            "lenet:LeNet",
            epochs=3,
            learning_rate=5e-3,
            defenses=(ComponentSpec(kind="tvm", params={"steps": 30}),),
        ),
        "mnist-lenet-thermometer": _mnist(
            "lenet:LeNet",
            epochs=10,
            learning_rate=5e-3,
            defenses=(ComponentSpec(kind="thermometer", params={"levels": 16}),),
            **{"in_channels": 16, "mean": [0.5], "std": [0.5]},
        ),
        "mnist-lenet-noise": _mnist(
            "lenet:LeNet",
            epochs=6,
            learning_rate=5e-3,
            defenses=(ComponentSpec(kind="randomized_smoothing", params={"sigma": 0.5}),),
        ),
        "mnist-lenet-ablation": _mnist(
            "lenet:LeNet",
            epochs=8,
            learning_rate=5e-3,
            defenses=(
                ComponentSpec(kind="randomized_ablation", params={"keep": 45, "encoding": "doubled", "draws": 20}),
            ),
            **{"in_channels": 2, "mean": [0.0], "std": [0.2]},
        ),
        "mnist-lenet-distilled": _mnist(
            "lenet:LeNet",
            epochs=12,
            learning_rate=5e-3,
            defenses=(ComponentSpec(kind="distillation", params={"temperature": 20}),),
        ),
        "mnist-acgan": Recipe(
            architecture=f"{ARCHITECTURES}.acgan:ACGAN",
            architecture_params={"widths": [16, 32]},
            data="mnist",
            epochs=8,
            batch_size=64,
            learning_rate=1e-3,
            schedule="cosine",
            warm_up=0.01,
            weight_decay=0.0,
            gan=Gan(critic_rate=1e-3, class_weight=0.2, judge="mnist-resnet"),
        ),
        "cifar10-lenet": _cifar10(
            "lenet:LeNet", epochs=20, learning_rate=3e-3, image_size=32, padding=0, widths=[32, 64]
        ),
        "cifar10-allconv": _cifar10(
            "all_conv:AllConv", epochs=10, learning_rate=4e-3, widths=[32, 64], dropout=[0.0, 0.1]
        ),
        "cifar10-nin": _cifar10(
            "nin:NIN", epochs=12, learning_rate=4e-3, widths=[[48, 32, 24], [48, 48, 48], [48, 48]], dropout=0.0
        ),
        "cifar10-resnet": _cifar10("resnet:ResNet", epochs=10, learning_rate=1e-2, blocks=2),
        "cifar10-resnet-at": _cifar10(
            "resnet:ResNet",
            epochs=5,
            learning_rate=1e-2,
            blocks=2,
            defenses=(_adversarial(8 / 255, "fast", steps=2, step_size=5 / 255, ramp=0.25),),
        ),
        "cifar10-resnet-tvm": _cifar10(
            "resnet:ResNet",
            epochs=4,
            learning_rate=1e-2,
            blocks=2,
            defenses=(ComponentSpec(kind="tvm", params={"steps": 30}),),
        ),
        "cifar10-wideresnet": _cifar10(
            "wide_resnet:WideResNet", epochs=10, learning_rate=1e-2, depth=10, widen=3, base=8
        ),
        "cifar10-densenet": _cifar10("densenet:DenseNet", epochs=10, learning_rate=1e-2, growth=8, layers=[2, 4, 6]),
        "cifar10-capsnet": _cifar10(
            "capsnet:CapsNet", epochs=12, learning_rate=3e-3, image_size=32, width=64, kinds=8, kernel=5, strides=[2, 2]
        ),
    }
)


def recipe_for(kind: str) -> Recipe:
    """The recipe of a zoo kind.

    Raises:
        UnknownNameError: there is none; the nearest kinds are listed.
    """
    if kind not in RECIPES:
        raise unknown_name("recipe", kind, RECIPES)
    return RECIPES[kind]
