"""Registers the built-in components; import strings only, so that listing them loads nothing."""

from __future__ import annotations

from collections.abc import Mapping

from charpy.hookspecs import hookimpl


@hookimpl
def charpy_models() -> Mapping[str, str]:
    """Wrappers around models that somebody else made."""
    return {
        "callable": "charpy_plugins.wrappers.callable_model:CallableModel",
        "hybrid": "charpy_plugins.wrappers.hybrid:Hybrid",
        "onnx": "charpy_plugins.wrappers.onnx_file:OnnxModel",
        "torch": "charpy_plugins.wrappers.torch_module:TorchModel",
    }


@hookimpl
def charpy_attacks() -> Mapping[str, str]:
    """Attacks, and the batteries made of them."""
    return {
        "dual-paper": "charpy_plugins.attacks.batteries:DualPaper",
        "few_pixel": "charpy_plugins.attacks.few_pixel:FewPixel",
        "standard": "charpy_plugins.attacks.batteries:Standard",
        "threshold": "charpy_plugins.attacks.threshold:Threshold",
    }


@hookimpl
def charpy_metrics() -> Mapping[str, str]:
    """Norms of the perturbation."""
    return {
        "l0_features": "charpy_plugins.metrics.l0_features:L0Features",
        "l0_pixels": "charpy_plugins.metrics.l0_pixels:L0Pixels",
        "l1": "charpy_plugins.metrics.l1:L1",
        "l2": "charpy_plugins.metrics.l2:L2",
        "linf": "charpy_plugins.metrics.linf:Linf",
    }


@hookimpl
def charpy_datasets() -> Mapping[str, str]:
    """Data sets: embedded, from a data folder, or the user's own."""
    return {
        "cifar10": "charpy_plugins.datasets.cifar10:Cifar10",
        "digits": "charpy_plugins.datasets.digits:Digits",
        "fashion-mnist": "charpy_plugins.datasets.fashion_mnist:FashionMnist",
        "folder": "charpy_plugins.datasets.folder:Folder",
        "mnist": "charpy_plugins.datasets.mnist:Mnist",
        "npz": "charpy_plugins.datasets.npz:Npz",
    }


@hookimpl
def charpy_executors() -> Mapping[str, str]:
    """Where units of work are computed."""
    return {"inline": "charpy_plugins.executors.inline:Inline"}
