"""Images moved in the plane: rotation, shift and scale, or a flow of every pixel; differentiable in both."""

from __future__ import annotations

from enum import StrEnum

import torch
from torch.nn.functional import grid_sample


class Outside(StrEnum):
    """What lies beyond the edge of an image: black (Engstrom et al. 2019), or its last pixel (Xiao et al. 2018)."""

    BLACK = "zeros"
    EDGE = "border"


def affine(
    images: torch.Tensor,
    angle: torch.Tensor,
    shift: torch.Tensor,
    scale: torch.Tensor | float = 1.0,
    *,
    outside: Outside = Outside.BLACK,
) -> torch.Tensor:
    """`images` turned and scaled about their middle, then shifted, by bilinear interpolation.

    Args:
        images: `(N, C, H, W)`.
        angle: `(N,)` degrees, counter-clockwise as one looks at the picture.
        shift: `(N, 2)` pixels, down and to the right.
        scale: `(N,)` or one number, above 0; 2 doubles what is seen.
        outside: what comes in from beyond the edge.
    """
    rows, columns = _places(images)
    centre_row, centre_column = (rows[-1] / 2, columns[-1] / 2)
    down = rows[:, None] - centre_row - shift[:, 0, None, None]
    right = columns[None, :] - centre_column - shift[:, 1, None, None]
    turn = angle.deg2rad()[:, None, None]
    size = torch.as_tensor(scale, dtype=images.dtype, device=images.device).view(-1, 1, 1)
    cos, sin = turn.cos() / size, turn.sin() / size
    return sample(images, cos * down + sin * right + centre_row, cos * right - sin * down + centre_column, outside)


def flowed(images: torch.Tensor, flow: torch.Tensor, *, outside: Outside = Outside.EDGE) -> torch.Tensor:
    """The pixel at each place taken from where `flow` `(N, 2, H, W)` points: so many pixels down and to the right."""
    rows, columns = _places(images)
    return sample(images, rows[:, None] + flow[:, 0], columns[None, :] + flow[:, 1], outside)


def sample(images: torch.Tensor, rows: torch.Tensor, columns: torch.Tensor, outside: Outside) -> torch.Tensor:
    """`images` `(N, C, H, W)` read at `rows`, `columns` `(N, H', W')`, in pixels from the middle of the first one."""
    height, width = images.shape[2:]
    # With corners aligned the whole range -1..1 is that of the pixels' middles; a single pixel has no range.
    across, along = columns / max(width - 1, 1) * 2 - 1, rows / max(height - 1, 1) * 2 - 1
    grid = torch.stack([across, along], dim=-1)
    return grid_sample(images, grid, mode="bilinear", padding_mode=outside.value, align_corners=True)


def _places(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = images.shape[2:]
    return torch.arange(height, device=images.device).to(images), torch.arange(width, device=images.device).to(images)
