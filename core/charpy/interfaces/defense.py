"""The defence contract: a transform around a model, a training procedure, or a detector."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar

from charpy.interfaces.component import Component

if TYPE_CHECKING:
    import torch

    from charpy.interfaces.model import Model
    from charpy.random import Random


class GradientPath(StrEnum):
    """How a gradient passes a defence: exactly, by a surrogate backward pass, or averaged over draws."""

    EXACT = "exact"
    BPDA = "bpda"
    EOT = "eot"


class Defense(Component, ABC):
    """A defence that wraps a model; attacks face the wrapped model.

    Attributes:
        gradient: how a gradient passes it.
        randomised: whether it draws at random; its answers still depend on nothing but the image and its `seed`.
    """

    gradient: ClassVar[GradientPath] = GradientPath.EXACT
    randomised: ClassVar[bool] = False

    @abstractmethod
    def wrap(self, model: Model) -> Model:
        """The defended model; `model` itself stays as it is."""


@dataclass(frozen=True)
class Lesson:
    """One step of a training: what a network learns from, and what a defence may know of it.

    Attributes:
        module: the network, in train mode; its weights are those that the step begins with.
        images: float32 `(N, C, H, W)` in [0, 1] on the module's device, as the defences before this one left them.
        labels: int64 `(N,)`.
        done: share of the training that lies behind, in [0, 1).
        step: number of the step from 0, another one for every lesson.
        seed: of the training.
        scores: images -> float32 scores `(N, K)` in train mode, in the precision of the training.
        loss: scores `(N, K)`, labels -> the mean loss that the defences before this one make small; of the first one
            the cross-entropy, or the network's own.
    """

    module: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    done: float
    step: int
    seed: int
    scores: Callable[[torch.Tensor], torch.Tensor]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

    def random(self, purpose: str) -> Random:
        """Random numbers of this step, keyed by the place of an image in the batch; they move no global generator."""
        import torch

        from charpy.random import Random

        return Random(self.seed, torch.arange(len(self.images), device=self.images.device)).fork(
            f"{purpose}/{self.step}"
        )


class TrainingDefense(Component):
    """A defence that is a way to train: what it overrides, the training loop does in its way.

    For each batch the loop asks every defence of the recipe in turn for the images to learn from (`images_for`), then
    for the loss (`loss`), takes a step, and tells of it (`learned`). An instance serves one training. What it remembers
    from step to step it gives as `state`, so that an interrupted training ends with the same weights. It may draw from
    torch's global generator, which the loop seeds and saves, or from `Lesson.random`; it leaves the module's weights,
    gradients and mode as they are (`charpy.training` has what attacks a module so).
    """

    phases: ClassVar[int] = 1
    """Trainings, each of all epochs from fresh weights; the last one's network is kept."""

    replaces_loss: ClassVar[bool] = False
    """Whether `loss` takes no account of `Lesson.loss`: no defence before it may then have a loss of its own."""

    @property
    def replays(self) -> int:
        """Steps on each batch."""
        return 1

    @property
    def radius(self) -> float | None:
        """Linf radius, in image values, that it makes robust at: held-out images are judged there. None: clean."""
        return None

    def begin(self, phase: int, before: torch.nn.Module | None) -> None:
        """Phase number `phase` from 0 begins; `before` is the network of the phase before, in eval mode."""

    def images_for(self, lesson: Lesson) -> torch.Tensor:
        """What the network learns from instead of the lesson's images, of the same number."""
        return lesson.images

    def loss(self, lesson: Lesson, scores: torch.Tensor) -> torch.Tensor:
        """The mean loss, differentiable; `scores` `(N, K)` are those of the lesson's images, in train mode."""
        return lesson.loss(scores, lesson.labels)

    def learned(self, lesson: Lesson) -> None:
        """The step is taken: gradients of the lesson's images are there if they asked for one."""

    def state(self) -> dict[str, Any]:
        """What `load` needs to go on after an epoch: tensors, numbers, texts, and mappings and lists of them."""
        return {}

    def load(self, state: dict[str, Any], module: torch.nn.Module) -> None:
        """Go on from `state`; `module` is a network of the recipe, to copy where one is needed."""


class Detector(Component, ABC):
    """A defence that says how suspicious an image is, and leaves the model's answers as they are.

    From which score on an image is refused is decided on clean images held out for that (`charpy.analysis.detection`).
    """

    @abstractmethod
    def flag(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N,)` suspicion scores of `images` `(N, C, H, W)` shown to `model`; larger is more suspicious.

        The score of an image depends on no other image.
        """
