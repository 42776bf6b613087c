"""Sparse-RS (Croce, Andriushchenko, Singh, Flammarion & Hein 2022): random search over few pixels."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.geometry import largest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.painting import Frame, Painting, Patch
from charpy.search.random_search import draws_of, random_search, steps_of, stepwise
from charpy.search.stream import State
from charpy.threat import Access, Goal, Norm

SHAPES = "Croce et al. 2022, section 5"
CODE = "Croce et al. 2022, the released code"


class Shape(StrEnum):
    """Which pixels may change: any, those of one square, or those along the border."""

    PIXELS = "pixels"
    PATCH = "patch"
    FRAME = "frame"


class SparseRs(Attack):
    """Random search for th pixels and their colours, all of them corners of the colour cube (L0).

    It begins at random pixels; a step exchanges a share of them, `alpha_init` at first and less by a schedule, for
    pixels outside the set (algorithm 2). A step is kept if the loss falls: the margin, or toward a target its
    cross-entropy. `shape: patch` is the attack on the largest square that th pixels hold, which moves and is repainted
    in shrinking squares; `shape: frame` that on the widest frame that th pixels hold.

    Differs from the paper: a share `local` of the steps moves pixels to places near their own, half of them with their
    colour, because neighbours matter alike; `local: 0` is the published search. A new colour is never the image's own,
    which would waste a pixel (for black and white images every second one). A pixel whose new place is taken stays and
    gets another colour. A patch begins in blocks of one size, not in many overlapping squares.
    """

    norms = frozenset({Norm.L0})
    access = Access.SCORES
    family = Family.TARGET_DISTORTION
    source = "Croce et al. 2022, Sparse-RS: a versatile framework for sparse black-box attacks (arXiv:2006.12834)"

    class Params(BaseParams):
        """Parameters of Sparse-RS."""

        shape: Shape = param(Shape.PIXELS, description="pixels, patch or frame", source=SHAPES)
        alpha_init: float | None = param(
            None,
            gt=0,
            le=1,
            description="share that the first steps change; if not given, pixels 0.3 (toward a target 0.1), "
            "patch 0.4 (0.1), frame 0.5",
            source=CODE,
        )
        local: float = param(0.3, ge=0, le=1, description="pixels: share of the steps to places nearby", source="ours")
        reach: int = param(2, ge=1, le=64, description="pixels: how far these go", unit="pixels", source="ours")
        period: int | None = param(
            None,
            ge=2,
            description="patch: every which step moves it; 4, or toward a target 10, if not given",
            unit="steps",
            source=CODE,
        )
        restarts: int = param(1, ge=1, description="searches that share the budget", unit="searches", source=CODE)
        rescale: bool = param(
            True, description="fit the schedule to the budget; else it is that of 10,000 queries", source=CODE
        )

    def run(self, task: Task) -> None:
        """Search from random colours until the budget is spent."""
        painting = self._painting(task)
        random_search(
            task,
            painting.begin,
            painting.propose,
            painting.render,
            loss="margin" if task.threat.goal is Goal.UNTARGETED else "cross_entropy",
            runs=self.params.restarts,
        )

    def _painting(self, task: Task) -> Painting:
        params = self.params
        steps = steps_of(task, params.restarts) if params.rescale else 10_000
        targeted = task.threat.goal is Goal.TARGETED
        if params.shape is Shape.PATCH:
            period = params.period or (10 if targeted else 4)
            return Patch(task, steps, params.alpha_init or (0.1 if targeted else 0.4), period)
        if params.shape is Shape.FRAME:
            return Frame(task, steps, params.alpha_init or 0.5)
        alpha = params.alpha_init or (0.1 if targeted else 0.3)
        return Pixels(task, steps, alpha, params.local, params.reach)


class Pixels(Painting):
    """Any th pixels."""

    ENDS = (0, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
    DIVISORS = (1, 2, 4, 5, 6, 8, 10, 12, 15, 20)

    def __init__(self, task: Task, steps: int, alpha: float, local: float, reach: int) -> None:
        super().__init__(task, steps)
        self.local, self.reach = local, reach
        self.places = self.height * self.width
        self.count = min(task.threat.th, self.places)
        self.shares = [alpha / divisor for divisor in self.DIVISORS]

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Random pixels in random colours."""
        keys = self.random.fork("start").uniform(sample, run, self.places)
        place = keys.topk(self.count, dim=1).indices
        number = self.random.fork("colours").integers(sample, run, 1 << 24, self.count)
        return {"place": place, "colour": self.unlike(self._own(sample, place), number)}

    def propose(self, state: State) -> State:
        """Exchange a share of the pixels for others, anywhere or nearby."""
        sample, old, k = state["sample"], state["place"], self.count
        unit = self.random.uniform(sample, draws_of(state), 3 * k + 1)
        share = stepwise(state["step"], self.steps, self.ENDS, self.shares)
        chosen = largest(unit[:, :k], (share * k).long().clamp_(min=1))
        mode = unit[:, -1:]
        fresh = torch.where(mode < self.local, self._near(old, unit[:, k : 2 * k]), self._far(old, unit[:, k : 2 * k]))
        fresh = torch.where(chosen & ~_taken(old, torch.where(chosen, fresh, old)), fresh, old)
        number = (unit[:, 2 * k : 3 * k] * 2**24).long()
        own = self._own(sample, fresh)
        keeps = (mode < self.local / 2) & (fresh != old) & (state["colour"] != own).any(2)
        colour = torch.where((chosen & ~keeps)[:, :, None], self.unlike(own, number), state["colour"])
        return {"place": fresh, "colour": colour}

    def _far(self, place: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Places `(B, k)` uniform over those outside the set: skip its members in increasing order."""
        rank = (unit * (self.places - self.count)).long()
        before = place.sort(1).values - torch.arange(self.count, device=place.device)
        outside: torch.Tensor = (rank + torch.searchsorted(before, rank, right=True)).clamp_(max=self.places - 1)
        return outside

    def _near(self, place: torch.Tensor, unit: torch.Tensor) -> torch.Tensor:
        """Places in the square around each one."""
        side = 2 * self.reach + 1
        step = (unit * side**2).long()
        row = (place // self.width + step // side - self.reach).clamp_(0, self.height - 1)
        column = (place % self.width + step % side - self.reach).clamp_(0, self.width - 1)
        return row * self.width + column

    def _own(self, sample: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
        """The images' own colours `(B, k, C)`."""
        rows = self.images[sample]
        return rows.gather(2, place[:, None].expand(-1, self.channels, -1)).transpose(1, 2)


def _taken(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """bool `(B, k)`: new places that another pixel of the set has, or is going to."""
    other = ~torch.eye(old.shape[1], dtype=torch.bool, device=old.device)
    return (((new[:, :, None] == old[:, None]) | (new[:, :, None] == new[:, None])) & other).any(2)
