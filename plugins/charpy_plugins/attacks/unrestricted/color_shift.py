"""Shifts of colour and light (Hosseini & Poovendran 2018, and brightness, contrast and gamma): a random search."""

from __future__ import annotations

import torch

from charpy.geometry import column, norm_of
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.stream import State, stream
from charpy.threat import Access, Norm

PAPER = "Hosseini & Poovendran 2018, section 3"

HALVINGS = 6
"""How often the window of the search is halved, at even distances of its steps."""


class ColorShift(Attack):
    """Shifts an image's brightness, contrast, gamma, hue and saturation, each within a bound of its own (any norm).

    Hue and saturation are those of HSV, as in the paper, where a grey pixel is a red one of no saturation; images that
    have not three channels have neither. The order is hue and saturation, brightness, contrast, gamma; shifts of 0
    give the image itself. A random search keeps the shifts that lower the margin, in a window around the best ones
    that it halves on its way; from the first success on it keeps those that succeed nearer to the image, in the
    threat's norm (L2 without a ball).

    Differs from the paper, which draws hue and saturation at random until one succeeds: the other three, and a search
    that looks at scores.
    """

    norms = frozenset(Norm)
    access = Access.SCORES
    family = Family.TARGET_OPTIMALITY
    source = "Hosseini & Poovendran 2018, Semantic adversarial examples (arXiv:1804.00499)"

    class Params(BaseParams):
        """The bounds, either way, and the length of the search."""

        brightness: float = param(0.2, ge=0, le=1, description="added to every value", source="ours")
        contrast: float = param(
            0.4, ge=0, le=1, description="added to 1, the factor of the distance to the image's mean", source="ours"
        )
        gamma: float = param(0.5, ge=0, le=3, description="natural logarithm of the exponent", source="ours")
        hue: float = param(0.5, ge=0, le=0.5, description="added to the hue", unit="of the colour circle", source=PAPER)
        saturation: float = param(1.0, ge=0, le=1, description="added to the saturation", source=PAPER)
        steps: int = param(500, ge=1, description="shifts that are tried; the paper tries 1000", source="ours")

    def run(self, task: Task) -> None:
        """Search every sample until the steps or the budget are spent."""
        search = _Search(task, self.params)
        everyone = torch.arange(len(task.images), device=task.images.device)
        active, width = (lambda sample: task.oracle.active[sample]), max(1, task.oracle.batch)
        stream(search.begin, search.advance, active, everyone, width=width)


class _Search:
    """The best shifts of each sample, as shares of their bounds in [-1, 1]."""

    def __init__(self, task: Task, params: ColorShift.Params) -> None:
        self.task, self.random = task, task.random.fork("color_shift")
        self.steps = min(params.steps, task.threat.queries)
        bounds = [params.brightness, params.contrast, params.gamma, params.hue, params.saturation]
        self.bounds = torch.tensor(bounds[: 5 if task.images.shape[1] == 3 else 3], device=task.images.device)
        self.norm = Norm.L2 if task.threat.norm is Norm.UNRESTRICTED else task.threat.norm

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """No shift, which is not asked about: the first proposals are from anywhere."""
        return {
            "step": torch.zeros_like(sample),
            "share": torch.zeros(len(sample), len(self.bounds), device=sample.device),
            "broken": torch.zeros_like(sample, dtype=torch.bool),
            "value": torch.full(sample.shape, torch.inf, device=sample.device),
        }

    def advance(self, state: State) -> torch.Tensor:
        """One proposal of every search, kept where it is better."""
        sample, images = state["sample"], self.task.images[state["sample"]]
        share = self._proposed(state)
        moved = shifted(images, share * self.bounds)
        margins = self.task.margins(self.task.oracle.scores(moved, sample), sample).nan_to_num(nan=torch.inf)
        hit = margins < 0
        value = torch.where(hit, norm_of(self.norm, moved - images), margins)
        better = (hit & ~state["broken"]) | ((hit == state["broken"]) & (value < state["value"]))
        state["share"] = torch.where(better[:, None], share, state["share"])
        state["value"] = torch.where(better, value, state["value"])
        state["broken"] = state["broken"] | hit
        state["step"] = state["step"] + 1
        return state["step"] >= self.steps

    def _proposed(self, state: State) -> torch.Tensor:
        """`(B, J)`: about half of the shares moved inside the window; after a success every other one back to 0."""
        count = len(self.bounds)
        unit = self.random.uniform(state["sample"], state["step"], 2 * count + 2)
        width = 2.0 * 0.5 ** (state["step"] * (HALVINGS + 1) // self.steps)
        chosen = unit[:, :count] < 0.5
        around = (state["share"] + chosen * width[:, None] * (2 * unit[:, count : 2 * count] - 1)).clamp(-1, 1)
        back = state["broken"] & (unit[:, -2] < 0.5)
        return torch.where(back[:, None], state["share"] * unit[:, -1:], around)


def shifted(images: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
    """`images` `(B, C, H, W)` in [0, 1] under `shift` `(B, 3)`, or `(B, 5)` where C is 3.

    Added to the brightness, to the factor of the contrast, to the logarithm of gamma; to the hue, in circles, and to
    the saturation.
    """
    if shift.shape[1] == 5:
        images = _recoloured(images, shift[:, 3], shift[:, 4])
    images = images + column(shift[:, 0])
    mean = images.mean((1, 2, 3), keepdim=True)
    images = images + column(shift[:, 1]) * (images - mean)
    return images.clamp(0, 1) ** column(shift[:, 2].exp())


def _recoloured(images: torch.Tensor, hue: torch.Tensor, saturation: torch.Tensor) -> torch.Tensor:
    """Through HSV (Smith 1978): the value, the largest channel, stays."""
    value, low = images.amax(1), images.amin(1)
    range_ = (value - low).clamp_min(1e-12)
    red, green, blue = images.unbind(1)
    sector = torch.where(
        value == red,
        (green - blue) / range_,
        torch.where(value == green, 2 + (blue - red) / range_, 4 + (red - green) / range_),
    )
    turned = torch.where(value > low, sector, 0.0) + 6 * hue[:, None, None]
    pure = ((value - low) / value.clamp_min(1e-12) + saturation[:, None, None]).clamp(0, 1)
    places = torch.stack([(offset + turned) % 6 for offset in (5, 3, 1)], 1)
    fall = torch.minimum(places, 4 - places).clamp(0, 1)
    return value[:, None] * (1 - pure[:, None] * fall)
