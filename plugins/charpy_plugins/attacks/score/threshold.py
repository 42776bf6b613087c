"""The threshold attack of the dual assessment (Kotyan & Vargas 2020, section IV)."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.pixels import quantise
from charpy.search.box import Box
from charpy.search.encoding import DUAL, EvolutionParams
from charpy.search.evolve import evolve
from charpy.threat import Access, Grid, Norm


class Rounding(StrEnum):
    """How a gene becomes a grid value: the nearest, or truncated towards zero (the released code)."""

    NEAREST = "nearest"
    TRUNCATE = "truncate"


class Threshold(Attack):
    """Changes every value by at most th/255, searched by an evolutionary algorithm (Linf).

    Minimises the confidence of the true class over one gene per value, the value itself, in
    [max(v - th, 0), min(v + th, 255)]; dimension C H W. CMA-ES begins at the image with a step of th/4.

    Differs from the released code: values are rounded to the nearest grid point. Truncation can reach v + th only at
    the exact bound, which makes the attack lopsided and weaker; `rounding: truncate` restores it.
    """

    norms = frozenset({Norm.LINF})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Kotyan & Vargas 2020, Adversarial robustness assessment: why both L0 and Linf attacks are necessary"

    class Params(EvolutionParams):
        """Parameters of the threshold attack."""

        sigma0: float | None = param(
            None, gt=0, le=255, description="first step of CMA-ES; th/4 if not given", source=DUAL
        )
        rounding: Rounding = param(Rounding.NEAREST, description="from gene to grid value", source="ours")

    def run(self, task: Task) -> None:
        """Search the box of half-width th around every sample."""
        evolve(task, ThresholdEncoding(task, self.params.sigma0, self.params.rounding), self.params)


class ThresholdEncoding:
    """One gene per value of the image, on the 0..255 scale."""

    def __init__(self, task: Task, sigma0: float | None, rounding: Rounding) -> None:
        self.shape = task.images.shape[1:]
        self.on_grid, self.rounding = task.threat.grid is Grid.EIGHT_BIT, rounding
        th = float(task.threat.th)
        values = quantise(task.images).float() if self.on_grid else task.images * 255
        self.start = values.flatten(1)
        self.box = Box((self.start - th).clamp_min(0), (self.start + th).clamp_max(255))
        self.bounded = torch.ones(self.start.shape[1], dtype=torch.bool, device=self.start.device)
        self.sigma0 = th / 4 if sigma0 is None else sigma0
        self.resolution = 0.5 if self.on_grid else 0.0

    def decode(self, genes: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Candidates `(B * P, C, H, W)`: uint8 on the grid, float32 off it."""
        genes = genes.view(-1, *self.shape)
        if not self.on_grid:
            return genes / 255
        return (genes.round() if self.rounding is Rounding.NEAREST else genes).to(torch.uint8)
