"""A run as every report sees it: one assessment per model, and images on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from charpy.analysis.agreement import agreement_parts
from charpy.analysis.attackers import attackers_parts, redraw_parts
from charpy.analysis.attacks import attack_parts, rejected_parts
from charpy.analysis.characteristic import characteristic_parts
from charpy.analysis.curves import auc_part, searched_auc_part
from charpy.analysis.document import (
    Assessment,
    AttackersPart,
    AucPart,
    DatasetPart,
    DrillPart,
    IndicatorPart,
    ModelPart,
    ThreatPart,
)
from charpy.analysis.findings import NormFindings, Population, level_costs
from charpy.analysis.gallery import GalleryItem, read_gallery
from charpy.analysis.gates import judged
from charpy.analysis.grade import Grade, blindness, grade_of
from charpy.analysis.indicators import indicator_parts
from charpy.analysis.intervals import share
from charpy.analysis.levels import safe_parts, threat_parts
from charpy.analysis.lost import lost_parts
from charpy.analysis.minimal import minimal_part
from charpy.analysis.outcomes import Evidence, Ints, Outcomes
from charpy.analysis.per_class import class_parts
from charpy.analysis.proofs import bracket_parts, proof_parts
from charpy.analysis.reading import Reading
from charpy.analysis.scatter import scatter_parts
from charpy.analysis.trials import Trial, read_trials
from charpy.analysis.verdict import Status, status_of, verdict
from charpy.checks import largest_level
from charpy.errors import RunFileError
from charpy.gates import Gate
from charpy.outcome import Outcome
from charpy.runfile import RunFile
from charpy.runfile.content import read_as_written
from charpy.specs import Attackers, RunSpec, parse
from charpy.threat import DUAL, OWN, Norm

Certificates = Mapping[tuple[int, str], Ints]
"""(model index, norm) -> int64 `(S,)`: the largest level that is proven of each sample, 0 for none."""


@dataclass(frozen=True)
class RunSummary:
    """A run in figures. Keep its run file open for as long as `gallery` is wanted."""

    name: str
    assessments: tuple[Assessment, ...]
    run: RunFile
    attackers: tuple[AttackersPart, ...] = ()
    source: str = ""

    @classmethod
    def of(
        cls, run: RunFile, proven: Certificates | None = None, gates: Iterable[Gate] | None = None, source: str = ""
    ) -> RunSummary:
        """The summary of an open run file, finished or not.

        Args:
            run: its meta must hold `dataset` and `models` (see `Assessment`).
            proven: certificates, instead of those in the run file.
            gates: instead of those of its spec.
            source: the spec file, as the user named it.

        Raises:
            RunFileError: the run stopped before it had recorded its data and models.
        """
        spec = parse(RunSpec, run.spec, where=str(run.path))
        if run.meta("dataset") is None or not run.meta("models"):
            raise RunFileError(
                "nothing was assessed yet: the run stopped before its data and models were recorded",
                where=str(run.path),
                hint="run the same command again, it goes on from here",
            )
        models = range(len(run.meta("models")))
        assessed = [_assess(run, model, spec, proven) for model in models]
        assessments = judged(
            [assessment for assessment, _ in assessed],
            spec.gates if gates is None else gates,
            finished=bool(run.meta("finished", False)),
        )
        attackers = attackers_parts(assessments, [shown for _, shown in assessed])
        return cls(spec.name, assessments, run, attackers, source)

    def gallery(self, model: int, norm: str, limit: int) -> list[GalleryItem]:
        """At most `limit` witnesses of model number `model` under `norm`, spread over levels and classes.

        Read from the run file now, so nothing is kept between calls; the same run gives the same choice.
        """
        assessment = self.assessments[model]
        levels = [threat.th for threat in assessment.threats if threat.norm == norm]
        if OWN in levels or any(part.norm == norm for part in assessment.minimal):
            levels.append(largest_level(Norm(norm), assessment.dataset.shape))
        if not levels:
            return []
        with read_as_written([self.run.path]):
            spec = parse(RunSpec, self.run.spec)
            dataset = self.run.meta("dataset")
            return read_gallery(self.run, model, norm, limit, levels=levels, dataset=dataset, grid=spec.grid)


def _assess(
    run: RunFile, model: int, spec: RunSpec, given: Certificates | None
) -> tuple[Assessment, Mapping[str, Outcomes]]:
    """The assessment of one model, and the outcomes at the levels that it shows."""
    proven = None if given is None else {norm: levels for (index, norm), levels in given.items() if index == model}
    reading = Reading.of(run, model, spec, proven)
    population, found, evidence, outcomes = reading.population, reading.found, reading.evidence, reading.outcomes
    samples, correct = len(population.labels), int(population.correct.sum())
    finished = bool(run.meta("finished", False))
    reasons = _invalid_reasons(population, found, outcomes, finished)
    status = status_of(samples, reasons, _contradictions(outcomes), finished=finished)
    shown = {norm: of_norm.at(found[norm].shown) for norm, of_norm in outcomes.items()}
    units, model_part = run.units(model), ModelPart.model_validate(run.meta("models")[model])
    trials, drills = read_trials(units, run.results(model), run.witness_steps(model), found), _drills(run, model)
    indicators = indicator_parts(trials, drills, model_part, found, correct)
    overlooked = model_part.attackers == Attackers.STATIC
    doubt, masked = blindness(reading.rows), any(note.startswith("no gradients") for note in model_part.notes)
    grades = {
        norm: _grades(part, indicators, trials, status, overlooked, doubt, masked) for norm, part in shown.items()
    }
    threats = _threats(run, model, found, shown, population, grades)
    safe = safe_parts(threats, valid=status.value == "valid")
    dataset = DatasetPart.model_validate(run.meta("dataset"))
    areas = [_area(of_norm, found[norm], evidence[norm], correct) for norm, of_norm in outcomes.items()]
    clean = share(correct, samples)
    assessment = Assessment(
        name=spec.name,
        verdict=verdict(status, samples, correct, threats, safe),
        status=status.value,
        status_reason=status.reason,
        seed=spec.seed,
        model=model_part,
        dataset=dataset,
        clean_accuracy=clean.value,
        clean_interval=None if clean.low is None or clean.high is None else (clean.low, clean.high),
        clean=clean,
        invalid=share(sum(reasons.values()), samples),
        threats=threats,
        own_levels={
            norm: {row.id: of_norm.own[row.sample] for row in reading.rows}
            for norm, of_norm in found.items()
            if of_norm.own
        },
        attacks=attack_parts(units, found, run.witness_metrics(model)),
        characteristics=characteristic_parts(run, model, spec, population, units) if spec.contest else (),
        scatter=scatter_parts(units, run.witness_metrics(model)),
        safe=safe,
        auc=tuple(area for area in areas if area is not None),
        agreement=agreement_parts(*(shown[norm] for norm in DUAL)) if shown.keys() >= set(DUAL) else (),
        per_class=tuple(
            part for of_norm in shown.values() for part in class_parts(of_norm, population.labels, dataset.class_names)
        ),
        minimal=tuple(minimal_part(outcomes[norm], evidence[norm]) for norm in found if found[norm].search),
        proofs=proof_parts(reading.proofs),
        brackets=bracket_parts(evidence, threats, reading.rows),
        redraws=redraw_parts([row for row in run.meta("redraws", []) if row["model"] == model]),
        rejected=rejected_parts(run.rejected(model)),
        lost=lost_parts(units, reading.proofs, drills),
        indicators=indicators,
        drills=drills,
        warnings=_warnings(run, finished),
        spec=run.spec,
        plugins=run.meta("plugins", {}),
        environment=run.meta("environment", {}),
    )
    return assessment, shown


def _area(outcomes: Outcomes, found: NormFindings, evidence: Evidence, correct: int) -> AucPart | None:
    if found.search:
        return searched_auc_part(outcomes, evidence, correct)
    return auc_part(outcomes, correct, found.last)


def _threats(
    run: RunFile,
    model: int,
    found: Mapping[str, NormFindings],
    shown: Mapping[str, Outcomes],
    population: Population,
    grades: Mapping[str, Mapping[int, Grade]],
) -> tuple[ThreatPart, ...]:
    parts: list[ThreatPart] = []
    for norm, findings in found.items():
        goal, queries = findings.threat.goal, findings.threat.queries
        costs = level_costs(run, model, findings, population)
        parts += threat_parts(shown[norm], goal=goal, queries=queries, costs=costs, grades=grades[norm])
    return tuple(parts)


def _grades(
    shown: Outcomes,
    indicators: Sequence[IndicatorPart],
    trials: Sequence[Trial],
    status: Status,
    overlooked: bool,
    doubt: str,
    masked: bool,
) -> dict[int, Grade]:
    """The grade of each level's figure under one norm."""
    invalid = "" if status.value == "valid" else status.reason
    held = zip(shown.levels, shown.counts(Outcome.HELD), strict=True)
    return {
        th: grade_of(
            shown.norm,
            th,
            count,
            indicators,
            trials,
            invalid=invalid,
            overlooked=overlooked,
            doubt=doubt,
            masked=masked,
        )
        for th, count in held
    }


def _drills(run: RunFile, model: int) -> tuple[DrillPart, ...]:
    rows = [row for row in run.meta("drills", []) if row["model"] == model]
    return tuple(DrillPart.model_validate({k: v for k, v in row.items() if k != "model"}) for row in rows)


def _contradictions(outcomes: Mapping[str, Outcomes]) -> int:
    """Samples that are certified at a level although a witness under that norm lies within it."""
    return len({int(row) for of_norm in outcomes.values() for row in np.flatnonzero(of_norm.contradicted.any(axis=1))})


def _invalid_reasons(
    population: Population, found: Mapping[str, NormFindings], outcomes: Mapping[str, Outcomes], finished: bool
) -> Counter[str]:
    """Reason -> samples that are invalid anywhere, each counted once, under the first reason that applies."""
    reasons: dict[int, str] = {
        int(position): "no valid answer to the unperturbed image" for position in np.flatnonzero(~population.valid)
    }
    for norm, of_norm in outcomes.items():
        missing = "no attack ran on it" if finished else "not attacked yet"
        invalid = of_norm.mask(Outcome.INVALID)
        for position in np.flatnonzero(invalid.any(axis=1)):
            untried = bool((invalid[position] == of_norm.unattacked[position]).all())
            reason = missing if untried else found[norm].reasons.get(int(position), missing)
            reasons.setdefault(int(position), reason)
    return Counter(reasons.values())


def _warnings(run: RunFile, finished: bool) -> tuple[str, ...]:
    stored: list[Any] = run.meta("warnings", [])
    late = () if finished else ("unfinished run: its figures are of what was done so far",)
    return tuple(str(warning) for warning in stored) + late
