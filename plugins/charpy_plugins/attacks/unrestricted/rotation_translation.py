"""Rotations and translations (Engstrom, Tran, Tsipras, Schmidt & Madry 2019): the whole grid, or the worst of k."""

from __future__ import annotations

from enum import StrEnum

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.random import Random
from charpy.search.spatial import ENGSTROM, Reach
from charpy.search.stream import State, stream
from charpy.threat import Access, Norm
from charpy.warp import Outside


class Search(StrEnum):
    """Every combination of evenly spaced angles and shifts, or random ones."""

    GRID = "grid"
    WORST_OF = "worst_of"


class RotationTranslation(Attack):
    """Turns the image and shifts it, within bounds of its own; needs labels only (any norm).

    `grid` tries every combination of `rotations` angles and `translations` shifts in each direction, 775 rows; where
    the budget is smaller, a random part of them, drawn for each sample. `worst_of` tries `draws` random ones. Pixels
    are interpolated, and what lies outside of the image is black. The nearest image that succeeds is kept, in the
    threat's norm: even a small turn is far in any of them.

    The paper's third search, by gradients, is `rotation_translation_gradient`: an attack says what it needs of a model
    by its kind.
    """

    norms = frozenset(Norm)
    access = Access.LABELS
    family = Family.TARGET_SUCCESS
    source = "Engstrom et al. 2019, Exploring the landscape of spatial robustness (ICML)"

    class Params(BaseParams):
        """The bounds, and how they are searched."""

        search: Search = param(Search.GRID, description="grid or worst_of", source=ENGSTROM)
        rotation: float = param(30.0, ge=0, le=180, description="largest angle", unit="degrees", source=ENGSTROM)
        translation: float = param(
            3 / 32,
            ge=0,
            le=1,
            description="largest shift, in each direction; 3 pixels of 32",
            unit="share of the side",
            source=ENGSTROM,
        )
        rotations: int = param(31, ge=1, description="grid: angles, both ends included", source=ENGSTROM)
        translations: int = param(5, ge=1, description="grid: shifts in each direction", source=ENGSTROM)
        draws: int = param(10, ge=1, description="worst_of: random transformations of a sample", source=ENGSTROM)
        outside: Outside = param(
            Outside.BLACK, description="what comes in from beyond the edge: zeros, or border", source=ENGSTROM
        )

    def run(self, task: Task) -> None:
        """Ask about every transformation of every sample, as far as the budget goes."""
        params, oracle = self.params, task.oracle
        reach = Reach(params.rotation, params.translation, params.outside)
        random = task.random.fork("rotation_translation")

        def begin(sample: torch.Tensor, run: torch.Tensor) -> State:
            return {"moves": self._moves(random, sample)[:, : task.threat.queries], "turn": torch.zeros_like(sample)}

        def advance(state: State) -> torch.Tensor:
            rows, sample = torch.arange(len(state["turn"]), device=state["turn"].device), state["sample"]
            oracle.labels(reach.moved(task.images[sample], state["moves"][rows, state["turn"]]), sample)
            state["turn"] = state["turn"] + 1
            return state["turn"] >= state["moves"].shape[1]

        everyone = torch.arange(len(task.images), device=task.images.device)
        stream(begin, advance, lambda sample: oracle.active[sample], everyone, width=max(1, oracle.batch))

    def _moves(self, random: Random, sample: torch.Tensor) -> torch.Tensor:
        """`(B, K, 3)` in [-1, 1]: the transformations of each sample, in the order in which they are tried."""
        params = self.params
        if params.search is Search.WORST_OF:
            return random.uniform(sample, 0, params.draws, 3) * 2 - 1
        turns, shifts = (_spaced(count, sample.device) for count in (params.rotations, params.translations))
        grid = torch.cartesian_prod(turns, shifts, shifts)
        return grid[random.uniform(sample, 0, len(grid)).argsort(dim=1, stable=True)]


def _spaced(count: int, device: torch.device) -> torch.Tensor:
    """`(count,)` evenly spaced from -1 to 1; a single one is 0."""
    return torch.linspace(-1, 1, count, device=device) if count > 1 else torch.zeros(1, device=device)
