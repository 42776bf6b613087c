"""What the metrics that see colour share: images of three channels, and CIELAB."""

from __future__ import annotations

import torch

from charpy.errors import DataError

Matrix = tuple[tuple[float, float, float], tuple[float, float, float], tuple[float, float, float]]
"""Of linear red, green and blue to X, Y and Z, row by row; the sum of a row is that of white."""

SRGB: Matrix = (
    (0.4123908, 0.3575843, 0.1804808),
    (0.2126390, 0.7151687, 0.0721923),
    (0.0193308, 0.1191948, 0.9505322),
)
"""From the chromaticities of the primaries and of the white D65 (0.3127, 0.3290) in IEC 61966-2-1:1999."""

LINEAR = (6 / 29) ** 3
"""Share of white below which the lightness of CIELAB is linear."""


def as_colour(images: torch.Tensor) -> torch.Tensor:
    """`(N, 3, H, W)`: a grey image is read as one whose red, green and blue are equal.

    Raises:
        DataError: neither one channel nor three.
    """
    if images.shape[1] not in (1, 3):
        raise DataError(
            "the metric sees colours",
            found=f"{images.shape[1]} channels",
            expected="1 channel (grey) or 3 (red, green, blue)",
            hint="use a metric that takes any channels: psnr, ssim, l2, ...",
        )
    return images.expand(-1, 3, -1, -1)


def linear_srgb(images: torch.Tensor) -> torch.Tensor:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1:1999, 5.2)."""
    dark = images <= 0.04045
    return torch.where(dark, images / 12.92, ((torch.where(dark, 1.0, images) + 0.055) / 1.055) ** 2.4)


def lab(linear: torch.Tensor, matrix: Matrix = SRGB) -> torch.Tensor:
    """L*, a* and b* `(N, 3, H, W)` of linear red, green and blue (CIE 15:2004, 8.2.1), with the matrix's white."""
    rows = torch.tensor(matrix, dtype=linear.dtype, device=linear.device)
    share = torch.einsum("ij,njhw->nihw", rows / rows.sum(1, keepdim=True), linear)
    dark = share <= LINEAR
    x, y, z = torch.where(dark, share * (29 / 6) ** 2 / 3 + 4 / 29, torch.where(dark, 1.0, share) ** (1 / 3)).unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)
