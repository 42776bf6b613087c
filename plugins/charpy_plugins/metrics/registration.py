"""The rotation, shift and scale that best lay one image on another: a coarse search, then Levenberg-Marquardt."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch.nn.functional import interpolate

from charpy.warp import Outside, affine

COARSE = 32
"""The coarse search is over images reduced to this side."""

SPACING = 2.0
"""Root mean square distance, in pixels, by which neighbours of the coarse search move the picture, but for shifts."""

STARTS, FINALISTS = 6, 2
"""So many of the coarse search are refined on the reduced images, so many of those on the images; and no transform."""

STEPS = (4, 8)
"""Of Levenberg-Marquardt, on the reduced images and on the images."""

DIFFERENCE = 0.3
"""Pixels, of the finite differences of the refinement."""

VALUES = 1 << 22
"""Image values that the search holds at a time, at least those of one image; it bounds the memory."""


class Limits(NamedTuple):
    """The largest transforms, in degrees, share of the side and ratio; the least share of the original covered."""

    rotation: float
    translation: float
    scale: float
    overlap: float


def laid(perturbed: torch.Tensor, transforms: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The moved images `(N, C, H, W)`, and `(N, 1, H, W)`: how much of each pixel comes from inside the picture.

    Args:
        perturbed: `(N, C, H, W)`.
        transforms: `(N, 4)`: degrees, pixels down, pixels to the right, and the logarithm of the scale.
    """
    inside = torch.ones_like(perturbed[:, :1], requires_grad=False)
    return _moved(perturbed, transforms), _moved(inside, transforms, Outside.BLACK).clamp(0, 1)


def _moved(images: torch.Tensor, transforms: torch.Tensor, outside: Outside = Outside.EDGE) -> torch.Tensor:
    angle, shift, scale = transforms[:, 0], transforms[:, 1:3], transforms[:, 3].exp()
    return affine(images, angle, shift, scale, outside=outside)


def best_transforms(images: torch.Tensor, perturbed: torch.Tensor, limits: Limits) -> torch.Tensor:
    """`(N, 4)` of `laid`: of the transforms within the limits, the one whose mean square difference is least.

    The search is over rotations and scales, for each over all shifts by whole pixels at once, by correlation (Fourier).
    The best, and no transform, are refined by Levenberg-Marquardt.
    """
    small = _reduced(images[:1]).shape[1:]
    turns = _turns(limits, *small[1:])
    rows = max(1, VALUES // max(1, len(turns) * math.prod(small), 4 * (FINALISTS + 1) * math.prod(images.shape[1:])))
    pairs = zip(torch.split(images, rows), torch.split(perturbed, rows), strict=True)
    return torch.cat([_best(*pair, limits, turns.to(images)) for pair in pairs])


def mean_square(
    images: torch.Tensor, perturbed: torch.Tensor, transforms: torch.Tensor, overlap: float
) -> torch.Tensor:
    """`(N,)`: over what is covered; infinite where that is less than `overlap` of the picture."""
    moved, inside = laid(perturbed, transforms)
    covered = inside.mean((1, 2, 3))
    found = (inside * (moved - images) ** 2).mean((1, 2, 3)) / covered.clamp(min=1e-6)
    return torch.where(covered >= overlap, found, math.inf)


def reach(height: int, width: int) -> float:
    """Root mean square distance of a pixel from the middle of the picture, at least 1."""
    return max(1.0, math.sqrt((height**2 + width**2 - 2) / 12))


def _best(images: torch.Tensor, perturbed: torch.Tensor, limits: Limits, turns: torch.Tensor) -> torch.Tensor:
    small = _reduced(images), _reduced(perturbed)
    found, errors = _refined(*small, _with_none(_starts(*small, limits, turns)), limits, STEPS[0])
    ratio = [full / part for full, part in zip(images.shape[2:], small[0].shape[2:], strict=True)]
    ranks = errors.argsort(1)[:, :FINALISTS, None].expand(-1, -1, 4)
    finalists = found.gather(1, ranks) * found.new_tensor([1, *ratio, 1])
    found, errors = _refined(images, perturbed, _with_none(finalists), limits, STEPS[1])
    return found[torch.arange(len(found), device=found.device), errors.argmin(1)]


def _with_none(transforms: torch.Tensor) -> torch.Tensor:
    return torch.cat([torch.zeros_like(transforms[:, :1]), transforms], dim=1)


def _reduced(images: torch.Tensor) -> torch.Tensor:
    by = max(images.shape[2:]) / COARSE
    if by <= 1:
        return images
    return interpolate(images, [max(1, round(side / by)) for side in images.shape[2:]], mode="area")


def _turns(limits: Limits, height: int, width: int) -> torch.Tensor:
    """`(K, 2)`: the degrees and logarithms of scales of the coarse search."""
    radius = reach(height, width)

    def steps(largest: float) -> torch.Tensor:
        each_side = math.ceil(largest * radius / SPACING)
        return torch.linspace(-largest if each_side else 0, largest, 2 * each_side + 1, device="cpu")

    return torch.cartesian_prod(steps(math.radians(limits.rotation)).rad2deg(), steps(math.log(limits.scale)))


def _starts(images: torch.Tensor, perturbed: torch.Tensor, limits: Limits, turns: torch.Tensor) -> torch.Tensor:
    """`(N, at most STARTS, 4)`: the best turns, each with its best shift by whole pixels."""
    count, (height, width) = len(images), images.shape[2:]
    how = turns.new_zeros(count, len(turns), 4)
    how[..., 0], how[..., 3] = turns.T
    moved, inside = laid(perturbed.repeat_interleave(len(turns), 0), how.flatten(0, 1))
    moved, inside = (part.view(count, -1, *part.shape[1:]) for part in (moved, inside))
    most = [math.floor(limits.translation * side) for side in (height, width)]
    size = [side + shift for side, shift in zip((height, width), most, strict=True)]

    def spectrum(parts: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = torch.fft.rfft2(parts, size)
        return found

    # the sum over pixels of inside (moved - image)^2, for every shift of moved and inside
    square = spectrum((inside * moved**2).sum(2)).conj() * spectrum(torch.ones_like(images[:1, :1]))
    square += spectrum(inside[:, :, 0]).conj() * spectrum((images**2).sum(1, keepdim=True))
    square -= 2 * (spectrum(inside * moved).conj() * spectrum(images)[:, None]).sum(2)
    covered = spectrum(inside[:1, :, 0]).conj() * spectrum(torch.ones_like(images[:1, :1]))
    shifts = [torch.arange(-shift, shift + 1, device=images.device) for shift in most]
    total, pixels = (
        torch.fft.irfft2(part, size)[:, :, shifts[0] % size[0]][..., shifts[1] % size[1]] for part in (square, covered)
    )
    errors = torch.where(pixels >= limits.overlap * height * width, total / pixels.clamp(min=1), math.inf).flatten(2)
    least, places = errors.min(2)
    ranks = least.topk(min(STARTS, len(turns)), dim=1, largest=False).indices
    places = places.gather(1, ranks)
    down, right = (shifts[0][places // len(shifts[1])], shifts[1][places % len(shifts[1])])
    chosen = how.gather(1, ranks[..., None].expand(-1, -1, 4))
    chosen[..., 1], chosen[..., 2] = down.to(chosen), right.to(chosen)
    return chosen


def _refined(
    images: torch.Tensor, perturbed: torch.Tensor, starts: torch.Tensor, limits: Limits, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Transforms `(N, S, 4)` and their mean squares `(N, S)` after so many steps of Levenberg-Marquardt."""
    each = starts.shape[1]
    images, perturbed = (part.repeat_interleave(each, 0) for part in (images, perturbed))
    radius, (height, width) = reach(*images.shape[2:]), images.shape[2:]
    unit = starts.new_tensor([math.degrees(1 / radius), 1, 1, 1 / radius])  # each moves the picture by about a pixel
    bounds = [limits.rotation, limits.translation * height, limits.translation * width, math.log(limits.scale)]
    most = starts.new_tensor(bounds) / unit
    now = starts.flatten(0, 1) / unit
    errors = mean_square(images, perturbed, now * unit, limits.overlap)
    damping = torch.full_like(errors, 1e-2)
    for _ in range(steps):
        moved, inside = laid(perturbed, now * unit)
        slopes = []
        for step in DIFFERENCE * torch.eye(4, dtype=now.dtype, device=now.device):
            there, back = (_moved(perturbed, (now + sign * step) * unit) for sign in (1, -1))
            slopes.append((inside * (there - back) / (2 * DIFFERENCE)).flatten(1))
        slope = torch.stack(slopes, dim=1)
        normal = slope @ slope.mT
        diagonal = normal.diagonal(dim1=1, dim2=2)
        normal = normal + torch.diag_embed(damping[:, None] * diagonal + 1e-6 * diagonal.sum(1, keepdim=True) + 1e-9)
        pull = slope @ (inside * (images - moved)).flatten(1)[..., None]
        step = torch.linalg.solve_ex(normal, pull).result[..., 0].nan_to_num(0, 0, 0)
        trial = (now + step).clamp(-most, most)
        tried = mean_square(images, perturbed, trial * unit, limits.overlap)
        better = tried < errors
        now = torch.where(better[:, None], trial, now)
        errors = torch.where(better, tried, errors)
        damping = torch.where(better, damping / 4, damping * 4).clamp(1e-6, 1e6)
    return (now * unit).view(-1, each, 4), errors.view(-1, each)
