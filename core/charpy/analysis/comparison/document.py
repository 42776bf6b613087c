"""The document that a comparison comes down to: `compare.json`, and the source of every other format."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from charpy.analysis.document import AgreementPart, AucPart, ClassPart, DatasetPart, Grade, Part

Section = Literal["dual", "duels", "attacks", "areas", "classes", "transfer", "agreement", "curves"]


class Rate(Part):
    """A count out of a total with its two-sided 95 % Wilson interval.

    Value and interval are None when the total is 0, and at a level of an unfinished run that not every sample reached:
    what lower levels broke is broken there, and nothing is known of the others.
    """

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None


class RunPart(Part):
    """A run file that was compared."""

    title: str = Field(description="name of the run, told apart from other runs of that name")
    file: str = Field(description="as it was given")
    samples: int
    seed: int
    carry: bool = Field(description="whether a witness counts at every larger level")


class EntryPart(Part):
    """A model of a run, with its defences: one row of the tables."""

    title: str = Field(description="name of the model, told apart from other models of that name by its run")
    run: str
    model: str = Field(description="the same for rows about the same model, defences included")
    defenses: tuple[str, ...]
    status: Literal["valid", "invalid", "unsound"]
    status_reason: str
    finished: bool = Field(description="whether its run is; else levels that not every sample reached have no figure")
    clean: Rate = Field(description="correctly classified of all samples")
    marks: int = Field(description="cells that are the lowest of their column or near it")


class CellPart(Part):
    """One cell of the dual table (Table III)."""

    entry: str
    norm: str
    th: int
    broken: Rate = Field(description="adversarial accuracy: broken of correctly classified")
    proven: Rate | None = Field(description="proven of correctly classified; None where nothing was tried to prove")
    mark: Literal["lowest", "near", ""] = Field(
        description="lowest of the column among models without defences, or within five points of it (the paper's "
        "bold); of several rows about one model only the highest, and no row whose grade is invalid"
    )
    grade: Grade = Field(description="of the run's own report: whether what held is evidence")


class DuelPart(Part):
    """Two attacks on the same model, samples, norm and level (Table II)."""

    model: str
    norm: str
    th: int
    first: str
    second: str
    samples: int = Field(description="correctly classified, and answered validly under both attacks")
    both: int
    only_first: int
    only_second: int
    neither: int
    first_rate: Rate
    second_rate: Rate
    p_value: float = Field(description="exact two-sided McNemar test, not corrected for the number of tests")
    winner: str | None = Field(description="the attack that broke more; None for a tie")


class WinsPart(Part):
    """How often an attack broke more than the other one, over models and levels."""

    norm: str
    attack: str
    wins: int
    significant: int = Field(description="of them with p < 0.05")
    duels: int


class AttackCellPart(Part):
    """One attack on one model at one level (Table IV)."""

    entry: str
    norm: str
    th: int
    attack: str
    kind: str
    complete: bool = Field(description="whether it faced every correctly classified sample, not only what was left")
    success: Rate = Field(description="broken of the samples that it faced")
    mean_l2: float | None = Field(description="mean L2, 0..255 scale, of the nearest witness of each broken sample")


class EntryArea(AucPart):
    """Area under the curve of one model under one norm (Table V)."""

    entry: str


class EntryClass(ClassPart):
    """One true class of one model under one norm at one level (Figure 3)."""

    entry: str


class EntryAgreement(AgreementPart):
    """Samples of one model broken under only one norm, both or neither (Figure 5)."""

    entry: str


class TransferPart(Part):
    """One cell of the transfer matrix (Figure 4)."""

    source: str = Field(description="the row whose nearest witnesses are shown")
    target: str = Field(description="the model that they are shown to")
    norm: str
    fooled: Rate = Field(description="misclassified of those whose originals the target gets right")


class PointPart(Part):
    """One point of a curve."""

    th: int
    broken: Rate


class CurvePart(Part):
    """Adversarial accuracy of one model over th (Figure 6)."""

    entry: str
    norm: str
    searched: bool = Field(description="whether each sample's smallest level was searched, so that every th is known")
    points: tuple[PointPart, ...]


class MissingPart(Part):
    """A section that the runs cannot fill, and what would."""

    section: Section
    sentence: str


class Comparison(Part):
    """The whole of `compare.json`. Every figure is over the samples that all runs share."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Literal["charpy.comparison/1"] = Field(default="charpy.comparison/1", alias="schema")
    name: str
    definition: str = Field(description="what adversarial accuracy is, in the paper and here")
    dataset: DatasetPart
    samples: int = Field(description="samples that all runs share")
    runs: tuple[RunPart, ...]
    entries: tuple[EntryPart, ...]
    notes: tuple[str, ...] = Field(description="what must be known before two figures are held against each other")
    warnings: tuple[str, ...] = Field(description="those of the runs")
    dual: tuple[CellPart, ...]
    duels: tuple[DuelPart, ...]
    wins: tuple[WinsPart, ...]
    attacks: tuple[AttackCellPart, ...]
    areas: tuple[EntryArea, ...]
    classes: tuple[EntryClass, ...]
    transfer: tuple[TransferPart, ...]
    agreement: tuple[EntryAgreement, ...]
    curves: tuple[CurvePart, ...]
    missing: tuple[MissingPart, ...]
