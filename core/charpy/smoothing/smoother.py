"""Smoothing guided by an image: the graph Laplacian filter of Zhang et al. 2019, section 3.

With N the normalised adjacency of the image's pixel graph (eq. 5), the smoothed signal is

    s(z) = (1 - alpha) (I - alpha N)^-1 z                  (eq. 8)

and s_hat(z) = s(z) / s(1), row by row (eq. 9), keeps constants as they are. Both are smooth where x is smooth, and may
jump where x does.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

import torch

from charpy.errors import SpecError
from charpy.interfaces.component import Params, param
from charpy.smoothing.conjugate_gradients import conjugate_gradients
from charpy.smoothing.elimination import Elimination
from charpy.smoothing.graph import Graph, Kernel

EXACT_PIXELS = 4096
"""Up to so many pixels, the system is solved exactly where the solver is chosen here."""


class Solver(StrEnum):
    """`exact`: elimination; `cg`: conjugate gradients; `auto`: elimination for small images."""

    AUTO = "auto"
    EXACT = "exact"
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
    solver: Solver = param(Solver.AUTO, description="elimination, or conjugate gradients", source="ours")
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
        solver: `auto` takes elimination for small images.
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
        self.graph = Graph.of(images.detach(), Kernel(kernel), scale, neighbours)
        self.factors: Elimination | None = None
        if solver == Solver.EXACT or (solver == Solver.AUTO and images.shape[2] * images.shape[3] <= EXACT_PIXELS):
            self.factors = Elimination(self.graph, alpha, images.dtype)
        self.total = self.solve(torch.ones_like(images[:, :1]))
        self._last: tuple[torch.Tensor, Smoother] | None = None

    def __call__(self, signal: torch.Tensor) -> torch.Tensor:
        """s_hat(z) `(N, C, H, W)` (eq. 9): as smooth as the guide, constants stay."""
        return self.solve(signal) / self.total

    def solve(self, signal: torch.Tensor) -> torch.Tensor:
        """s(z) `(N, C, H, W)` (eq. 8), a symmetric linear map."""
        solved: torch.Tensor = _Solution.apply(signal, self)  # type: ignore[no-untyped-call]
        return solved

    def roughness(self, signal: torch.Tensor) -> torch.Tensor:
        """`(N,)`: sum over ordered pairs of w_ij ||r_i / sqrt(d_i) - r_j / sqrt(d_j)||^2 = 2 r^T (I - N) r (eq. 14).

        A pixel without a neighbour adds nothing.
        """
        return (signal * self.roughness_slope(signal)).flatten(1).sum(1) / 2

    def roughness_slope(self, signal: torch.Tensor) -> torch.Tensor:
        """The gradient `(N, C, H, W)` of `roughness`, which is quadratic."""
        flat = signal.flatten(2)
        slope = self.graph.linked * flat
        self.graph.add(slope, flat, -1)
        return 4 * slope.view_as(signal)

    def rows(self, chosen: torch.Tensor) -> Smoother:
        """The smoother of some of the images; `chosen` int64 `(M,)`. That of the last choice is kept."""
        if self._last is None or not torch.equal(self._last[0], chosen):
            part = object.__new__(Smoother)
            part.__dict__.update(self.__dict__, graph=self.graph.rows(chosen), total=self.total[chosen], _last=None)
            part.factors = None if self.factors is None else self.factors.rows(chosen)
            self._last = chosen.clone(), part
        return self._last[1]

    def _apply(self, signal: torch.Tensor) -> torch.Tensor:
        right = (1 - self.alpha) * signal.flatten(2)
        if self.factors is not None:
            return self.factors(right).view_as(signal)
        solved = conjugate_gradients(
            self.graph, self.alpha, right, iterations=self.iterations, tolerance=self.tolerance
        )
        return solved.view_as(signal)


class _Solution(torch.autograd.Function):
    """s(z) and its derivative, which is s of the derivative: the matrix is symmetric."""

    @staticmethod
    def forward(ctx: Any, signal: torch.Tensor, smoother: Smoother) -> torch.Tensor:
        ctx.smoother = smoother
        return smoother._apply(signal)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.smoother.solve(gradients[0]), None


def _check(alpha: float, scale: float, neighbours: int, iterations: int) -> None:
    for name, value, good, expected in (
        ("alpha", alpha, 0 <= alpha < 1, "0 <= alpha < 1"),
        ("scale", scale, scale > 0, "more than 0"),
        ("neighbours", neighbours, neighbours in (4, 8), "4 or 8"),
        ("iterations", iterations, iterations >= 1, "1 or more"),
    ):
        if not good:
            raise SpecError("smoothing cannot be set so", where=f"Smoother, {name}", found=value, expected=expected)
