"""Square (Andriushchenko, Croce, Flammarion & Hein 2020): random search with square-shaped updates."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.pixels import quantise
from charpy.search.random_search import draws_of, random_search, steps_of, stepwise
from charpy.search.squares import ENDS, Window, bumps
from charpy.search.stream import State
from charpy.threat import Access, Goal, Grid, Norm

AUTOATTACK = "Croce & Hein 2020, AutoAttack's setting"

_LENGTHENED = 2
"""How often an L2 perturbation is brought to the sphere: once more after the box has shortened it."""


class Square(Attack):
    """Random search whose steps change a square of the image at the boundary of the ball (Linf, L2).

    The squares shrink by a schedule: their share of the image is `p_init`, halved after 10, 50, 200, 500, 1000, 2000,
    4000, 6000 and 8000 of 10,000 queries. A step is kept if the loss falls: the margin, or toward a target its
    cross-entropy. Linf: every value is at x - r or x + r; it begins with vertical stripes, and a step sets one sign per
    channel in a window (algorithm 2). L2: it begins with a grid of 5 x 5 bumps; a step moves the norm of one window
    into another and adds a bump there (algorithm 3).

    Differs from the paper: the last row and column are reached by windows, which the released code leaves out. Linf: a
    step that would change nothing flips the sign of one channel of its window instead (with one channel half of all
    single-pixel steps are idle otherwise). L2: a perturbation that the box has cut is lengthened again.
    """

    norms = frozenset({Norm.LINF, Norm.L2})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Andriushchenko, Croce, Flammarion & Hein 2020, Square Attack (arXiv:1912.00049)"

    class Params(BaseParams):
        """Parameters of Square."""

        p_init: float = param(
            0.8, gt=0, le=1, description="share of the image that the first squares cover", source=AUTOATTACK
        )
        restarts: int = param(1, ge=1, description="searches that share the budget", unit="searches", source=AUTOATTACK)
        rescale: bool = param(
            True, description="fit the schedule to the budget; else it is that of 10,000 queries", source=AUTOATTACK
        )

    def run(self, task: Task) -> None:
        """Search from each image until the budget is spent."""
        moves = (_Linf if task.threat.norm is Norm.LINF else _L2)(task, self.params)
        random_search(
            task,
            moves.begin,
            moves.propose,
            lambda state: state["image"],
            loss="margin" if task.threat.goal is Goal.UNTARGETED else "cross_entropy",
            runs=self.params.restarts,
        )


class _Moves:
    """What both norms share: the size of the squares."""

    def __init__(self, task: Task, params: Square.Params) -> None:
        self.random, self.threat = task.random, task.threat
        self.channels, self.height, self.width = task.images.shape[1:]
        self.shares = [params.p_init / 2**halved for halved in range(len(ENDS) + 1)]
        self.steps = steps_of(task, params.restarts) if params.rescale else 10_000

    def side(self, state: State, least: int) -> torch.Tensor:
        """int64 `(B,)` sides of this step's squares."""
        share = stepwise(state["step"] - 1, self.steps, ENDS, self.shares)
        side = (share * self.height * self.width).sqrt().round().to(torch.int64)
        return side.clamp_(min(least, self.height, self.width), min(self.height, self.width))


class _Linf(_Moves):
    """Images whose values are all at an end of their range; uint8 on the 8-bit grid."""

    def __init__(self, task: Task, params: Square.Params) -> None:
        super().__init__(task, params)
        if task.threat.grid is Grid.EIGHT_BIT:
            pixels = quantise(task.images)
            room = torch.full_like(pixels, min(255, task.threat.th))
            self.low = torch.where(pixels > room, pixels - room, 0)
            self.high = torch.where(255 - pixels > room, pixels + room, 255)
        else:
            self.low = (task.images - task.threat.radius).clamp_min(0)
            self.high = (task.images + task.threat.radius).clamp_max(1)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Vertical stripes."""
        up = self.random.fork("stripes").integers(sample, run, 2, self.channels, 1, self.width).bool()
        return {"image": torch.where(up, self.high[sample], self.low[sample])}

    def propose(self, state: State) -> State:
        """One sign per channel in a window."""
        side = self.side(state, 1)
        unit = self.random.uniform(state["sample"], draws_of(state), 3 + self.channels)
        window = Window.at(unit[:, 0], unit[:, 1], side, self.height, self.width)
        inside = window.mask()
        low, high = self.low[state["sample"]], self.high[state["sample"]]
        up = (unit[:, 3:] < 0.5)[:, :, None, None]
        edge = torch.where(up, high, low)
        idle = ((edge == state["image"]) | ~inside).flatten(1).all(1)
        if bool(idle.any()):
            channel = torch.arange(self.channels, device=idle.device) == (unit[:, 2:3] * self.channels).long()
            edge = torch.where((channel & idle[:, None])[:, :, None, None] != up, high, low)
        return {"image": torch.where(inside, edge, state["image"])}


class _L2(_Moves):
    """Images at the sphere's surface, before the box cuts them."""

    def __init__(self, task: Task, params: Square.Params) -> None:
        super().__init__(task, params)
        self.images = task.images
        self.bumps = bumps(self.height, self.width).to(task.images.device)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """A bump of either sign and direction in each cell of a 5 x 5 grid."""
        side = max(1, min(self.height, self.width) // 5)
        down, across = self.height // side, self.width // side
        random = self.random.fork("cells")
        sign = random.integers(sample, 2 * run, 2, self.channels, down, across).mul_(2).sub_(1)
        turned = random.integers(sample, 2 * run + 1, 2, down, across)
        cell = self.bumps[:, side, :side, :side][turned]  # (B, down, across, side, side)
        delta = torch.zeros(len(sample), self.channels, self.height, self.width, device=sample.device)
        tiles = (sign[..., None, None] * cell[:, None]).transpose(3, 4).flatten(4, 5).flatten(2, 3)
        top, left = (self.height - down * side) // 2, (self.width - across * side) // 2
        delta[:, :, top : top + down * side, left : left + across * side] = tiles
        return {"image": self._at_surface(delta, sample)}

    def propose(self, state: State) -> State:
        """Move the norm of a second window into the first, with a bump added."""
        sample, draws = state["sample"], draws_of(state)
        side = self.side(state, 3)
        side = torch.where(side % 2 == 0, side + 1, side).clamp_(max=min(self.height, self.width))
        unit = self.random.uniform(sample, draws, 5 + self.channels)
        first = Window.at(unit[:, 0], unit[:, 1], side, self.height, self.width)
        second = Window.at(unit[:, 2], unit[:, 3], side, self.height, self.width)
        here, there = first.mask(), second.mask()
        delta = state["image"] - self.images[sample]
        bump = first.paste(self.bumps, (unit[:, 4] < 0.5).long())
        sign = (unit[:, 5:] < 0.5).to(delta.dtype).mul_(2).sub_(1)[:, :, None, None]
        squares = delta.square()
        total = squares.sum((1, 2, 3), keepdim=True)
        old = delta * here
        new = bump * sign + old / (1e-12 + _length(old))
        spare = (self.threat.radius**2 - total).clamp_min(0) / self.channels
        moved = (squares * (here | there)).sum((2, 3), keepdim=True)
        new *= (spare + moved).sqrt() / (1e-12 + _length(new))
        delta = torch.where(here, new, torch.where(there, 0.0, delta))
        return {"image": self._at_surface(delta, sample)}

    def _at_surface(self, delta: torch.Tensor, sample: torch.Tensor) -> torch.Tensor:
        images = self.images[sample]
        for _ in range(_LENGTHENED):
            size = delta.square().sum((1, 2, 3), keepdim=True).sqrt()
            moved = (images + delta * (self.threat.radius / (1e-12 + size))).clamp_(0, 1)
            delta = moved - images
        return moved


def _length(delta: torch.Tensor) -> torch.Tensor:
    return delta.square().sum((2, 3), keepdim=True).sqrt()
