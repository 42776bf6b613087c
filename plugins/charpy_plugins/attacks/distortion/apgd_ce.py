"""APGD-CE (Croce & Hein 2020b): Auto-PGD on the cross-entropy."""

from __future__ import annotations

from charpy.interfaces.attack import Attack, Family, Task
from charpy.search.apgd import Apgd, ApgdParams
from charpy.threat import Access, Norm


class ApgdCe(Attack):
    """Auto-PGD on the cross-entropy: a step size that adapts to each image, and no other parameter to tune.

    Linf, L2 (Croce & Hein 2020b, algorithm 1) and L1 (Croce & Hein 2021); `charpy.search.apgd` has the algorithm.

    Differs from the paper: minimises the log-odds of the true class, which have the order and the gradient direction of
    its cross-entropy and do not saturate on a confident model.
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Croce & Hein 2020b, Reliable evaluation of adversarial robustness with an ensemble (ICML); 2021 (L1)"

    class Params(ApgdParams):
        """Parameters of APGD-CE."""

    def run(self, task: Task) -> None:
        """Search every sample from each random start."""
        Apgd(task, self.params, lambda _: "log_odds").run(self.params.restarts)
