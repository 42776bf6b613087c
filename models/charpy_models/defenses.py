"""The defences of a recipe, as the training loop drives them."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from charpy.errors import SpecError
from charpy.interfaces.defense import Lesson, TrainingDefense
from charpy.plugins import registry
from charpy.transforms import ImageDefense
from charpy_models.recipes import Recipe


class OnChanged(TrainingDefense):
    """Learns from images that an image-changing defence changed; one that draws draws anew for every batch."""

    def __init__(self, defense: ImageDefense) -> None:
        super().__init__(defense.params)
        self.defense = defense

    @torch.no_grad()
    def images_for(self, lesson: Lesson) -> torch.Tensor:
        """The changed images."""
        return self.defense.change(lesson.images.detach(), lesson.step)


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


def robust_at(defenses: Sequence[TrainingDefense]) -> float | None:
    """The largest Linf radius, in image values, that one of them trains for; None where none does."""
    return max((defense.radius for defense in defenses if defense.radius is not None), default=None)
