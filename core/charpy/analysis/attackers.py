"""Defended models by what their attackers see: static, adaptive and black-box side by side, and all of them together.

Source: Carlini et al. 2019, On evaluating adversarial robustness, section 3: a defence is as good as the best attack.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from charpy.analysis.document import Assessment, AttackersPart, ModelPart, RedrawPart
from charpy.analysis.intervals import mean_interval, share
from charpy.analysis.outcomes import Outcomes
from charpy.outcome import Outcome


def base_title(model: ModelPart) -> str:
    """The model's name without what its attackers see."""
    return model.name.removesuffix(f" ({model.attackers})")


def attackers_parts(
    assessments: Sequence[Assessment], outcomes: Sequence[Mapping[str, Outcomes]]
) -> tuple[AttackersPart, ...]:
    """One part for each defended model with several attackers, norm and level.

    Args:
        outcomes: of each assessment, by norm, at the levels that its report shows.
    """
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place, assessment in enumerate(assessments):
        model = assessment.model
        if model.defenses:
            groups[base_title(model), repr(sorted(model.fingerprint.items()))].append(place)
    parts = []
    for (title, _), places in groups.items():
        if len(places) < 2:
            continue
        for norm, first in outcomes[places[0]].items():
            for column, th in enumerate(first.levels):
                stands = {
                    assessments[place].model.attackers: outcomes[place][norm].mask(Outcome.HELD, Outcome.PROVEN)[
                        :, column
                    ]
                    for place in places
                }
                samples = len(first.matrix)
                parts.append(
                    AttackersPart(
                        model=title,
                        defenses=assessments[places[0]].model.defenses,
                        norm=norm,
                        th=th,
                        not_broken={name: share(int(mask.sum()), samples) for name, mask in stands.items()},
                        lowest=share(int(np.logical_and.reduce(list(stands.values())).sum()), samples),
                    )
                )
    return tuple(parts)


def redraw_parts(rows: Sequence[Mapping[str, int | str]]) -> tuple[RedrawPart, ...]:
    """Means over the draws of one model, from the rows of its run file."""
    shares: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    for row in rows:
        shares[str(row["norm"]), int(row["th"])].append(int(row["robust"]) / max(1, int(row["samples"])))
    return tuple(
        RedrawPart(norm=norm, th=th, draws=len(of), mean=float(np.mean(of)), interval=mean_interval(of))
        for (norm, th), of in shares.items()
    )
