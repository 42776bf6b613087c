"""An estimation-of-distribution search for few-pixel changes that needs labels only."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary_search import adversarial, starting_points
from charpy.search.stream import State, stream
from charpy.threat import Access, Goal, Norm

OURS = "ours"
START_LOGIT = 3.0
"""Logit of a starting point's colours: each channel begins at that corner with probability 0.95."""

SMALL_SET = 10
"""Pixels of a set that `patience` is meant for."""

STIRRED_SIZE = 3.0
"""Factor of the size when a stalled search is stirred."""


class SparseEda(Attack):
    """Learns which pixels and colours to overwrite from the labels of random sets that shrink (L0, labels only).

    Every pixel p has a weight exp(theta_p), every channel of it a logit phi_pc that its new value is 1, not 0. A
    candidate overwrites s pixels, drawn without replacement in proportion to their weights (the s largest of
    theta_p + Gumbel noise, Kool et al. 2019), by random corners of the colour cube. Each round asks `population`
    candidates of a sample and follows the policy gradient (Williams 1992) of the adversarial share, with y = 1 where
    a candidate is adversarial and 0 where not, and q the wanted share:

        theta += learning_rate * sum (y - q) (drawn - s softmax(theta))
        phi   += learning_rate * sum (y - q) (colour - sigmoid(phi))   for the pixels drawn

    and the size follows s *= exp(size_rate (q - mean y)), which keeps the share of adversarial candidates near q. So s
    falls as fast as the distribution learns, a row gives nearly one bit at every size, and the search ends as a random
    search for sets of a few promising pixels. Labels tell no candidate's quality; a walk that holds one image, such as
    Pointwise or SparseEvo, learns only about that image, while here every row speaks for each of its pixels.

    Where the least number of pixels has not fallen for `patience` rows (times s / 10 for larger sets, which need more
    to learn), theta and phi are multiplied by `heat`, and s grows again. A targeted search begins with the colours of a
    starting point of the target's class.
    """

    norms = frozenset({Norm.L0})
    access = Access.LABELS
    family = Family.TARGET_OPTIMALITY
    source = "ours, after Baluja 1994, Population-based incremental learning, and Williams 1992, REINFORCE"

    class Params(BaseParams):
        """Parameters of the search."""

        population: int = param(10, ge=1, description="candidates of a sample and round", unit="rows", source=OURS)
        learning_rate: float = param(0.4, gt=0, description="step of the logits, per candidate", source=OURS)
        success_rate: float = param(0.4, gt=0, lt=1, description="wanted adversarial share, q", source=OURS)
        size_rate: float = param(0.2, gt=0, description="how fast the size follows the share, per round", source=OURS)
        initial_share: float = param(0.3, gt=0, le=1, description="share of the pixels in the first sets", source=OURS)
        contrast: float = param(
            1.0, ge=0, description="first logit of the corner that is farther, at a black or white value", source=OURS
        )
        patience: int = param(500, ge=1, description="rows without a smaller set", unit="rows", source=OURS)
        heat: float = param(0.5, ge=0, le=1, description="factor of the logits after that many", source=OURS)
        tries: int = param(100, ge=1, description="starting points tried for a target", unit="rows", source=OURS)

    def run(self, task: Task) -> None:
        """Search every sample until its budget is spent or one pixel suffices."""
        search = _Search(task, self.params)
        every = torch.arange(len(task.images), device=task.images.device)
        width = max(1, task.oracle.batch // self.params.population)
        stream(search.begin, search.advance, lambda i: task.oracle.active[i], every, width=width)


class _Search:
    def __init__(self, task: Task, params: SparseEda.Params) -> None:
        self.task, self.params = task, params
        self.images = task.images.flatten(2)
        self.channels, self.places = self.images.shape[1:]
        self.drawn, self.coloured = task.random.fork("pixels"), task.random.fork("colours")
        self.rounding = task.random.fork("size")
        self.colours = (1 - 2 * self.images) * params.contrast
        if task.threat.goal is Goal.TARGETED:
            starts = starting_points(task, params.tries, corners=True)
            towards = (2 * starts.images.flatten(2) - 1) * START_LOGIT
            self.colours = torch.where(starts.found[:, None, None], towards, self.colours)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Every pixel alike."""
        like = torch.ones(len(sample), device=sample.device)
        return {
            "theta": like[:, None].repeat(1, self.places) * 0,
            "phi": self.colours[sample],
            "size": like * max(1.0, self.params.initial_share * self.places),
            "round": torch.zeros_like(sample),
            "least": torch.full_like(sample, self.places + 1),
            "stalled": torch.zeros_like(sample),
        }

    def advance(self, state: State) -> torch.Tensor:
        """One population per search; True where one pixel suffices."""
        population, batch = self.params.population, len(state["sample"])
        row = torch.arange(batch, device=state["sample"].device).repeat_interleave(population)
        nth = torch.arange(population, device=row.device).repeat(batch)
        draws = state["round"][row] * population + nth
        place, there = self._pixels(state, row, draws)
        own = state["sample"][row]
        index = place[:, None].expand(-1, self.channels, -1)
        chance = state["phi"][row].gather(2, index).sigmoid()
        uniform = self.coloured.uniform(own, draws, place.shape[1], self.channels).transpose(1, 2)
        colour = (uniform < chance).to(chance.dtype)
        kept = self.images[own].gather(2, index)
        changed = (there & (colour != kept).any(1)).sum(1)
        asked = self.images[own].scatter(2, index, torch.where(there[:, None], colour, kept))
        hit = adversarial(self.task, asked.view(-1, *self.task.images.shape[1:]), own)
        gain = (hit.to(chance.dtype) - self.params.success_rate)[:, None] * there
        self._learn(state, gain.view(batch, -1), place.view(batch, -1), (colour - chance) * gain[:, None])
        self._follow(state, hit.view(batch, -1), changed.view(batch, -1))
        return state["least"] <= 1

    def _pixels(self, state: State, row: torch.Tensor, draws: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Places `(B * population, S)` by falling rank, and which of them belong to the set."""
        own = state["sample"][row]
        # A fraction of its own in each place's last bit: no two keys are equal, and topk has no ties to break.
        fraction = (torch.arange(self.places, device=row.device, dtype=torch.float64) + 0.5) / self.places
        uniform = self.drawn.uniform(own, draws, self.places).to(torch.float64).add_(fraction * 2.0**-24)
        keys = state["theta"][row] - torch.log(-torch.log(uniform))
        size = (state["size"][row] + self.rounding.uniform(own, draws, 1)[:, 0]).floor().clamp(1, self.places)
        place = keys.topk(int(size.max()), dim=1).indices
        return place, torch.arange(place.shape[1], device=row.device) < size[:, None]

    def _learn(self, state: State, gain: torch.Tensor, place: torch.Tensor, colour: torch.Tensor) -> None:
        """Policy gradient; `gain`, `place` `(B, population * S)`, `colour` `(B * population, C, S)`."""
        rate, population, batch = self.params.learning_rate, self.params.population, len(gain)
        # Each row's total gain: its first pixel is always there.
        total = gain.view(batch, population, -1)[:, :, 0].sum(1, keepdim=True)
        expected = (state["theta"].softmax(1) * state["size"][:, None]).clamp_max(1)
        theta = state["theta"].scatter_add(1, place, rate * gain) - rate * total * expected
        state["theta"] = theta - theta.mean(1, keepdim=True)
        change = colour.view(batch, population, self.channels, -1).transpose(1, 2).flatten(2)
        where = place[:, None].expand(-1, self.channels, -1)
        state["phi"] = state["phi"].scatter_add(2, where, rate * change)

    def _follow(self, state: State, hit: torch.Tensor, changed: torch.Tensor) -> None:
        """Move the size toward the wanted share of successes; stir what has stalled."""
        params = self.params
        least = torch.where(hit, changed, self.places + 1).amin(1)
        stalled = torch.where(least < state["least"], 0, state["stalled"] + params.population)
        state["least"] = torch.minimum(least, state["least"])
        size = state["size"] * torch.exp(params.size_rate * (params.success_rate - hit.float().mean(1)))
        stir = stalled >= params.patience * (size / SMALL_SET).clamp_min(1)
        factor = torch.where(stir, params.heat, 1.0)
        state["theta"], state["phi"] = state["theta"] * factor[:, None], state["phi"] * factor[:, None, None]
        state["size"] = torch.where(stir, size * STIRRED_SIZE, size).clamp(1, self.places)
        state["stalled"] = torch.where(stir, 0, stalled)
        state["round"] = state["round"] + 1
