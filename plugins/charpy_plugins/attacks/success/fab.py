"""The untargeted fast adaptive boundary attack (Croce & Hein 2020a)."""

from __future__ import annotations

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.search.boundary import contenders, nearest_plane, plane_to
from charpy.search.fab import FabParams
from charpy.search.fab import fab as search
from charpy.threat import Access, Norm


class Fab(Attack):
    """Goes to and fro across the nearest linearised decision boundary, drawn to the original (FAB).

    Each iteration takes the gradients of all scores (K queries, and one to check the step) and goes to the nearest
    boundary; see `charpy.search.fab`. It needs no radius: one run fills every level.

    Differs from the paper: the final search spends its three trials once, on the best witness of all restarts, and
    interpolates the margin. With K above `classes`, or above a quarter of the budget, only the classes with the best
    clean scores are looked at. A targeted goal goes to the boundary between the target and the best other class, for
    one query.
    """

    norms = frozenset({Norm.L1, Norm.L2, Norm.LINF})
    access = Access.GRADIENTS
    family = Family.TARGET_SUCCESS
    source = "Croce & Hein 2020, Minimally distorted adversarial examples with a fast adaptive boundary attack (ICML)"

    class Params(FabParams):
        """Parameters of FAB, and the number of boundaries it looks at."""

        classes: int = param(
            100, ge=2, description="classes whose gradients an iteration takes at most", unit="classes", source="ours"
        )

    def run(self, task: Task) -> None:
        """Search from every sample, `restarts` times."""
        if task.targets is not None:
            return search(task, self.params, lambda points, sample, _: plane_to(task, points, sample, None), 1, 1)
        classes = contenders(task, self.params.classes)
        return search(
            task,
            self.params,
            lambda points, sample, _: nearest_plane(task, points, sample, classes[sample]),
            1,
            classes.shape[1],
        )
