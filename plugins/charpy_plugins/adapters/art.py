"""Attacks of the Adversarial Robustness Toolbox (Nicolae et al. 2018) under the oracle's budget and the judge.

Left out of 1.20.1: SimBA, which asks for a model that gives probabilities, and GeoDA, which needs NumPy 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from charpy.foreign_attack import ForeignAttack, OneRun, Peer, peer
from charpy.interfaces.component import param
from charpy.threat import Norm

_ORDER = {Norm.L0: 0, Norm.L1: 1, Norm.L2: 2, Norm.LINF: "inf"}


class Art(ForeignAttack):
    """Runs an attack of ART: `attack` is a class of `art.attacks.evasion`, `options` what it is made with."""

    package, module = "adversarial-robustness-toolbox", "art.attacks.evasion"
    extra = "pip install 'charpy[attacks]'"
    source = "Nicolae et al. 2018, Adversarial Robustness Toolbox (arXiv:1807.01069)"
    known: ClassVar[Mapping[str, Peer]] = {
        "FastGradientMethod": peer("linf l2 l1"),
        "BasicIterativeMethod": peer("linf"),
        "ProjectedGradientDescent": peer("linf l2 l1"),
        "ProjectedGradientDescentPyTorch": peer("linf l2 l1"),
        "ProjectedGradientDescentNumpy": peer("linf l2 l1"),
        "MomentumIterativeMethod": peer("linf l2 l1"),
        "AutoProjectedGradientDescent": peer("linf l2"),
        "CarliniL2Method": peer("l2", "optimality"),
        "CarliniLInfMethod": peer("linf", "optimality"),
        "CarliniL0Method": peer("l0", "optimality"),
        "ElasticNet": peer("l1", "optimality"),
        "DeepFool": peer("l2", "success", targeted=False),
        "NewtonFool": peer("l2", "success", targeted=False),
        "SaliencyMapMethod": peer("l0", "success", targeted=False),
        "SquareAttack": peer("linf l2", access="scores", targeted=False),
        "ZooAttack": peer("l2", "optimality", "scores"),
        "PixelAttack": peer("l0", access="scores"),
        "ThresholdAttack": peer("linf", access="scores"),
        "HopSkipJump": peer("linf l2", "optimality", "labels"),
        "BoundaryAttack": peer("l2", "optimality", "labels"),
        "SignOPTAttack": peer("l2", "optimality", "labels"),
    }

    class Params(ForeignAttack.Params):
        """Which attack, and its options."""

        attack: str = param(
            "ProjectedGradientDescentPyTorch", description="class of art.attacks.evasion", source="Nicolae et al. 2018"
        )

    def perturbed(self, cls: Any, one: OneRun) -> torch.Tensor:
        """The image that `generate` gives; radius, norm and goal are those of the task unless options say more."""
        from art.estimators.classification import PyTorchClassifier

        threat = one.task.threat
        classifier = PyTorchClassifier(
            model=one.module,
            loss=torch.nn.CrossEntropyLoss(),
            input_shape=tuple(one.image.shape[1:]),
            nb_classes=one.classes,
            clip_values=(0.0, 1.0),
            device_type="cpu",
        )
        usual: dict[str, Any] = {
            "norm": _ORDER[threat.norm],
            "eps": threat.radius,
            "eps_step": threat.radius / 4,
            "th": threat.th,
            "targeted": one.target is not None,
            "batch_size": 1,
            "verbose": False,
        }
        attack = cls(classifier, **self.options(cls, **usual))
        wanted = torch.nn.functional.one_hot(one.wanted, one.classes).numpy()
        found = torch.as_tensor(attack.generate(x=one.image.numpy(), y=wanted))
        return found.to(torch.float32)
