"""The published attacks with bounds of their own that `own_bounds.py` sets charpy's beside.

foolbox is installed (charpy[attacks]); stAdv is read from checkouts in one folder, by the name of their repository:
github.com/cassidylaidlaw/perceptual-advex, whose StAdvAttack runs on cassidylaidlaw/ReColorAdv. They import packages
that no attack used here needs; empty ones take their place.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import torch
from contest import Case, Counted
from peers import digest

CHECKOUTS = {"perceptual-advex": "perceptual_advex.attacks", "ReColorAdv": "recoloradv.mister_ed.adversarial_attacks"}
STUBS = (
    "advex_uar.attacks.attacks",
    "advex_uar.common.pyt_common",
    "matplotlib.pyplot",
    "perceptual_advex.perceptual_attacks",
    "perceptual_advex.utilities",
    "six",
    "torchvision.transforms",
)


class Moved(NamedTuple):
    """Images `(N, C, H, W)`, and the flow `(N, 2, H, W)` in pixels that they are read along."""

    images: torch.Tensor
    flow: torch.Tensor


class Stadv:
    """perceptual-advex's stAdv: Adam on a flow, each direction of it at most `bound` of half a side."""

    def __init__(self, folder: Path) -> None:
        with _importable(folder):
            modules = {name: importlib.import_module(module) for name, module in CHECKOUTS.items()}
        self._attacks: Any = modules["perceptual-advex"]
        self.versions = ", ".join(f"{name} {digest(module)}" for name, module in modules.items())

    def __call__(self, module: Counted, case: Case, *, bound: float, steps: int, settle: bool) -> Moved:
        """The best images that it saw in `steps` iterations, by its objective: the margin and 0.0025 / bound L_flow.

        `settle`: a margin below 0 counts as 0, as in the stAdv paper; as published here, the margin falls without end.
        """
        attack = self._attacks.StAdvAttack(module, bound=bound, num_iterations=steps)
        attack._setup_attack()
        if settle:
            attack.pgd_attack.loss_fxn.losses["cw"].kappa = 0.0
        images, *_, perturbation = attack.attack.attack(case.images, case.labels)
        grid = perturbation.xform
        flow = (grid.xform_params - grid.identity_params(grid.img_shape)).detach().permute(0, 3, 1, 2).flip(1)
        return Moved(images.detach(), flow * case.images.shape[-1] / 2)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    names = {".".join(name.split(".")[: depth + 1]) for name in STUBS for depth in range(name.count(".") + 1)}
    stubs = {name: MagicMock() for name in sorted(names - {"perceptual_advex"}) if name not in sys.modules}
    places = [str(folder / name) for name in CHECKOUTS]
    sys.modules.update(stubs)
    sys.path[:0] = places
    try:
        yield
    finally:
        for place in places:
            sys.path.remove(place)
        for name in stubs:
            sys.modules.pop(name, None)
