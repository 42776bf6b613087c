"""The fast adaptive boundary attack, one rival class at a time (Croce & Hein 2020b, FAB-T)."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.boundary import Plane, plane_to, rivals
from charpy.search.fab import FabParams
from charpy.search.fab import fab as search
from charpy.threat import Access, Norm


class FabT(Attack):
    """FAB towards one class at a time, the classes with the best clean scores first (FAB-T).

    Each run looks only at the boundary between the true class and one other, so that an iteration costs two queries
    (one gradient, one check) whatever K is. Any class but the true one counts as success. See `charpy.search.fab`.

    Differs from the published code: one final search on the best witness of all runs. A targeted goal has one run,
    towards the boundary between the target and the best other class.
    """

    norms = frozenset({Norm.L1, Norm.L2, Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    source = "Croce & Hein 2020, Reliable evaluation of adversarial robustness with an ensemble of attacks (ICML)"

    class Params(FabParams):
        """Parameters of FAB, and the number of classes tried."""

        targets: int = param(
            9, ge=1, description="classes tried, by clean score", unit="classes", source="Croce & Hein 2020b"
        )

    def run(self, task: Task) -> None:
        """Search from every sample towards every one of its rivals, `restarts` times."""
        if task.targets is not None:
            return search(task, self.params, lambda points, sample, _: plane_to(task, points, sample, None), 1, 1)
        count = min(self.params.targets, task.oracle.num_classes - 1)
        towards = rivals(task, count)

        def boundary(points: torch.Tensor, sample: torch.Tensor, direction: torch.Tensor) -> Plane:
            return plane_to(task, points, sample, towards[sample, direction])

        return search(task, self.params, boundary, count, 1)
