"""The decision boundary as an attack sees it from a point: one linear plane, from one row of gradients."""

from __future__ import annotations

from typing import NamedTuple

import torch

from charpy.interfaces.attack import Task
from charpy.losses import margin
from charpy.search.hyperplane import dual_size

SHARE = 4
"""A row of gradients may cost at most this part of a sample's budget."""


class Plane(NamedTuple):
    """A linear model of the boundary at B points `x`: it is where `gap + normal . (x' - x) = 0`.

    Attributes:
        gap: `(B,)`, positive while the goal is not reached; not finite where the oracle refused the row.
        normal: `(B, C, H, W)`.
        margin: `(B,)`, `charpy.losses.margin` of the point; NaN where refused.
    """

    gap: torch.Tensor
    normal: torch.Tensor
    margin: torch.Tensor


def rivals(task: Task, count: int) -> torch.Tensor:
    """int64 `(N, count)`: the other classes by their scores on the clean images, best first; one query a sample."""
    samples = torch.arange(len(task.labels), device=task.labels.device)
    scores = task.oracle.scores(task.images, samples).nan_to_num(nan=0.0)
    others = scores.scatter(1, task.labels[:, None], -torch.inf)
    return others.argsort(dim=1, descending=True, stable=True)[:, :count]


def contenders(task: Task, wanted: int) -> torch.Tensor:
    """int64 `(N, J)`: the true class, then the others whose boundaries are looked at; J is at most `wanted` and K.

    A row of gradients costs J queries; J is at most a quarter of the budget. Where J is K nothing is asked; otherwise
    the others are those with the best clean scores.
    """
    classes = task.oracle.num_classes
    count = max(2, min(wanted, classes, task.threat.queries // SHARE))
    if count < classes:
        return torch.cat([task.labels[:, None], rivals(task, count - 1)], 1)
    every = torch.arange(classes, device=task.labels.device).expand(len(task.labels), classes)
    return torch.cat([task.labels[:, None], every[every != task.labels[:, None]].view(-1, classes - 1)], 1)


def nearest_plane(task: Task, points: torch.Tensor, sample: torch.Tensor, classes: torch.Tensor) -> Plane:
    """The nearest of the boundaries between the true class `classes[:, 0]` and the others `(B, J)`; J queries a row.

    Distances are those of the linear model without the box: |gap| over the dual norm of the gradient.
    """
    scores, gradients = task.oracle.jacobian(points, sample, classes)
    values = scores.gather(1, classes)
    gaps, normals = values[:, :1] - values[:, 1:], gradients[:, :1] - gradients[:, 1:]
    away = gaps.abs() / dual_size(task.threat.norm, normals).clamp_min(1e-30)
    nearest = away.nan_to_num(nan=torch.inf).argmin(1)
    row = torch.arange(len(points), device=points.device)
    return Plane(gaps[row, nearest], normals[row, nearest], margin(scores, task.labels[sample]))


def plane_to(task: Task, points: torch.Tensor, sample: torch.Tensor, towards: torch.Tensor | None) -> Plane:
    """The boundary between the true class and `towards` `(B,)`; one query a row.

    For a targeted goal, `towards` None: the boundary between the target and the best other class.
    """
    if towards is None:
        gap, normal, scores = task.oracle.loss_and_gradient(points, sample, "margin")
        targets = None if task.targets is None else task.targets[sample]
        return Plane(gap, normal, margin(scores, task.labels[sample], targets))
    pair = torch.stack([task.labels[sample], towards], 1)

    def difference(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        values = scores.gather(1, pair[rows])
        return values[:, 0] - values[:, 1]

    gap, normal, scores = task.oracle.loss_and_gradient(points, sample, difference)
    return Plane(gap, normal, margin(scores, task.labels[sample]))
