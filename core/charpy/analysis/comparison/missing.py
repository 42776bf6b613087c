"""Which sections the runs cannot fill, and the lines of a spec that would fill them."""

from __future__ import annotations

from collections.abc import Mapping, Sized

from charpy.analysis.comparison.document import MissingPart, Section

WHY: Mapping[Section, str] = {
    "duels": "No two attacks faced the same samples of one model independently. Give each attack a run "
    "of its own over the same samples: `threats: [{norm: linf, battery: [{kind: threshold, params: {optimiser: "
    "de}}]}]` in one spec, `{optimiser: cma-es}` in the other, and compare the two run files.",
    "attacks": "No attack ran: the model gets none of these samples right, or its run was stopped before "
    "every sample was attacked.",
    "areas": "No run knows every level. Search each sample's smallest one: `threats: [{norm: l0, levels: minimal}, "
    "{norm: linf, levels: minimal}]`, or list all `levels`, 1 to 127.",
    "classes": "No sample is classified correctly.",
    "transfer": "The models were not shown each other's witnesses: add `--transfer` to `charpy compare`, which opens "
    "them again; several `models` in one spec, or several runs, make a matrix.",
    "agreement": "No row was assessed under L0 and Linf at a common level: `threats: [{norm: l0, levels: [1, 3, 5, "
    "10]}, {norm: linf, levels: [1, 3, 5, 10]}]`.",
    "curves": "A curve needs two levels: `levels: [1, 3, 5, 10]`, or `levels: minimal` for every one.",
}
NOTHING_TO_SHOW = "No attack broke anything, so there is no witness to show to another model."


def missing_parts(filled: Mapping[Section, Sized], *, asked_transfer: bool) -> tuple[MissingPart, ...]:
    """One part for each section that is empty, in the order of the paper's section V."""
    parts = []
    for section, found in filled.items():
        if not len(found):
            told = NOTHING_TO_SHOW if section == "transfer" and asked_transfer else WHY[section]
            parts.append(MissingPart(section=section, sentence=told))
    return tuple(parts)
