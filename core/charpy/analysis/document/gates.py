"""What was demanded of the run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from charpy.analysis.document.part import Part, Share


class GatePart(Part):
    """One demand on the run, and whether it is met."""

    gate: str = Field(description="as its spec would say it")
    norm: str | None
    th: int | None
    figure: str
    bound: Literal["lower", "upper"] = Field(description="of the 95 % interval of the figure: what is judged")
    comparator: str
    limit: float
    share: Share | None = Field(description="the figure; None where the run does not have it")
    measured: float | None = Field(description="the bound that was judged")
    passed: bool
    reason: str = Field(description="why it passed or failed, in words")
