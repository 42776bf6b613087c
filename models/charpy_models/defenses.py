"""The defences of a recipe, as the training loop drives them, and the network behind those that change its images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import nn

from charpy.errors import SpecError
from charpy.interfaces.defense import Defense, Lesson, TrainingDefense
from charpy.interfaces.model import Model
from charpy.plugins import registry
from charpy.random import Random
from charpy.threat import Access
from charpy.transforms import ImageDefense
from charpy.voting import VotingDefense
from charpy_models.recipe import Recipe


class Changed(TrainingDefense):
    """Learns from images as a defence shows them to the network behind it."""

    defense: Defense

    @torch.no_grad()
    def images_for(self, lesson: Lesson) -> torch.Tensor:
        """The changed images."""
        return self.change(lesson.images.detach(), lesson.seed, lesson.step)

    @abstractmethod
    def change(self, images: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        """What the network sees of `images` `(N, C, H, W)` in one step; what is drawn is another one in every step."""


class OnChanged(Changed):
    """Learns from images that an image-changing defence changed; one that draws draws anew for every batch."""

    def __init__(self, defense: ImageDefense) -> None:
        super().__init__(defense.params)
        self.defense: ImageDefense = defense

    def change(self, images: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        """The change of that number; its draws have the defence's own seed."""
        return self.defense.change(images, step)


class OnVotes(Changed):
    """Learns from what one vote of a defence by vote sees, drawn anew for every image and step."""

    def __init__(self, defense: VotingDefense) -> None:
        super().__init__(defense.params)
        self.defense: VotingDefense = defense
        self._vote = defense.wrap(_Bare(nn.Identity()))

    def change(self, images: torch.Tensor, seed: int, step: int) -> torch.Tensor:
        """A vote of its own for each image."""
        rows = torch.arange(len(images), device=images.device)
        random = Random(seed, rows).fork(f"votes/{step}")
        return self._vote.apply(images, self._vote.draw(random, rows, torch.zeros_like(rows), _shape(images)))


class Defended(nn.Module):
    """A network behind the defences that its images were changed by, as a run spec with them would have it.

    Args:
        module: the network; not copied.
        defenses: as they stand in a recipe: the image passes the first one first.
    """

    def __init__(self, module: nn.Module, defenses: Sequence[Changed]) -> None:
        super().__init__()
        self.module = module
        self._model: Model = _Bare(module)
        for changed in reversed(defenses):
            self._model = changed.defense.wrap(self._model)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, K)` of `images` `(N, C, H, W)`, those of the data."""
        return self._model.predict(images)


class _Bare(Model):
    """A network as it is, for a defence to stand before it while it is trained."""

    access = Access.SCORES

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = module

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Its scores."""
        scores: torch.Tensor = self._module(images)
        return scores

    def fingerprint(self) -> Mapping[str, str]:
        """Nothing: it is still changing."""
        return {}


def defenses_of(recipe: Recipe) -> list[TrainingDefense]:
    """The defences that `recipe` names, made for one training.

    Raises:
        UnknownNameError: there is none of a kind.
        SpecError: bad parameters, a defence that nothing can be trained with, or whose loss a later one leaves out.
    """
    made: list[TrainingDefense] = []
    for spec in recipe.defenses:
        defense = registry().create("defenses", spec.kind, spec.params)
        if isinstance(defense, TrainingDefense):
            made.append(defense)
        elif isinstance(defense, ImageDefense):
            made.append(OnChanged(defense))
        elif isinstance(defense, VotingDefense):
            made.append(OnVotes(defense))
        else:
            raise SpecError(
                f"nothing is trained with defence {spec.kind!r}",
                where="recipe.defenses",
                found=type(defense).__name__,
                expected="a way to train, or a defence that changes the image",
                hint="name it in the `defenses` of a model of a run spec instead",
            )
        lost = next((before for before in made[:-1] if type(before).loss is not TrainingDefense.loss), None)
        if lost is not None and made[-1].replaces_loss:
            raise SpecError(
                f"defence {spec.kind!r} would leave out the loss of one before it",
                where="recipe.defenses",
                found=f"{type(lost).__name__} before {type(made[-1]).__name__}",
                hint=f"put {spec.kind!r} first",
            )
    return made


def shape_behind(defenses: Sequence[TrainingDefense], shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """`(C, H, W)` of what the defences of a recipe leave of images of `shape`: what its network takes.

    Raises:
        ModelError: a defence cannot change images of this shape.
    """
    images = torch.zeros(1, *shape)
    for defense in defenses:
        if isinstance(defense, Changed):
            images = defense.change(images, 0, 0)
    return _shape(images)


def measured(module: nn.Module, defenses: Sequence[TrainingDefense], images: torch.Tensor) -> nn.Module:
    """What accuracy on `images` is measured of: the network alone, or `Defended` where it takes another shape."""
    shape = _shape(images)
    if shape_behind(defenses, shape) == shape:
        return module
    return Defended(module, [defense for defense in defenses if isinstance(defense, Changed)]).eval()


def robust_at(defenses: Sequence[TrainingDefense]) -> float | None:
    """The largest Linf radius, in image values, that one of them trains for; None where none does."""
    return max((defense.radius for defense in defenses if defense.radius is not None), default=None)


def _shape(images: torch.Tensor) -> tuple[int, int, int]:
    return images.shape[1], images.shape[2], images.shape[3]
