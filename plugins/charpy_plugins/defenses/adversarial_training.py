"""Adversarial training: Madry et al. 2018, fast (Wong et al. 2020), for free (Shafahi et al. 2019), one step (Kurakin
et al. 2017)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import torch

from charpy.errors import SpecError
from charpy.interfaces.attack import Attack
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.plugins import registry
from charpy.specs import ComponentSpec
from charpy.threat import Ball, Goal, Grid, Norm, Number, ThreatModel
from charpy.training import hardest, least_likely, pgd

MADRY = "Madry et al. 2018, Towards deep learning models resistant to adversarial attacks"
WONG = "Wong, Rice & Kolter 2020, Fast is better than free"
KURAKIN = "Kurakin, Goodfellow & Bengio 2017, Adversarial machine learning at scale"
SHAFAHI = "Shafahi et al. 2019, Adversarial training for free!"


class Method(StrEnum):
    """How the images are found."""

    REPLACE = "replace"
    FAST = "fast"
    FREE = "free"
    LEAST_LIKELY = "least_likely"


class AdversarialTraining(TrainingDefense):
    """Learns from adversarial images instead of the given ones, made anew for every batch.

    - `replace` (Madry et al. 2018, equation 2.1): by any attack, under any norm that it has. Of all images that the
      attack asked about, the network learns from the one inside the ball that is least its label.
    - `fast` (Wong, Rice & Kolter 2020; with more steps it is Madry et al.'s PGD without the bookkeeping): sign steps in
      the Linf ball from a random start, one pass forward and back each; the last image.
    - `free` (Shafahi et al. 2019, algorithm 1): every batch is learnt from `replays` times, and the gradient of each
      step's own pass moves the images for the next one. Divide the epochs by `replays`. It comes last in a list.
    - `least_likely` ("step l.l.", Kurakin et al. 2017): one sign step towards the class that the network holds least
      likely, its length drawn for each image as |g|, g normal of standard deviation radius / 2 cut off at the radius,
      so that the network is not ready for one length alone. They replace half of a batch: `share: 0.5`.

    The attack faces the network in eval mode, except for `free`, which has one pass for both.
    """

    class Params(BaseParams):
        """Against what, and how."""

        radius: Number = param(
            ge=0, allow_inf_nan=False, description="of the ball", unit="as the norm's: pixels for l0, else image values"
        )
        norm: Ball = param(Norm.LINF, description="of the ball; another than linf only with `replace`", source=MADRY)
        method: Method = param(Method.REPLACE, description="replace, fast, free or least_likely")
        share: float = param(
            1.0,
            ge=0,
            le=1,
            description="share of each batch that is replaced; the rest is learnt as it is",
            source=MADRY,
        )
        ramp: float = param(
            0.0,
            ge=0,
            lt=1,
            description="share of the training in which radius and step size grow evenly from 0: keeps the network from"
            " settling on one class for all images",
            source="ours",
        )
        attack: ComponentSpec = param(
            ComponentSpec(kind="pgd", params={"steps": 7, "step": 0.25}),
            description="replace: kind and params of an attack",
            source=MADRY + ", CIFAR-10",
        )
        queries: int = param(5000, ge=1, description="replace: model rows that the attack may spend on an image")
        steps: int = param(1, ge=1, description="fast: gradient steps for a batch", source=WONG)
        step_size: Number | None = param(
            None, gt=0, description="fast: length of a step; 1.25 radius if not given", unit="image values", source=WONG
        )
        replays: int = param(8, ge=1, description="free: steps on each batch, m", source=SHAFAHI + ", CIFAR-10")

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        self._attack: Attack | None = None
        self._delta: torch.Tensor | None = None
        self._shown: torch.Tensor | None = None
        if params.method is Method.REPLACE:
            self._attack = _attack_of(params)
        elif params.norm is not Norm.LINF:
            raise SpecError(
                f"method {params.method.value!r} is for linf",
                where="adversarial_training",
                found=params.norm.value,
                hint="method: replace, with an attack that has this norm",
            )

    @property
    def replays(self) -> int:
        """As its parameters say, with `free`."""
        count: int = self.params.replays
        return count if self.params.method is Method.FREE else 1

    @property
    def radius(self) -> float | None:
        """That of the ball, under Linf."""
        radius: float = self.params.radius
        return radius if self.params.norm is Norm.LINF and radius > 0 else None

    def images_for(self, lesson: Lesson) -> torch.Tensor:
        """The adversarial images, the first `share` of the batch."""
        count = round(self.params.share * len(lesson.images))
        if not count or not self.params.radius:
            return lesson.images
        if self.params.method is Method.FREE:
            return self._replayed(lesson, count)
        part = lesson.images[:count], lesson.labels[:count]
        if self._attack is not None:
            changed = self._worst(lesson, *part, self._attack)
        elif self.params.method is Method.FAST:
            changed = self._fast(lesson, *part)
        else:
            changed = least_likely(lesson.module, part[0], radius=self._lengths(lesson, count))
        return changed if count == len(lesson.images) else torch.cat([changed, lesson.images[count:]])

    def learned(self, lesson: Lesson) -> None:
        """Free: the images of the next step, along the gradient that this one had anyway."""
        if self._shown is None or self._delta is None:
            return
        if self._shown.grad is None:
            raise SpecError(
                "no gradient reached the images that `free` showed",
                where="adversarial_training",
                expected="nothing that changes images after it",
                hint="put it last in `defenses`",
            )
        limit = self.params.radius * self._grown(lesson)
        moved = self._delta[: len(self._shown)] + limit * self._shown.grad.nan_to_num(nan=0.0).sign()
        self._delta[: len(self._shown)] = moved.clamp_(-limit, limit)
        self._shown = None

    def state(self) -> dict[str, Any]:
        """Free: the perturbation that the next batch begins with."""
        return {} if self._delta is None else {"delta": self._delta}

    def load(self, state: dict[str, Any], module: torch.nn.Module) -> None:
        """Go on with that perturbation."""
        self._delta = state.get("delta")

    def begin(self, phase: int, before: torch.nn.Module | None) -> None:
        """From no perturbation."""
        self._delta = None

    def _worst(self, lesson: Lesson, images: torch.Tensor, labels: torch.Tensor, attack: Attack) -> torch.Tensor:
        radius = self.params.radius * self._grown(lesson)
        threat = _threat(self.params, attack).model_copy(update={"radius": radius})
        return hardest(lesson.module, images, labels, attack, threat, lesson.random("adversarial_training"))

    def _fast(self, lesson: Lesson, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        params, grown = self.params, self._grown(lesson)
        step_size = (1.25 * params.radius if params.step_size is None else params.step_size) * grown
        return pgd(lesson.module, images, labels, radius=params.radius * grown, steps=params.steps, step_size=step_size)

    def _lengths(self, lesson: Lesson, count: int) -> torch.Tensor:
        """`(count,)` radii: |g| with g normal of deviation radius / 2, cut off at the radius (section 4 of the paper).

        By the inverse of the distribution function: a share of erf(sqrt 2) of the normal lies within two deviations.
        """
        draw = torch.rand(count, device=lesson.images.device)
        limit = torch.tensor(2.0).sqrt().erf().to(draw)
        radius: float = self.params.radius * self._grown(lesson)
        return (draw * limit).erfinv() / 2**0.5 * radius

    def _replayed(self, lesson: Lesson, count: int) -> torch.Tensor:
        """The images with the perturbation that the last step left, as a leaf that gets a gradient."""
        images = lesson.images.detach()
        if self._delta is None or len(self._delta) < len(images):
            self._delta = torch.zeros_like(images)
        self._delta = self._delta.to(images.device)
        delta = self._delta[: len(images)].clone()
        delta[count:] = 0
        self._shown = (images + delta).clamp_(0, 1).requires_grad_()
        return self._shown

    def _grown(self, lesson: Lesson) -> float:
        """The share of radius and step size that the training has come to."""
        ramp: float = self.params.ramp
        return 1.0 if lesson.done >= ramp else lesson.done / ramp


def _threat(params: AdversarialTraining.Params, attack: Attack) -> ThreatModel:
    return ThreatModel(
        norm=params.norm, radius=params.radius, access=attack.access, queries=params.queries, grid=Grid.NONE
    )


def _attack_of(params: AdversarialTraining.Params) -> Attack:
    """The attack of the parameters.

    Raises:
        UnknownNameError: there is none of this kind.
        SpecError: it is a battery, or has not this norm or no untargeted goal.
    """
    made = registry().create("attacks", params.attack.kind, params.attack.params)
    where = f"adversarial_training, attack {params.attack.kind}"
    if not isinstance(made, Attack):
        raise SpecError("this is a battery", where=where, expected="one attack")
    if params.norm not in made.norms:
        norms = ", ".join(sorted(norm.value for norm in made.norms))
        raise SpecError(f"it does not attack {params.norm.value}", where=where, expected=norms)
    if Goal.UNTARGETED not in made.goals:
        raise SpecError("it has no untargeted goal", where=where, hint="choose another attack")
    return made
