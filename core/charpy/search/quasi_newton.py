"""Limited-memory BFGS in a box for many independent problems (Byrd, Lu, Nocedal & Zhu 1995; Bertsekas 1982).

Every row has its own history of steps and gradient changes, and its own trial step: one call, one value and gradient a
row. The direction is the two-loop recursion (Nocedal 1980) over the values that are free; a value at a wall of the box
that the gradient presses against it is not. Trials go along the direction, clipped to the box, and are shortened until
the value falls by Armijo's rule.
"""

from __future__ import annotations

import torch

from charpy.search.stream import State

ARMIJO = 1e-4
"""Share of the decrease that the slope promises that a step must bring."""

SHORTEN = 0.5
TRIALS = 12
"""Shortenings of one step; then the history is dropped, and where there is none the search has ended."""

FLAT = 1e-6
"""A projected gradient smaller than this, relative to the first one, ends the search."""

CURVED = 1e-10
"""A step counts for the history where s . y exceeds this share of |s| |y|."""


def minimiser(x: torch.Tensor, memory: int) -> State:
    """What a row begins with: the first trial is `x` `(B, C, H, W)` itself."""
    flat = torch.zeros(len(x), memory, x[0].numel(), device=x.device)
    zero = torch.zeros(len(x), device=x.device)
    return {
        "x": x,
        "trial": x,
        "value": torch.full_like(zero, torch.inf),
        "slope": torch.zeros_like(x),
        "direction": torch.zeros_like(x),
        "length": torch.ones_like(zero),
        "trials": torch.zeros_like(zero),
        "first": torch.full_like(zero, torch.inf),
        "steps": flat,
        "changes": flat,
        "kept": torch.zeros_like(zero),
    }


def step(state: State, value: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Take in value `(B,)` and gradient `(B, C, H, W)` of `state["trial"]`, set the next one; True where converged."""
    moved = state["trial"] - state["x"]
    promised = _dot(state["slope"], moved)
    fresh = state["value"].isinf()
    accepted = fresh | (value <= state["value"] + ARMIJO * promised)
    _remember(state, moved, slope - state["slope"], accepted & ~fresh)
    at = accepted[:, None, None, None]
    state["x"] = torch.where(at, state["trial"], state["x"])
    state["slope"] = torch.where(at, slope, state["slope"])
    state["value"] = torch.where(accepted, value, state["value"])
    state["trials"] = torch.where(accepted, 0, state["trials"] + 1)
    spent = state["trials"] >= TRIALS
    ended = spent & (state["kept"] == 0)
    state["kept"] = torch.where(spent, 0, state["kept"])
    state["trials"] = torch.where(spent, 0, state["trials"])
    renewed = accepted | spent
    free = _free(state)
    size = (state["slope"] * free).flatten(1).abs().amax(1)
    state["first"] = torch.minimum(state["first"], torch.where(fresh, size, torch.inf))
    direction, unit = _direction(state, free)
    state["direction"] = torch.where(renewed[:, None, None, None], direction, state["direction"])
    state["length"] = torch.where(renewed, unit, state["length"] * SHORTEN)
    state["trial"] = (state["x"] + state["length"][:, None, None, None] * state["direction"]).clamp_(0, 1)
    return ended | (size <= FLAT * state["first"])


def _free(state: State) -> torch.Tensor:
    """Values that can follow the gradient downhill inside the box."""
    x, slope = state["x"], state["slope"]
    return ((x > 0) | (slope < 0)) & ((x < 1) | (slope > 0))


def _direction(state: State, free: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The two-loop recursion over the free values, and the first length to try along it.

    Without a history: steepest descent, at first by a unit length at most.
    """
    slope = (state["slope"] * free).flatten(1)
    mask = free.flatten(1)
    count, memory = state["kept"], state["steps"].shape[1]
    vector, shares = slope, []
    known = [(state["steps"][:, nth] * mask, state["changes"][:, nth] * mask) for nth in range(memory)]
    curvature = [(moved * change).sum(1) for moved, change in known]
    valid = [(nth < count) & (curve > 0) for nth, curve in enumerate(curvature)]
    inverse = [torch.where(ok, 1 / curve, 0) for ok, curve in zip(valid, curvature, strict=True)]
    for nth in range(memory):
        shares.append((known[nth][0] * vector).sum(1) * inverse[nth])
        vector = vector - shares[nth][:, None] * known[nth][1]
    newest = torch.where(valid[0], curvature[0] / known[0][1].square().sum(1).clamp_min(1e-30), 1.0)
    vector = vector * newest[:, None]
    for nth in reversed(range(memory)):
        back = (known[nth][1] * vector).sum(1) * inverse[nth]
        vector = vector + (shares[nth] - back)[:, None] * known[nth][0]
    downhill = ((vector * slope).sum(1) > 0) & torch.stack(valid).any(0)
    vector = torch.where(downhill[:, None], vector, slope)
    unit = torch.where(downhill, 1.0, (1 / slope.square().sum(1).sqrt().clamp_min(1e-30)).clamp_max(1.0))
    return -vector.view_as(state["x"]), unit


def _remember(state: State, moved: torch.Tensor, change: torch.Tensor, accepted: torch.Tensor) -> None:
    """Push a step onto the history where the function curved upwards along it; newest first."""
    moved, change = moved.flatten(1), change.flatten(1)
    curve = (moved * change).sum(1)
    good = accepted & (curve > CURVED * (moved.square().sum(1) * change.square().sum(1)).sqrt())
    for key, new in (("steps", moved), ("changes", change)):
        pushed = torch.cat([new[:, None], state[key][:, :-1]], 1)
        state[key] = torch.where(good[:, None, None], pushed, state[key])
    state["kept"] = torch.where(good, (state["kept"] + 1).clamp_max(state["steps"].shape[1]), state["kept"])


def _dot(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    return (first * second).flatten(1).sum(1)
