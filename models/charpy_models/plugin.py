"""What charpy finds through its entry point: the zoo, by kind. Import strings only: a listing loads no torch."""

from __future__ import annotations

from charpy.hookspecs import Components, hookimpl


@hookimpl
def charpy_models() -> Components:
    """The ready-made classifiers."""
    return {
        "digits-cnn": "charpy_models.zoo:DigitsCNN",
        "mnist-lenet": "charpy_models.zoo:MnistLeNet",
        "cifar10-cnn": "charpy_models.zoo:Cifar10CNN",
        "mnist-robust": "charpy_models.zoo:MnistRobust",
        "cifar10-resnet8-robust": "charpy_models.zoo:Cifar10ResNet8Robust",
    }
