"""The vocabulary of a threat: norms, access, goals, grids, levels and the threat model that binds them."""

from __future__ import annotations

import math
import re
from enum import IntEnum, StrEnum
from fractions import Fraction
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

DEFAULT_LEVELS = (1, 3, 5, 10)
"""The four robustness levels of Kotyan & Vargas (2020), section IV."""

OWN = 0
"""Stands for the level where each sample has its own; as a level of its own it would allow no change."""

FIRST_LEVEL, LAST_LEVEL = 1, 127
"""The whole range of levels that the dual assessment scans (section V-H). L1 and L2 start at the same level and end
with the diameter of the image box (`charpy.checks.largest_level`)."""


class Norm(StrEnum):
    """How a perturbation is measured. `L0` counts pixels (all channels of one place), never features.

    `UNRESTRICTED` asks only whether an image is another one (the discrete metric: 0 or 1): every image of the box
    [0, 1] is within its only level, 1. Under it nothing but the attack bounds what is done to an image: the largest
    rotation, the classes of a generator (Song et al. 2018). So it has no ball, no certificate and no safe level.
    """

    L0 = "l0"
    L1 = "l1"
    L2 = "l2"
    LINF = "linf"
    UNRESTRICTED = "unrestricted"


BALLS = (Norm.L0, Norm.L1, Norm.L2, Norm.LINF)
"""The norms whose radius bounds what an attack may do."""

Ball = Literal[Norm.L0, Norm.L1, Norm.L2, Norm.LINF]
"""The type of a parameter that is one of `BALLS`."""

DUAL = (Norm.L0, Norm.LINF)
"""The two norms of the dual assessment: they share their levels, and only they are held against each other."""

COUNTED = frozenset({Norm.L0, Norm.UNRESTRICTED})
"""Norms of whole numbers: a level is a radius. The others' levels are steps of 1/255."""

_DEFAULTS = {Norm.L1: (510, 1530, 3060), Norm.L2: (32, 64, 128, 255), Norm.UNRESTRICTED: (FIRST_LEVEL,)}


DISTANCE_TOLERANCE = 1e-6
"""Slack, in pixels or 1/255 steps, of `distance <= th`; stored distances are exact on the grid."""


def default_levels(norm: Norm) -> tuple[int, ...]:
    """The levels of a threat that names none.

    L0 and Linf: `DEFAULT_LEVELS`. L1: 2, 6 and 12 in image values (12 is the usual CIFAR-10 radius). L2: about 1/8,
    1/4, 1/2 (0.502) and 1. Unrestricted: 1, the only one.
    """
    return _DEFAULTS.get(norm, DEFAULT_LEVELS)


class Access(IntEnum):
    """What a model can give and what an attack needs, in increasing order."""

    LABELS = 1
    SCORES = 2
    GRADIENTS = 3


class Goal(StrEnum):
    """Untargeted: any other class. Targeted: one given class."""

    UNTARGETED = "untargeted"
    TARGETED = "targeted"


class Grid(StrEnum):
    """Which images may exist: multiples of 1/255 (they survive a PNG), or any real value."""

    EIGHT_BIT = "8bit"
    NONE = "none"


_WRITTEN = re.compile(r"-?(?:0|[1-9][0-9]{0,18})(?: ?/ ?[1-9][0-9]{0,18}|(?:\.[0-9]{1,30})?(?:[eE][-+]?[0-9]{1,2})?)")


def exact_number(value: Any) -> Any:
    """`8/255` and `1e-3` written as text become the float nearest to that exact fraction; other text is refused."""
    if isinstance(value, bool):
        raise ValueError(f"a number is needed, not {value!r}")
    if not isinstance(value, str):
        return value
    if not _WRITTEN.fullmatch(value.strip()):
        raise ValueError(f"{value[:80]!r} is not a number; write 0.03, 1e-3 or a fraction such as 8/255")
    return float(Fraction(value.replace(" ", "")))


Number = Annotated[float, BeforeValidator(exact_number)]
"""A float field that also accepts an exact fraction as text, such as `8/255`."""


class ThreatModel(BaseModel):
    """What an adversary may do to one image.

    `radius` is in the unit of the norm: pixels for L0, image values in [0, 1] for L1, L2 and Linf, 1 without a ball.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    norm: Norm
    radius: Number = Field(ge=0, allow_inf_nan=False, description="largest distance from the original image")
    goal: Goal = Goal.UNTARGETED
    access: Access = Field(default=Access.SCORES, description="the most that an attack may ask of the model")
    queries: int = Field(default=1000, ge=1, description="model rows an attack may spend on one sample")
    grid: Grid = Grid.EIGHT_BIT

    @classmethod
    def at_level(cls, norm: Norm, th: int, **rest: Any) -> ThreatModel:
        """The threat model of robustness level `th`: `th` pixels for L0, `th/255` for L1, L2 and Linf."""
        return cls(norm=norm, radius=float(th) if norm in COUNTED else th / 255, **rest)

    @property
    def th(self) -> int:
        """The level: whole pixels for L0, otherwise whole 1/255 steps (the largest that the radius contains)."""
        if self.norm in COUNTED:
            return int(self.radius)
        return math.floor(self.radius * 255 + 1e-9 * max(1.0, self.radius))  # rounding grows with the radius
