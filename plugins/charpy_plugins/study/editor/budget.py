"""How far a painter may go: from the words of the command line and the study to one threat model."""

from __future__ import annotations

import math
import re

from charpy.errors import SpecError
from charpy.threat import Norm, ThreatModel
from charpy_plugins.study.document import StudyDocument, Threat

_SHARE = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)\s*%")


def budget_of(document: StudyDocument, norm: str | None, level: float | None, budget: str | None) -> Threat:
    """The condition D(x, x') <= level that every painted stimulus keeps.

    `budget` is a share of the pixels, `15%` (as in Sharif et al. 2018, 4.3), rounded down to whole pixels; without any
    wish it is what the study says.

    Raises:
        SpecError: nobody says, two say, the study says another norm or a smaller level, or the level is none.
    """
    said = document.source.threat
    if budget is not None and (level is not None or norm not in {None, Norm.L0}):
        raise SpecError(
            "two budgets are given",
            where="--budget",
            found=f"--budget {budget} beside --norm or --level",
            expected="one",
        )
    if budget is not None:
        norm, level = Norm.L0, _pixels_of(budget, document.source.shape)
    if norm is None and level is None:
        if said is None:
            raise SpecError(
                "how far may a painter go? The study does not say",
                where="--budget",
                found="no option",
                expected="--budget 15% (of the pixels), or --norm l0 --level 60",
            )
        return said
    norm = norm or (said.norm if said is not None else Norm.L0)
    level = level if level is not None else (said.level if said is not None and said.norm == norm else None)
    if level is None:
        raise SpecError("a norm without a level", where="--level", found=f"--norm {norm}", expected="--level 60")
    _check(document, norm, level)
    return Threat(norm=norm, level=level)


def threat_model(threat: Threat) -> ThreatModel:
    """The same as the judge takes it: a level is pixels for L0, 1/255 steps otherwise.

    Raises:
        SpecError: a norm that has no ball.
    """
    if threat.norm not in {Norm.L0, Norm.L1, Norm.L2, Norm.LINF}:
        raise SpecError("no norm to paint under", where="--norm", found=threat.norm, expected="l0, l1, l2 or linf")
    norm = Norm(threat.norm)
    return ThreatModel(norm=norm, radius=threat.level if norm is Norm.L0 else threat.level / 255)


def _check(document: StudyDocument, norm: str, level: float) -> None:
    said = document.source.threat
    if not (math.isfinite(level) and level > 0) or (norm == Norm.L0 and level != int(level)):
        expected = "whole pixels above 0" if norm == Norm.L0 else "1/255 steps above 0"
        raise SpecError("this level allows nothing", where="--level", found=f"{level:g}", expected=expected)
    if said is not None and (said.norm != norm or level > said.level):
        raise SpecError(
            "the study promises something narrower",
            where="--norm" if said.norm != norm else "--level",
            found=f"{norm} at level {level:g}",
            expected=f"{said.norm} at level {said.level:g} or below, as the other conditions",
            hint="leave the option out, or build a study for this threat",
        )


def _pixels_of(budget: str, shape: tuple[int, int, int]) -> int:
    found = _SHARE.fullmatch(budget.strip())
    if found is None or not 0 < float(found[1]) <= 100:
        raise SpecError("no share of the pixels", where="--budget", found=repr(budget[:40]), expected="for example 15%")
    pixels = math.floor(float(found[1]) * shape[1] * shape[2] / 100 + 1e-9)
    if pixels == 0:
        total = shape[1] * shape[2]
        raise SpecError("less than one pixel", where="--budget", found=budget, expected=f"a share of {total} pixels")
    return pixels
