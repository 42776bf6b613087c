"""The proofs of one model under one threat: certifiers over levels and shards, on what no attack has broken."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from charpy import checks
from charpy.errors import ServiceError, told_of
from charpy.planned import PlannedProof
from charpy.records import ProofKey, ProofRecord
from charpy.stages import Stage
from charpy.threat import DISTANCE_TOLERANCE, FIRST_LEVEL, Norm, ThreatModel

if TYPE_CHECKING:
    from charpy.walk import Walk

AUDIT = 16
"""Broken samples of each norm that a certifier is asked about, too, at the level where they are broken: one that calls
them proven is unsound."""

AUDIT_SHARE = 0.2
"""Of the time under a norm, where it is limited, at most this share goes into the audit."""

PIECE = 8
"""Samples in one call of a certifier: between two calls the time is looked at, and what is known is written."""


@dataclass
class Proofs:
    """What is proven of each sample so far: the largest level, 0 where nothing is."""

    walk: Walk
    certifiers: Sequence[PlannedProof]
    budget: float | None
    finished: set[ProofKey]

    def __post_init__(self) -> None:
        self.proven = np.zeros(len(self.walk.correct), np.int64)
        self.end = np.inf if self.budget is None else time.monotonic() + self.budget
        self.deadline = self.end

    def all(self) -> None:
        """Each certifier that supports the model: the audit, then level after level, or the search for the largest."""
        for planned in self.certifiers:
            threat = self._threat(FIRST_LEVEL)
            if threat.norm not in planned.certifier.norms:
                continue
            if reason := self._reason_against(planned, threat):
                self._write(planned, ProofKey(self.walk.model, threat.norm, 0, planned.kind, 0), {}, 0.0, reason)
                continue
            if self.budget is not None:
                self.deadline = min(self.end, time.monotonic() + AUDIT_SHARE * self.budget)
            self._audit(planned)
            self.deadline = self.end
            if self.walk.own is not None:
                self._in_their_own(planned, self.walk.own)
            elif isinstance(self.walk.threat.levels, tuple):
                self._climb(planned, self.walk.threat.levels)
            else:
                self._search(planned)

    def _reason_against(self, planned: PlannedProof, threat: ThreatModel) -> str:
        """Why the certifier cannot be asked, in its own words or in those of its failure; '' where it can."""
        try:
            return planned.certifier.supports(self.walk.bench.model, threat)
        except (Exception, SystemExit) as cause:  # noqa: BLE001 - a stranger's code, which must not cost the run
            return told_of(cause)

    def _climb(self, planned: PlannedProof, levels: Sequence[int]) -> None:
        """Only what is proven at one level is worth asking at the next: the balls are nested."""
        wanted = self.walk.correct.copy()
        for th in levels:
            wanted &= self.walk.nearest > th
            self._ask(planned, th, np.flatnonzero(wanted & (self.proven < th)))
            wanted &= self.proven >= th

    def _in_their_own(self, planned: PlannedProof, own: NDArray[np.int64]) -> None:
        """Each sample at its own level."""
        wanted = self.walk.correct & (self.walk.nearest > own) & (self.proven < own)
        for th in sorted(set(own[wanted].tolist())):
            self._ask(planned, th, np.flatnonzero(wanted & (own == th)))

    def _search(self, planned: PlannedProof) -> None:
        """The largest level for each sample: doubled until a proof fails, then halved."""
        last = checks.largest_level(self.walk.threat.norm, self.walk.site.data.shape)
        beyond = np.minimum(np.where(np.isfinite(self.walk.nearest), np.ceil(self.walk.nearest), last + 1), last + 1)
        failed = beyond.astype(np.int64)
        while True:
            open_ = self.walk.correct & (failed - self.proven > 1)
            probe = np.where(failed == beyond, np.maximum(2 * self.proven, FIRST_LEVEL), (self.proven + failed) // 2)
            probe = np.where(open_, np.minimum(probe, failed - 1), 0)
            if not probe.any():
                return
            for th in sorted(set(probe[probe > 0].tolist())):
                asked = np.flatnonzero(probe == th)
                done = self._ask(planned, th, asked)
                if len(done) < len(asked):
                    return  # the time is up
                failed[asked[self.proven[asked] < th]] = th

    def _audit(self, planned: PlannedProof) -> None:
        """Broken samples, at the level where they are broken; a proof of one is kept, and contradicts its witness."""
        nearest = self.walk.nearest
        broken = np.flatnonzero(self.walk.correct & np.isfinite(nearest))[:AUDIT]
        at = np.maximum(np.ceil(nearest[broken] - DISTANCE_TOLERANCE), FIRST_LEVEL).astype(np.int64)
        for th in sorted(set(at.tolist())):
            self._ask(planned, th, broken[at == th])

    def _ask(self, planned: PlannedProof, th: int, samples: NDArray[np.int64]) -> list[int]:
        """Ask about samples in pieces, and write each answer; those that were asked before the time was up."""
        done: list[int] = []
        for number, piece in enumerate(_pieces(samples.tolist())):
            key = ProofKey(self.walk.model, str(self.walk.threat.norm), th, planned.kind, piece[0])
            if key in self.finished:
                self._learn(th, self.walk.run.proof_of(key))
                done += piece
                continue
            if time.monotonic() > self.deadline:
                return done
            title = f"{self.walk.site.spec.models[self.walk.model].title}  {self.walk.threat.norm} th={th}"
            self.walk.site.tell(PIECE * number / max(1, len(samples)), f"{title}  proof by {planned.kind}")
            self._learn(th, self._certify(planned, key, piece))
            done += piece
        return done

    def _certify(self, planned: PlannedProof, key: ProofKey, samples: list[int]) -> dict[int, bool]:
        shard, model, failure = self.walk.station.shard_of(samples), self.walk.bench.model, ""
        started = time.perf_counter()
        if why := self.walk.site.watch.enter(Stage("proof", f"proof by {planned.kind}", key)):
            proven = dict.fromkeys(samples, False)
            self._write(planned, key, proven, 0.0, why)
            return proven
        try:
            answer = planned.certifier.certify(
                model, shard.images.to(model.device), shard.labels.to(model.device), self._threat(key.th)
            )
            if answer.shape != (len(samples),) or answer.dtype != torch.bool:
                raise TypeError(f"certify returned {answer.dtype} {tuple(answer.shape)}, not bool ({len(samples)},)")
            proven = dict(zip(samples, answer.tolist(), strict=True))
        except ServiceError:
            raise
        except (Exception, SystemExit) as cause:  # noqa: BLE001 - a stranger's code; it proves nothing, and is told
            proven, failure = dict.fromkeys(samples, False), told_of(cause)
        self._write(planned, key, proven, time.perf_counter() - started, failure)
        return proven

    def _write(self, planned: PlannedProof, key: ProofKey, proven: dict[int, bool], seconds: float, why: str) -> None:
        if key in self.finished:
            return
        detail = {
            "params": planned.certifier.params.model_dump(mode="json"),
            "arithmetic": planned.certifier.arithmetic.value,
            "of": planned.certifier.of,
            **planned.certifier.detail(),
            **({"reason": why} if why else {}),
        }
        self.walk.run.write_proof(ProofRecord(key, seconds, detail, proven))

    def _learn(self, th: int, proven: Mapping[int, bool]) -> None:
        for sample, holds in proven.items():
            if holds:
                self.proven[sample] = max(self.proven[sample], th)

    def _threat(self, th: int) -> ThreatModel:
        threat = self.walk.threat
        return ThreatModel.at_level(Norm(threat.norm), th, goal=threat.goal, grid=self.walk.site.spec.grid)


def _pieces(samples: list[int]) -> Iterator[list[int]]:
    return (samples[i : i + PIECE] for i in range(0, len(samples), PIECE))
