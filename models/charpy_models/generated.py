"""What the images of a generator show, and how much they differ: the figures of its card."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from charpy.pixels import as_images, quantise
from charpy.plugins import registry
from charpy.specs import ModelSpec
from charpy.subjects import subject_of
from charpy_models.card import GeneratedCard
from charpy_models.data import Split
from charpy_models.gan_training import as_gan
from charpy_models.recipe import Recipe

EACH, ALIKE, BATCH = 1000, 200, 250
"""Images generated of each class, those of a class whose distances are measured, and how many are made at once."""


Classifier = Callable[[torch.Tensor], torch.Tensor]
"""float32 `(N, C, H, W)` in [0, 1] -> scores `(N, K)`."""


def measure_generated(module: nn.Module, recipe: Recipe, test: Split, seed: int) -> GeneratedCard:
    """Figures of `EACH` images of each class, rounded to the 8-bit grid, from latent vectors that `seed` draws.

    Raises:
        UnknownNameError: there is no such judge.
    """
    labels = torch.arange(test.num_classes).repeat_interleave(EACH)
    images = draw(module, recipe, labels, seed)
    judge = None if recipe.gan is None else recipe.gan.judge
    return GeneratedCard(
        samples=len(labels),
        auxiliary=_named(lambda batch: _on(module, batch), images, labels),
        judge=judge,
        judged=None if judge is None else _named(_classifier(judge), images, labels),
        spread=_spread(images, labels),
        spread_of_test=_spread(test.images, test.labels),
    )


def draw(module: nn.Module, recipe: Recipe, labels: torch.Tensor, seed: int) -> torch.Tensor:
    """Images uint8 `(N, C, H, W)` of the classes `labels` `(N,)`, from latent vectors that `seed` draws."""
    network, place = as_gan(module, recipe), next(module.parameters()).device
    latent = torch.randn(len(labels), network.latent_size, generator=torch.Generator().manual_seed(seed))
    with torch.inference_mode():
        pieces = zip(torch.split(latent, BATCH), torch.split(labels, BATCH), strict=True)
        return torch.cat([quantise(network.generate(z.to(place), y.to(place))).cpu() for z, y in pieces])


def _on(module: nn.Module, images: torch.Tensor) -> torch.Tensor:
    scores: torch.Tensor = module(images.to(next(module.parameters()).device))
    return scores


def _classifier(reference: str) -> Classifier:
    model = subject_of(ModelSpec(reference=reference), registry()).open()
    return lambda images: model.predict(images.to(model.device))


def _named(classifier: Classifier, images: torch.Tensor, labels: torch.Tensor) -> int:
    """How many of `images` the classifier gives their label."""
    with torch.inference_mode():
        pieces = zip(torch.split(images, BATCH), torch.split(labels, BATCH), strict=True)
        return sum(int((classifier(as_images(x)).argmax(1).cpu() == y).sum()) for x, y in pieces)


def _spread(images: torch.Tensor, labels: torch.Tensor) -> float:
    """Mean L2 distance of two images of a class, over all pairs of its first `ALIKE`, mean over the classes."""
    means = []
    for label in range(int(labels.max()) + 1):
        rows = as_images(images[labels == label][:ALIKE]).flatten(1)
        if len(rows) > 1:
            means.append(torch.pdist(rows).mean())
    return float(torch.stack(means).mean()) if means else 0.0
