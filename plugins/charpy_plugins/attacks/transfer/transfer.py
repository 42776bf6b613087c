"""Adversarial images that were made for another model, tried on this one (Kotyan & Vargas 2020, section V-F)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from pydantic import model_validator

from charpy.errors import DataError
from charpy.geometry import project
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Samples
from charpy.ledger import rank_among_equals
from charpy.pixels import as_images, distances, inside, quantise, snap
from charpy.plugins import registry
from charpy.source_run import SourceRun
from charpy.specs import ComponentSpec, ModelSpec
from charpy.surrogate import Surrogate
from charpy.threat import BALLS, Access, Goal, Grid, Norm

KOTYAN = "Kotyan & Vargas 2020, section V-F"
PAPERNOT = "Papernot, McDaniel & Goodfellow 2016, Transferability in machine learning"

TRAVELLING = {"steps": 30, "step_size": 0.1, "diversity": 1.0, "resize": 0.8, "kernel": 5}
"""mi_fgsm for images of some 30 pixels a side: more and more varied steps than published, and a smaller blur."""


class Outside(StrEnum):
    """What becomes of a source's image that lies outside the ball."""

    SKIP = "skip"
    PROJECT = "project"


class Transfer(Attack):
    """Shows the model images that broke another one; needs labels only.

    Give one of two sources:

    - `source`: a finished run file. Its witnesses, of every attack and norm, are tried on the sample whose original
      they were made from, recognised by its content; the nearest first, until one breaks it. This is the "extremely
      fast quality assessment" of the dual paper: at most as many queries as there are witnesses, no search.
    - `surrogate`: a model, which `attack` attacks with its own budget `surrogate_queries`; the `shown` images of each
      sample that the surrogate misclassifies most surely are tried. They are crafted to their full number of steps: an
      image that has just crossed the surrogate's boundary has rarely crossed another's.

    What it finds is a lower bound, "not equivalent to or close to real adversarial accuracy" (section V-F): a sample
    that the source has no witness of is not asked about, and holds.
    """

    norms = frozenset(BALLS)
    access = Access.LABELS
    family = Family.TARGET_DISTORTION
    source = "Kotyan & Vargas 2020, section V-F; Papernot, McDaniel & Goodfellow 2016, Transferability"

    class Params(BaseParams):
        """Where the images come from."""

        source: str | None = param(
            None, description="run file whose witnesses are tried", source=KOTYAN, identity=False
        )
        source_model: str | None = param(
            None, description="title of the model in that run; all of them if not given", source="ours"
        )
        source_attack: str | None = param(
            None,
            description="name of the attack in that run whose witnesses are tried; all if not given",
            source="ours",
        )
        outside: Outside = param(
            Outside.SKIP, description="a witness outside the ball: skip it, or project it into the ball", source="ours"
        )
        surrogate: ModelSpec | None = param(
            None, description="model to craft on: reference, or kind and params", source=PAPERNOT
        )
        attack: ComponentSpec = param(
            ComponentSpec(kind="mi_fgsm", params=TRAVELLING),
            description="what crafts on the surrogate: kind and params",
            source="ours",
        )
        surrogate_queries: int = param(
            1000, ge=1, description="budget on the surrogate", unit="rows per sample and level", source="ours"
        )
        shown: int = param(10, ge=1, le=1000, description="crafted images tried", unit="per sample", source="ours")

        @model_validator(mode="after")
        def _one_source(self) -> Transfer.Params:
            if (self.source is None) == (self.surrogate is None):
                raise ValueError("give either `source`, a finished run file, or `surrogate`, a model to craft on")
            if self.source is None and (self.source_model, self.source_attack) != (None, None):
                raise ValueError("`source_model` and `source_attack` choose from a `source`, and there is none")
            return self

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        spec, budget = self.params.surrogate, self.params.surrogate_queries
        self._surrogate = None if spec is None else Surrogate(spec, self.params.attack, budget, registry())

    @cached_property
    def _run(self) -> SourceRun:
        return SourceRun.read(Path(self.params.source), self.params.source_model, self.params.source_attack)

    def fingerprint(self) -> Mapping[str, str]:
        """What the source run found, or what the surrogate is."""
        if self._surrogate is not None:
            return self._surrogate.fingerprint()
        run = self._run
        return {"source.models": ", ".join(run.models), "source.witnesses": f"{run.count}, SHA-256 {run.digest}"}

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Refuse a source that has nothing to say about these samples.

        Raises:
            DataError: the source run is of other images, by shape or by content.
            ModelError, DataError: the surrogate cannot be attacked so, or has not these classes.
        """
        pieces = iter(samples)
        first = next(pieces)
        if self._surrogate is not None:
            self._surrogate.check(norm, goal, first.images, first.labels)
            return
        run, where = self._run, f"source {self.params.source}"
        shape = tuple(first.images.shape[1:])
        if shape != run.shape:
            raise DataError("the source run is of other images", where=where, found=run.shape, expected=shape)
        seen = len(first.images)
        common = run.common(first.images)
        while not common and (piece := next(pieces, None)) is not None:
            seen, common = seen + len(piece.images), run.common(piece.images)
        if not common:
            raise DataError(
                "the source run has no sample in common with this run",
                where=where,
                found=f"{len(run.witnesses)} originals with a witness in run {run.name!r}, none of them among the "
                f"{seen} images here",
                expected="the same images: samples are recognised by the content of their originals",
                hint="use the data set, `samples` and `seed` of the source run",
            )

    def run(self, task: Task) -> None:
        """Try every image that the source has for each sample, one a turn, until one breaks it."""
        if self._surrogate is not None:
            images, there = self._surrogate.craft(task, self.params.shown)
            candidates, owner = images[there], there.nonzero()[:, 0]
        else:
            candidates, owner = self._witnesses(task)
        rank = rank_among_equals(owner)
        for turn in range(int(rank.max()) + 1 if len(rank) else 0):
            rows = ((rank == turn) & task.oracle.active[owner]).nonzero()[:, 0]
            if len(rows):
                task.oracle.labels(candidates[rows], owner[rows])

    def _witnesses(self, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
        """The source's images `(M, C, H, W)` inside the ball, and whose each is `(M,)`; a sample's nearest first."""
        threat, device = task.threat, task.images.device
        candidates, owner = self._run.candidates(task.images)
        candidates, owner = candidates.to(device), owner.to(device)
        if threat.grid is Grid.EIGHT_BIT:
            candidates, originals = quantise(candidates), quantise(task.images)[owner]
        else:
            candidates, originals = as_images(candidates), task.images[owner]
        allowed = inside(threat, originals, candidates)
        if self.params.outside is Outside.PROJECT and not bool(allowed.all()):
            near = project(threat.norm, task.images[owner], as_images(candidates), threat.radius)
            near = snap(threat, originals, near) if threat.grid is Grid.EIGHT_BIT else near
            candidates = torch.where(allowed[:, None, None, None], candidates, near)
            allowed = inside(threat, originals, candidates)
        candidates, owner, originals = candidates[allowed], owner[allowed], originals[allowed]
        order = distances(threat.norm, originals, candidates).argsort(stable=True)
        return candidates[order], owner[order]
