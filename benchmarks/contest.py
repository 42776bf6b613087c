"""One attack on one model's images, ours or a peer's, measured and re-checked alike: what strength.py compares.

Both sides get the same correctly classified images, and every image that they claim is shown to a model of its own:
charpy's through the judge, a peer's through `recheck`, after it was clipped to [0, 1].
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from peers import Rival, reason
from torch import nn

from charpy.engine import QueryEngine
from charpy.errors import CharpyError
from charpy.interfaces.attack import Attack, Step
from charpy.interfaces.model import Model, Output
from charpy.judge import Judge
from charpy.pixels import distances
from charpy.planned import PlannedAttack
from charpy.plugins import registry
from charpy.records import UnitKey
from charpy.threat import Access, Grid, Norm, ThreatModel
from charpy.unit import Bench, Shard, compute_unit

DATA = {
    "mnist-lenet": "mnist",
    "mnist-robust": "mnist",
    "cifar10-cnn": "cifar10",
    "cifar10-resnet8-robust": "cifar10",
    "cifar10-resnet-at": "cifar10",
}
OVERSHOOT = 1e-5
"""What a peer's image may lie beyond the radius, relative: float32 sums of thousands of values, no advantage."""

UNLIMITED = 1_000_000
"""Query budget of an attack that ends by its own steps."""


@dataclass(frozen=True)
class Case:
    """A zoo model, the `images` that it classifies correctly, and of how many drawn ones they are."""

    name: str
    model: Model
    bench: Bench
    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[str, ...]
    drawn: int

    @property
    def module(self) -> nn.Module:
        """The torch network, for the peers."""
        module: nn.Module = self.model.module  # type: ignore[attr-defined]
        return module

    @property
    def classes(self) -> int:
        """K of the logits."""
        return self.bench.num_classes


@dataclass
class Measured:
    """What one attack did.

    Attributes:
        distances: `(N,)` of the confirmed images, in pixels (L0) or image values; infinity where there is none.
        seconds: wall time; charpy's with the judge.
        attack_seconds: charpy's without the judge.
        rows: forward rows of a peer; queries that charpy charged.
        gradients: rows whose gradient was computed; -1 where it was not counted.
        notes: per attack of a battery `kind broken/attacked seconds`; or what failed.
    """

    distances: torch.Tensor
    seconds: float = 0.0
    attack_seconds: float = 0.0
    rows: int = 0
    gradients: int = -1
    notes: list[str] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """How many images there is a confirmed adversarial one for."""
        return int(self.distances.isfinite().sum())

    @property
    def spent(self) -> int:
        """Rows forward, or rows whose gradient was computed, whichever is more."""
        return max(self.rows, self.gradients)


class MissingError(Exception):
    """An attack or battery that this installation does not have."""


def load_case(name: str, count: int, seed: int, *, drawn: bool = True) -> Case:
    """Test images of a zoo model, in an order that `seed` draws.

    The right ones among the first `count`; with `drawn=False`, the first `count` right ones.
    """
    plugins = registry()
    reference = plugins.load("datasets", DATA[name]).accepts(DATA[name], os.environ.get("CHARPY_DATA"))
    data = plugins.create("datasets", DATA[name], reference)
    model: Model = plugins.create("models", name)
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
    samples = data.read(order[: count if drawn else 3 * count + 20].tolist())
    with torch.no_grad():
        right = (model.predict(samples.images).argmax(1) == samples.labels).nonzero()[:, 0]
    right = right if drawn else right[:count]
    images, labels = samples.images[right], samples.labels[right]
    ids = tuple(samples.ids[i] for i in right.tolist())
    bench = bench_of(model, plugins.create("models", name), images, seed)
    return Case(name, model, bench, images, labels, ids, count if drawn else len(right))


def bench_of(model: Model, again: Model, images: torch.Tensor, seed: int) -> Bench:
    """What an attack on `model` needs; the judge asks `again`, the same model opened anew."""
    engine = QueryEngine.measure(model, Output.LOGITS, images[:64], gradients=True)
    judge = Judge(again, Output.LOGITS, tuple(images.shape[1:]))
    return Bench(model, engine, judge, int(model.num_classes or 10), seed=seed)


def assess_at(
    case: Case, norm: Norm, radius: float, steps: Sequence[Step], grid: Grid, *, queries: int = UNLIMITED, seed: int = 0
) -> Measured:
    """charpy's attacks in their order, each on what the ones before it left standing, through oracle and judge.

    Raises:
        MissingError: there is no attack of that kind.
    """
    bench = Bench(case.model, case.bench.engine, case.bench.judge, case.classes, seed)
    result = Measured(torch.full((len(case.labels),), torch.inf, dtype=torch.float64))
    standing = list(range(len(case.labels)))
    for place, step in enumerate(steps):
        if not standing:
            break
        attack = _attack(step)
        budget = step.queries or queries
        threat = ThreatModel(norm=norm, radius=radius, access=Access.GRADIENTS, queries=budget, grid=grid)
        rows = torch.tensor(standing)
        shard = Shard(standing, case.images[rows], case.labels[rows], tuple(case.ids[i] for i in standing))
        began = time.perf_counter()
        planned = PlannedAttack(step.kind, step.kind, attack, None)
        record = compute_unit(UnitKey(0, norm, max(1, threat.th), place, 0), shard, planned, threat, bench)
        wall = time.perf_counter() - began
        for witness in record.witnesses:
            result.distances[witness.sample] = witness.distance / (1 if norm is Norm.L0 else 255)
        result.seconds += wall
        result.attack_seconds += record.seconds
        result.rows += record.rows
        note = f"{step.kind} {len(record.witnesses)}/{len(standing)} {wall:.1f} s"
        failure = record.detail.get("failure")
        result.notes.append(f"{note} FAILED: {failure}" if failure else note)
        standing = [i for i in standing if not bool(result.distances[i].isfinite())]
    return result


def _attack(step: Step) -> Attack:
    try:
        attack: Attack = registry().create("attacks", step.kind, step.params)
    except CharpyError as cause:
        raise MissingError(f"{step.kind}: {str(cause).splitlines()[0]}") from None
    return attack


def battery(name: str, norm: Norm) -> Sequence[Step]:
    """The attacks of one of charpy's batteries against a model that gives gradients.

    Raises:
        MissingError: there is no such battery, or it has nothing for this norm.
    """
    try:
        steps: Sequence[Step] = registry().create("attacks", name).steps(norm, Access.GRADIENTS)
    except CharpyError as cause:
        raise MissingError(f"{name}: {str(cause).splitlines()[0]}") from None
    if not steps:
        raise MissingError(f"{name}: no attack for {norm}")
    return steps


class Counted(nn.Module):
    """The module; counts the rows that pass it forward and those whose gradient comes back."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module, self.rows, self.gradients = module, 0, 0
        self.eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        self.rows += len(images)
        scores: torch.Tensor = self.module(images)
        if scores.requires_grad:
            scores.register_hook(self._count)
        return scores

    def _count(self, gradient: torch.Tensor) -> None:
        self.gradients += len(gradient)


def measure_peer(case: Case, rival: Rival, norm: Norm, radius: float | None, seed: int) -> Measured:
    """A peer's attack; `radius` None accepts any distance. What it raises is noted, not raised."""
    counted = Counted(case.module)
    result = Measured(torch.full((len(case.labels),), torch.inf, dtype=torch.float64))
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - peers draw from the global generator
    began = time.perf_counter()
    try:
        found = rival.run(counted, case.images.clone(), case.labels.clone(), seed).detach()
    except (Exception, SystemExit) as cause:  # noqa: BLE001 - a stranger's code; whatever it raises is on the page
        result.notes.append(f"FAILED: {reason(cause)}")
        return result
    result.seconds = result.attack_seconds = time.perf_counter() - began
    result.rows, result.gradients = counted.rows, counted.gradients
    result.distances = recheck(case, found, norm, radius)
    return result


@torch.no_grad()
def recheck(case: Case, images: torch.Tensor, norm: Norm, radius: float | None) -> torch.Tensor:
    """float64 `(N,)` distances of the images that a fresh model misclassifies inside the radius; infinity elsewhere."""
    fresh: Model = registry().create("models", case.name)
    images = images.float().nan_to_num(nan=0.0).clamp(0, 1)
    size = distances(norm, case.images, images).double() / (1 if norm is Norm.L0 else 255)
    good = fresh.predict(images.clone()).argmax(1) != case.labels
    if radius is not None:
        good &= size <= radius * (1 + OVERSHOOT)
    return torch.where(good, size, torch.inf)
