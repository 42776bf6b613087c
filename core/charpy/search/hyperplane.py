"""The shortest way to a hyperplane inside the image box, in L1, L2 and Linf."""

from __future__ import annotations

import torch

from charpy.threat import Norm

_ROUNDS = 100
"""Newton steps at most; they end when no row's saturated values change, in practice after three to ten."""

_HALVINGS = 30
"""Of the range of the threshold in L1."""

_FAR = 1e30
"""Stands for an infinite pace: every value goes to its bound."""


def onto_hyperplane(norm: Norm, images: torch.Tensor, normal: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """The change u of least norm with `normal . u = need` and `images + u` in the box [0, 1].

    Where the box does not reach the plane, the change that comes nearest to it. Every value moves in the direction that
    helps and at most to its bound. Linf: all by the same amount t; L2: by t times their weight (Lagrange); both have a
    gain that is concave and piecewise linear in t, whose root Newton's method finds exactly from below. L1: the values
    with the largest weights first (a fractional knapsack).

    Args:
        norm: L1, L2 or Linf.
        images: `(B, C, H, W)` in [0, 1].
        normal: `(B, C, H, W)`; a zero one moves nothing.
        need: `(B,)`, of either sign.
    """
    direction = normal.sign() * need.sign()[:, None, None, None]
    largest = normal.flatten(1).abs().amax(1).clamp_min(1e-38)  # without it, squares of small gradients vanish
    strength = normal.abs().flatten(1) / largest[:, None]
    room = torch.where(direction > 0, 1 - images, images).flatten(1)
    distance = (need.abs() / largest).clamp_max(_FAR)
    if norm is Norm.L1:
        moved = _strongest_first(strength, room, distance)
    else:
        pace = strength if norm is Norm.L2 else (strength > 0).to(strength.dtype)
        moved = _at_one_pace(strength, room, pace, distance)
    return moved.view_as(images) * direction


def dual_size(norm: Norm, normal: torch.Tensor) -> torch.Tensor:
    """How fast `normal . u` can grow with the norm of u (the dual norm): `(...)` of `(..., C, H, W)`."""
    size = normal.flatten(-3).abs()
    if norm is Norm.LINF:
        return size.sum(-1)
    return size.amax(-1) if norm is Norm.L1 else size.norm(dim=-1)


def _at_one_pace(strength: torch.Tensor, room: torch.Tensor, pace: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """`min(room, t pace)` `(B, D)` with the t at which its product with `strength` is `need`."""
    rate, most = strength * pace, strength * room
    t = (need / rate.sum(1).clamp_min(1e-38)).clamp_max(_FAR)
    for _ in range(_ROUNDS):
        full = t[:, None] * pace >= room
        gained = torch.where(full, most, 0).sum(1)
        better = ((need - gained) / torch.where(full, 0, rate).sum(1).clamp_min(1e-38)).clamp_max(_FAR)
        rises = better > t * (1 + 1e-6)  # a row that has converged stays, whatever the others need
        if not bool(rises.any()):
            break
        t = torch.where(rises, better, t)
    return torch.minimum(room, t[:, None] * pace)


def _strongest_first(strength: torch.Tensor, room: torch.Tensor, need: torch.Tensor) -> torch.Tensor:
    """All the room of the values above a threshold, and a part of those at it, so that the gain is `need`.

    The threshold is found by bisection, several times faster than a sort; values that 2^-30 of the largest does not
    tell apart count as equal, and equal ones share.
    """
    gains = strength * room
    low, high = torch.zeros_like(need), torch.ones_like(need)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        enough = torch.where(strength > middle[:, None], gains, 0).sum(1) >= need
        low, high = torch.where(enough, middle, low), torch.where(enough, high, middle)
    above = strength > high[:, None]
    level = (strength > low[:, None]) & ~above
    rest = need - torch.where(above, gains, 0).sum(1)
    part = (rest / torch.where(level, gains, 0).sum(1).clamp_min(1e-38)).clamp(0, 1)
    return torch.where(above, room, torch.where(level, room * part[:, None], 0))
