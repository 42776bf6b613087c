"""The batteries: which attacks assess a model, in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from charpy.interfaces.attack import Battery, Step
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.search.encoding import DUAL, OptimiserName
from charpy.threat import Access, Norm


class Standard(Battery):
    """The strongest attacks for what the model gives; the default of `charpy assess`.

    L0: few_pixel by differential evolution; Linf: threshold by CMA-ES; both minimise the margin, which unlike the
    confidence does not saturate. A small DE population that crosses over, keeps colours at their bounds and starts
    again when it stalls breaks at least as many samples as the published settings with fewer queries
    (benchmarks/results/few_pixel_defaults.md).
    """

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """One attack per norm; none for a model that gives labels only."""
        small = {"population": 10, "recombination": 0.3, "repair": "clip", "patience": 40}
        few_pixel = {"optimiser": "de", "fitness": "margin", **small}
        threshold = {"optimiser": "cma-es", "fitness": "margin", "population": 16}
        return _by_norm(norm, access, few_pixel, threshold)


class DualPaper(Battery):
    """The dual assessment as published: few-pixel and threshold attacks, by CMA-ES or by DE."""

    class Params(BaseParams):
        """Parameters of the published assessment."""

        optimiser: OptimiserName = param(OptimiserName.CMA_ES, description="evolutionary algorithm", source=DUAL)
        generations: int = param(100, ge=1, description="at most this many", unit="generations", source=DUAL)

    def steps(self, norm: Norm, access: Access) -> Sequence[Step]:
        """The few-pixel attack for L0, the threshold attack for Linf."""
        published = {"optimiser": self.params.optimiser.value, "generations": self.params.generations}
        return _by_norm(norm, access, published, published)


def _by_norm(norm: Norm, access: Access, few_pixel: Mapping[str, Any], threshold: Mapping[str, Any]) -> Sequence[Step]:
    if access < Access.SCORES:
        return ()
    steps = {Norm.L0: Step("few_pixel", dict(few_pixel)), Norm.LINF: Step("threshold", dict(threshold))}
    return (steps[norm],) if norm in steps else ()
