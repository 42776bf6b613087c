"""Attacks of foolbox (Rauber et al. 2020, JOSS 5(53)) under the oracle's budget and the judge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from charpy.foreign_attack import ForeignAttack, OneRun, Peer, peer
from charpy.interfaces.attack import Family
from charpy.interfaces.component import param
from charpy.threat import Norm

_PREFIX = {"l1": "L1", "l2": "L2", "linf": "Linf"}
_GIVEN = ("PGD", "AdamPGD", "FastGradientAttack", "BasicIterativeAttack", "ProjectedGradientDescentAttack",
          "AdamProjectedGradientDescentAttack", "AdamBasicIterativeAttack")  # fmt: skip
_LABELS = ("optimality", "labels")


class Foolbox(ForeignAttack):
    """Runs an attack of foolbox: `attack` is a class of `foolbox.attacks`, `options` what it is made with."""

    package, module = "foolbox", "foolbox.attacks"
    extra = "pip install 'charpy[attacks]'"
    source = "Rauber, Zimmermann, Bethge & Brendel 2020, Foolbox Native (JOSS 5(53), 2607)"
    known: ClassVar[Mapping[str, Peer]] = {
        **{f"{prefix}{name}": peer(norm) for norm, prefix in _PREFIX.items() for name in _GIVEN},
        "FGSM": peer("linf"),
        "FGM": peer("l2"),
        "PGD": peer("linf"),
        "SparseL1DescentAttack": peer("l1"),
        "LinfAdditiveUniformNoiseAttack": peer("linf", access="labels", targeted=False),
        "L2AdditiveGaussianNoiseAttack": peer("l2", access="labels", targeted=False),
        "LinfRepeatedAdditiveUniformNoiseAttack": peer("linf", access="labels", targeted=False),
        "L2RepeatedAdditiveGaussianNoiseAttack": peer("l2", access="labels", targeted=False),
        "L0FMNAttack": peer("l0", "optimality"),
        "L1FMNAttack": peer("l1", "optimality"),
        "L2FMNAttack": peer("l2", "optimality"),
        "LInfFMNAttack": peer("linf", "optimality"),
        "L0BrendelBethgeAttack": peer("l0", "optimality"),
        "L1BrendelBethgeAttack": peer("l1", "optimality"),
        "L2BrendelBethgeAttack": peer("l2", "optimality"),
        "LinfinityBrendelBethgeAttack": peer("linf", "optimality"),
        "L2CarliniWagnerAttack": peer("l2", "optimality"),
        "EADAttack": peer("l1", "optimality"),
        "DDNAttack": peer("l2", "optimality"),
        "L2DeepFoolAttack": peer("l2", "success", targeted=False),
        "LinfDeepFoolAttack": peer("linf", "success", targeted=False),
        "NewtonFoolAttack": peer("l2", "success", targeted=False),
        "BoundaryAttack": peer("l2", *_LABELS),
        "HopSkipJumpAttack": peer("l2 linf", *_LABELS),
        "PointwiseAttack": peer("l0", *_LABELS),
        "SaltAndPepperNoiseAttack": peer("l0", "success", "labels", targeted=False),
    }

    class Params(ForeignAttack.Params):
        """Which attack, and its options."""

        attack: str = param("LinfPGD", description="class of foolbox.attacks", source="Rauber et al. 2020")

    def perturbed(self, cls: Any, one: OneRun) -> torch.Tensor:
        """The image that `run` gives, not foolbox's clipped copy: what lies outside the ball is not made to fit."""
        import foolbox

        wrapped = foolbox.PyTorchModel(one.module, bounds=(0, 1), device="cpu")
        order = {Norm.L2: "l2", Norm.LINF: "linf"}.get(one.task.threat.norm)
        attack = cls(**self.options(cls, constraint=order))
        criteria = foolbox.criteria
        wanted = None if one.target is None else criteria.TargetedMisclassification(one.target)
        criterion = wanted or criteria.Misclassification(one.label)
        radius = {"epsilon": one.task.threat.radius} if self.family is Family.TARGET_DISTORTION else {}
        found: torch.Tensor = attack.run(wrapped, one.image, criterion, **radius)
        return found
