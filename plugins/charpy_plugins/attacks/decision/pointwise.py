"""The Pointwise attack (Schott et al. 2019): noise that is taken back pixel by pixel."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary_search import adversarial
from charpy.search.stream import State, stream
from charpy.threat import Access, Norm

PAPER = "Schott et al. 2019, section 4"
GROWTH = 1.2
"""Factor by which the noise grows until it is adversarial."""


class Pointwise(Attack):
    """Sets noisy pixels back to the original's while the image stays adversarial (L0, labels only).

    Salt and pepper noise on a share of the pixels grows until it is adversarial. Then the pixels, in random order, are
    set back, each if the image stays adversarial without it; passes repeat until none can be. Restarts draw new noise.

    Differs from the paper: a pixel is all its channels. Pixels are set back in groups, which double while the image
    stays adversarial and are halved where it does not, down to the single pixel that is needed: the few pixels that
    are left cost rows, not the many that are not (`largest_group` 1 is the paper's).
    """

    norms = frozenset({Norm.L0})
    access = Access.LABELS
    family = Family.TARGET_OPTIMALITY
    source = "Schott et al. 2019, Towards the first adversarially robust neural network model on MNIST (ICLR)"

    class Params(BaseParams):
        """Parameters of the Pointwise attack."""

        restarts: int = param(10, ge=1, description="searches of a sample, one after the other", source=PAPER)
        initial_share: float = param(0.05, gt=0, le=1, description="share of noisy pixels that begins", source="ours")
        largest_group: int = param(128, ge=1, description="pixels set back at once at most", source="ours")

    def run(self, task: Task) -> None:
        """Search every sample `restarts` times or until its budget is spent."""
        search = _Search(task, self.params)
        every = torch.arange(len(task.images), device=task.images.device)
        width = max(1, task.oracle.batch)
        stream(
            search.begin,
            search.advance,
            lambda i: task.oracle.active[i],
            every,
            width=width,
            runs=self.params.restarts,
        )


class _Search:
    """Masks are kept in each search's own random order of the pixels."""

    def __init__(self, task: Task, params: Pointwise.Params) -> None:
        self.task, self.params = task, params
        self.images = task.images.flatten(2)
        self.places = self.images.shape[2]
        self.noise, self.keys = task.random.fork("noise"), task.random.fork("order")

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        nowhere = torch.zeros(len(sample), self.places, dtype=torch.bool, device=sample.device)
        return {
            "order": self.keys.uniform(sample, run, self.places).argsort(dim=1, stable=True),
            "colour": self.noise.integers(sample, run, 2, *self.images.shape[1:]).to(self.images.dtype),
            "noisy": nowhere,
            "open": nowhere,  # pixels that this pass has yet to try
            "share": torch.full((len(sample),), self.params.initial_share, device=sample.device),
            "group": torch.zeros_like(sample),  # 0: the noise is still growing
            "moved": torch.zeros_like(sample, dtype=torch.bool),
        }

    def advance(self, state: State) -> torch.Tensor:
        """Ask one row per search; True where no pixel can be set back, or all of them are noisy in vain."""
        growing, group = state["group"] == 0, state["group"]
        rank = torch.arange(self.places, device=group.device)
        grown = rank < (state["share"] * self.places).ceil()[:, None]
        chosen = state["open"] & (state["open"].cumsum(1) <= group[:, None])
        asked = torch.where(growing[:, None], grown, state["noisy"] & ~chosen)
        hit = adversarial(self.task, self._image(state, asked), state["sample"])
        started = growing & hit
        state["noisy"] = torch.where(hit[:, None], asked, state["noisy"])
        settled = chosen & (hit | (chosen.sum(1) <= 1))[:, None]
        state["open"] = torch.where(started[:, None], asked, state["open"] & ~settled)
        state["moved"] = (state["moved"] | hit) & ~growing
        self._resize(state, growing, started, hit, chosen)
        in_vain = growing & ~hit & grown.all(1)
        state["share"] = torch.where(growing, (state["share"] * GROWTH).clamp_max(1), state["share"])
        return in_vain | self._passed(state)

    def _resize(
        self, state: State, growing: torch.Tensor, started: torch.Tensor, hit: torch.Tensor, chosen: torch.Tensor
    ) -> None:
        doubled = (state["group"] * 2).clamp_max(self.params.largest_group)
        halved = (chosen.sum(1) // 2).clamp_min(1)
        first = started.to(torch.int64) * self.params.largest_group
        state["group"] = torch.where(growing, first, torch.where(hit, doubled, halved))

    def _passed(self, state: State) -> torch.Tensor:
        """Where a pass is over, begin the next one, or say that there is none."""
        over = (state["group"] > 0) & ~state["open"].any(1)
        again = over & state["moved"]
        state["open"] = torch.where(again[:, None], state["noisy"], state["open"])
        state["moved"] = state["moved"] & ~over
        # The next pass seldom finds a pixel: it begins with single ones.
        state["group"] = torch.where(again, 1, state["group"])
        return over & ~again

    def _image(self, state: State, asked: torch.Tensor) -> torch.Tensor:
        mask = torch.zeros_like(asked).scatter(1, state["order"], asked)
        images = torch.where(mask[:, None], state["colour"], self.images[state["sample"]])
        return images.view(-1, *self.task.images.shape[1:])
