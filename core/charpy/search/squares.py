"""Square windows of images, the bumps that fill them, and the schedule by which they shrink."""

from __future__ import annotations

from dataclasses import dataclass

import torch

ENDS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After these of 10,000 queries the squares' share of the image halves (Andriushchenko et al. 2020, section 3)."""


@dataclass(frozen=True)
class Window:
    """One window per row: top-left corners and sides `(B,)` on a `height` x `width` image."""

    top: torch.Tensor
    left: torch.Tensor
    side: torch.Tensor
    height: int
    width: int

    @classmethod
    def at(cls, down: torch.Tensor, across: torch.Tensor, side: torch.Tensor, height: int, width: int) -> Window:
        """Windows at the places that uniform numbers in [0, 1) `(B,)` choose."""
        top = (down * (height - side + 1)).long()
        left = (across * (width - side + 1)).long()
        return cls(top, left, side, height, width)

    def mask(self) -> torch.Tensor:
        """bool `(B, 1, H, W)`."""
        row, column = self._own()
        inside_row, inside_column = ((x >= 0) & (x < self.side[:, None]) for x in (row, column))
        return (inside_row[:, :, None] & inside_column[:, None])[:, None]

    def paste(self, patterns: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        """`(B, 1, H, W)`: in each window the pattern `patterns[which, side]`, 0 elsewhere.

        `patterns` is `(P, S + 1, S, S)`: for each side the pattern in the top-left corner, 0 around it.
        """
        row, column = self._own()
        size = patterns.shape[-1]
        row, column = (torch.where((x >= 0) & (x < size), x, -1) for x in (row, column))
        begin = (which * patterns.shape[1] + self.side)[:, None, None] * size**2
        index = begin + row.clamp_min(0)[:, :, None] * size + column.clamp_min(0)[:, None]
        seen = ((row >= 0)[:, :, None] & (column >= 0)[:, None]).to(patterns.dtype)
        return (patterns.view(-1)[index] * seen)[:, None]

    def _own(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Rows `(B, H)` and columns `(B, W)` counted from the window's corner."""
        device = self.top.device
        rows, columns = torch.arange(self.height, device=device), torch.arange(self.width, device=device)
        return rows - self.top[:, None], columns - self.left[:, None]


def bumps(height: int, width: int) -> torch.Tensor:
    """float32 `(2, S + 1, S, S)`, S the shorter side: the pattern of each side s and, second, its transpose.

    One half of the square is a positive bump, the other a negative one, of unit length together (Andriushchenko et al.
    2020, eq. 2 and figure 3).
    """
    most = min(height, width)
    patterns = torch.zeros(2, most + 1, most, most, device="cpu")
    for side in range(1, most + 1):
        pattern = torch.zeros(side, side, device="cpu")
        half = side // 2
        pattern[:half] = _bump(half, side)
        pattern[half:] = -_bump(side - half, side)
        pattern /= pattern.square().sum().sqrt()
        patterns[0, side, :side, :side] = pattern
        patterns[1, side, :side, :side] = pattern.T
    return patterns


def _bump(height: int, width: int) -> torch.Tensor:
    """Rectangles around the centre that grow by one in each direction, the nth adding 1 / n^2; of unit length."""
    bump = torch.zeros(height, width, device="cpu")
    top, left = height // 2, width // 2
    for nth in range(max(height, width) // 2 + 1):
        rows = slice(max(top - nth, 0), min(top + nth + 1, height))
        columns = slice(max(left - nth, 0), min(left + nth + 1, width))
        bump[rows, columns] += 1 / (nth + 1) ** 2
    return bump / bump.square().sum().sqrt().clamp_min(1e-12)
