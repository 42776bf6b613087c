"""Registers the built-in components; import strings only, so that listing them loads nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from charpy.hookspecs import hookimpl


@hookimpl
def charpy_models() -> Mapping[str, str]:
    """Wrappers around models that somebody else made."""
    return {
        "callable": "charpy_plugins.wrappers.callable_model:CallableModel",
        "hybrid": "charpy_plugins.wrappers.hybrid:Hybrid",
        "open_inference": "charpy_plugins.wrappers.open_inference:OpenInferenceModel",
        "onnx": "charpy_plugins.wrappers.onnx_file:OnnxModel",
        "torch": "charpy_plugins.wrappers.torch_module:TorchModel",
    }


@hookimpl
def charpy_attacks() -> Mapping[str, str]:
    """Attacks, one a file in a folder of its family, and the batteries made of them."""
    return {
        **_one_a_file("attacks"),
        "art": "charpy_plugins.adapters.art:Art",
        "foolbox": "charpy_plugins.adapters.foolbox:Foolbox",
        "torchattacks": "charpy_plugins.adapters.torchattacks:Torchattacks",
        "black-box": "charpy_plugins.attacks.batteries:BlackBox",
        "dual-paper": "charpy_plugins.attacks.batteries:DualPaper",
        "fast": "charpy_plugins.attacks.batteries:Fast",
        "label-only": "charpy_plugins.attacks.batteries:LabelOnly",
        "standard": "charpy_plugins.attacks.batteries:Standard",
        "white-box": "charpy_plugins.attacks.batteries:WhiteBox",
    }


@hookimpl
def charpy_metrics() -> Mapping[str, str]:
    """Norms of the perturbation, how much of it is seen, and how alike the images are."""
    return {
        "alignment": "charpy_plugins.metrics.alignment:Alignment",
        "ciede2000": "charpy_plugins.metrics.ciede2000:Ciede2000",
        "edges": "charpy_plugins.metrics.edges:Edges",
        "embedding": "charpy_plugins.metrics.embedding:Embedding",
        "fourier": "charpy_plugins.metrics.fourier:Fourier",
        "gradients": "charpy_plugins.metrics.gradients:Gradients",
        "l0_features": "charpy_plugins.metrics.l0_features:L0Features",
        "l0_pixels": "charpy_plugins.metrics.l0_pixels:L0Pixels",
        "l1": "charpy_plugins.metrics.l1:L1",
        "l2": "charpy_plugins.metrics.l2:L2",
        "linf": "charpy_plugins.metrics.linf:Linf",
        "lpips": "charpy_plugins.metrics.lpips:Lpips",
        "magnification": "charpy_plugins.metrics.magnification:Magnification",
        "ms_ssim": "charpy_plugins.metrics.ms_ssim:MsSsim",
        "perceptual_diff": "charpy_plugins.metrics.perceptual_diff:PerceptualDiff",
        "psnr": "charpy_plugins.metrics.psnr:Psnr",
        "ssim": "charpy_plugins.metrics.ssim:Ssim",
        "uqi": "charpy_plugins.metrics.uqi:Uqi",
        "vif": "charpy_plugins.metrics.vif:Vif",
    }


@hookimpl
def charpy_defenses() -> Mapping[str, str]:
    """Defences, one a file."""
    return _one_a_file("defenses", "[a-z]*.py")


@hookimpl
def charpy_certifiers() -> Mapping[str, str]:
    """Certifiers, one a file."""
    return _one_a_file("certifiers", "[a-z]*.py")


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
def charpy_generators() -> Mapping[str, str]:
    """Wrappers around generators that somebody else made."""
    return {"torch": "charpy_plugins.generators.torch_module:TorchGenerator"}


@hookimpl
def charpy_executors() -> Mapping[str, str]:
    """Where units of work are computed."""
    return {"inline": "charpy_plugins.executors.inline:Inline", "ray": "charpy_plugins.executors.ray:Ray"}


@hookimpl
def charpy_commands() -> Mapping[str, str]:
    """Commands that stand beside the program's own."""
    return {"study": "charpy_plugins.study.command:study"}


def _one_a_file(folder: str, files: str = "*/[a-z]*.py") -> Mapping[str, str]:
    """kind -> import string of each of the `files` in a folder: `fab_t.py` holds `FabT`, the kind in CamelCase."""
    here = Path(__file__).parent
    return {
        file.stem: ".".join(("charpy_plugins", *file.relative_to(here).with_suffix("").parts))
        + ":"
        + "".join(part.capitalize() for part in file.stem.split("_"))
        for file in sorted((here / folder).glob(files))
    }
