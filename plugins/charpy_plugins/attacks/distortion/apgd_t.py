"""APGD-T (Croce & Hein 2020b): Auto-PGD on the targeted difference-of-logits ratio, one target class after another."""

from __future__ import annotations

import torch

from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import param
from charpy.losses import Objective, loss_named
from charpy.search.apgd import CROCE_HEIN, Apgd, ApgdParams
from charpy.search.projected_gradient import scale_free
from charpy.search.stream import State
from charpy.threat import Access, Norm


class ApgdT(Attack):
    """Auto-PGD toward each of the likeliest wrong classes in turn, on the targeted difference-of-logits ratio (eq. 7).

    The classes are those with the highest scores of the clean image (one forward row a sample), as in AutoAttack. Any
    misclassification ends the search of a sample. A targeted threat has one target, and no clean row is spent.

    Differs from the paper: `abreast` targets at a time instead of one, which fills the batches where few samples are
    left, and spends more rows only on samples that fall early.
    """

    norms = frozenset({Norm.LINF, Norm.L2, Norm.L1})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Croce & Hein 2020b, Reliable evaluation of adversarial robustness with an ensemble (ICML); 2021 (L1)"

    class Params(ApgdParams):
        """Parameters of APGD-T."""

        targets: int = param(
            9, ge=1, description="target classes, best clean score first (AutoAttack in L1: 5)", source=CROCE_HEIN
        )
        abreast: int = param(
            3,
            ge=1,
            description="targets of a sample that are tried side by side: fuller batches, more rows",
            source="ours",
        )

    def run(self, task: Task) -> None:
        """Search every sample toward each target from each random start."""
        loss = scale_free(task.oracle.num_classes, "dlr")
        if task.targets is not None:
            Apgd(task, self.params, lambda _: loss).run(self.params.restarts)
            return
        ranked = runners_up(task, self.params.targets)
        if not ranked.shape[1]:
            return
        named = loss_named(loss)

        def toward(state: State) -> Objective:
            labels = task.labels[state["sample"]]
            targets = ranked[state["sample"], state["run"] % ranked.shape[1]]
            return lambda scores, rows: named(scores, labels[rows], targets[rows])

        Apgd(task, self.params, toward, self.params.abreast).run(ranked.shape[1] * self.params.restarts)


def runners_up(task: Task, count: int) -> torch.Tensor:
    """int64 `(N, J)`: the wrong classes with the highest scores of the clean images, at most `count`; a row each."""
    owner = torch.arange(len(task.images), device=task.images.device)
    scores = task.oracle.scores(task.images, owner).nan_to_num(nan=0.0)
    wrong = scores.scatter(1, task.labels[:, None], -torch.inf)
    ranked: torch.Tensor = wrong.argsort(dim=1, descending=True, stable=True)[:, : min(count, scores.shape[1] - 1)]
    return ranked
