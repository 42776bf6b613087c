"""Attacks of torchattacks (Kim 2020, arXiv:2010.01950) under the oracle's budget and the judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from charpy.foreign_attack import ForeignAttack, OneRun, Peer, peer
from charpy.interfaces.component import param
from charpy.threat import Norm

_STEPS = ("FGSM", "BIM", "RFGSM", "PGD", "EOTPGD", "FFGSM", "TPGD", "MIFGSM", "UPGD", "DIFGSM", "TIFGSM", "Jitter",
          "NIFGSM", "SINIFGSM", "VMIFGSM", "VNIFGSM", "PIFGSM")  # fmt: skip
_NORMS = {Norm.L1: "L1", Norm.L2: "L2", Norm.LINF: "Linf"}
_UNTARGETED = {"TPGD", "APGD"}


class Torchattacks(ForeignAttack):
    """Runs an attack of torchattacks: `attack` is a class of the package, `options` what it is made with."""

    package = module = "torchattacks"
    extra = "pip install --no-deps torchattacks==3.5.1 (it asks for torchvision, which it never imports)"
    source = "Kim 2020, Torchattacks: a PyTorch repository for adversarial attacks (arXiv:2010.01950)"
    known: ClassVar[Mapping[str, Peer]] = {
        **{name: peer("linf", targeted=name not in _UNTARGETED) for name in _STEPS},
        "PGDL2": peer("l2"),
        "APGD": peer("linf l2", targeted=False),
        "APGDT": peer("linf l2", targeted=False),
        "FAB": peer("linf l2", "optimality", targeted=False),  # 3.5.1 fails under L1
        "Square": peer("linf l2", access="scores", targeted=False),
        "SPSA": peer("linf", access="scores"),
        "OnePixel": peer("l0", access="scores"),
        "Pixle": peer("l0", "success", "scores"),
        "JSMA": peer("l0", "success"),
        "SparseFool": peer("l0", "success", targeted=False),
        "CW": peer("l2", "optimality"),
        "DeepFool": peer("l2", "success", targeted=False),
        "EADL1": peer("l1", "optimality"),
        "EADEN": peer("l1", "optimality"),
    }

    class Params(ForeignAttack.Params):
        """Which attack, and its options."""

        attack: str = param("PGD", description="class of torchattacks", source="Kim 2020")

    def perturbed(self, cls: Any, one: OneRun) -> torch.Tensor:
        """The image that the attack gives; its radius, norm and seed are those of the task unless options say more."""
        threat = one.task.threat
        usual: dict[str, Any] = {
            "eps": threat.radius,
            "norm": _NORMS.get(threat.norm),
            "pixels": threat.th,
            "seed": one.seed,
            "n_classes": one.classes,
            "n_queries": threat.queries,
        }
        attack = cls(one.module, **self.options(cls, **usual))
        if one.target is not None:
            attack.set_mode_targeted_by_label(quiet=True)
        found: torch.Tensor = attack(one.image, one.wanted)
        return found
