"""The batteries: which attacks assess a model, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charpy.interfaces.attack import Battery, Step
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.encoding import DUAL, OptimiserName
from charpy.threat import Access, Norm

Steps = Mapping[Norm, Sequence[Step]]

SMALL_DE = {"population": 10, "recombination": 0.3, "repair": "clip", "patience": 40}
"""A small DE population that crosses over, keeps colours at their bounds and starts again when it stalls: it breaks at
least as many samples as the published settings with fewer queries (benchmarks/results/few_pixel_defaults.md)."""

AUTO = (
    Step("apgd_ce", {"steps": 50}),
    Step("apgd_t", {"steps": 50}),
    Step("fab_t", {"steps": 30, "targets": 3}),
)
"""AutoAttack's order with fewer steps, over what is left: benchmarks/results/strength_linf.md holds it against the
original at full length."""

MOVED = (Step("rotation_translation", {}, 1000),)
RECOLOURED = (Step("color_shift", {}, 500),)

GRADIENTS: Steps = {
    Norm.L0: (Step("sigma_zero", {}), Step("pgd0", {}), Step("fmn", {}), Step("sparse_rs", {})),
    Norm.LINF: (*AUTO, Step("square", {}, 1000)),
    Norm.L2: (*AUTO, Step("square", {}, 1000)),
    Norm.L1: AUTO,
    Norm.UNRESTRICTED: (*MOVED, *RECOLOURED, Step("stadv", {})),
}
SCORES: Steps = {
    Norm.L0: (Step("sparse_rs", {}), Step("few_pixel", {"optimiser": "de", "fitness": "margin", **SMALL_DE})),
    Norm.LINF: (
        Step("square", {}),
        Step("threshold", {"optimiser": "cma-es", "fitness": "margin", "population": 16}),
    ),
    Norm.L2: (Step("square", {}),),
    Norm.UNRESTRICTED: (*MOVED, *RECOLOURED),
}
LABELS: Steps = {
    Norm.L0: (Step("sparse_eda", {}), Step("pointwise", {}, 1000)),
    Norm.LINF: (Step("rays", {}), Step("hopskipjump", {})),
    Norm.L2: (Step("hopskipjump", {}),),
    Norm.UNRESTRICTED: MOVED,
}
FAST: Mapping[Access, Steps] = {
    Access.GRADIENTS: {
        Norm.L0: (Step("sigma_zero", {"steps": 100}),),
        Norm.LINF: (Step("apgd_ce", {"steps": 25}), Step("apgd_t", {"steps": 25, "targets": 3})),
        Norm.L2: (Step("apgd_ce", {"steps": 25}), Step("apgd_t", {"steps": 25, "targets": 3})),
        Norm.L1: (Step("apgd_ce", {"steps": 25}), Step("apgd_t", {"steps": 25, "targets": 3})),
        Norm.UNRESTRICTED: (Step("rotation_translation", {"search": "worst_of"}), *RECOLOURED),
    },
    Access.SCORES: {norm: (Step(steps[0].kind, steps[0].params, 500),) for norm, steps in SCORES.items()},
    Access.LABELS: {norm: (Step(steps[0].kind, steps[0].params, 1000),) for norm, steps in LABELS.items()},
}


class WhiteBox(Battery):
    """Gradient attacks, the strongest and cheapest first, with a score-based one last against hidden gradients."""

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """Nothing for a model that gives no gradients."""
        return GRADIENTS.get(norm, ()) if access >= Access.GRADIENTS else ()


class BlackBox(Battery):
    """Score-based attacks: random search, then the dual assessment's evolutionary search."""

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """Nothing for a model that gives labels only."""
        return SCORES.get(norm, ()) if access >= Access.SCORES else ()


class LabelOnly(Battery):
    """Decision-based attacks, for a model that returns only a class."""

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """The same whatever the model gives."""
        return LABELS.get(norm, ())


class Standard(Battery):
    """The strongest attacks for what the model gives; the default of `charpy assess`."""

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """`white-box` where there are gradients, `black-box` where there are scores, else `label-only`."""
        strongest = {Access.GRADIENTS: GRADIENTS, Access.SCORES: SCORES, Access.LABELS: LABELS}
        return strongest[access].get(norm, ())


class Fast(Battery):
    """One or two short attacks a norm: a first answer in minutes, and an optimistic one."""

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """By what the model gives."""
        return FAST[access].get(norm, ())


class DualPaper(Battery):
    """The dual assessment as published: few-pixel and threshold attacks, by CMA-ES or by DE."""

    class Params(BaseParams):
        """Parameters of the published assessment."""

        optimiser: OptimiserName = param(OptimiserName.CMA_ES, description="evolutionary algorithm", source=DUAL)
        generations: int = param(100, ge=1, description="at most this many", unit="generations", source=DUAL)

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """The few-pixel attack for L0, the threshold attack for Linf."""
        published: dict[str, Any] = {
            "optimiser": self.params.optimiser.value,
            "generations": self.params.generations,
        }
        kinds = {Norm.L0: "few_pixel", Norm.LINF: "threshold"}
        return (Step(kinds[norm], published),) if access >= Access.SCORES and norm in kinds else ()
