"""How the learning rate moves over the steps of a training."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from charpy_models.recipe import Recipe


def schedule_of(recipe: Recipe, optimiser: Optimizer, steps: int) -> LRScheduler:
    """The schedule of `recipe` over `steps` steps, of which the first is taken with what `optimiser` holds afterwards.

    one-cycle: up from 1/25 of the peak and down to next to nothing, each half a cosine; momentum goes the other way
    (Smith & Topin 2019). cosine: up in a line, then half a cosine down to 0 (Loshchilov & Hutter 2017, equation 5).
    constant: up in a line, then the peak.
    """
    if recipe.schedule == "one-cycle":
        share = recipe.warm_up
        if share * steps == 1:  # torch divides by the length of the warm-up, share * steps - 1
            share = math.nextafter(share, 1)
        return OneCycleLR(optimiser, max_lr=recipe.learning_rate, total_steps=steps, pct_start=share)
    warm = max(1, round(recipe.warm_up * steps))

    def factor(step: int) -> float:
        if step < warm:
            return (step + 1) / warm
        if recipe.schedule == "constant":
            return 1.0
        return (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm))) / 2

    return LambdaLR(optimiser, factor)
