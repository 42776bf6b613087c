"""DeepFool (Moosavi-Dezfooli, Fawzi & Frossard 2016)."""

from __future__ import annotations

import torch

from charpy.geometry import column, steepest
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.boundary import Plane, contenders, nearest_plane, plane_to
from charpy.search.hyperplane import dual_size, onto_hyperplane
from charpy.search.stream import State, each_sample
from charpy.search.witnesses import Witnesses
from charpy.threat import Access, Grid, Norm

PAPER = "Moosavi-Dezfooli et al. 2016"
BEYOND = 1e-4
"""Added to the distance, so that steps do not shrink to nothing before the boundary (the released code)."""

LAST = 4
"""So many steps before the budget ends, a step takes the image box into account, and so reaches the plane at once."""


class Deepfool(Attack):
    """Steps onto the nearest linearised decision boundary until the label changes (DeepFool).

    Each iteration takes the gradients of the candidate classes (as many queries, and one to check the step), and the
    shortest step to the nearest of their boundaries: algorithm 2, section 3.3 for other norms. It ends at the first
    witness.

    Differs from the paper: every step overshoots, not only their sum at the end, so that the check sees what the attack
    would give; each step is clipped to the image box, and the last ones that the budget allows are the shortest inside
    it; a few more queries look for the boundary between the original and the witness. The candidates are at most a
    quarter of the budget. A targeted goal goes to the boundary between the target and the best other class.
    """

    norms = frozenset({Norm.L2, Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    source = (
        "Moosavi-Dezfooli, Fawzi & Frossard 2016, "
        "DeepFool: a simple and accurate method to fool deep neural networks (CVPR)"
    )

    class Params(BaseParams):
        """Parameters of DeepFool."""

        steps: int = param(50, ge=1, le=10_000, description="iterations at most", unit="iterations", source=PAPER)
        overshoot: float = param(0.02, ge=0, le=1, description="how far a step passes the plane", source=PAPER)
        candidates: int = param(
            10, ge=2, description="classes looked at, the true one among them", unit="classes", source=PAPER
        )
        line_search: int = param(
            6, ge=0, le=30, description="trials between original and witness", unit="queries", source="ours"
        )

    def run(self, task: Task) -> None:
        """Walk from every sample."""
        walk = _Walk(task, self.params)
        each_sample(task, walk.begin, walk.advance)
        walk.witnesses.tighten(self.params.line_search)


class _Walk:
    def __init__(self, task: Task, params: Deepfool.Params) -> None:
        self.task, self.params = task, params
        self.classes = contenders(task, params.candidates) if task.targets is None else None
        self.row = 1 + (1 if self.classes is None else self.classes.shape[1])
        self.witnesses = Witnesses(task)

    def begin(self, sample: torch.Tensor, run: torch.Tensor) -> State:
        """The originals."""
        return {"x": self.task.images[sample], "step": torch.zeros_like(run)}

    def advance(self, state: State) -> torch.Tensor:
        """One step of every walk; which are finished."""
        x, sample = state["x"], state["sample"]
        plane = self._plane(x, sample)
        first = state["step"] == 0
        self.witnesses.begin(sample[first], plane.margin[first])
        gap = plane.gap.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
        norm = self.task.threat.norm
        direction = steepest(norm, plane.normal)
        away = (1 + self.params.overshoot) * (gap / dual_size(norm, plane.normal).clamp_min(1e-30) + BEYOND)
        moved = -column(away) * direction
        last = self.task.oracle.remaining[sample] < LAST * self.row
        if bool(last.any()):
            inside = onto_hyperplane(norm, x, plane.normal, -(1 + self.params.overshoot) * gap - BEYOND)
            moved = torch.where(column(last), inside, moved)
        if self.task.threat.grid is Grid.EIGHT_BIT:  # a smaller step could be rounded away, and the next one too
            moved = moved * column((0.5 / 255 / moved.flatten(1).abs().amax(1).clamp_min(1e-30)).clamp_min(1))
        state["x"] = (x + moved).clamp_(0, 1)
        state["step"] += 1
        reached = self.witnesses.look(state["x"], sample) < 0
        return reached | (state["step"] >= self.params.steps) | ~plane.gap.isfinite()

    def _plane(self, x: torch.Tensor, sample: torch.Tensor) -> Plane:
        if self.classes is None:
            return plane_to(self.task, x, sample, None)
        return nearest_plane(self.task, x, sample, self.classes[sample])
