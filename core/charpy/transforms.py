"""Defences that change the image before the model sees it, and the model behind such a change.

A defence of this kind derives from `Transformation` and writes `transform`, or from `RandomTransformation` where the
change is drawn; `TransformedModel` is what `wrap` makes of it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.checkpoint import checkpoint

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Defense, GradientPath
from charpy.interfaces.model import Model
from charpy.random import Random
from charpy.threat import Access

if TYPE_CHECKING:
    from charpy.interfaces.model import Forward

Shape = tuple[int, int, int]


class ImageDefense(Defense):
    """What the two kinds of image-changing defences share; derive from one of them."""

    @property
    def draws(self) -> int:
        """How many changed copies of an image the model inside answers for."""
        return 1

    @abstractmethod
    def change(self, images: torch.Tensor, draw: int) -> torch.Tensor:
        """What the model inside sees in draw number `draw`; a gradient passes it as `gradient` says."""

    def outer_shape(self, inner: Shape) -> Shape:
        """`(C, H, W)` of the images that become images of the shape `inner`, which the model inside takes.

        Raises:
            ModelError: none do.
        """
        return inner

    def settings(self) -> Mapping[str, Any]:
        """What makes the change what it is: a part of the defended model's fingerprint."""
        settings: dict[str, Any] = self.params.model_dump(mode="json")
        return settings

    def wrap(self, model: Model) -> TransformedModel:
        """The model behind the change; it gives what `model` gives."""
        return TransformedModel(model, self)


class Transformation(ImageDefense):
    """A defence that changes every image in the same way.

    `gradient` says how a gradient passes it. EXACT: autograd follows `transform`. BPDA, the default: the value is that
    of `transform`, the gradient that of `surrogate` (Athalye, Carlini & Wagner 2018, section 4.1).
    """

    gradient = GradientPath.BPDA

    @abstractmethod
    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """What the model inside sees of `images` `(N, C, H, W)` in [0, 1]; each row depends on its own image alone."""

    def surrogate(self, images: torch.Tensor) -> torch.Tensor:
        """BPDA: a differentiable stand-in for `transform`, of the same shape; here the image itself."""
        return images

    def change(self, images: torch.Tensor, draw: int) -> torch.Tensor:
        """The change, the same in every draw."""
        return _passed(self, images, self.transform, self.surrogate)


class DrawParams(BaseParams):
    """What every defence that draws its change has."""

    draws: int = param(
        10, ge=1, description="drawn changes that an answer, and so its gradient, is the mean over", source="ours"
    )
    seed: int = param(0, description="of the changes; they are the same for every image")


class RandomTransformation(ImageDefense):
    """A defence that draws how it changes an image.

    The answer is the mean over `draws` changes. They are keyed by seed and number and serve every image, so an answer
    depends on nothing but its image, and its gradient is that of the mean: EOT, the expectation over transformations
    (Athalye, Carlini & Wagner 2018, section 4.2), over the very changes that answer. EOT, the default: autograd follows
    `transform`; BPDA: each change passes the gradient of `surrogate`.
    """

    gradient = GradientPath.EOT
    randomised = True
    Params = DrawParams

    @abstractmethod
    def transform(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """What the model inside sees of `images` `(N, C, H, W)` in [0, 1]; all that is random comes from `draw`."""

    def surrogate(self, images: torch.Tensor, draw: Draw) -> torch.Tensor:
        """BPDA: a differentiable stand-in for `transform`, of the same shape; here the image itself."""
        return images

    @property
    def draws(self) -> int:
        """As its parameters say."""
        count: int = self.params.draws
        return count

    def change(self, images: torch.Tensor, draw: int) -> torch.Tensor:
        """The change of that number."""
        drawn = Draw(self.params.seed, draw, images.device)
        return _passed(self, images, lambda rows: self.transform(rows, drawn), lambda rows: self.surrogate(rows, drawn))


class Draw:
    """Random numbers of one change: they depend on a seed, the change's number and the purpose, and on no image."""

    def __init__(self, seed: int, number: int, device: torch.device) -> None:
        self._place = torch.zeros(1, dtype=torch.int64, device=device)
        self._random, self._number = Random(seed, self._place).fork("transformation"), number

    def uniform(self, purpose: str, *shape: int) -> torch.Tensor:
        """float32 `shape` in [0, 1)."""
        return self._random.fork(purpose).uniform(self._place, self._number, *shape)[0]

    def normal(self, purpose: str, *shape: int) -> torch.Tensor:
        """float32 `shape`, standard normal."""
        return self._random.fork(purpose).normal(self._place, self._number, *shape)[0]

    def integer(self, purpose: str, high: int) -> int:
        """A whole number in [0, high)."""
        return int(self._random.fork(purpose).integers(self._place, self._number, high))


class TransformedModel(Model):
    """A model that sees changed images.

    It gives what the model inside gives: logits, probabilities or labels; over several draws their mean, or the most
    frequent label (the first of equals). Gradients pass the change as its defence declares.

    Args:
        base: the model inside.
        defense: how images are changed.
    """

    def __init__(self, base: Model, defense: ImageDefense) -> None:
        super().__init__()
        self.base, self.defense = base, defense
        self.input_shape = None if base.input_shape is None else defense.outer_shape(base.input_shape)
        self._follow_base()

    @property
    def device(self) -> torch.device:
        """Where the model inside wants its images."""
        return self.base.device

    @property
    def notes(self) -> list[str]:
        """Those of the model inside, and how gradients pass the change."""
        name, draws = type(self.defense).__name__, self.defense.draws
        told = {
            GradientPath.EXACT: f"gradients pass {name} exactly",
            GradientPath.BPDA: f"gradients pass {name} by a differentiable stand-in (BPDA)",
            GradientPath.EOT: f"gradients pass {name} exactly",
        }[self.defense.gradient]
        if self.access is not Access.GRADIENTS:
            told = f"no gradients pass {name}"
        return [*getattr(self.base, "notes", ()), told + (f"; answers are means over {draws} draws" * (draws > 1))]

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """What the model inside answers to the changed `images` `(N, C, H, W)`."""
        answer = self._through(self.base.predict, images)
        self._follow_base()
        return answer

    def fingerprint(self) -> Mapping[str, str]:
        """The model inside (`base.*`), the change and its settings."""
        own = {key: str(value) for key, value in self.defense.settings().items()}
        inside = {f"base.{key}": value for key, value in self.base.fingerprint().items()}
        return {**inside, "transformation": type(self.defense).__name__, **own}

    def state_digest(self) -> str:
        """The state of the model inside."""
        return self.base.state_digest()

    def forwards(self) -> Mapping[str, Callable[[], Forward]]:
        """The model inside in its other ways, behind the change."""
        return {name: self._behind(build) for name, build in self.base.forwards().items()}

    def differentiable(self) -> Mapping[str, Callable[[], Forward]]:
        """The same for gradients."""
        if self.access is not Access.GRADIENTS:
            return {}
        return {name: self._behind(build) for name, build in self.base.differentiable().items()}

    def _behind(self, build: Callable[[], Forward]) -> Callable[[], Forward]:
        def built() -> Forward:
            forward = build()
            return lambda images: self._through(forward, images)

        return built

    def _through(self, forward: Forward, images: torch.Tensor) -> torch.Tensor:
        gradients = torch.is_grad_enabled() and images.requires_grad and self.access is Access.GRADIENTS
        count = self.defense.draws
        with torch.set_grad_enabled(gradients):
            ask = self._recomputed if gradients and count > 1 else self._answer
            answers = [ask(forward, images, draw) for draw in range(count)]
            if count == 1:
                return answers[0]
            several = torch.stack(answers)
            return _most_frequent(several) if several.ndim == 2 else several.mean(0)

    def _recomputed(self, forward: Forward, images: torch.Tensor, draw: int) -> torch.Tensor:
        """As `_answer`; of each draw only the images are kept for the gradient."""
        answer: torch.Tensor = checkpoint(
            self._answer, forward, images, draw, use_reentrant=False, preserve_rng_state=False
        )
        return answer

    def _answer(self, forward: Forward, images: torch.Tensor, draw: int) -> torch.Tensor:
        changed = self.defense.change(images, draw)
        if changed.ndim != 4 or len(changed) != len(images):
            raise ModelError(
                "the defence does not give one image for each image",
                where=type(self.defense).__name__,
                found=tuple(changed.shape),
                expected=f"({len(images)}, C, H, W)",
            )
        return forward(changed)

    def _follow_base(self) -> None:
        """What the model inside declares; some know it only after their first answer."""
        self.output, self.num_classes, self.access = self.base.output, self.base.num_classes, self.base.access


def straight_through(value: torch.Tensor, surrogate: torch.Tensor) -> torch.Tensor:
    """`value` to the bit, with the gradient of `surrogate` of the same shape (Bengio, Leonard & Courville 2013)."""
    return value.detach() + (surrogate - surrogate.detach())


def boxed(images: torch.Tensor) -> torch.Tensor:
    """`images` without what rounding put outside [0, 1]; gradients pass it."""
    return straight_through(images.clamp(0, 1), images)


def _passed(defense: ImageDefense, images: torch.Tensor, transform: Forward, surrogate: Forward) -> torch.Tensor:
    if defense.gradient is not GradientPath.BPDA or not (torch.is_grad_enabled() and images.requires_grad):
        return transform(images)
    with torch.no_grad():
        value = transform(images)
    stand_in = surrogate(images)
    if stand_in.shape != value.shape:
        raise ModelError(
            "the surrogate has another shape than what it stands for",
            where=type(defense).__name__,
            found=tuple(stand_in.shape),
            expected=tuple(value.shape),
            hint="override `surrogate` where `transform` changes the shape",
        )
    return straight_through(value, stand_in)


def _most_frequent(labels: torch.Tensor) -> torch.Tensor:
    """int64 `(N,)` of `labels` `(draws, N)`, the least of equally frequent ones; codes that are no class count, too."""
    if not labels.numel():
        return labels[0]
    classes, place = torch.unique(labels, return_inverse=True)
    found: torch.Tensor = classes[torch.nn.functional.one_hot(place, len(classes)).sum(0).argmax(1)]
    return found
