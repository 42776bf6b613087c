"""What a run file says about one model: its samples, the evidence under each norm, and the outcomes that follow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from charpy.analysis.findings import NormFindings, Population, evidence_of, read_findings
from charpy.analysis.outcomes import Evidence, Ints, Outcomes, outcomes_of
from charpy.analysis.proofs import proven_levels
from charpy.records import ProofRecord, SampleRow
from charpy.runfile import RunFile
from charpy.specs import RunSpec


@dataclass(frozen=True)
class Reading:
    """One model of a run; mappings are by norm, in the order of the spec."""

    rows: list[SampleRow]
    population: Population
    proofs: list[ProofRecord]
    found: Mapping[str, NormFindings]
    evidence: Mapping[str, Evidence]
    outcomes: Mapping[str, Outcomes]

    @classmethod
    def of(cls, run: RunFile, model: int, spec: RunSpec, proven: Mapping[str, Ints] | None = None) -> Reading:
        """Model number `model` of an open run.

        Args:
            proven: by norm, the largest proven level of each sample `(S,)`, instead of the proofs in the run file.
        """
        rows, proofs = run.samples(model), run.proofs(model)
        population = Population.of(rows)
        found = read_findings(run, model, spec, population)
        levels = proven_levels(proofs, population) if proven is None else proven
        binding = proven_levels(proofs, population, binding=True) if proven is None else proven
        evidence = {
            norm: evidence_of(run, model, part, population, levels.get(norm), binding.get(norm))
            for norm, part in found.items()
        }
        outcomes = {
            norm: outcomes_of(norm, part.levels, evidence[norm], carry=part.carry, search=part.search)
            for norm, part in found.items()
        }
        return cls(rows, population, proofs, found, evidence, outcomes)
