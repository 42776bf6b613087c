"""Every built-in component that needs no file of its own, against the contract classes that strangers inherit."""

from __future__ import annotations

from typing import Any

import pytest

from charpy.interfaces.attack import Attack
from charpy.interfaces.defense import Defense, Detector
from charpy.plugins import registry
from charpy.testing import (
    AttackContract,
    CertifierContract,
    Contract,
    DatasetContract,
    DefenseContract,
    DetectorContract,
    MetricContract,
    ModelContract,
    TrainingDefenseContract,
)
from charpy.threat import Norm

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "attacks": {
        "apgd_ce": {"within": 0.25},  # its L1 form starts with larger balls
        "apgd_dlr": {"within": 0.25},
        "apgd_t": {"within": 0.25},
        "few_pixel": {"params": {"population": 40, "fitness": "margin"}},
        "foreground_pgd": {"params": {"stroke": 0.001}},
        "ssim_cw": {"params": {"ssim_weight": 1.0}},
        "threshold": {"params": {"fitness": "margin"}},
        "universal": {"shared": True, "share": 0.5},
    },
    "metrics": {
        "alignment": {"symmetric": False},
        "l0_pixels": {"monotone": False},
        "l1": {"differentiable": True, "effects": {"scale": 255}},
        "l2": {"differentiable": True, "effects": {"scale": 255}},
        "fourier": {"differentiable": True},
        "gradients": {"differentiable": True},
    },
    "defenses": {
        "adversarial_training": {"params": {"radius": 0.1}},
        "jpeg": {"effects": {"quality": 20}},
        "random_resize": {"params": {"draws": 2}, "effects": {"seed": 1}},
        "trades": {"params": {"radius": 0.1}},
        "tvm": {"params": {"draws": 2}, "effects": {"seed": 1}},
    },
}
BASES: dict[str, type[Contract]] = {
    "attacks": AttackContract,
    "certifiers": CertifierContract,
    "datasets": DatasetContract,
    "metrics": MetricContract,
    "models": ModelContract,
}
ELSEWHERE = {
    "acgan", "embedding_pgd", "transfer",  # need another model or a run file
    "rotation_translation", "rotation_translation_gradient", "stadv", "color_shift", "class_combination",  # own bounds
    "foolbox", "torchattacks", "art",  # whose attacks are others': tests/plugins/adapters
    "embedding", "lpips", "magnification", "ms_ssim", "vif",  # networks or large images of their own: their own tests
    "thermometer", "background_change",  # for models and images of their own
    "trained", "torch", "onnx", "callable", "hybrid",  # wrap a file
    "cifar10", "fashion-mnist", "mnist", "folder", "npz",  # read files
}  # fmt: skip
IN_FULL_ELSEWHERE = {
    "test_breaks_a_linear_model_within_its_factor",
    "test_a_targeted_witness_is_of_the_target",
    "test_a_sample_alone_is_as_in_a_batch",
    "test_spends_no_row_beyond_the_budget",
    "test_copes_with_a_model_that_never_moves",
}
"""Checks of attacks that attacks/test_contract.py makes under every norm, with settings of each attack."""

ATTACKS = {
    "apgd_ce", "bim", "boundary", "deepfool", "fab_t", "few_pixel", "fmn", "jsma", "nes", "one_pixel", "pgd", "rays",
    "sparse_rs", "square", "universal",
}  # fmt: skip
"""One of each idea; attacks/test_contract.py holds every attack to what depends on its settings."""

RADII = {"defenses/adversarial_training", "defenses/trades"}
"""Their radius and step are exact fractions, whose bounds are checked and not in the schema."""

MODELS = ("digits-cnn", "mnist-lenet", "mnist-capsnet")


def contract_of(hook: str, kind: str, component: Any) -> type[Contract]:
    base = BASES.get(hook, TrainingDefenseContract)
    if hook == "defenses" and issubclass(component, Defense | Detector):
        base = DefenseContract if issubclass(component, Defense) else DetectorContract
    more: dict[str, Any] = {}
    if base is AttackContract:
        one_norm = [norm for norm in (Norm.LINF, Norm.L2, Norm.L0, Norm.L1) if norm in component.norms][:1]
        more = {"usual": 30, "rows_per_query": kind not in {"deepfool", "fab"}, "norms": lambda self: one_norm}
    return type(kind, (base,), {"component": component, **more, **SETTINGS.get(hook, {}).get(kind, {})})


def table() -> dict[str, type[Contract]]:
    found = {}
    for hook in (*BASES, "defenses"):
        for entry, component in registry().usable(hook):
            wanted = entry.package == "charpy" and entry.kind not in ELSEWHERE
            wanted &= hook != "attacks" or (issubclass(component, Attack) and entry.kind in ATTACKS)
            wanted &= hook != "models" or entry.kind in MODELS
            if wanted:
                found[f"{hook}/{entry.kind}"] = contract_of(hook, entry.kind, component)
    return found


TABLE = table()


@pytest.mark.parametrize(
    ("name", "check"),
    [
        (name, check)
        for name, made in TABLE.items()
        for check in made.checks()
        if check not in IN_FULL_ELSEWHERE and (name not in RADII or check != "test_every_parameter_is_documented")
    ],
)
def test_contract(name, check):
    getattr(TABLE[name](), check)()


def test_the_table_holds_most_of_what_there_is():
    hooks = [name.partition("/")[0] for name in TABLE]
    least = {"attacks": 15, "metrics": 13, "defenses": 11, "certifiers": 5, "datasets": 1, "models": 3}
    assert all(hooks.count(hook) >= count for hook, count in least.items()), {h: hooks.count(h) for h in least}
