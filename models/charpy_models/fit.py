"""A training from beginning to end, or from where it was interrupted: which kind of it a recipe asks for."""

from __future__ import annotations

import torch

from charpy_models.checkpoint import Checkpoint
from charpy_models.classifier_training import ClassifierTraining
from charpy_models.gan_training import GanTraining
from charpy_models.recipe import Precision, Recipe
from charpy_models.training import Images, Listener, Trained, Training


def fit(
    recipe: Recipe,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    seed: int,
    held_out: Images | None = None,
    device: torch.device | str = "cpu",
    precision: Precision = Precision.FLOAT32,
    checkpoint: Checkpoint | None = None,
    listen: Listener | None = None,
) -> Trained:
    """A network trained by `recipe`; on the CPU, the same weights for the same seed, thread count and torch.

    Args:
        recipe: network, schedule, augmentation and defences.
        images: `(N, C, H, W)`, uint8, or float32 in [0, 1].
        labels: int64 `(N,)`.
        seed: of the first weights, the order of the images, the augmentation and what the defences draw.
        held_out: the weights of the epoch that does best on these are kept (of equals the last); else the last epoch's,
            as those of a generator are always.
        device: where it is trained.
        precision: of the forward and backward passes; the attacks of an adversarial training stay in float32.
        checkpoint: read first, and written after each epoch.
        listen: told where the training stands.

    Raises:
        ModelError: the loss is no longer finite.
        SpecError: a defence of the recipe cannot be trained with.
        RunFileError: the checkpoint cannot be used.
    """
    place = torch.device(device)
    # The caller's generator is left as it was: a library that reseeds it changes other people's results.
    with torch.random.fork_rng(devices=[place] if place.type == "cuda" else []):
        torch.manual_seed(seed)
        training = _kind_of(recipe)(recipe, Images(images, labels), held_out, seed, place, precision)
        if checkpoint is not None and (state := checkpoint.read()) is not None:
            training.load(state)
        while training.epoch < training.epochs:
            now = training.run_epoch(listen)
            if checkpoint is not None:
                checkpoint.write(training.state())
            if listen is not None:
                listen(now)
    return training.result()


def _kind_of(recipe: Recipe) -> type[Training]:
    return ClassifierTraining if recipe.gan is None else GanTraining
