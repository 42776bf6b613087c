"""The few-pixel attack (Kotyan & Vargas 2020, section IV), after Su et al.'s one-pixel attack."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.pixels import as_images, quantise
from charpy.search.box import Box
from charpy.search.encoding import DUAL, EvolutionParams
from charpy.search.evolve import evolve
from charpy.threat import Access, Grid, Norm


class FewPixel(Attack):
    """Overwrites th pixels, whose places and colours an evolutionary algorithm searches (L0).

    Minimises the confidence of the true class over genes [row, column, c1..cC] x th, dimension (2 + C) th: row in
    [0, H], column in [0, W] (taken modulo H and W), colours in [0, 255]. Places and colours are truncated to whole
    numbers; a pixel that is named twice takes the later colour. CMA-ES begins at the first th pixels in raster order
    with their own colours and a step of 63/4 in every gene.
    """

    norms = frozenset({Norm.L0})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Kotyan & Vargas 2020, Adversarial robustness assessment: why both L0 and Linf attacks are necessary"

    class Params(EvolutionParams):
        """Parameters of the few-pixel attack."""

        sigma0: float = param(
            63 / 4, gt=0, le=255, description="first step of CMA-ES, rows, columns and colours alike", source=DUAL
        )

    def run(self, task: Task) -> None:
        """Search `task.threat.th` pixels for every sample."""
        if task.threat.th < 1:
            return
        evolve(task, FewPixelEncoding(task, self.params.sigma0), self.params)


class FewPixelEncoding:
    """Genes [row, column, c1..cC] x th; off the 8-bit grid the other pixels keep their real values."""

    resolution = 0.5

    def __init__(self, task: Task, sigma0: float) -> None:
        images, th = task.images, task.threat.th
        self.pixels = quantise(images) if task.threat.grid is Grid.EIGHT_BIT else images
        self.th, self.sigma0 = th, sigma0
        _, channels, height, width = images.shape
        upper = torch.tensor([height, width, *[255.0] * channels], device=images.device).repeat(th)[None]
        self.box = Box(torch.zeros_like(upper), upper)
        self.bounded = torch.tensor([False, False, *[True] * channels], device=images.device).repeat(th)
        first = torch.arange(th, device=images.device) % (height * width)
        colours = quantise(images).flatten(2)[:, :, first].permute(0, 2, 1).float()
        places = torch.stack([first // width, first % width], 1).float().expand(len(images), -1, -1)
        self.start = torch.cat([places, colours], 2).flatten(1)

    def decode(self, genes: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        """Candidates `(B * P, C, H, W)`: uint8 on the grid, float32 off it."""
        batch, population, _ = genes.shape
        channels, height, width = self.pixels.shape[1:]
        whole = genes.view(batch, population, self.th, 2 + channels).to(torch.int64)
        place = (whole[..., 0] % height) * width + whole[..., 1] % width
        colour = whole[..., 2:].clamp_(0, 255).to(torch.uint8)
        colour = colour if self.pixels.dtype == torch.uint8 else as_images(colour)
        candidates = self.pixels[sample].flatten(2)[:, None].repeat(1, population, 1, 1)
        index = place[:, :, None].expand(-1, -1, channels, -1)
        if candidates.is_cuda:  # there the order within one scatter is undefined: a later pixel must overwrite
            for nth in range(self.th):
                candidates.scatter_(3, index[..., nth : nth + 1], colour[:, :, nth, :, None])
        else:
            candidates.scatter_(3, index, colour.transpose(2, 3))
        return candidates.view(-1, channels, height, width)
