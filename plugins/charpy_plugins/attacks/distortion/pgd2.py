"""PGD2, the L2 version of I-FGSM that Zhang et al. (2019) measure their smooth attacks against."""

from __future__ import annotations

from charpy.interfaces.attack import Attack, Family, Task
from charpy.search.long_steps import LongStepParams, long_steps
from charpy.threat import Access, Norm


class Pgd2(Attack):
    """Long L2-normalised gradient steps from the image itself, drawn back into the L2 ball.

    x <- c(x - n(g)) (eq. 10 and 11) with g the gradient of the cross-entropy, n(g) = step g / ||g||_2 and c the
    projection onto the ball and the box. The paper's step is 3 for a distortion of 5, hence 0.6 of the radius here.

    Differs from the paper: c there scales the perturbation back to the radius and then clips it to [0, 1], which costs
    it part of its length; here c gives the nearest image that is in both. `clip: rescale` and `loss: cross_entropy`
    restore it.
    """

    norms = frozenset({Norm.L2})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Zhang, Avrithis, Furon & Amsaleg 2019, Smooth adversarial examples (arXiv:1903.11862)"

    class Params(LongStepParams):
        """Parameters of PGD2."""

    def run(self, task: Task) -> None:
        """Descend from every image."""
        long_steps(task, self.params, lambda gradient, _: gradient)
