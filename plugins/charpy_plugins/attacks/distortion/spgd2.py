"""sPGD2, PGD2 along smoothed gradients (Zhang et al. 2019, section 4.1)."""

from __future__ import annotations

from charpy.interfaces.attack import Attack, Family, Task
from charpy.search.long_steps import LongStepParams, long_steps
from charpy.smoothing import SmoothingParams
from charpy.threat import Access, Norm


class Spgd2(Attack):
    """Long L2-normalised steps along the gradient as smooth as the image, drawn back into the L2 ball.

    x <- c(x - n(s_hat(g))) (eq. 12), s_hat the smoothing guided by the original (eq. 9), g, n and c those of `pgd2`.
    Smoothing comes after the gradient, so the steps no longer descend steepest: the paper finds it weaker than `pgd2`.

    Differs from the paper as `pgd2` does.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Zhang, Avrithis, Furon & Amsaleg 2019, Smooth adversarial examples (arXiv:1903.11862)"

    class Params(LongStepParams, SmoothingParams):
        """Parameters of sPGD2."""

    def run(self, task: Task) -> None:
        """Descend from every image."""
        smoother = self.params.smoother(task.images)
        long_steps(task, self.params, lambda gradient, sample: smoother.rows(sample)(gradient))
