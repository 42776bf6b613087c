"""The batteries: which attacks assess a model, in which order."""

from __future__ import annotations

from collections.abc import Sequence

from charpy.interfaces.attack import Battery, Step
from charpy.interfaces.component import Params, param
from charpy.search.evolve import DUAL
from charpy.threat import Access, Norm


class DualPaper(Battery):
    """The dual assessment as published: few-pixel and threshold attacks by CMA-ES."""

    class Params(Params):
        """Parameters of the published assessment."""

        optimiser: str = param("cma-es", pattern="^(cma-es|de)$", description="cma-es or de", source=DUAL)
        generations: int = param(100, ge=1, description="at most this many", unit="generations", source=DUAL)

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """The few-pixel attack for L0, the threshold attack for Linf."""
        if access < Access.SCORES:
            return ()
        kind = {Norm.L0: "few_pixel", Norm.LINF: "threshold"}[norm]
        return (Step(kind, {"optimiser": self.params.optimiser, "generations": self.params.generations}),)
