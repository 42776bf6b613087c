"""A surrogate: another model that an attack may ask as it likes, to craft images for the one it is aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import torch

from charpy.batches import fixed_batch
from charpy.engine import QueryEngine, Way
from charpy.errors import ModelError, PluginError
from charpy.interfaces.attack import Attack, Task
from charpy.interfaces.model import Model
from charpy.ledger import rank_among_equals
from charpy.oracle import Oracle
from charpy.pixels import inside
from charpy.plugins import Registry
from charpy.preflight import Preflight, preflight
from charpy.random import Random
from charpy.specs import ComponentSpec, ModelSpec
from charpy.subjects import subject_of
from charpy.threat import Goal, Norm, ThreatModel


class Surrogate:
    """A model of a spec and the attack that is run on it.

    Args:
        spec: the model, as a run's spec would name it.
        attack: the attack, as a battery would.
        queries: rows that the attack may spend on the surrogate per sample; the target's budget is another one.
    """

    def __init__(self, spec: ModelSpec, attack: ComponentSpec, queries: int, registry: Registry) -> None:
        self._registry, self._attack, self._queries = registry, attack, queries
        self._subject = subject_of(spec, registry)
        made = registry.create("attacks", attack.kind, attack.params)
        if not isinstance(made, Attack):
            raise PluginError(f"{attack.kind!r} is a battery; a surrogate is attacked by one attack", where="attack")
        self.attack: Attack = made
        self._found: Preflight | None = None
        self._threads = torch.get_num_threads()

    @cached_property
    def model(self) -> Model:
        """The surrogate, opened on first use."""
        return self._subject.open()

    def fingerprint(self) -> Mapping[str, str]:
        """What makes the crafted images what they are: the model, and the package that its attack comes from."""
        entry = self._registry.find("attacks", self._attack.kind)
        own = {f"surrogate.{key}": value for key, value in self.model.fingerprint().items()}
        own |= {f"surrogate.attack.{key}": value for key, value in self.attack.fingerprint().items()}
        return {**own, "surrogate.attack": f"{entry.package} {entry.version}"}

    def check(self, norm: Norm, goal: Goal, images: torch.Tensor, labels: torch.Tensor) -> Preflight:
        """Refuse a surrogate that cannot be attacked under `norm`, or that cannot answer to `images`.

        Raises:
            ModelError: the attack does not fit the norm, the goal or the surrogate's access; the answers are no scores.
            DataError: a label that the surrogate has no class for.
        """
        where, kind, attack = f"surrogate {self._subject.title}", self._attack.kind, self.attack
        if norm not in attack.norms:
            norms = ", ".join(sorted(one.value for one in attack.norms))
            raise ModelError(f"attack {kind!r} does not attack {norm}", where=where, expected=norms)
        if goal not in attack.goals:
            raise ModelError(f"attack {kind!r} has no {goal} goal", where=where)
        found = preflight(self.model, images, labels)
        if attack.access > found.access:
            raise ModelError(
                f"attack {kind!r} needs {attack.access.name}, the surrogate gives {found.access.name}",
                where=where,
                hint="give a surrogate with gradients, or an attack that needs less",
            )
        self._found = found
        return found

    def craft(self, task: Task, shown: int) -> tuple[torch.Tensor, torch.Tensor]:
        """What the attack breaks the surrogate with: `(N, shown, C, H, W)`, and bool `(N, shown)`, which there are.

        The images of a sample lie inside its ball; the one that the surrogate misclassifies most surely comes first.
        """
        threat, random = task.threat, task.random.fork("surrogate")
        found = self._found or self.check(threat.norm, threat.goal, task.images, task.labels)
        device = self.model.device
        way = Way("as given", self.model.predict, fixed_batch(task.images.to(device)), 0.0, True)
        engine = QueryEngine(self.model, found.output, way, way, threads=self._threads, num_classes=found.num_classes)
        own = threat.model_copy(update={"access": self.attack.access, "queries": self._queries})
        images, labels = task.images.to(device), task.labels.to(device)
        targets = None if task.targets is None else task.targets.to(device)
        oracle = _Gallery(engine, self.model, images, labels, targets, own, shown)
        self.attack.run(Task(images, labels, targets, own, oracle, Random(random.seed, random.keys.to(device))))
        return oracle.images.to(task.images.device), oracle.margins.isfinite().to(task.images.device)


class _Gallery(Oracle):
    """An oracle that keeps, of each sample, the images inside its ball that the model misclassifies most surely.

    A sample that is broken stays active: an image just across the surrogate's boundary is rarely across another's.

    Attributes:
        images: `(N, shown, C, H, W)`, uint8 on the 8-bit grid, float32 off it.
        margins: `(N, shown)`, ascending; inf where there is no image.
    """

    def __init__(
        self,
        engine: QueryEngine,
        model: Model,
        images: torch.Tensor,
        labels: torch.Tensor,
        targets: torch.Tensor | None,
        threat: ThreatModel,
        shown: int,
    ) -> None:
        super().__init__(engine, model, images, labels, targets, threat, minimise=True)
        originals = self._ledger.originals
        self.images = originals[:, None].repeat(1, shown, 1, 1, 1)
        self.margins = torch.full((len(labels), shown), torch.inf, device=labels.device)

    def _saw(self, rows: torch.Tensor, owner: torch.Tensor, answers: torch.Tensor, keep: bool) -> None:
        later = -self._ledger.queries[owner].float()  # of labels it is only known that they are wrong
        margins = self._aim.margins(answers, owner) if answers.ndim == 2 else later
        hit = self._aim.reached(answers, owner).nonzero()[:, 0]
        hit = hit[inside(self._threat, self._ledger.originals[owner[hit]], rows[hit])]
        rank = rank_among_equals(owner[hit])
        for turn in range(int(rank.max()) + 1 if len(rank) else 0):
            self._hang(rows[hit[rank == turn]], owner[hit[rank == turn]], margins[hit[rank == turn]])

    def _hang(self, rows: torch.Tensor, owner: torch.Tensor, margins: torch.Tensor) -> None:
        """Put each row where its margin belongs in its sample's order, if it does; a sample may be named once."""
        both = torch.cat([self.margins[owner], margins[:, None]], 1)
        order = both.argsort(dim=1, stable=True)[:, : self.margins.shape[1]]
        changed = (order == self.margins.shape[1]).any(1)
        owner, order, both = owner[changed], order[changed], both[changed]
        pictures = torch.cat([self.images[owner], rows[changed][:, None]], 1)
        self.margins[owner] = both.gather(1, order)
        self.images[owner] = pictures[torch.arange(len(owner), device=owner.device)[:, None], order]
