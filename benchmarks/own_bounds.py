"""Attacks with bounds of their own, and attacks that look at SSIM, beside published ones and beside pgd and cw.

pip install 'charpy[attacks]'
export CHARPY_DATA=DIR CHARPY_PEERS=DIR       # mnist/, cifar10/; checkouts, see spatial_peers.py
python benchmarks/own_bounds.py               # writes benchmarks/results/own_bounds.md
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import foolbox
import torch
from contest import UNLIMITED, Case, Counted, load_case
from cyclopts import App
from page import Sheet, command
from spatial_peers import Moved, Stadv

from charpy.interfaces.model import Model
from charpy.pixels import unpack
from charpy.planned import PlannedAttack
from charpy.plugins import registry
from charpy.records import UnitKey
from charpy.structure import Structure
from charpy.threat import Access, Grid, Norm, ThreatModel
from charpy.unit import Shard, compute_unit
from charpy.warp import affine, flowed
from charpy_plugins.attacks.unrestricted import stadv
from charpy_plugins.attacks.unrestricted.color_shift import shifted
from charpy_plugins.attacks.unrestricted.stadv import roughness

app = App(name="python benchmarks/own_bounds.py", help_format="plaintext", version_flags=[])
HOW = """Images are real-valued on all sides. Queries: rows an image, forward or forward and backward alike; the stAdv
of perceptual-advex and foolbox do not stop at an image that they have broken. Broken: what a fresh model confirms. L2,
SSIM and L_flow (in pixels): means over the images that both the row and the first row of its model broke; in brackets,
the first row's there. s: wall time."""
PLAIN = ("mnist-lenet", "mnist-robust", "cifar10-cnn", "cifar10-resnet8-robust")
RADII = {"mnist-robust": 0.3, "cifar10-resnet8-robust": 8 / 255, "cifar10-resnet-at": 8 / 255}
LENGTHS = {"mnist-robust": 2.5, "cifar10-resnet8-robust": 0.5, "cifar10-resnet-at": 0.5}
BOUND = 0.05  # of perceptual-advex: of half a side, for each direction of the flow
DRAWS = 500
MEASURES = "L2 | SSIM"
FREE = Norm.UNRESTRICTED
GRIDS = """30 degrees, 3 pixels, 31 x 5 x 5 on every side. foolbox shifts the place that a pixel is read from, in the
picture as it was, by 3 pixels less a share of one; charpy shifts the turned picture. Both read bilinearly, black beyond
the edge."""


@dataclass(frozen=True)
class Found:
    """What one attack did: images, `(N,)` where they are adversarial, rows an image, wall seconds, `(N,)` L_flow."""

    images: torch.Tensor
    broken: torch.Tensor
    rows: float
    seconds: float
    flow: torch.Tensor | None = None


@app.default
def main(
    *, images: int = 30, more: int = 60, seed: int = 0, out: Path = Path("benchmarks/results"), only: str = ""
) -> None:
    """Measure, and write own_bounds.md.

    Args:
        images: a model, for attacks with bounds of their own and for cw.
        more: a model, for the attacks within a given radius.
        seed: which images, and of the attacks.
        out: folder of the page.
        only: measure one table again, and keep the others of the page: the name of its function.
    """
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", category=UserWarning)  # of the peers' old calls
    page, sheet = out / "own_bounds.md", Sheet("own_bounds")
    said = f"Written by `{command()}`. {sheet.machine}. Peers: foolbox {foolbox.__version__}, {_stadv().versions}."
    old = page.read_text(encoding="utf-8").split("\n## ")[1:] if only else []
    tables = {text.partition("\n")[0]: text.rstrip() for text in old}
    for part, models, count in PARTS:
        if only in {"", part.__name__}:
            sheet.lines.clear()
            part(sheet, {name: load_case(name, count(images, more), seed, drawn=False) for name in models})
            for text in "\n".join(sheet.lines).split("\n## ")[1:]:
                tables[text.partition("\n")[0]] = f"{text}\n\n{said}"
            parts = ["# Attacks with bounds of their own\n\n" + HOW, *tables.values()]
            page.write_text("\n\n## ".join(parts) + "\n", encoding="utf-8")


def flows(sheet: Sheet, cases: dict[str, Case], queries: int = 100) -> None:
    """`stadv` beside perceptual-advex's: Adam, the margin falling without end, or settling at 0 as in the paper."""
    sheet.add("", "## stadv", "", f"No flow longer than {BOUND / 2:g} of the side (0.7 pixels of 28, 0.8 of 32).")
    sheet.table(f"model | attack | queries | broken | {MEASURES} | L_flow | s")
    for name, case in cases.items():
        first = ours(case, "stadv", FREE, 1.0, queries, reach=BOUND / 2)
        _row(sheet, name, "stadv", case, first, first)
        for title, settle in (("as published", False), ("settling", True)):
            peer = partial(_stadv(), bound=BOUND, steps=queries, settle=settle)
            _row(sheet, name, f"perceptual-advex, {title}", case, theirs(case, peer), first)


def turns(sheet: Sheet, cases: dict[str, Case]) -> None:
    """`rotation_translation` beside foolbox's grid, and beside foolbox's grid in charpy's interpolation."""
    sheet.add("", "## rotation_translation", "", GRIDS)
    sheet.table(f"model | attack | queries | broken | {MEASURES} | s | only it | only the first")
    for name, case in cases.items():
        bounds = {"translation": 3 / case.images.shape[-1]}
        first = ours(case, "rotation_translation", FREE, 1.0, **bounds)
        _row(sheet, name, "rotation_translation", case, first, first, 0, 0)
        rivals = {
            "foolbox": theirs(case, _foolbox),
            "its grid, charpy's interpolation": theirs(case, _same_grid),
            "rotation_translation_gradient": ours(case, "rotation_translation_gradient", FREE, 1.0, **bounds),
        }
        for title, found in rivals.items():
            alone = int((found.broken & ~first.broken).sum()), int((first.broken & ~found.broken).sum())
            _row(sheet, name, title, case, found, first, *alone)


def colours(sheet: Sheet, cases: dict[str, Case]) -> None:
    """`color_shift`, hue and saturation alone, beside the paper's search."""
    sheet.add("", "## color_shift", "", "Hue and saturation only; the paper's search draws until one shift succeeds.")
    sheet.table(f"model | attack | queries | broken | {MEASURES} | s")
    none = {"brightness": 0.0, "contrast": 0.0, "gamma": 0.0}
    for name, case in cases.items():
        if case.images.shape[1] == 3:
            first = ours(case, "color_shift", FREE, 1.0, steps=DRAWS, **none)
            _row(sheet, name, "color_shift", case, first, first)
            _row(sheet, name, "as Hosseini & Poovendran", case, theirs(case, _drawn), first)


def spheres(sheet: Sheet, cases: dict[str, Case]) -> None:
    """`ssim_pgd` and `ssim_sphere` beside `pgd`."""
    for kind, norm, radii in (("ssim_pgd", Norm.LINF, RADII), ("ssim_sphere", Norm.L2, LENGTHS)):
        sheet.add("", f"## {kind}")
        sheet.table(f"model | attack | queries | broken | {MEASURES} | s")
        for name, case in cases.items():
            first = ours(case, "pgd", norm, radii[name])
            _row(sheet, name, f"pgd, {norm} {radii[name]:.3g}", case, first, first)
            for mode in ("imperceptible", "perceptible"):
                _row(sheet, name, f"{kind}, {mode}", case, ours(case, kind, norm, radii[name], mode=mode), first)


def smallest(sheet: Sheet, cases: dict[str, Case], queries: int = 200) -> None:
    """`ssim_cw` beside `cw`."""
    sheet.add("", "## ssim_cw")
    sheet.table(f"model | attack | queries | broken | {MEASURES} | s")
    for name, case in cases.items():
        first = ours(case, "cw", Norm.L2, 100.0, queries)
        _row(sheet, name, "cw", case, first, first)
        for weights in ({"ssim_weight": 1.0}, {"ssim_weight": 10.0}, {"ssim_weight": 10.0, "l2_weight": 0.0}):
            title = ", ".join(["ssim_cw", *(f"{key} {value:g}" for key, value in weights.items())])
            _row(sheet, name, title, case, ours(case, "ssim_cw", Norm.L2, 100.0, queries, **weights), first)


def ours(case: Case, kind: str, norm: Norm, radius: float, queries: int = UNLIMITED, **params: Any) -> Found:
    """charpy's attack through oracle and judge; the L_flow of what stadv found is read from its calls of `flowed`."""
    rough: dict[bytes, float] = {}

    def noted(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
        moved = flowed(images, flow)
        for image, value in zip(moved.detach().clamp(0, 1), roughness(flow.detach()).tolist(), strict=True):
            rough[image.numpy().tobytes()] = value
        return moved

    attack = registry().create("attacks", kind, params)
    threat = ThreatModel(norm=norm, radius=radius, access=Access.GRADIENTS, queries=queries, grid=Grid.NONE)
    count = len(case.labels)
    shard = Shard(list(range(count)), case.images, case.labels, case.ids)
    with patch.object(stadv, "flowed", noted):
        record = compute_unit(
            UnitKey(0, norm, 1, 0, 0), shard, PlannedAttack(kind, kind, attack, None), threat, case.bench
        )
    images, broken = case.images.clone(), torch.zeros(count, dtype=torch.bool)
    for witness in record.witnesses:
        images[witness.sample] = unpack(witness.image, tuple(case.images.shape[1:]), Grid.NONE)
        broken[witness.sample] = True
    flow = torch.tensor([rough.get(image.numpy().tobytes(), float("nan")) for image in images]) if rough else None
    if failure := record.detail.get("failure"):
        raise RuntimeError(f"{kind} on {case.name}: {failure}")
    return Found(images, broken, record.rows / count, record.seconds, flow)


def theirs(case: Case, run: Callable[[Counted, Case], torch.Tensor | Moved]) -> Found:
    """Images of a published attack on the module, shown to a fresh model."""
    counted = Counted(case.module)
    torch.manual_seed(0)
    began = time.perf_counter()
    moved = run(counted, case)
    seconds = time.perf_counter() - began
    images, flow = (moved.images, roughness(moved.flow)) if isinstance(moved, Moved) else (moved, None)
    images = images.detach().clamp(0, 1)
    fresh: Model = registry().create("models", case.name)
    with torch.no_grad():
        broken = fresh.predict(images.clone()).argmax(1) != case.labels
    return Found(images, broken, counted.rows / len(case.labels), seconds, flow)


def _row(sheet: Sheet, name: str, title: str, case: Case, found: Found, first: Found, *more: object) -> None:
    both = found.broken & first.broken
    structure = Structure(case.images)

    def mean(values: Callable[[Found], torch.Tensor], digits: int) -> str:
        if not bool(both.any()):
            return "-"
        here, there = (f"{float(values(side)[both].mean()):.{digits}f}" for side in (found, first))
        return here if found is first else f"{here} ({there})"

    cells = [
        mean(lambda side: (side.images - case.images).flatten(1).norm(dim=1), 2),
        mean(lambda side: structure.similarity(side.images), 3),
    ]
    if found.flow is not None:
        cells.append(mean(lambda side: torch.zeros(len(both)) if side.flow is None else side.flow, 0))
    sheet.row(
        name,
        title,
        f"{found.rows:,.0f}",
        f"{int(found.broken.sum())} of {len(both)}",
        *cells,
        f"{found.seconds:.1f}",
        *more,
    )


def _stadv() -> Stadv:
    return Stadv(Path(os.environ["CHARPY_PEERS"]))


def _foolbox(module: Counted, case: Case) -> torch.Tensor:
    attack = foolbox.attacks.SpatialAttack(max_translation=3, max_rotation=30, num_translations=5, num_rotations=31)
    wrapped = foolbox.PyTorchModel(module, bounds=(0, 1), device="cpu")
    found: torch.Tensor = attack.run(wrapped, case.images, foolbox.criteria.Misclassification(case.labels))
    return found


def _same_grid(module: Counted, case: Case) -> torch.Tensor:
    """foolbox's transformations in `charpy.warp.affine`.

    It shifts the place that is read, after turning it, by 3 pixels of a side that counts one pixel too many; charpy
    shifts the picture, after turning it.
    """
    side, count = case.images.shape[-1], len(case.labels)
    found, broken = case.images.clone(), torch.zeros(count, dtype=torch.bool)
    shifts = torch.linspace(-3, 3, 5) * (side - 1) / side
    for angle in torch.linspace(-30, 30, 31):
        cos, sin = angle.deg2rad().cos(), angle.deg2rad().sin()
        for right in shifts:
            for down in shifts:
                # read at R p + t: that is the picture shifted by -R^-1 t, then turned
                shift = -torch.stack([cos * down - sin * right, cos * right + sin * down])
                left = (~broken).nonzero()[:, 0]
                moved = affine(case.images[left], angle.expand(len(left)), shift.expand(len(left), 2))
                _keep(module, case, left, moved, found, broken)
    return found


def _drawn(module: Counted, case: Case) -> torch.Tensor:
    """Random hues and saturations, those of the saturation ever further away; the first that succeeds."""
    count = len(case.labels)
    found, broken = case.images.clone(), torch.zeros(count, dtype=torch.bool)
    for trial in range(DRAWS):
        left = (~broken).nonzero()[:, 0]
        shift = torch.zeros(len(left), 5)
        shift[:, 3] = torch.rand(len(left))
        shift[:, 4] = (2 * torch.rand(len(left)) - 1) * trial / DRAWS
        _keep(module, case, left, shifted(case.images[left], shift), found, broken)
    return found


@torch.no_grad()
def _keep(
    module: Counted, case: Case, left: torch.Tensor, moved: torch.Tensor, found: torch.Tensor, broken: torch.Tensor
) -> None:
    """Note the images of `left` that `moved` breaks."""
    if len(left):
        new = module(moved).argmax(1) != case.labels[left]
        found[left[new]], broken[left[new]] = moved[new], True


PARTS = (
    (spheres, tuple(RADII), max),
    (smallest, PLAIN, min),
    (flows, PLAIN, min),
    (turns, PLAIN, min),
    (colours, PLAIN, min),
)
"""Each table, its models, and which of the two numbers of images, the smaller or the larger one, it takes."""


if __name__ == "__main__":
    app()
