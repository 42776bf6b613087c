"""One optimiser on its way: AdamW, its schedule and, in float16, the scale of its losses."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from charpy_models.checkpoint import State
from charpy_models.recipe import Precision, Recipe
from charpy_models.schedule import schedule_of

BETAS = (0.9, 0.999)
"""torch's own."""


class Descent:
    """AdamW on `parameters`, with the schedule and weight decay of a recipe.

    Args:
        recipe: what it is told by.
        parameters: what moves.
        steps: of the whole training.
        device: where the parameters are.
        precision: of the passes; in float16 a step whose gradients overflow is left out.
        learning_rate: peak of the schedule, instead of the recipe's.
        betas: of the means of the gradient and of its square.
    """

    def __init__(
        self,
        recipe: Recipe,
        parameters: Iterable[nn.Parameter],
        steps: int,
        device: torch.device,
        precision: Precision,
        *,
        learning_rate: float | None = None,
        betas: tuple[float, float] = BETAS,
    ) -> None:
        recipe = recipe if learning_rate is None else recipe.model_copy(update={"learning_rate": learning_rate})
        self.optimiser = torch.optim.AdamW(
            parameters, lr=recipe.learning_rate, betas=betas, weight_decay=recipe.weight_decay
        )
        self.schedule = schedule_of(recipe, self.optimiser, steps)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision is Precision.FLOAT16)

    @property
    def taken(self) -> int:
        """Steps so far."""
        return int(self.schedule.last_epoch)

    def step(self, loss: torch.Tensor) -> None:
        """One step down the gradient of `loss`, a single number."""
        self.optimiser.zero_grad()
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.step(self.optimiser)
        before = self.scaler.get_scale()
        self.scaler.update()
        if self.scaler.get_scale() >= before:  # else float16 overflowed and the step was left out
            self.schedule.step()

    def state(self) -> State:
        """What `load` needs to go on from here."""
        return {
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.optimiser.load_state_dict(state["optimiser"])
        self.schedule.load_state_dict(state["schedule"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(state["scaler"])
