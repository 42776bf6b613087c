"""What charpy finds through its entry point: the zoo, by kind, and training. Import strings only: listing is quick."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from charpy.hookspecs import Components, hookimpl

ZOO: Components = {
    "digits-cnn": "charpy_models.zoo:DigitsCNN",
    "digits-embedding": "charpy_models.zoo:DigitsEmbedding",
    "mnist-embedding": "charpy_models.zoo:MnistEmbedding",
    "mnist-lenet": "charpy_models.zoo:MnistLeNet",
    "mnist-allconv": "charpy_models.zoo:MnistAllConv",
    "mnist-nin": "charpy_models.zoo:MnistNIN",
    "mnist-resnet": "charpy_models.zoo:MnistResNet",
    "mnist-wideresnet": "charpy_models.zoo:MnistWideResNet",
    "mnist-densenet": "charpy_models.zoo:MnistDenseNet",
    "mnist-capsnet": "charpy_models.zoo:MnistCapsNet",
    "mnist-c4": "charpy_models.zoo:MnistC4",
    "mnist-c4-at": "charpy_models.zoo:MnistC4AT",
    "cifar10-cnn": "charpy_models.zoo:Cifar10CNN",
    "cifar10-lenet": "charpy_models.zoo:Cifar10LeNet",
    "cifar10-allconv": "charpy_models.zoo:Cifar10AllConv",
    "cifar10-nin": "charpy_models.zoo:Cifar10NIN",
    "cifar10-resnet": "charpy_models.zoo:Cifar10ResNet",
    "cifar10-wideresnet": "charpy_models.zoo:Cifar10WideResNet",
    "cifar10-densenet": "charpy_models.zoo:Cifar10DenseNet",
    "cifar10-capsnet": "charpy_models.zoo:Cifar10CapsNet",
    "mnist-lenet-at": "charpy_models.zoo:MnistLeNetAT",
    "mnist-lenet-distilled": "charpy_models.zoo:MnistLeNetDistilled",
    "mnist-lenet-trades": "charpy_models.zoo:MnistLeNetTrades",
    "mnist-lenet-tvm": "charpy_models.zoo:MnistLeNetTVM",
    "mnist-lenet-thermometer": "charpy_models.zoo:MnistLeNetThermometer",
    "mnist-lenet-noise": "charpy_models.zoo:MnistLeNetNoise",
    "mnist-lenet-ablation": "charpy_models.zoo:MnistLeNetAblation",
    "cifar10-resnet-at": "charpy_models.zoo:Cifar10ResNetAT",
    "cifar10-resnet-tvm": "charpy_models.zoo:Cifar10ResNetTVM",
    "mnist-robust": "charpy_models.zoo:MnistRobust",
    "cifar10-resnet8-robust": "charpy_models.zoo:Cifar10ResNet8Robust",
}
"""Every kind that there is a class for; one is listed when its weights and their card lie in the folder."""

GENERATORS: Components = {"mnist-acgan": "charpy_models.generators:MnistACGAN"}
"""The same of networks that generate images."""


def weights_folder() -> Traversable:
    """Where the weight files and their cards lie inside the installed package."""
    return resources.files("charpy_models") / "weights"


@hookimpl
def charpy_models() -> Components:
    """The ready-made classifiers, and those that users train."""
    return {
        **_with_weights(ZOO),
        "inception_v3": "charpy_models.imagenet:InceptionV3",
        "resnetv2_50": "charpy_models.imagenet:ResNetV2",
        "trained": "charpy_models.trained:TrainedModel",
    }


@hookimpl
def charpy_generators() -> Components:
    """The ready-made generators, and those that users train."""
    return {**_with_weights(GENERATORS), "trained": "charpy_models.generators:TrainedGenerator"}


@hookimpl
def charpy_commands() -> Components:
    """Training."""
    return {"train": "charpy_models.command:train"}


def _with_weights(kinds: Components) -> Components:
    folder = weights_folder()
    return {kind: target for kind, target in kinds.items() if (folder / f"{kind}.json").is_file()}
