"""APGD-DLR (Croce & Hein 2020b): Auto-PGD on the difference-of-logits ratio."""

from __future__ import annotations

from charpy.interfaces.attack import Attack, Family, Task
from charpy.search.apgd import Apgd, ApgdParams
from charpy.search.projected_gradient import scale_free
from charpy.threat import Access, Norm


class ApgdDlr(Attack):
    """Auto-PGD on the difference-of-logits ratio, which does not saturate where the scores are large.

    Eq. 6; toward a target eq. 7. Of two classes the ratio is constant: there the plain margin is taken.
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Croce & Hein 2020b, Reliable evaluation of adversarial robustness with an ensemble (ICML); 2021 (L1)"

    class Params(ApgdParams):
        """Parameters of APGD-DLR."""

    def run(self, task: Task) -> None:
        """Search every sample from each random start."""
        loss = scale_free(task.oracle.num_classes, "dlr")
        Apgd(task, self.params, lambda _: loss).run(self.params.restarts)
