"""The published attacks that charpy is held against, each as a function of (module, images, labels, seed).

From pip: foolbox (in charpy[attacks]) and torchattacks. The latter asks for torchvision, which it never imports, so:

    pip install --no-deps torchattacks==3.5.1

From checkouts in one folder, by the name of their repository: github.com/fra31/auto-attack, fra31/sparse-rs and
jeromerony/adversarial-library. The last imports torchvision (for LPIPS), visdom and tqdm, which no attack used here
needs; where one is not installed, an empty module takes its place.

What is not there is named in `Peers.missing`.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from charpy.threat import Norm

Run = Callable[[nn.Module, torch.Tensor, torch.Tensor, int], torch.Tensor]
"""(module giving logits, images `(N, C, H, W)` in [0, 1], labels `(N,)`, seed) -> `(N, C, H, W)`."""

PACKAGES = ("foolbox", "torchattacks")
CHECKOUTS = {"auto-attack": "autoattack", "adversarial-library": "adv_lib.attacks", "sparse-rs": "rs_attacks"}
STUBS = ("torchvision", "visdom", "tqdm")
ORDER = {Norm.L0: 0, Norm.L1: 1, Norm.L2: 2, Norm.LINF: float("inf")}
UPPER = {Norm.L1: "L1", Norm.L2: "L2", Norm.LINF: "Linf"}


@dataclass(frozen=True)
class Rival:
    """One published attack: its name, whose code it is, the charpy kind it is the counterpart of ('' for none)."""

    name: str
    peer: str
    kind: str
    run: Run


@dataclass
class Peers:
    """What was found: module and version by peer; and why the others are missing."""

    modules: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path | None) -> Peers:
        """Import what is installed, and what lies in `folder`."""
        peers = cls()
        for name in PACKAGES:
            peers._take(name, name, None)
        for name, module in CHECKOUTS.items():
            place = None if folder is None else folder / name
            if place is None or not place.is_dir():
                peers.missing[name] = "no checkout; give --peers DIR, or set CHARPY_PEERS"
            else:
                peers._take(name, module, place)
        return peers

    def _take(self, name: str, module: str, place: Path | None) -> None:
        try:
            with _importable(place):
                self.modules[name] = importlib.import_module(module)
            self.versions[name] = version(name) if place is None else digest(self.modules[name])
        except Exception as cause:  # noqa: BLE001 - a stranger's package; whatever stops it is written on the page
            self.missing[name] = reason(cause)

    def _keep(self, rivals: list[Rival]) -> list[Rival]:
        return [rival for rival in rivals if rival.peer in self.modules]

    def batteries(self, norm: Norm, radius: float) -> list[Rival]:
        """AutoAttack standard: the original, and torchattacks' copy, whose APGD and FAB take 10 steps, not 100."""

        def original(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            package = self.modules["auto-attack"]
            attack = package.AutoAttack(
                module, norm=UPPER[norm], eps=radius, seed=seed, verbose=False, device=str(images.device)
            )
            found: torch.Tensor = attack.run_standard_evaluation(images, labels, bs=250)
            return found

        copy = self._torchattacks("AutoAttack", norm=UPPER[norm], eps=radius)
        return self._keep([
            Rival("AutoAttack standard", "auto-attack", "", original),
            Rival("AutoAttack standard, 10 steps", "torchattacks", "", copy),
        ])  # fmt: skip

    def pgd(self, radius: float, steps: int) -> list[Rival]:
        """PGD in Linf, one random start, steps of 2.5 * radius / steps."""
        step = 2.5 * radius / steps
        return self._keep([
            Rival("PGD", "foolbox", "pgd", self._foolbox("LinfPGD", radius, abs_stepsize=step, steps=steps)),
            Rival("PGD", "torchattacks", "pgd", self._torchattacks("PGD", eps=radius, alpha=step, steps=steps)),
            Rival("PGD", "adversarial-library", "pgd",
                  self._adv_lib("pgd_linf", **{"ε": radius}, steps=steps, absolute_step_size=step)),
        ])  # fmt: skip

    def apgd(self, radius: float, steps: int, loss: str) -> list[Rival]:
        """APGD in Linf, one start."""
        kind, name = f"apgd_{loss}", f"APGD-{loss.upper()}"
        named = {"norm": "Linf", "eps": radius, "loss": loss}
        return self._keep([
            Rival(name, "auto-attack", kind, self._original("autopgd_base", "APGDAttack", n_iter=steps, **named)),
            Rival(name, "torchattacks", kind, self._torchattacks("APGD", steps=steps, **named)),
            Rival(name, "adversarial-library", kind, self._adv_lib(
                "apgd", eps=radius, norm=float("inf"), n_iter=steps, loss_function=loss)),
        ])  # fmt: skip

    def targeted(self, radius: float, steps: int) -> list[Rival]:
        """The two targeted attacks of AutoAttack, against nine classes each."""
        named = {"norm": "Linf", "eps": radius}
        apgd = self._original("autopgd_base", "APGDAttack_targeted", n_iter=steps, n_target_classes=9, **named)
        fab = self._original(
            "fab_pt", "FABAttack_PT", n_iter=steps, n_restarts=1, targeted=True, n_target_classes=9, **named
        )
        copy = self._torchattacks("APGDT", steps=steps, **named)
        return self._keep([
            Rival("APGD-T", "auto-attack", "apgd_t", apgd),
            Rival("APGD-T", "torchattacks", "apgd_t", copy),
            Rival("FAB-T", "auto-attack", "fab_t", fab),
        ])  # fmt: skip

    def square(self, radius: float, queries: int) -> list[Rival]:
        """Square in Linf with p 0.8: as AutoAttack runs it, and with its schedule rescaled to the queries."""
        named = {"norm": "Linf", "eps": radius, "n_queries": queries, "p_init": 0.8}
        fixed, rescaled = {**named, "resc_schedule": False}, {**named, "resc_schedule": True}
        return self._keep([
            Rival("Square", "auto-attack", "square", self._original("square", "SquareAttack", **fixed)),
            Rival("Square, rescaled", "auto-attack", "square", self._original("square", "SquareAttack", **rescaled)),
            Rival("Square", "torchattacks", "square", self._torchattacks("Square", **fixed)),
        ])  # fmt: skip

    def sparse_rs(self, pixels: int, queries: int) -> list[Rival]:
        """Sparse-RS over pixels, as its repository runs it: margin loss, schedule rescaled."""

        def original(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            attack = self.modules["sparse-rs"].RSAttack(
                module, norm="L0", eps=pixels, n_queries=queries, p_init=0.3, seed=seed, verbose=False,
                device=str(images.device),
            )  # fmt: skip
            with contextlib.redirect_stdout(None):
                found: torch.Tensor = attack.perturb(images, labels)[1]
            return found

        return self._keep([Rival("Sparse-RS", "sparse-rs", "sparse_rs", original)])

    def minimal(self, norm: Norm, calls: int, classes: int) -> list[Rival]:
        """Minimum-norm attacks, each set up to spend about `calls` gradients an image."""
        library = [*self._adv_lib_minimal(norm, calls, classes), *self._foolbox_minimal(norm, calls)]
        steps = max(10, calls // 9)
        copies = []
        if norm is Norm.L1:
            copies = [Rival("EAD", "torchattacks", "ead", self._torchattacks("EADL1", max_iterations=steps))]
        if norm is Norm.L2:
            copies = [
                Rival("C&W", "torchattacks", "cw", self._torchattacks("CW", steps=calls)),
                Rival("DeepFool", "torchattacks", "deepfool", self._torchattacks("DeepFool", steps=50)),
            ]
        original = []
        if norm in UPPER:
            rounds = max(1, calls // classes)
            run = self._original("fab_pt", "FABAttack_PT", norm=UPPER[norm], eps=1e3, n_iter=rounds, n_restarts=1)
            original = [Rival("FAB", "auto-attack", "fab", run)]
        return self._keep([*library, *copies, *original])

    def _adv_lib_minimal(self, norm: Norm, calls: int, classes: int) -> list[Rival]:
        order = ORDER[norm]
        rows: list[tuple[str, str, str, dict[str, Any]]] = [("FMN", "fmn", "fmn", {"norm": order, "steps": calls})]
        rows += [("PDPGD", "pdpgd", "", {"norm": order, "num_steps": calls})]
        if norm is Norm.L0:
            rows += [("sigma-zero", "sigma_zero", "sigma_zero", {"num_steps": calls})]
            rows += [("VFGA", "vfga", "", {"targeted": False})]
        else:
            rows += [("FAB", "fab", "fab", {"norm": order, "n_iter": max(1, calls // classes)})]
        if norm in {Norm.L1, Norm.L2}:
            rows += [("ALMA", "alma", "alma", {"distance": norm.value, "num_steps": calls})]
        if norm in {Norm.L2, Norm.LINF}:
            rows += [("DeepFool", "df", "deepfool", {"norm": order, "steps": 50})]
            steps = max(1, calls - classes)
            rows += [("TR", "tr", "", {"p": order, "iter": steps, "c": classes - 1, "adaptive": True})]
        if norm is Norm.L2:
            rows += [("DDN", "ddn", "ddn", {"steps": calls, "levels": None}), ("SuperDeepFool", "sdf", "", {})]
            cw = {"binary_search_steps": 9, "max_iterations": max(10, calls // 9)}
            rows += [("C&W", "carlini_wagner_l2", "cw", cw)]
        return [
            Rival(name, "adversarial-library", kind, self._adv_lib(function, **params))
            for name, function, kind, params in rows
        ]

    def _foolbox_minimal(self, norm: Norm, calls: int) -> list[Rival]:
        prefix = {Norm.L0: "L0", Norm.L1: "L1", Norm.L2: "L2", Norm.LINF: "LInf"}[norm]
        searched = {"binary_search_steps": 9, "steps": max(10, calls // 9)}
        rows: list[tuple[str, str, str, dict[str, Any]]] = [("FMN", f"{prefix}FMNAttack", "fmn", {"steps": calls})]
        brendel = "LinfinityBrendelBethgeAttack" if norm is Norm.LINF else f"{prefix}BrendelBethgeAttack"
        rows += [("Brendel-Bethge", brendel, "", {"steps": calls})]
        if norm is Norm.L1:
            rows += [("EAD", "EADAttack", "ead", {**searched, "decision_rule": "L1"})]
        if norm is Norm.L2:
            rows += [("DDN", "DDNAttack", "ddn", {"steps": calls}), ("C&W", "L2CarliniWagnerAttack", "cw", searched)]
            rows += [("DeepFool", "L2DeepFoolAttack", "deepfool", {})]
            rows += [("NewtonFool", "NewtonFoolAttack", "newtonfool", {})]
        if norm is Norm.LINF:
            rows += [("DeepFool", "LinfDeepFoolAttack", "deepfool", {})]
        return [
            Rival(name, "foolbox", kind, self._foolbox(attack, None, **params)) for name, attack, kind, params in rows
        ]

    def _original(self, module_name: str, attack_name: str, **params: Any) -> Run:
        def run(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            package = importlib.import_module(f"autoattack.{module_name}")
            attack = getattr(package, attack_name)(module, seed=seed, verbose=False, device=images.device, **params)
            found: torch.Tensor = attack.perturb(images, labels)
            return found

        return run

    def _torchattacks(self, attack_name: str, **params: Any) -> Run:
        def run(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            kind = getattr(self.modules["torchattacks"], attack_name)
            seeded = {"seed": seed} if "seed" in inspect.signature(kind.__init__).parameters else {}
            found: torch.Tensor = kind(module, **params, **seeded)(images, labels)
            return found

        return run

    def _adv_lib(self, function: str, **params: Any) -> Run:
        def run(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            attack = getattr(self.modules["adversarial-library"], function)
            found: torch.Tensor = attack(module, images, labels, **params)
            return found

        return run

    def _foolbox(self, attack_name: str, radius: float | None, **params: Any) -> Run:
        def run(module: nn.Module, images: torch.Tensor, labels: torch.Tensor, seed: int) -> torch.Tensor:
            package = self.modules["foolbox"]
            wrapped = package.PyTorchModel(module, bounds=(0, 1), device=images.device)
            attack = getattr(package.attacks, attack_name)(**params)
            criterion = package.criteria.Misclassification(labels)
            kept = {} if radius is None else {"epsilon": radius}
            found: torch.Tensor = attack.run(wrapped, images, criterion, **kept)
            return found

        return run


def reason(cause: BaseException) -> str:
    """The first line of an error, without the folders of this machine."""
    line = (str(cause).splitlines() or [""])[0]
    return f"{type(cause).__name__}: {re.sub(r'[^ (]*/[^ )]*', '...', line)}"


@contextlib.contextmanager
def _importable(place: Path | None) -> Iterator[None]:
    """Makes a checkout importable for a while: `place` heads the path, and empty modules stand in for `STUBS`.

    Neither they nor a top-level `utils` of the checkout stay behind for others to import.
    """
    if place is None:
        yield
        return
    stubs = {name: types.ModuleType(name) for name in STUBS if importlib.util.find_spec(name) is None}
    if "torchvision" in stubs:
        stubs["torchvision.models"] = types.ModuleType("torchvision.models")
        stubs["torchvision"].__dict__["models"] = stubs["torchvision.models"]
    if "tqdm" in stubs:
        stubs["tqdm"].__dict__["tqdm"] = iter
    sys.modules.update(stubs)
    sys.path.insert(0, str(place))
    try:
        yield
    finally:
        sys.path.remove(str(place))
        for name in ("utils", *stubs):
            sys.modules.pop(name, None)


def digest(module: types.ModuleType) -> str:
    """Which text of a checkout ran: SHA-256 over its Python files, because a checkout need not know its commit."""
    file = Path(str(module.__file__))
    files = sorted(file.parent.glob("**/*.py")) if file.name == "__init__.py" else [file]
    return "SHA-256 " + hashlib.sha256(b"".join(part.read_bytes() for part in files)).hexdigest()[:12]
