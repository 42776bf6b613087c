"""The Jacobian-based saliency map attack (Papernot et al. 2016)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.losses import margin
from charpy.search.boundary import rivals
from charpy.search.pairs import best_pair
from charpy.search.stream import State, stream
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Norm

PAPER = "Papernot et al. 2016"


class Jsma(Attack):
    """Changes the pair of pixels that most raises a target's score and lowers the others' (JSMA, L0).

    With alpha the change of the target's score and beta that of the sum of all other scores, to first order, each step
    changes the pair of pixels with the largest alpha |beta| among those with alpha > 0 > beta (algorithm 3, eq. 8), and
    ends at the goal, without such a pair, or at gamma H W pixels. A step costs two queries. The pair is the exact best
    one, found without the D^2 map (`charpy.search.pairs`). Untargeted, the classes are targets in turn, by clean score.

    Differs from the paper: L0 and gamma count pixels; a step changes all channels of a pixel, which is the same for
    grey images. With `both_ways` each value moves in the direction that helps (the paper moves all up, or all down).
    Alpha and beta are the derivatives times the change that the box leaves. The scores are logits; of probabilities
    beta is only -alpha. A last pixel without a partner is changed alone. No run goes on beyond twice the radius or
    twice the best witness so far. At the end pixels that are not needed are restored, those that matter least first,
    one query each.
    """

    norms = frozenset({Norm.L0})
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    source = (
        "Papernot, McDaniel, Jha, Fredrikson, Celik & Swami 2016, "
        "The limitations of deep learning in adversarial settings (EuroS&P)"
    )

    class Params(BaseParams):
        """Parameters of JSMA."""

        theta: float = param(
            1.0, ge=-1, le=1, description="change of a value; its sign counts unless both_ways", source=PAPER
        )
        both_ways: bool = param(
            True, description="each value moves up or down, whichever helps", source="Wiyatno & Xu 2018"
        )
        gamma: float = param(0.15, gt=0, le=1, description="largest share of pixels changed", source=PAPER)
        targets: int = param(9, ge=1, description="classes tried when untargeted", unit="classes", source="ours")
        restore: bool = param(True, description="restore pixels that are not needed, at the end", source="ours")

    def run(self, task: Task) -> None:
        """Search from every sample towards each of its targets."""
        if task.targets is None:
            towards = rivals(task, min(self.params.targets, task.oracle.num_classes - 1))
        else:
            towards = task.targets[:, None]
        search = _Search(task, self.params, towards)
        stream(
            search.begin,
            search.advance,
            lambda sample: task.oracle.active[sample],
            torch.arange(len(task.labels), device=task.labels.device),
            width=max(1, task.oracle.gradient_batch // 2),
            runs=towards.shape[1],
        )
        if self.params.restore:
            search.restore()


class _Slopes(NamedTuple):
    target: torch.Tensor
    others: torch.Tensor
    margin: torch.Tensor


class _Search:
    def __init__(self, task: Task, params: Jsma.Params, towards: torch.Tensor) -> None:
        self.task, self.params, self.towards = task, params, towards
        height, width = task.images.shape[2:]
        self.most = min(math.ceil(params.gamma * height * width), 2 * task.threat.radius)
        self.picks = 1 if params.theta == 0 else max(1, round(1 / abs(params.theta)))
        self.witnesses = Witnesses(task)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """The originals, every pixel free."""
        images = self.task.images[sample]
        picked = torch.zeros(len(sample), images[0, 0].numel(), dtype=torch.int64, device=images.device)
        return {"x": images, "picked": picked}

    def advance(self, state: State) -> torch.Tensor:
        """Change one pair of pixels in every run; which are finished."""
        x, sample = state["x"], state["sample"]
        slopes = self._slopes(x, sample, self.towards[sample, state["run"]])
        reached = self.witnesses.meet(sample, x, slopes.margin)
        moved = self._moved(x, slopes)
        change = moved - x
        up, down = ((slope * change).sum(1).flatten(1) for slope in (slopes.target, -slopes.others))
        allowed = (state["picked"] < self.picks) & (change != 0).any(1).flatten(1)
        pair, found = best_pair(up, down, allowed)
        last = allowed & (allowed.sum(1, keepdim=True) < 2) & (up > 0) & (down > 0)
        chosen = (torch.zeros_like(allowed).scatter_(1, pair, True) & found[:, None]) | last
        found |= last.any(1)
        state["x"] = torch.where(chosen.view(-1, 1, *x.shape[2:]), moved, x)
        state["picked"] = state["picked"] + chosen
        pixels, best = (state["picked"] > 0).sum(1), self.witnesses.distance[sample]
        left = self.task.oracle.remaining[sample]
        reserve = 4 + best.nan_to_num(posinf=0.0)
        return reached | ~found | (pixels > self.most) | (pixels > 2 * best) | (left < reserve)

    def _moved(self, x: torch.Tensor, slopes: _Slopes) -> torch.Tensor:
        """Where each value would go."""
        if not self.params.both_ways:
            return (x + self.params.theta).clamp(0, 1)
        return (x + abs(self.params.theta) * (slopes.target - slopes.others).sign()).clamp(0, 1)

    def _slopes(self, x: torch.Tensor, sample: torch.Tensor, towards: torch.Tensor) -> _Slopes:
        """Gradients of the target's score and of the sum of the others; two queries a row."""
        half = len(x)

        def objective(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            target = scores.gather(1, towards[rows % half, None])[:, 0]
            return torch.where(rows < half, target, scores.sum(1) - target)

        _, gradient, scores = self.task.oracle.loss_and_gradient(x.repeat(2, 1, 1, 1), sample.repeat(2), objective)
        targets = None if self.task.targets is None else self.task.targets[sample]
        return _Slopes(gradient[:half], gradient[half:], margin(scores[half:], self.task.labels[sample], targets))

    def restore(self) -> None:
        """Give pixels of each witness their old colour, those that matter least first, while it stays a witness."""
        sample = self.witnesses.found
        sample = sample[self.task.oracle.remaining[sample] > 1]
        original, witness = self.task.images[sample], self.witnesses.images[sample]
        _, gradient, _ = self.task.oracle.loss_and_gradient(witness, sample, "margin")
        changed = (witness != original).any(1).flatten(1)
        worth = (gradient * (witness - original)).sum(1).flatten(1)  # below zero where the change helps
        order = torch.where(changed, worth, -torch.inf).argsort(dim=1, descending=True, stable=True)
        count = changed.sum(1)
        for turn in range(int(count.amax()) if len(count) else 0):
            rows = ((turn < count) & self.task.oracle.active[sample]).nonzero()[:, 0]
            if not len(rows):
                return
            pixel = torch.zeros_like(changed[rows]).scatter_(1, order[rows, turn, None], True)
            trial = torch.where(pixel.view(-1, 1, *original.shape[2:]), original[rows], witness[rows])
            kept = self.witnesses.look(trial, sample[rows]) < 0
            witness[rows] = torch.where(kept[:, None, None, None], trial, witness[rows])
