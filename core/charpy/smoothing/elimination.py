"""The exact solution of (I - alpha N) x = b: elimination of the image's rows, one after the other.

Pixels are joined within a row and to the next one, so the matrix is block tridiagonal: blocks A_k of row k, B_k between
rows k and k + 1. With S_0 = A_0, S_k+1 = A_k+1 - B_k^T S_k^-1 B_k and G_k = S_k^-1 B_k,

    y_0 = b_0, y_k+1 = b_k+1 - G_k^T y_k;    x_last = S_last^-1 y_last, x_k = S_k^-1 y_k - G_k x_k+1

(Golub & Van Loan, Matrix computations, 4.5). The matrix is positive definite, so no pivots are needed. Of P pixels
2 P times the shorter side is kept, where the inverse would take P^2.
"""

from __future__ import annotations

import torch

from charpy.smoothing.graph import Graph


class Elimination:
    """The factors of (I - alpha N) for every image of a batch, worked out in float64.

    Args:
        graph: of N images; the shorter side of the image is eliminated as one block.
        alpha: in [0, 1).
        dtype: of the factors that are kept.
    """

    def __init__(self, graph: Graph, alpha: float, dtype: torch.dtype) -> None:
        self.height, self.width = graph.height, graph.width
        self.turned = graph.width > graph.height
        own, between = self._blocks(graph, alpha)
        inverses, gains = [], []
        schur = own[:, 0]
        for row in range(own.shape[1]):
            root, failed = torch.linalg.cholesky_ex(schur)  # an image with NaN fails: alone, and nothing waits for it
            inverse = torch.cholesky_inverse(root).masked_fill((failed != 0)[:, None, None], torch.nan)
            inverses.append(inverse.to(dtype))
            if row + 1 < own.shape[1]:
                gain = inverse @ between[:, row]
                gains.append(gain.to(dtype))
                schur = own[:, row + 1] - between[:, row].mT @ gain
        self.inverses = torch.stack(inverses)
        self.gains = torch.stack(gains) if gains else self.inverses[:0]

    def __call__(self, right: torch.Tensor) -> torch.Tensor:
        """x `(N, C, P)` with (I - alpha N) x = `right`; a row of the image is a row vector, on the left of a factor."""
        inverses, gains = self.inverses.to(right.dtype), self.gains.to(right.dtype)
        square = right.view(*right.shape[:2], self.height, self.width)
        rows = square.permute(3, 0, 1, 2) if self.turned else square.permute(2, 0, 1, 3)
        reduced = [rows[0]]
        for gain, row in zip(gains, rows[1:], strict=True):
            reduced.append(torch.baddbmm(row, reduced[-1], gain, alpha=-1))
        own = (torch.stack(reduced) @ inverses).unbind()
        solved = [own[-1]]
        for gain, row in zip(reversed(gains.unbind()), reversed(own[:-1]), strict=True):
            solved.append(torch.baddbmm(row, solved[-1], gain.mT, alpha=-1))
        whole = torch.stack(solved[::-1])
        return whole.permute(1, 2, 3, 0).flatten(2) if self.turned else whole.permute(1, 2, 0, 3).flatten(2)

    def rows(self, chosen: torch.Tensor) -> Elimination:
        """The factors of some of the images."""
        part = object.__new__(Elimination)
        part.__dict__.update(self.__dict__, inverses=self.inverses[:, chosen], gains=self.gains[:, chosen])
        return part

    def _blocks(self, graph: Graph, alpha: float) -> tuple[torch.Tensor, torch.Tensor]:
        """A_k `(N, rows, n, n)` and B_k `(N, rows - 1, n, n)`, float64."""
        long, short = (self.width, self.height) if self.turned else (self.height, self.width)
        weight = graph.linked.double()
        own = torch.eye(short, dtype=torch.float64, device=weight.device).repeat(len(weight), long, 1, 1)
        between = torch.zeros_like(own[:, 1:])
        for edges in graph.edges:
            down, right = edges.down, edges.right
            square = -alpha * edges.weight.double().view(-1, self.height, self.width)
            if self.turned:
                square, down, right = square.mT, right, down
            if down == -1:  # the same edges, seen from their other ends
                square, down, right = square.roll((-1, 1), (1, 2)), 1, -1
            inner = square[:, : long - down]
            if right == -1:
                inner, side = inner[:, :, 1:], -1
            else:
                inner, side = inner[:, :, : short - right], right
            block = own if down == 0 else between
            torch.diagonal(block, side, 2, 3).add_(inner)
            if down == 0:
                torch.diagonal(block, -side, 2, 3).add_(inner)
        return own, between
