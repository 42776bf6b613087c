"""What the adapters of other libraries' attacks share: what is known of each, its options, and what it claims."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar, NamedTuple

import torch

from charpy.errors import PluginError, SpecError, unknown_name
from charpy.foreign import in_turns
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Samples
from charpy.losses import Aim
from charpy.pixels import as_images, inside, snap
from charpy.threat import BALLS, Access, Goal, Grid, Norm


@dataclass(frozen=True)
class Peer:
    """What is known of one attack of a library: the norms that it can be run under, its family, what it needs."""

    norms: frozenset[Norm]
    family: Family = Family.TARGET_DISTORTION
    access: Access = Access.GRADIENTS
    targeted: bool = True


class OneRun(NamedTuple):
    """What the attack of one sample is given: the module that stands for the model, `image` `(1, C, H, W)`, `label` and
    `target` `(1,)`, a seed of its own, K, and the task that it belongs to."""

    module: torch.nn.Module
    image: torch.Tensor
    label: torch.Tensor
    target: torch.Tensor | None
    seed: int
    classes: int
    task: Task

    @property
    def wanted(self) -> torch.Tensor:
        """The target, or the label to get away from where there is none, `(1,)`."""
        return self.label if self.target is None else self.target


def peer(norms: str, family: str = "distortion", access: str = "gradients", *, targeted: bool = True) -> Peer:
    """`peer("linf l2", "optimality", "labels")`."""
    return Peer(
        frozenset(Norm(norm) for norm in norms.split()),
        Family(f"target {family}"),
        Access[access.upper()],
        targeted,
    )


class ForeignAttack(Attack):
    """An attack of another library behind the oracle: counted, stopped at its budget, judged like any other."""

    norms = frozenset(BALLS)
    access = Access.GRADIENTS
    known: ClassVar[Mapping[str, Peer]]
    package: ClassVar[str]
    module: ClassVar[str]
    extra: ClassVar[str]

    class Params(BaseParams):
        """Which attack, and its options."""

        attack: str = param("", description="class of the library", source="the library's documentation")
        options: dict[str, bool | int | float | str | None] = param(
            default_factory=dict, description="what the class is made with", source="the library's documentation"
        )
        claims: bool = param(
            False,
            description="also hand the judge what an attack that finds its own radius returns outside the ball",
            source="ours",
        )

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        name = self.params.attack
        if name not in self.known:
            raise unknown_name(f"attack of {self.package}", name, self.known, where="attack",
                               hint="docs/other-libraries.md lists those that can be run")  # fmt: skip
        self.peer = self.known[name]
        goals = frozenset(Goal) if self.peer.targeted else frozenset({Goal.UNTARGETED})
        vars(self).update(norms=self.peer.norms, access=self.peer.access, family=self.peer.family, goals=goals)

    def fingerprint(self) -> Mapping[str, str]:
        """The library's version, and which attack with which options: all that it is."""
        options = ", ".join(f"{key}={value!r}" for key, value in sorted(self.params.options.items()))
        return {"library": f"{self.package} {self._version()}", "attack": f"{self.params.attack}({options})"}

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Refuse a library that is not there, and options that its class does not take.

        Raises:
            PluginError: the library cannot be imported.
            SpecError: an option is unknown.
        """
        cls = self.imported()
        takes = inspect.signature(cls.__init__).parameters
        if any(part.kind is inspect.Parameter.VAR_KEYWORD for part in takes.values()):
            return
        for option in self.params.options:
            if option not in takes:
                raise unknown_name(f"option of {self.params.attack}", option, set(takes) - {"self"}, where="options",
                                   hint=f"{self.package} documents its options")  # fmt: skip

    def run(self, task: Task) -> torch.Tensor | None:
        """Every sample in turns; then the library's own success probe, one more query, on what it returned."""
        if not len(task.images):
            return None
        cls, classes = self.imported(), max(task.oracle.num_classes, int(task.labels.max()) + 1, 2)
        if task.targets is not None:
            classes = max(classes, int(task.targets.max()) + 1)

        def run(
            module: torch.nn.Module, image: torch.Tensor, label: torch.Tensor, target: torch.Tensor | None, seed: int
        ) -> torch.Tensor:
            return self.perturbed(cls, OneRun(module, image, label, target, seed, classes, task))

        ended = in_turns(task, run, self.access, classes)
        if ended.failures:
            task.notes["failed_runs"] = float(len(ended.failures))
            if len(ended.failures) == len(task.images):
                first = ended.failures[0]
                raise PluginError(
                    f"{self.params.attack} of {self.package} fails on every sample",
                    found=f"{type(first).__name__}: {str(first)[:300]}",
                    hint="try other options",
                ) from first
        rows = (ended.returned.to(task.images.device) & task.oracle.active).nonzero()[:, 0]
        rows = rows[(ended.images[rows] != task.images[rows]).flatten(1).any(1)]
        if not len(rows):
            return None
        answers = task.oracle.labels(ended.images[rows], rows)
        reached = Aim(task.labels, task.targets).reached(answers, rows) & (answers != -1)
        return self._claimed(task, ended.images, rows[reached])

    def _claimed(self, task: Task, images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor | None:
        """Images of the samples `rows` that were misclassified, and so count or are a lie; the others as they were."""
        claims, threat = task.images.clone(), task.threat
        if threat.grid is Grid.EIGHT_BIT:
            originals = (task.images[rows] * 255).round().to(torch.uint8)
            claims[rows] = as_images(snap(threat, originals, images[rows].clamp(0, 1)))
        else:
            claims[rows] = images[rows]
        outside = rows[~inside(threat, task.images[rows], claims[rows])]
        if len(outside):
            task.notes["returned_outside"] = float(len(outside))
        if self.family is not Family.TARGET_DISTORTION and not self.params.claims:
            claims[outside] = task.images[outside]
        return claims

    @abstractmethod
    def perturbed(self, cls: Any, one: OneRun) -> torch.Tensor:
        """What the library's attack `cls` makes of one image, `(1, C, H, W)`."""

    def options(self, cls: Callable[..., Any], **usual: Any) -> dict[str, Any]:
        """The user's options, and those of `usual` that the class takes and the user has not set."""
        takes = inspect.signature(getattr(cls, "__init__", cls)).parameters
        return {**{name: value for name, value in usual.items() if name in takes}, **self.params.options}

    def imported(self) -> Any:
        """The library's class of this attack."""
        import importlib

        try:
            return getattr(importlib.import_module(self.module), self.params.attack)
        except ImportError as cause:
            raise PluginError(
                f"attack {self.params.attack!r} needs {self.package}",
                found=f"{type(cause).__name__}: {cause}",
                hint=self.extra,
            ) from None
        except AttributeError:
            raise SpecError(
                f"this {self.package} has no attack {self.params.attack!r}",
                found=f"{self.package} {self._version()}",
                hint="install the version that charpy's constraints.txt names",
            ) from None

    def _version(self) -> str:
        try:
            return version(self.package)
        except PackageNotFoundError:
            return "(not installed)"
