"""The graph of an image's pixels, whose edges join nearest neighbours (Zhang et al. 2019, equation 5).

An edge weighs w_ij = k_f(x_i, x_j) k_s(p_i, p_j). With D = diag(W 1), N = D^-1/2 W D^-1/2 is kept as a stencil:
for each direction the weights of the edges that lead there, so that memory grows with the number of pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

import torch


class Kernel(StrEnum):
    """How a weight falls with a distance d: exp(-d / scale), or exp(-d^2 / (2 scale^2))."""

    LAPLACIAN = "laplacian"
    GAUSSIAN = "gaussian"

    def __call__(self, distance: torch.Tensor, scale: float) -> torch.Tensor:
        """The weights at `distance`."""
        if self is Kernel.LAPLACIAN:
            return (-distance / scale).exp()
        return (-(distance / scale).square() / 2).exp()


@dataclass(frozen=True, eq=False)
class Edges:
    """The edges of one direction.

    Attributes:
        down, right: where they lead, in pixels.
        offset: the same in pixels of the flattened image.
        weight: `(N, 1, P)`, of each of the P pixels to the one at that place; 0 where there is none.
    """

    down: int
    right: int
    offset: int
    weight: torch.Tensor


@dataclass(frozen=True, eq=False)
class Graph:
    """The normalised graphs of a batch of images, one each.

    Attributes:
        edges: by direction, each edge once.
        linked: `(N, 1, P)`, 1 where a pixel has a neighbour, 0 where it is alone.
        height, width: of the images.
    """

    edges: tuple[Edges, ...]
    linked: torch.Tensor
    height: int
    width: int

    @classmethod
    def of(cls, images: torch.Tensor, kernel: Kernel, scale: float, neighbours: int) -> Graph:
        """That of `images` `(N, C, H, W)`; `scale` is that of the feature kernel, 1 pixel that of the spatial one."""
        height, width = images.shape[2:]
        flat = images.flatten(2)
        degree = torch.zeros_like(flat[:, :1])
        found = []
        for down, right in [(0, 1), (1, 0), (1, 1), (1, -1)][: neighbours // 2]:
            if down >= height or abs(right) >= width:
                continue  # a single row or column has no neighbour there
            offset = down * width + right
            apart = flat[..., :-offset] - flat[..., offset:]
            weight = torch.zeros_like(degree)
            weight[..., :-offset] = kernel(apart.square().sum(1, keepdim=True).sqrt(), scale)
            weight *= float(kernel(torch.tensor(math.hypot(down, right), dtype=torch.float64, device="cpu"), 1.0))
            square = weight.view(-1, 1, height, width)
            square[..., height - down :, :] = 0
            square[..., width - right :] = 0
            square[..., : max(0, -right)] = 0
            degree[..., :-offset] += weight[..., :-offset]
            degree[..., offset:] += weight[..., :-offset]
            found.append(Edges(down, right, offset, weight))
        linked = degree > torch.finfo(degree.dtype).tiny  # below it, products of two roots would overflow
        root = torch.where(linked, degree, torch.inf).rsqrt()
        for edges in found:
            edges.weight[..., : -edges.offset] *= root[..., : -edges.offset] * root[..., edges.offset :]
        return cls(tuple(found), linked.to(degree), height, width)

    def add(self, out: torch.Tensor, signal: torch.Tensor, factor: float) -> None:
        """`out` += factor N `signal` in place; both `(N, C, P)`."""
        for edges in self.edges:
            offset, weight = edges.offset, edges.weight[..., : -edges.offset]
            out[..., :-offset].addcmul_(weight, signal[..., offset:], value=factor)
            out[..., offset:].addcmul_(weight, signal[..., :-offset], value=factor)

    def rows(self, chosen: torch.Tensor | slice) -> Graph:
        """The graphs of some of the images."""
        edges = tuple(Edges(one.down, one.right, one.offset, one.weight[chosen]) for one in self.edges)
        return Graph(edges, self.linked[chosen], self.height, self.width)
