"""The pages of strength.py: what every stage is told, and a Markdown page that says how it came about."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from contest import Case, Measured, MissingError, measure_peer
from cyclopts import Parameter
from peers import Peers, Rival

from charpy.environment import environment
from charpy.threat import Norm

RADII = {"mnist-lenet": 0.3, "mnist-robust": 0.3, "cifar10-cnn": 8 / 255, "cifar10-resnet8-robust": 8 / 255}
MODELS = tuple(RADII)


@dataclass(frozen=True)
class Plan:
    """A setting with nothing left open."""

    models: tuple[str, ...]
    images: int
    repeats: int
    seed: int
    out: Path


@Parameter(name="*")
@dataclass(frozen=True)
class Setting:
    """What every stage is told; what is not given, the stage fills in.

    Attributes:
        models: kinds of the zoo; the four that attacks are compared on if not given (overhead: one of them).
        images: test images a model: drawn (linf: 200), or drawn and classified correctly (minimal: 64, sparse: 100,
            overhead: 256).
        seed: which images, and the first of the attacks' seeds.
        repeats: runs of each attack, with seeds one apart (linf, minimal: 1, sparse: 3, overhead: 5).
        peers: folder with the peers' checkouts; $CHARPY_PEERS if not given.
        threads: of torch.
        out: folder of the page.
    """

    models: tuple[str, ...] | None = None
    images: int | None = None
    seed: int = 0
    repeats: int | None = None
    peers: Path | None = None
    threads: int = 1
    out: Path = Path("benchmarks/results")

    def plan(self, *, images: int = 100, repeats: int = 1, models: tuple[str, ...] = MODELS) -> Plan:
        """With the stage's own numbers where none were given."""
        return Plan(self.models or models, self.images or images, self.repeats or repeats, self.seed, self.out)

    def start(self) -> Peers:
        """Set torch's threads and load the peers."""
        torch.set_num_threads(self.threads)
        folder = self.peers or (Path(os.environ["CHARPY_PEERS"]) if os.environ.get("CHARPY_PEERS") else None)
        return Peers.load(folder)


@dataclass
class Sheet:
    """A Markdown page that grows line by line, on stdout and in memory."""

    stage: str
    lines: list[str] = field(default_factory=list, kw_only=True)
    started: dict[str, object] = field(default_factory=environment, kw_only=True)

    def add(self, *lines: str) -> None:
        """Print and keep `lines`."""
        print("\n".join(lines), flush=True)
        self.lines += lines

    def table(self, head: str) -> None:
        """Begin a table whose columns `head` names, separated by |."""
        columns = head.split("|")
        self.add("", f"| {' | '.join(column.strip() for column in columns)} |", "|" + "---|" * len(columns))

    def row(self, *cells: object) -> None:
        """One row of a table."""
        self.add(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")

    @property
    def machine(self) -> str:
        """What it was started on."""
        return "Machine: " + ", ".join(f"{key} {value}" for key, value in self.started.items())


@dataclass
class Page(Sheet):
    """A page of `strength.py`."""

    plan: Plan
    peers: Peers
    missing: set[str] = field(default_factory=set)

    def write(self, title: str, how: str) -> None:
        """The page: the command, how to read it and the machine, above the lines."""
        peers = "; ".join(f"{name} {version}" for name, version in self.peers.versions.items())
        gone = [f"{name} ({reason})" for name, reason in self.peers.missing.items()] + sorted(self.missing)
        text = [
            f"# Strength: {title}",
            "",
            f"Written by `{command()}`, {self.plan.repeats} run(s) of each attack.",
            "",
            how.strip(),
            "",
            f"{self.machine}; load at the end {os.getloadavg()[0]:.2f}.",
            "",
            f"Peers: {peers or 'none'}.",
            "",
            f"Left out: {'; '.join(gone) or 'nothing'}.",
            *self.lines,
            "",
        ]
        self.plan.out.mkdir(parents=True, exist_ok=True)
        (self.plan.out / f"strength_{self.stage}.md").write_text("\n".join(text), encoding="utf-8")

    def ours(self, run: Callable[[int], Measured]) -> list[Measured]:
        """`run(seed)` for every repeat; empty, and noted, where the attack or battery is not there."""
        try:
            return [run(self.plan.seed + repeat) for repeat in range(self.plan.repeats)]
        except MissingError as cause:
            self.missing.add(f"charpy's {cause}")
            return []

    def theirs(self, case: Case, rival: Rival, norm: Norm, radius: float | None) -> list[Measured]:
        """A peer's attack, for every repeat."""
        seeds = range(self.plan.seed, self.plan.seed + self.plan.repeats)
        return [measure_peer(case, rival, norm, radius, seed) for seed in seeds]


def engine_of(case: Case) -> str:
    """How charpy computes the model."""
    engine = case.bench.engine
    gradient = "" if engine.gradient is None else f"; gradients: {engine.gradient.name}, batch {engine.gradient.batch}"
    return f"charpy's engine: {engine.chosen.name}, batch {engine.chosen.batch}{gradient}"


def failures(runs: list[Measured]) -> str:
    """What went wrong in any of the runs."""
    return ", ".join(dict.fromkeys(note for run in runs for note in run.notes if "FAILED" in note))


def command() -> str:
    """The command as it was given, without the folders that lie on this machine only."""
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    for i, word in enumerate(words):
        if word in {"--peers", "--out"}:
            words[i + 1 : i + 2] = ["DIR"]
        elif word.startswith(("--peers=", "--out=")):
            words[i] = word.partition("=")[0] + "=DIR"
    return f"python benchmarks/{shlex.join(words)}"
