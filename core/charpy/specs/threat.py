"""What attacks a run, under which norms, at which levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from charpy.errors import SpecError
from charpy.specs.component import AttackSpec, Spec
from charpy.threat import BALLS, DUAL, FIRST_LEVEL, LAST_LEVEL, OWN, Goal, Norm, default_levels

MOST = 2**53
"""A larger level is refused before any image is known: it could not be told from the next one as a float."""


class OwnLevels(Spec):
    """A level for each sample, from a file."""

    path: str = Field(min_length=1, description="eps.json of `charpy distances`: sample ids and their levels")


class ThreatSpec(Spec):
    """One norm, the levels at which it is assessed, and what attacks it."""

    norm: Norm = Field(
        description="l0 (pixels), or l1, l2, linf (1/255 steps of an image value); unrestricted: what bounds an attack "
        "is its own parameters, no distance"
    )
    levels: tuple[int, ...] | Literal["minimal"] | OwnLevels = Field(
        default_factory=lambda known: default_levels(known["norm"]),
        description=f"th: {FIRST_LEVEL}..{LAST_LEVEL} for l0 and linf, up to the diameter of the image box for l1 and "
        "l2 (an L2 radius of 0.5 is th = 128); or 'minimal': search each sample's smallest th in that range; or "
        "{path: eps.json}: each sample's own. If not given: "
        f"{'; '.join(f'{norm} {list(default_levels(norm))}' for norm in BALLS)}. Unrestricted has level 1 only",
    )
    goal: Goal = Goal.UNTARGETED
    battery: str | tuple[AttackSpec, ...] = Field(
        default="standard", description="a battery's kind, or a list of attacks in order"
    )
    queries: int = Field(default=5000, ge=1, description="model rows each attack may spend per sample and level")

    @field_validator("levels")
    @classmethod
    def _levels_in_range(
        cls, levels: tuple[int, ...] | str | OwnLevels, info: ValidationInfo
    ) -> tuple[int, ...] | str | OwnLevels:
        if info.data.get("norm") is Norm.UNRESTRICTED and levels != (FIRST_LEVEL,):
            raise ValueError(f"an unrestricted threat has no ball and so one level, {FIRST_LEVEL}; leave `levels` out")
        if not isinstance(levels, tuple):
            return levels
        if not levels:
            raise ValueError("at least one level is needed")
        dual = info.data.get("norm") in DUAL  # l1 and l2 end with the image, which is not known here
        if bad := [th for th in levels if not FIRST_LEVEL <= th <= (LAST_LEVEL if dual else MOST)]:
            end = str(LAST_LEVEL) if dual else "the diameter of the image box"
            raise ValueError(f"levels {bad} are outside {FIRST_LEVEL}..{end}")
        if len(set(levels)) < len(levels):
            raise ValueError(f"levels {list(levels)} name a level twice")
        return tuple(sorted(levels))

    @property
    def shown(self) -> tuple[int, ...]:
        """The levels that a report shows, as far as the image has them."""
        if isinstance(self.levels, OwnLevels):
            return (OWN,)
        return self.levels if isinstance(self.levels, tuple) else default_levels(self.norm)

    @property
    def searched(self) -> bool:
        """Whether the smallest level of each sample is searched."""
        return self.levels == "minimal"

    @property
    def nested(self) -> bool:
        """Whether a witness counts wherever it is near enough, whatever the run says of levels that are given."""
        return not isinstance(self.levels, tuple)


def levels_under(
    norm: str, levels: Sequence[int] | Mapping[str, Sequence[int]] | str | None, norms: Sequence[str]
) -> dict[str, Any]:
    """The `levels` field of the threat of one of `norms`; empty where the norm takes its own default.

    Args:
        norm: the threat's.
        levels: for every norm, or by norm; "minimal"; None for each norm's default.
        norms: of the run, so that levels of a norm that is not among them are refused.

    Raises:
        SpecError: levels of a norm that is not assessed.
    """
    if isinstance(levels, Mapping):
        if strangers := sorted(str(name) for name in levels.keys() - {str(name) for name in norms}):
            found, expected = ", ".join(strangers), ", ".join(map(str, norms))
            raise SpecError(
                "levels of a norm that is not assessed",
                where="levels",
                found=found,
                expected=expected,
                hint="add the norm to those that are assessed, or leave its levels out",
            )
        levels = {str(name): values for name, values in levels.items()}.get(norm)
    if levels is None or norm == Norm.UNRESTRICTED:  # it has one level, whatever the others' are
        return {}
    return {"levels": levels if isinstance(levels, str) else list(levels)}
