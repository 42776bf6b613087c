"""Smoothing guided by an image: the graph Laplacian filter of Zhang et al. 2019, section 3.

The pixels of an image x are the vertices of a graph whose edges join nearest neighbours, with weights
w_ij = k_f(x_i, x_j) k_s(p_i, p_j) (eq. 5). With D = diag(W 1) and N = D^-1/2 W D^-1/2, the smoothed signal is

    s(z) = (1 - alpha) (I - alpha N)^-1 z                  (eq. 8)

and s_hat(z) = s(z) / s(1), row by row (eq. 9), keeps constants as they are. Both are smooth where x is smooth, and may
jump where x does. The graph is kept as a stencil: memory grows with the number of pixels, and every image of a batch
has a graph of its own.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, Literal

import torch

from charpy.errors import SpecError
from charpy.interfaces.component import Params, param

DENSE_PIXELS = 144
"""Up to so many pixels, the inverse is kept as a matrix where the solver is chosen here."""

CHECK = 5
"""Iterations of conjugate gradients between two looks at whether all systems are solved."""


class Kernel(StrEnum):
    """How a weight falls with a distance d: exp(-d / scale), or exp(-d^2 / (2 scale^2))."""

    LAPLACIAN = "laplacian"
    GAUSSIAN = "gaussian"

    def __call__(self, distance: torch.Tensor, scale: float) -> torch.Tensor:
        """The weights at `distance`."""
        if self is Kernel.LAPLACIAN:
            return (-distance / scale).exp()
        return (-(distance / scale).square() / 2).exp()


class Solver(StrEnum):
    """`dense`: a Cholesky factor of the matrix of every image; `cg`: conjugate gradients on the stencil."""

    AUTO = "auto"
    DENSE = "dense"
    CG = "cg"


ZHANG = "Zhang et al. 2019, section 5.2"


class SmoothingParams(Params):
    """Parameters of an attack whose perturbations are smooth like the image."""

    alpha: float = param(0.95, ge=0, lt=1, description="how far to smooth; the paper's 0.997 on ImageNet", source=ZHANG)
    kernel: Kernel = param(Kernel.LAPLACIAN, description="how weights fall with a difference", source=ZHANG)
    scale: float = param(
        0.1, gt=0, description="of the kernel of differences between neighbours", unit="image values", source="ours"
    )
    neighbours: Literal[4, 8] = param(4, description="of a pixel in the graph", source="the authors' released code")
    solver: Solver = param(Solver.AUTO, description="a matrix an image, or conjugate gradients", source="ours")
    iterations: int = param(50, ge=1, description="of conjugate gradients at most", source=ZHANG)

    def smoother(self, images: torch.Tensor) -> Smoother:
        """Guided by each of `images` `(N, C, H, W)`."""
        return Smoother(
            images,
            self.alpha,
            kernel=self.kernel,
            scale=self.scale,
            neighbours=self.neighbours,
            solver=self.solver,
            iterations=self.iterations,
        )


class Smoother:
    """Smooths signals like the images of a batch.

    Every operation treats each image alone. All are differentiable by the adjoint: the derivative of a solution is the
    solution for the derivative, however it was found.

    Args:
        images: `(N, C, H, W)` in [0, 1], the guides; C may be any number.
        alpha: in [0, 1): 0 changes nothing, near 1 smooths over the whole image.
        kernel: of feature and place.
        scale: of the feature kernel, in image values: neighbours that differ by much more are not joined.
        neighbours: 4 or 8. The diagonal ones lie sqrt(2) away; the scale of the spatial kernel is 1 pixel.
        solver: `auto` takes the matrix for small images.
        iterations: of conjugate gradients at most.
        tolerance: of the residual, relative to the right side, in the L2 norm.

    Raises:
        SpecError: a value out of its range.

    Source: Zhang, Avrithis, Furon & Amsaleg 2019, equations 5 to 9; the scale is not given there.
    """

    def __init__(
        self,
        images: torch.Tensor,
        alpha: float,
        *,
        kernel: Kernel = Kernel.LAPLACIAN,
        scale: float = 0.1,
        neighbours: int = 4,
        solver: Solver = Solver.AUTO,
        iterations: int = 50,
        tolerance: float = 1e-6,
    ) -> None:
        _check(alpha, scale, neighbours, iterations)
        self.alpha, self.iterations, self.tolerance = alpha, iterations, tolerance
        self.edges = _edges(images.detach(), Kernel(kernel), scale, neighbours)
        self.inverse: torch.Tensor | None = None
        pixels = images.shape[2] * images.shape[3]
        if solver == Solver.DENSE or (solver == Solver.AUTO and pixels <= DENSE_PIXELS):
            self.inverse = self._inverted(pixels, images)
        self.total = self.solve(torch.ones_like(images[:, :1]))

    def __call__(self, signal: torch.Tensor) -> torch.Tensor:
        """s_hat(z) `(N, C, H, W)` (eq. 9): as smooth as the guide, constants stay."""
        return self.solve(signal) / self.total

    def solve(self, signal: torch.Tensor) -> torch.Tensor:
        """s(z) `(N, C, H, W)` (eq. 8), a symmetric linear map."""
        solved: torch.Tensor = _Solution.apply(signal, self)  # type: ignore[no-untyped-call]
        return solved

    def adjacent(self, signal: torch.Tensor) -> torch.Tensor:
        """N z, N the normalised adjacency."""
        out = torch.zeros_like(signal)
        for weight, one, other in self.edges:
            out[..., *one] += weight * signal[..., *other]
            out[..., *other] += weight * signal[..., *one]
        return out

    def roughness(self, signal: torch.Tensor) -> torch.Tensor:
        """`(N,)`: sum over ordered pairs of w_ij ||r_i / sqrt(d_i) - r_j / sqrt(d_j)||^2 = 2 r^T (I - N) r (eq. 14).

        A pixel without a neighbour adds nothing.
        """
        return (signal * self.roughness_slope(signal)).flatten(1).sum(1) / 2

    def roughness_slope(self, signal: torch.Tensor) -> torch.Tensor:
        """The gradient `(N, C, H, W)` of `roughness`, which is quadratic."""
        return 4 * (self.linked * signal - self.adjacent(signal))

    def rows(self, chosen: torch.Tensor) -> Smoother:
        """The smoother of some of the images; `chosen` int64 `(M,)`."""
        part = object.__new__(Smoother)
        part.__dict__.update(self.__dict__)
        part.edges = [(weight[chosen], one, other) for weight, one, other in self.edges]
        part.total = self.total[chosen]
        part.inverse = None if self.inverse is None else self.inverse[chosen]
        return part

    @property
    def linked(self) -> torch.Tensor:
        """`(N, 1, H, W)`: 1 where a pixel is joined to a neighbour, 0 where it is alone."""
        found = torch.zeros_like(self.total)
        for weight, one, other in self.edges:
            found[..., *one] += weight
            found[..., *other] += weight
        return (found > 0).to(found.dtype)

    def _inverted(self, pixels: int, images: torch.Tensor) -> torch.Tensor:
        """`(N, P, P)`: (1 - alpha) (I - alpha N)^-1, worked out in float64."""
        unit = torch.eye(pixels, dtype=torch.float64, device=images.device).view(1, pixels, *images.shape[2:])
        matrix = unit - self.alpha * self.adjacent(unit.expand(len(images), -1, -1, -1))
        factor = torch.linalg.cholesky(matrix.flatten(2))
        return ((1 - self.alpha) * torch.cholesky_inverse(factor)).to(images.dtype)

    def _apply(self, signal: torch.Tensor) -> torch.Tensor:
        if self.inverse is None:
            return self._conjugate_gradients((1 - self.alpha) * signal)
        flat = signal.flatten(2)
        return torch.bmm(flat, self.inverse.to(signal.dtype)).view_as(signal)

    def _conjugate_gradients(self, right: torch.Tensor) -> torch.Tensor:
        """x with (I - alpha N) x = `right`, each channel of each image a system of its own (Hestenes & Stiefel 1952).

        A system that is solved stands still: what it gives does not depend on the others of the batch.
        """
        x = right.clone()
        residual = right - (x - self.alpha * self.adjacent(x))
        direction, size = residual, _dot(residual, residual)
        enough = self.tolerance**2 * _dot(right, right)
        for step in range(self.iterations):
            going = size > enough
            if step % CHECK == 0 and not bool(going.any()):
                break
            image = direction - self.alpha * self.adjacent(direction)
            length = torch.where(going, size / _dot(direction, image), 0.0)
            x = x + length * direction
            residual = residual - length * image
            before, size = size, _dot(residual, residual)
            direction = residual + torch.where(going, size / before, 0.0) * direction
        return x


class _Solution(torch.autograd.Function):
    """s(z) and its derivative, which is s of the derivative: the matrix is symmetric."""

    @staticmethod
    def forward(ctx: Any, signal: torch.Tensor, smoother: Smoother) -> torch.Tensor:
        ctx.smoother = smoother
        return smoother._apply(signal)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.smoother.solve(gradients[0]), None


Window = tuple[slice, slice]


def _edges(
    images: torch.Tensor, kernel: Kernel, scale: float, neighbours: int
) -> list[tuple[torch.Tensor, Window, Window]]:
    """The normalised weight of each edge `(N, 1, h, w)` with the windows of its two ends, by direction."""
    directions = [(0, 1), (1, 0), (1, 1), (1, -1)][: neighbours // 2]
    degree = torch.zeros_like(images[:, :1])
    found = []
    for down, right in directions:
        one, other = _windows(down, right)
        if 0 in images[..., *one].shape:
            continue  # a single row or column has no neighbour there
        far = (images[..., *one] - images[..., *other]).square().sum(1, keepdim=True).sqrt()
        weight = kernel(far, scale) * kernel(torch.tensor(math.hypot(down, right)), 1.0).to(far)
        degree[..., *one] += weight
        degree[..., *other] += weight
        found.append((weight, one, other))
    root = torch.where(degree > 0, degree, torch.inf).rsqrt()
    return [(weight * root[..., *one] * root[..., *other], one, other) for weight, one, other in found]


def _windows(down: int, right: int) -> tuple[Window, Window]:
    """Pixels that have a neighbour so far `down` and to the `right`, and those neighbours."""
    first = (slice(None, -down or None), slice(max(0, -right), -right if right > 0 else None))
    second = (slice(down, None), slice(max(0, right), right if right < 0 else None))
    return first, second


def _dot(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return (one * other).sum((2, 3), keepdim=True)


def _check(alpha: float, scale: float, neighbours: int, iterations: int) -> None:
    for name, value, good, expected in (
        ("alpha", alpha, 0 <= alpha < 1, "0 <= alpha < 1"),
        ("scale", scale, scale > 0, "more than 0"),
        ("neighbours", neighbours, neighbours in (4, 8), "4 or 8"),
        ("iterations", iterations, iterations >= 1, "1 or more"),
    ):
        if not good:
            raise SpecError("smoothing cannot be set so", where=f"Smoother, {name}", found=value, expected=expected)
