"""All that the answers of a study say: `analysed(document, responses)`."""

from __future__ import annotations

from collections.abc import Mapping

from charpy.errors import SpecError
from charpy_plugins.study.analysis.accuracy import condition_part
from charpy_plugins.study.analysis.comparisons import compared
from charpy_plugins.study.analysis.document import ComparisonPart, SettingsPart, StudyAnalysis
from charpy_plugins.study.analysis.exclusions import Kept, kept
from charpy_plugins.study.analysis.hypotheses import hypotheses
from charpy_plugins.study.analysis.sensitivity import sensitivity
from charpy_plugins.study.analysis.trials import Trials, by_condition, refuse_pooling
from charpy_plugins.study.document import Kind, StudyDocument
from charpy_plugins.study.responses import Responses

T_TEST = (
    "The paper says only `a t-test`. The test that is labelled so here is Student's, two-sided, on the averages of "
    "participants, uncorrected; conclusions rest on the primary test."
)


def analysed(
    document: StudyDocument,
    responses: Responses,
    *,
    alpha: float = 0.05,
    margin: float = 0.10,
    confidence_margin: float = 0.5,
    draws: int = 10_000,
    seed: int = 0,
    unit: str = "participants",
    models: bool = True,
) -> StudyAnalysis:
    """The analysis; the same arguments give the same one.

    Args:
        document: the study.
        responses: of people, or of a simulated population.
        alpha: level of every test, after Holm's correction over the pairs of conditions.
        margin: accuracies that differ by less count as equivalent, as a share.
        confidence_margin: the same for confidence, in points of 1 to 5.
        draws: of permutations and of bootstrap samples.
        seed: of those.
        unit: what is independent; only `participants` can be.
        models: the mixed and the ordinal model too, which take seconds a pair of conditions.

    Raises:
        SpecError: an argument out of its range; `unit` is not `participants`.
        DataError: responses that are not of this study.
        PluginError: statsmodels is not installed.
    """
    refuse_pooling(unit)
    settings = _settings(alpha, margin, confidence_margin, draws, seed)
    who = kept(document, responses)
    arms = by_condition(document, responses, who.included)
    comparisons = compared(arms, settings, fit=models)
    return StudyAnalysis(
        study=document.name,
        fingerprint=document.fingerprint,
        simulated=responses.simulated,
        labels=document.labels,
        settings=settings,
        flow=who.flow,
        excluded=who.excluded,
        conditions=tuple(condition_part(document, one, arms[one.name], draws, seed) for one in document.conditions),
        comparisons=comparisons,
        hypotheses=hypotheses(document, comparisons, responses.simulated),
        sensitivity=sensitivity(arms, by_condition(document, responses, who.finished), comparisons, settings),
        notes=_notes(document, responses, who, arms, comparisons),
    )


def _settings(alpha: float, margin: float, confidence_margin: float, draws: int, seed: int) -> SettingsPart:
    bounds = {
        "alpha": (alpha, 1e-6, 0.5),
        "margin": (margin, 1e-6, 1.0),
        "confidence_margin": (confidence_margin, 1e-6, 4.0),
        "draws": (draws, 100, 1_000_000),
        "seed": (seed, 0, 2**63 - 1),
    }
    for name, (value, least, most) in bounds.items():
        if not least <= value <= most:
            raise SpecError("out of range", where=name, found=value, expected=f"{least:g} to {most:g}")
    return SettingsPart(alpha=alpha, margin=margin, confidence_margin=confidence_margin, draws=draws, seed=seed)


def _notes(
    document: StudyDocument,
    responses: Responses,
    who: Kept,
    arms: Mapping[str, Trials],
    comparisons: tuple[ComparisonPart, ...],
) -> tuple[str, ...]:
    notes = []
    if responses.simulated:
        notes.append(f"These are answers of a simulated population ({responses.simulated}); no person gave them.")
    if comparisons:
        notes.append(T_TEST)
    else:
        notes.append("The study has one condition: there is nothing to compare.")
    if all(condition.kind is not Kind.BENIGN for condition in document.conditions):
        notes.append("No condition shows unchanged images, so no hypothesis about changed ones can be tested.")
    empty = [name for name, trials in arms.items() if not trials.participants]
    notes += [f"Nobody is included in {name}." for name in empty]
    asked = document.questions
    for name, trials in arms.items():
        counts = [int((trials.participant == one).sum()) for one in range(len(trials.participants))]
        if other := sum(count != asked for count in counts):
            notes.append(f"{name}: {other} of {len(counts)} included participants did not answer {asked} questions.")
    return tuple(notes)
