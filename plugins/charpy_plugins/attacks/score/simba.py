"""SimBA (Guo, Gardner, You, Wilson & Weinberger 2019): one direction of a basis at a time."""

from __future__ import annotations

import math
from enum import StrEnum

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.random_search import random_search
from charpy.search.stream import State
from charpy.threat import Access, Grid, Norm

PAPER = "Guo et al. 2019, algorithm 1"
DCT = "Guo et al. 2019, section 3.2"


class Basis(StrEnum):
    """Orthonormal directions: single values of the image, or waves of its discrete cosine transform."""

    PIXEL = "pixel"
    DCT = "dct"


class LossName(StrEnum):
    """What must fall: the true class's probability (the paper), or its margin over the best other score."""

    PROBABILITY = "probability"
    MARGIN = "margin"


class Simba(Attack):
    """Adds or subtracts one basis direction at a time, and keeps what lowers the loss (L2, Linf).

    The directions come in a random order, the cosines from low frequencies to high; each is tried with one sign and, if
    that is refused, with the other. For Linf the largest value of a direction counts as its length.

    Differs from the paper, where the number of steps bounds the L2 norm: the perturbation is scaled (Linf: clipped)
    into the ball of the threat model, and steps are no longer than a share of its radius, but long enough to move some
    value by 1/255 on the 8-bit grid; after the last direction they begin again, in another order. The loss is the
    margin, which unlike a probability never saturates.
    """

    norms = frozenset({Norm.L2, Norm.LINF})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Guo et al. 2019, Simple black-box adversarial attacks (arXiv:1905.07121)"

    class Params(BaseParams):
        """Parameters of SimBA."""

        basis: Basis = param(Basis.DCT, description="pixel or dct", source=DCT)
        step: float = param(0.2, gt=0, description="length of a step", unit="image values", source=PAPER)
        share: float = param(0.25, gt=0, description="of the radius: a step is no longer", source="ours")
        low: float = param(
            1 / 8, gt=0, le=1, description="dct: share of the frequencies, in each direction, tried first", source=DCT
        )
        stride: float = param(1 / 32, gt=0, le=1, description="dct: by which that share grows then", source=DCT)
        loss: LossName = param(LossName.MARGIN, description="what must fall", source="Guo et al. 2019, section 3")

    def run(self, task: Task) -> None:
        """Walk along the basis until the budget is spent."""
        walk = _Walk(task, self.params)
        random_search(
            task,
            walk.begin,
            walk.propose,
            lambda state: state["image"],
            loss="margin" if self.params.loss is LossName.MARGIN else "cross_entropy",
            runs=1,
        )


class _Walk:
    """Where each search is: `place` in its `order` of directions, and whether their second sign is being tried."""

    def __init__(self, task: Task, params: Simba.Params) -> None:
        self.images, self.threat, self.params = task.images, task.threat, params
        self.shape = task.images.shape[1:]
        self.order, self.signs = task.random.fork("order"), task.random.fork("signs")
        device = task.images.device
        self.down, self.across = (_cosines(size).to(device) for size in self.shape[1:])
        self.bands = _bands(self.shape, params.low, params.stride).to(device)
        self.step = min(params.step, params.share * task.threat.radius)
        self.least = 1 / 255 if task.threat.grid is Grid.EIGHT_BIT else 0.0
        self.known = min(self.bands.numel(), task.threat.queries)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """The image itself."""
        return {
            "image": self.images[sample],
            "place": torch.full_like(sample, -1),
            "second": torch.zeros_like(sample, dtype=torch.bool),
            "seen": torch.full(sample.shape, torch.inf, device=sample.device),
            "order": self._ordered(sample, torch.zeros_like(sample)),
        }

    def propose(self, state: State) -> State:
        """The other sign of the last direction if its first was refused, else the next direction."""
        onward = ((state["loss"] < state["seen"]) | state["second"]) & (state["step"] > 0)
        state["second"], state["seen"] = ~onward & (state["step"] > 0), state["loss"]
        state["place"] = state["place"] + onward
        again = (onward & (state["place"] % self.known == 0) & (state["place"] > 0)).nonzero()[:, 0]
        if len(again):
            turn = state["place"][again] // self.known
            state["order"] = state["order"].index_copy(0, again, self._ordered(state["sample"][again], turn))
        which = state["order"].gather(1, (state["place"].clamp_min(0) % self.known)[:, None])[:, 0]
        sign = self.signs.integers(state["sample"], state["place"], 2, 1)[:, 0] * 2 - 1
        sign = torch.where(state["second"], -sign, sign).to(torch.float32)
        images = self.images[state["sample"]]
        direction = self._direction(which)
        length = (self.least / direction.flatten(1).abs().amax(1)).clamp_min(self.step)
        delta = state["image"] - images + direction * (sign * length)[:, None, None, None]
        return {"image": self._inside(images, delta)}

    def _ordered(self, sample: torch.Tensor, turn: torch.Tensor) -> torch.Tensor:
        keys = self.order.uniform(sample, turn, self.bands.numel())
        if self.params.basis is Basis.DCT:
            keys += self.bands
        return keys.argsort(dim=1)[:, : self.known]

    def _direction(self, which: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` at unit L2 length, or with the largest value 1 for Linf."""
        channels, height, width = self.shape
        channel = (torch.arange(channels, device=which.device) == (which // (height * width))[:, None]).float()
        row, column = which // width % height, which % width
        if self.params.basis is Basis.PIXEL:
            down = (torch.arange(height, device=which.device) == row[:, None]).float()
            across = (torch.arange(width, device=which.device) == column[:, None]).float()
        else:
            down, across = self.down[row], self.across[column]
            if self.threat.norm is Norm.LINF:
                down, across = (wave / wave.abs().amax(1, keepdim=True) for wave in (down, across))
        return channel[:, :, None, None] * (down[:, :, None] * across[:, None])[:, None]

    def _inside(self, images: torch.Tensor, delta: torch.Tensor) -> torch.Tensor:
        radius = self.threat.radius
        if self.threat.norm is Norm.LINF:
            return (images + delta.clamp_(-radius, radius)).clamp_(0, 1)
        size = delta.square().sum((1, 2, 3), keepdim=True).sqrt()
        return (images + delta * (radius / size.clamp_min(radius))).clamp_(0, 1)


def _cosines(size: int) -> torch.Tensor:
    """float32 `(size, size)`: the orthonormal waves of the discrete cosine transform (DCT-II), one a row."""
    place = torch.arange(size, dtype=torch.float64, device="cpu")
    waves = torch.cos(math.pi * (2 * place + 1) * place[:, None] / (2 * size)) * math.sqrt(2 / size)
    waves[0] /= math.sqrt(2)
    return waves.float()


def _bands(shape: tuple[int, ...], low: float, stride: float) -> torch.Tensor:
    """float32 `(C * H * W,)`: 0 for frequencies in the lowest share of both directions, then 1, 2, ... by `stride`."""
    channels, height, width = shape
    share = torch.maximum(
        torch.arange(1, height + 1, device="cpu")[:, None] / height,
        torch.arange(1, width + 1, device="cpu") / width,
    )
    band = ((share - low) / stride - 1e-6).ceil().clamp_min(0)
    return band.flatten().repeat(channels)
