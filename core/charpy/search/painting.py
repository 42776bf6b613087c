"""Moves that paint whole pixels with corners of the colour cube: a patch or a frame (Croce et al. 2022).

A state holds which pixels are painted, `place` `(B, P)`, and their colours, `colour` `(B, P, C)`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch

from charpy.errors import SpecError
from charpy.interfaces.attack import Task
from charpy.pixels import quantise
from charpy.search.random_search import draws_of, stepwise
from charpy.search.squares import ENDS
from charpy.search.stream import State
from charpy.threat import Grid

LOCATION_REACH = 0.75
"""Share of the image's height by which a patch may jump at first."""


class Painting(ABC):
    """Searches over the pixels of N images; uint8 on the 8-bit grid.

    Args:
        task: whose images are painted.
        steps: steps to which the schedule is fitted.
    """

    def __init__(self, task: Task, steps: int) -> None:
        self.random, self.steps = task.random, steps
        on_grid = task.threat.grid is Grid.EIGHT_BIT
        self.images = (quantise(task.images) if on_grid else task.images).flatten(2)
        self.white = 255 if on_grid else 1
        self.shape = task.images.shape[1:]
        self.channels, self.height, self.width = self.shape
        self.bits = torch.arange(self.channels, device=task.images.device)

    @abstractmethod
    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Where a search starts."""

    @abstractmethod
    def propose(self, state: State) -> State:
        """One step from the state."""

    def render(self, state: State) -> torch.Tensor:
        """The painted images `(B, C, H, W)`."""
        index = state["place"][:, None].expand(-1, self.channels, -1)
        return self.images[state["sample"]].scatter(2, index, state["colour"].transpose(1, 2)).view(-1, *self.shape)

    def corner(self, code: torch.Tensor) -> torch.Tensor:
        """Colours `(..., C)` of codes `(...)`, one bit a channel."""
        return ((code[..., None] >> self.bits & 1) * self.white).to(self.images.dtype)

    def unlike(self, colour: torch.Tensor, number: torch.Tensor) -> torch.Tensor:
        """Corners `(..., C)` chosen by `number` `(...)`, uniform over those other than `colour` `(..., C)`."""
        lit = colour == self.white
        code = (lit.long() << self.bits).sum(-1)
        exact = (lit | (colour == 0)).all(-1)
        many = 2**self.channels
        return self.corner(torch.where(exact, code ^ (1 + number % (many - 1)), number % many))


class _Region(Painting):
    """A region whose colours change in squares that shrink to single pixels, at last one channel at a time."""

    def __init__(self, task: Task, steps: int, sides: list[int], ends: tuple[int, ...]) -> None:
        super().__init__(task, steps)
        self.sides, self.ends = sides, ends
        single = next((end for end, side in zip((-1, *ends), sides, strict=True) if side == 1), 10_000)
        first = max(0, (single + 1) * steps // 10_000)
        self.channelwise = first + (steps - first) // 2

    def side(self, state: State) -> torch.Tensor:
        """int64 `(B,)` sides of this step's squares."""
        return stepwise(state["step"], self.steps, self.ends, self.sides).long()

    def repaint(self, state: State, within: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Colours with the pixels `within` `(B, P)` in one new corner; `unit` `(B, 2)` uniform numbers.

        A single pixel gets a colour that it did not have; late in the search, with one channel changed.
        """
        number = (unit[:, 0] * 2**24).long()
        single = within.sum(1) == 1
        old = (state["colour"] * within[:, :, None].to(state["colour"].dtype)).amax(1)
        channel = self.bits == (unit[:, 1:] * self.channels).long()
        flipped = torch.where(channel, self.white - old, old)
        new = torch.where(single[:, None], self.unlike(old, number), self.corner(number % 2**self.channels))
        late = single & (state["step"] >= self.channelwise)
        new = torch.where(late[:, None], flipped, new)
        return torch.where(within[:, :, None], new[:, None], state["colour"])


class Patch(_Region):
    """The largest square that `th` pixels hold; it may move, by jumps that shorten, every `period` steps."""

    def __init__(self, task: Task, steps: int, alpha: float, period: int) -> None:
        size = min(int(task.threat.th**0.5), *task.images.shape[2:])
        self.size, self.period = size, period
        sides = [max(1, int((alpha / 2**halved) ** 0.5 * size)) for halved in range(len(ENDS) + 1)]
        super().__init__(task, steps, sides, ENDS)
        grid = torch.arange(size, device=task.images.device)
        self.row, self.column = grid.repeat_interleave(size), grid.repeat(size)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """A patch anywhere, in blocks of random colours."""
        unit = self.random.fork("patch").uniform(sample, run, 5)
        largest = max(2, -int(-(self.size**0.5) // 1))
        block = 1 + (unit[:, 2] * (largest - 1)).long()[:, None]
        shift = (unit[:, 3:] * largest).long()
        down, across = (self.row + shift[:, :1]) // block, (self.column + shift[:, 1:]) // block
        cells = self.random.fork("blocks").integers(sample, run, 2**self.channels, (self.size + largest) ** 2)
        colour = self.corner(cells.gather(1, down * (self.size + largest) + across))
        top = (unit[:, 0] * (self.height - self.size + 1)).long()
        left = (unit[:, 1] * (self.width - self.size + 1)).long()
        corner = torch.stack([top, left], 1)
        return {"corner": corner, "place": self._places(corner), "colour": colour}

    def propose(self, state: State) -> State:
        """Move the patch, or repaint a square of it."""
        unit = self.random.uniform(state["sample"], draws_of(state), 6)
        reach = ((1 - state["step"] / self.steps).clamp_min(0) * LOCATION_REACH * self.height).long()[:, None]
        moves = (state["step"] % self.period == 0)[:, None] & (reach > 0)
        jump = (unit[:, :2] * (2 * reach + 1)).long() - reach
        most = torch.tensor([self.height - self.size, self.width - self.size], device=jump.device)
        moved = torch.minimum((state["corner"] + jump).clamp_min(0), most)
        corner = torch.where(moves, moved, state["corner"])
        side = self.side(state)[:, None]
        top, left = ((unit[:, nth : nth + 1] * (self.size - side + 1)).long() for nth in (2, 3))
        within = (self.row >= top) & (self.row < top + side) & (self.column >= left) & (self.column < left + side)
        colour = torch.where(moves[:, :, None], state["colour"], self.repaint(state, within, unit[:, 4:]))
        return {"corner": corner, "place": self._places(corner), "colour": colour}

    def _places(self, corner: torch.Tensor) -> torch.Tensor:
        return (corner[:, :1] + self.row) * self.width + corner[:, 1:] + self.column


class Frame(_Region):
    """The widest frame along the image's border that `th` pixels hold."""

    def __init__(self, task: Task, steps: int, alpha: float) -> None:
        height, width = task.images.shape[2:]
        edge = torch.minimum(
            torch.minimum(torch.arange(height), torch.arange(height).flip(0))[:, None],
            torch.minimum(torch.arange(width), torch.arange(width).flip(0)),
        ).flatten()
        widths = [w for w in range(1, (min(height, width) + 1) // 2 + 1) if int((edge < w).sum()) <= task.threat.th]
        if not widths:
            raise SpecError(
                "no frame fits",
                where="sparse_rs",
                found=f"th = {task.threat.th} pixels on images of {height} x {width}",
                expected=f"at least {int((edge < 1).sum())}, the pixels along the border",
                hint="choose a higher level, or shape: patch or pixels",
            )
        self.thickness = widths[-1]
        ends = tuple(range(250, 10_000, 250))
        shares = [max(0.0, 0.5 - end / 10_000) * alpha * self.thickness**2 for end in (0, *ends)]
        sides = [max(1, 3 * int(-(-share // 1))) for share in shares]
        super().__init__(task, steps, sides, ends)
        self.frame = (edge < self.thickness).nonzero()[:, 0].to(task.images.device)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Every pixel of the frame in a random colour."""
        code = self.random.fork("frame").integers(sample, run, 2**self.channels, len(self.frame))
        return {"place": self.frame.expand(len(sample), -1), "colour": self.corner(code)}

    def propose(self, state: State) -> State:
        """Repaint a square with one corner on the frame, as far as the frame reaches."""
        unit = self.random.uniform(state["sample"], draws_of(state), 5)
        place = self.frame[(unit[:, 0] * len(self.frame)).long()][:, None]
        side = self.side(state)[:, None]
        down = (self.frame // self.width - place // self.width) * torch.where(unit[:, 1:2] < 0.5, 1, -1)
        across = (self.frame % self.width - place % self.width) * torch.where(unit[:, 2:3] < 0.5, 1, -1)
        within = (down >= 0) & (down < side) & (across >= 0) & (across < side)
        return {"place": state["place"], "colour": self.repaint(state, within, unit[:, 3:])}
