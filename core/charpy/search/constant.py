"""The search for the constant that weighs success against size (Carlini & Wagner 2017, section V-B), a row each."""

from __future__ import annotations

import torch

from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.stream import State

LARGEST = 1e10
"""Beyond it a constant is as good as infinite."""

CHECKS = 10
"""How often a descent is asked whether it still falls (the released code)."""

FALLEN = 0.9999
"""The share of its loss at the last check that a descent must have come under."""


CARLINI = "Carlini & Wagner 2017, section V"


class DescentParams(BaseParams):
    """The descents of Carlini & Wagner, and the search for the constant."""

    steps: int = param(1000, ge=1, description="steps of one descent, the budget allowing", source=CARLINI)
    searches: int = param(9, ge=1, description="constants that are tried (L2)", source=CARLINI)
    learning_rate: float = param(0.01, gt=0, description="of Adam", source=CARLINI)
    constant: float = param(1e-3, gt=0, description="first c", source=CARLINI)
    confidence: float = param(0.0, ge=0, description="margin beyond the boundary", unit="logits", source=CARLINI)
    abort_early: bool = param(True, description="end a descent that has stopped falling (L2, L0)", source=CARLINI)
    line_search: int = param(
        6, ge=0, le=30, description="trials between original and witness (L2, Linf)", unit="queries", source="ours"
    )


def constants(sample: torch.Tensor, first: float) -> State:
    """What a row begins with: the constant, the bracket around the best one, the searches that are done."""
    one = torch.ones(len(sample), device=sample.device)
    return {
        "constant": first * one,
        "too_small": 0 * one,
        "enough": LARGEST * one,
        "searches": torch.zeros_like(sample),
    }


def search_constant(state: State, ended: torch.Tensor, succeeded: torch.Tensor) -> None:
    """Where `ended`, halve the bracket: one that succeeded is enough, another too small; tenfold until then."""
    constant, failed = state["constant"], ended & ~succeeded
    state["enough"] = torch.where(ended & succeeded, torch.minimum(state["enough"], constant), state["enough"])
    state["too_small"] = torch.where(failed, torch.maximum(state["too_small"], constant), state["too_small"])
    halved = (state["too_small"] + state["enough"]) / 2
    following = torch.where(state["enough"] < LARGEST, halved, constant * 10)
    state["constant"] = torch.where(ended, following, constant)
    state["searches"] = state["searches"] + ended


def falling(sample: torch.Tensor) -> State:
    """What a descent begins with, for `stalled`."""
    unknown = torch.full(sample.shape, torch.inf, device=sample.device)
    return {"lowest": unknown, "checked": unknown}


def stalled(state: State, loss: torch.Tensor, steps: int) -> torch.Tensor:
    """bool `(B,)`: the lowest loss has not fallen since the last of the checks, one in each tenth of `steps`.

    `state["iteration"]` counts the steps done. The released codes compare the loss of the two checked steps alone,
    which one step of a loss that swings about its way down can fail.
    """
    state["lowest"] = torch.minimum(state["lowest"], loss)
    due = state["iteration"] % max(1, steps // CHECKS) == 0
    stuck = due & (state["lowest"] > FALLEN * state["checked"])
    state["checked"] = torch.where(due, state["lowest"], state["checked"])
    return stuck
