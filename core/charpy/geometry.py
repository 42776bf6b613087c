"""The geometry of a threat: projections onto its ball inside the box, steepest directions, random starts.

Perturbations are `(B, C, H, W)`; a radius is a number or one per row, `(B,)`. L0 counts pixels. Everything is batched,
and each row is treated alone.
"""

from __future__ import annotations

import torch

from charpy.random import Random
from charpy.threat import Norm

Radius = torch.Tensor | float

_ROUNDS = 60
"""Most steps of a search for a multiplier; Newton's steps find it in about five, bisection in this many."""

_ULP = 2.0**-23
"""What float32 resolves, relative."""

_SAFE = 1 - 2 * _ULP
"""Share of a radius that is aimed at: float32 rounding then seldom leaves the ball."""

_TRIMS = 12
"""Most trims of a point that float32 rounding left outside: the last one takes the whole perturbation away."""


def norm_of(norm: Norm, delta: torch.Tensor) -> torch.Tensor:
    """float32 `(B,)` size of perturbations: changed pixels for L0, image values otherwise."""
    return _size(norm, delta).to(delta.dtype)


def project(norm: Norm, images: torch.Tensor, candidates: torch.Tensor, radius: Radius) -> torch.Tensor:
    """The image nearest (in L2) to each candidate among those in the box [0, 1] and within `radius` of `images`.

    Exact for every norm. L2: clip(s delta) with the scale s, and L1: clip(soft threshold of delta at m) with the
    multiplier m, at which the size is the radius; clipping is to the box. L0 keeps the pixels whose reset would cost
    most (Croce & Hein 2019, section 3.2). Inside already = unchanged, to the bit.
    """
    limit = _column(radius, candidates)
    if norm is Norm.LINF:
        return torch.minimum(torch.maximum(candidates, images - limit), images + limit).clamp_(0, 1)
    boxed = candidates.clamp(0, 1)
    outside = _size(norm, boxed - images) > limit.flatten()
    if not bool(outside.any()):
        return boxed
    rows = outside.nonzero()[:, 0]
    base, asked = images.index_select(0, rows), candidates.index_select(0, rows)
    limit = limit.expand(len(images), 1, 1, 1)[rows]
    if norm is Norm.L0:
        within = _keep_pixels(base, asked, boxed[rows], limit)
    else:
        within = _shrink(norm, base, asked - base, limit.flatten())
    return boxed.index_copy_(0, rows, within)


def furthest(norm: Norm, images: torch.Tensor, gradient: torch.Tensor, radius: Radius) -> torch.Tensor:
    """The image in the box and within `radius` of `images` where a linear function with this gradient is largest.

    For Linf, L2 and L1. Values whose gradient is 0 stay.
    """
    limit = _column(radius, images)
    if norm is Norm.LINF:
        return project(norm, images, images + limit * gradient.sign(), radius)
    signs = gradient.sign()
    reach, room = gradient.abs(), _room(images, signs).mul_(signs.abs())
    limit = limit.flatten().expand(len(images))
    if norm is Norm.L2:
        return _trim(norm, images, signs, _scaled(reach, room, limit), limit)
    order = reach.flatten(1).argsort(dim=1, descending=True)
    most = room.flatten(1).gather(1, order)
    before = most.cumsum(1, dtype=torch.float64) - most
    moved = (limit[:, None] - before).clamp_min_(0).minimum(most).to(room.dtype)
    return _trim(norm, images, signs, torch.zeros_like(moved).scatter_(1, order, moved), limit)


def onto_sphere(images: torch.Tensor, candidates: torch.Tensor, radius: Radius) -> torch.Tensor:
    """The image in the box at L2 distance `radius` of `images` in the direction of each candidate: clip(s delta).

    s is such that the distance is exact after clipping: what the box takes from some values, the others make up. Where
    they cannot, values that have no room in their direction go the other way; where that is not enough either, all
    values go towards the corner of the box that is furthest. An image that has no point so far gets that corner.
    """
    limit = _column(radius, images).flatten().expand(len(images))
    delta = candidates - images
    result = furthest(Norm.L2, images, delta, limit)
    far = (images < 0.5).to(images.dtype) - images
    for way in range(2):
        rows = (_size(Norm.L2, result - images) < (1 - 1e-5) * limit - 1e-6).nonzero()[:, 0]
        if not len(rows):
            break
        away = far[rows]
        if way == 0:
            wanted = delta[rows]
            stuck = _room(images[rows], wanted.sign()).mul_(wanted.sign().abs_()) == 0
            away = torch.where(stuck, away * wanted.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30), wanted)
        result[rows] = furthest(Norm.L2, images[rows], away, limit[rows])
    return result


def steepest(norm: Norm, gradient: torch.Tensor, count: Radius = 1.0) -> torch.Tensor:
    """The direction of unit size along which a linear function with this gradient grows most, `(B, C, H, W)`.

    Linf: the sign; L2: the gradient over its length; L1: unit steps shared by the `count` largest values; L0: the
    gradient of the `count` pixels where it is longest, at unit L2 length. Where the gradient is 0 or NaN it is 0.
    """
    if norm is Norm.LINF:
        return gradient.sign()
    flat = gradient.flatten(1)
    if norm is Norm.L2:
        length = torch.linalg.vector_norm(flat, dim=1)
        unit: torch.Tensor = flat / length[:, None]
        odd = (~((length > 1e-15) & (length < 1e15))).nonzero()[:, 0]
        if len(odd):
            # The largest value first: the squares of values below 1e-19 are 0 in float32, those above 1e19 infinite.
            part = flat.index_select(0, odd).nan_to_num(nan=0.0)
            part = part / part.abs().amax(1, keepdim=True).clamp_min(1e-38)
            unit[odd] = part / torch.linalg.vector_norm(part, dim=1, keepdim=True).clamp_min(1e-30)
        return unit.view_as(gradient)
    if norm is Norm.L1:
        signs: torch.Tensor = flat.sign() * largest(flat.abs(), count)
        return signs.div_(signs.abs().sum(1, keepdim=True).clamp_min(1)).view_as(gradient)
    chosen = largest(gradient.square().sum(1).flatten(1), count).view(len(gradient), 1, *gradient.shape[2:])
    return steepest(Norm.L2, gradient * chosen)


def largest(values: torch.Tensor, count: Radius) -> torch.Tensor:
    """bool `(B, D)`: the `count` largest of each row; of equal ones the earlier. `count` is a number or `(B,)`."""
    wanted = torch.as_tensor(count, device=values.device).reshape(-1, 1).ceil().to(torch.int64)
    wanted = wanted.clamp(0, values.shape[1]).expand(len(values), 1)
    most = int(wanted.max()) if len(values) else 0
    if most == 0:
        return torch.zeros_like(values, dtype=torch.bool)
    alike = bool((wanted == most).all())
    top = values.topk(most, dim=1, sorted=not alike).values
    least = top.amin(1, keepdim=True) if alike else top.gather(1, (wanted - 1).clamp_min(0))
    above, equal = values > least, values == least
    missing = wanted - above.sum(1, keepdim=True)
    if bool((equal.sum(1, keepdim=True) != missing).any()):
        equal &= equal.cumsum(1) <= missing
    return above.logical_or_(equal)


def random_start(
    norm: Norm, images: torch.Tensor, radius: Radius, random: Random, sample: torch.Tensor, draws: torch.Tensor | int
) -> torch.Tensor:
    """A random image in the ball of each row, inside the box; uniform in the ball before the box cuts it (not for L0).

    L0: as many random pixels as the radius says, each a random corner of the colour cube. `images` are the rows'
    originals, `sample` `(B,)` whose stream each row draws from.
    """
    shape = images.shape[1:]
    limit = _column(radius, images)
    if norm is Norm.LINF:
        return project(norm, images, images + (2 * random.uniform(sample, draws, *shape) - 1) * limit, radius)
    fork = random.fork("radius")
    if norm is Norm.L0:
        corners = random.integers(sample, draws, 2, *shape).to(images.dtype)
        chosen = largest(fork.uniform(sample, draws, shape[1] * shape[2]), limit.flatten().floor())
        return torch.where(chosen.view(-1, 1, *shape[1:]), corners, images)
    size = images[0].numel()
    if norm is Norm.L2:
        direction = random.normal(sample, draws, *shape)
    else:
        uniform = random.uniform(sample, draws, *shape).mul_(2).sub_(1)
        direction = -uniform.sign() * torch.log1p(-uniform.abs().clamp_max(1 - 2**-24))
    reach = fork.uniform(sample, draws, 1)[:, 0].pow(1 / size)
    scale = (reach / norm_of(norm, direction).clamp_min(1e-30))[:, None, None, None]
    return project(norm, images, (images + direction * scale * limit).clamp_(0, 1), radius)


def column(values: torch.Tensor) -> torch.Tensor:
    """`(B,)` as `(B, 1, 1, 1)`: one value for each image of a batch."""
    return values[:, None, None, None]


def _size(norm: Norm, delta: torch.Tensor) -> torch.Tensor:
    """float64 `(B,)` size of perturbations."""
    if norm is Norm.L0:
        return (delta != 0).any(1).flatten(1).sum(1).to(torch.float64)
    if norm is Norm.LINF:
        return delta.abs().flatten(1).amax(1).to(torch.float64)
    return _sum(delta.abs()) if norm is Norm.L1 else _sum(delta.square()).sqrt()


def _sum(values: torch.Tensor) -> torch.Tensor:
    """float64 `(B,)`, from float32 sums of single lines of the images.

    A float32 sum of thousands of values can be off by more than the judge forgives; converting every value to float64
    costs three times as much as this.
    """
    return values.sum(-1).flatten(1).sum(1, dtype=torch.float64)


def _column(radius: Radius, images: torch.Tensor) -> torch.Tensor:
    return torch.as_tensor(radius, dtype=images.dtype, device=images.device).reshape(-1, 1, 1, 1)


def _room(images: torch.Tensor, signs: torch.Tensor) -> torch.Tensor:
    """How far each value can go in its direction until it meets the box."""
    return signs.clamp_min(0).sub_(images).abs_()


def _keep_pixels(
    images: torch.Tensor, candidates: torch.Tensor, boxed: torch.Tensor, limit: torch.Tensor
) -> torch.Tensor:
    gain = (candidates - images).square().sum(1) - (candidates - boxed).square().sum(1)
    kept: torch.Tensor = largest(gain.flatten(1), limit.flatten().floor()).view(len(images), 1, *images.shape[2:])
    return torch.where(kept, boxed, images)


def _shrink(norm: Norm, images: torch.Tensor, delta: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """`images + u`, u the nearest point to `delta` with norm at most `limit` and `images + u` in the box.

    Lagrange: u = clip(delta / (1 + m)) for L2, clip(soft threshold of delta at m) for L1, with m >= 0 such that the
    norm is the limit. The rows of `delta` are all too large, even clipped.
    """
    signs = delta.sign()
    moved = (_scaled if norm is Norm.L2 else _thresholded)(delta.abs(), _room(images, signs), limit)
    return _trim(norm, images, signs, moved, limit)


def _scaled(reach: torch.Tensor, room: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """min(s reach, room) with s such that its length is the limit; the whole room where that is not enough.

    As a function of q = s^2 the squared length is concave, increasing and piecewise linear: Newton's steps from q = 0
    climb to the solution and meet it exactly, after as many steps as there are sets of values at the box on the way.
    (Signs instead of masks: selecting by a mask costs many times an arithmetic pass.)
    """
    reach = reach / reach.flatten(1).amax(1).clamp_min(1e-38)[:, None, None, None]
    power = (limit.to(torch.float64) * _SAFE).square()
    squared = power / _sum(reach.square()).clamp_min(1)  # the largest reach is 1, if it is not 0
    moving = torch.arange(len(limit), device=limit.device)
    ray, wall = reach, room
    for _ in range(_ROUNDS):
        q = squared[moving]
        moved = torch.minimum(ray * q.sqrt().to(ray.dtype)[:, None, None, None], wall)
        slope = _sum((wall - moved).sign_().mul_(ray).square_())
        missing = power[moving] - _sum(moved.square_())
        better = (q + missing / slope).nan_to_num(nan=0.0).clamp_max(1e60)
        climbs = ((missing > _ULP * power[moving]) & (better > q)).nonzero()[:, 0]
        if not len(climbs):
            break
        moving = moving[climbs]
        squared[moving] = better[climbs]
        ray, wall = ray.index_select(0, climbs), wall.index_select(0, climbs)
    return torch.minimum(reach * squared.sqrt().to(reach.dtype)[:, None, None, None], room)


def _thresholded(reach: torch.Tensor, room: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    """min(max(reach - m, 0), room) with m such that its sum is the limit; the sum at m = 0 is larger.

    Solved for t, how far m lies below the largest reach, which float32 resolves where m itself is large. The sum grows
    with t, piecewise linearly: Newton's steps, and the middle of the bracket where one would leave it.
    """
    total = limit.to(torch.float64) * _SAFE
    high = reach.flatten(1).amax(1)
    below = high[:, None, None, None] - reach
    low, best = torch.zeros_like(limit), high.clone()
    moving = torch.arange(len(limit), device=limit.device)
    gap, wall = below, room
    for _ in range(_ROUNDS):
        t = best[moving]
        moved = (t[:, None, None, None] - gap).clamp_min_(0)
        missing = total[moving] - _sum(moved.minimum(wall))
        free = _sum((wall - moved).minimum(moved).clamp_min_(0).sign_())
        low[moving] = torch.where(missing > 0, t, low[moving])
        high[moving] = torch.where(missing > 0, high[moving], t)
        newton = (t + missing / free).to(limit.dtype)
        inside = (newton > low[moving]) & (newton < high[moving])
        better = torch.where(inside, newton, (low[moving] + high[moving]) / 2)
        precise = (newton - t).abs() <= _ULP * t
        moves = ((missing.abs() > _ULP * total[moving]) & ~precise).nonzero()[:, 0]
        if not len(moves):
            break
        moving = moving[moves]
        best[moving] = better[moves]
        gap, wall = gap.index_select(0, moves), wall.index_select(0, moves)
    return (best[:, None, None, None] - below).clamp_min_(0).minimum(room)


def _trim(
    norm: Norm, images: torch.Tensor, signs: torch.Tensor, moved: torch.Tensor, limit: torch.Tensor
) -> torch.Tensor:
    """`images + signs moved`, where rounding took a row out of the ball a hair shorter."""
    delta = signs * moved.view_as(images)
    result = (images + delta).clamp_(0, 1)
    for turn in range(_TRIMS):
        size = _size(norm, result - images)
        rows = (size > limit).nonzero()[:, 0]
        if not len(rows):
            break
        share = (limit[rows] / size[rows] * (1 - 4.0 ** (turn + 1 - _TRIMS))).to(delta.dtype)
        delta[rows] = delta[rows] * share[:, None, None, None]
        result[rows] = (images[rows] + delta[rows]).clamp_(0, 1)
    return result
