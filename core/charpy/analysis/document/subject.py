"""What was assessed: the model with its defences, on which data, against which attackers."""

from __future__ import annotations

from pydantic import Field

from charpy.analysis.document.part import Part, Share


class ModelPart(Part):
    """The model that was assessed."""

    name: str
    kind: str
    access: str
    output: str
    input_shape: tuple[int, int, int]
    num_classes: int
    engine: str = Field(description="what answered forward-only queries; the judge always uses the model as given")
    gradient_engine: str | None = Field(default=None, description="what computed gradients; None where none was asked")
    deterministic: bool = Field(default=True, description="whether it gives the same images the same answers each time")
    batch_invariant: bool = Field(
        default=True, description="whether an answer is free of the other images of its batch"
    )
    steady: bool = Field(
        default=True, description="whether it put the unchanged images into the same classes when all was done"
    )
    micro_batch: int = Field(description="model rows in one batch")
    defenses: tuple[str, ...] = ()
    attackers: str = Field(default="adaptive", description="what the attacks saw of the defences")
    fingerprint: dict[str, str]
    notes: tuple[str, ...] = ()
    engine_notes: tuple[str, ...] = Field(
        default=(), description="of the engines: why another was not taken, what was seen of the one that was"
    )


class DatasetPart(Part):
    """The data that it was assessed on."""

    name: str
    kind: str
    samples: int
    unique: int = Field(description="samples that are no bit-for-bit copy of an earlier one")
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    grid: str
    fingerprint: str
    notes: tuple[str, ...] = ()


class RedrawPart(Part):
    """A randomised model under other draws: its accuracy, or what its witnesses leave at one level."""

    norm: str = Field(description="'': without any change")
    th: int
    draws: int
    mean: float = Field(description="over the draws, of the share of all samples that is right")
    interval: tuple[float, float] = Field(description="95 %, Student's t over the draws, of that mean")


class AttackersPart(Part):
    """A defended model at one level: robust accuracy by what the attackers see of its defences."""

    model: str
    defenses: tuple[str, ...]
    norm: str
    th: int
    not_broken: dict[str, Share] = Field(description="by attackers: of all samples, those right and not broken")
    lowest: Share = Field(description="those that none of the attackers broke")
