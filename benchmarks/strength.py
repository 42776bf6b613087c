"""charpy's attacks beside the published ones: one process, the same models, images, radii, steps and queries.

    pip install 'charpy[attacks]'
    pip install --no-deps torchattacks==3.5.1     # with its dependencies it would pull torchvision, which it never uses
    export CHARPY_PEERS=DIR                       # DIR holds checkouts of auto-attack, sparse-rs, adversarial-library
    python benchmarks/strength.py linf            # or minimal, sparse, overhead

Each stage prints and writes one page, benchmarks/results/strength_STAGE.md. A peer or an attack that is not there is
named on the page and left out. How both sides are measured is said in `contest.py`, how the peers are set up in
`peers.py`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from contest import UNLIMITED, Case, Measured, MissingError, assess_at, battery, load_case
from cyclopts import App, Parameter
from minimal_norms import minimal_rows
from overhead import OVERHEAD_HEAD, overhead_rows
from page import RADII, Page, Setting, engine_of, failures
from peers import Peers, Rival

from charpy.interfaces.attack import Step
from charpy.threat import Grid, Norm

app = App(
    name="python benchmarks/strength.py",
    help_format="plaintext",
    version_flags=[],
    default_parameter=Parameter(consume_multiple=True),
)
PLAIN = Setting()
BATTERIES = ("white-box", "standard", "fast")
PGD_STEPS = 40

LINF = """
Robust accuracy: images that are classified correctly and that no confirmed adversarial image was found for, as a share
of all drawn ones; mean over the runs. Wall: median of the runs; charpy's with the judge's work. `x AutoAttack`: share
of the original AutoAttack's wall time. Grid `none`: real-valued images on both sides; `8bit`: every image on k/255, a
smaller set, for information. `rows`: forward rows an image; for charpy, the queries that it charged. `gradients`: rows
an image whose gradient a peer computed. `course`: attack, broken/attacked, seconds, in the first run.
"""
MINIMAL = """
Median and mean distance of the confirmed adversarial images; L0 counts pixels for everyone, the others are in image
values. An image that none was found for counts as infinitely far in the median and is left out of the mean; `reached`
is the share with one. `spent`: rows an image, forward or those whose gradient was computed, whichever is more (charpy:
the queries that it charged, one for each gradient). charpy may not spend more than `calls`; a peer is set up for that
many and may spend more. The best of each side is taken over its attacks that spent at most 1.1 times `calls`.
"""
SPARSE = """
Share of the correctly classified images that are broken, mean over the runs [least to most], and median wall time. The
original draws from torch's and numpy's global generators, charpy from its own: the same seed does not give the same
course, so that the sides differ by chance as much as the runs of one side do.
"""
OVERHEAD = """
All sides attack the same correctly classified images in one batch, in a ball so small (1e-6) that no image is broken
and every side spends all its rows. Bare: as many rows through the module as it is, in batches of as many rows as there
are images; forward and backward to the images for the rows whose gradient was computed (charpy: all rows of PGD and
APGD), forward only for the others. Every side takes turns with the bare module, and the median of its turns is divided
by the median of the bare ones. charpy is below 1 where it found a faster way to compute the model.
"""


@app.command
def linf(*, setting: Setting = PLAIN, steps: int = 100, queries: int = 5000) -> None:
    """Robust accuracy and wall time in Linf: AutoAttack against charpy's batteries, then attack by attack.

    Args:
        setting: models, images, seeds, peers.
        steps: of APGD and FAB; PGD takes 40.
        queries: of Square, and the most that each attack of a battery may spend on an image.
    """
    plan, peers = setting.plan(images=200), setting.start()
    page = Page("linf", plan, peers)
    for name in plan.models:
        case, radius = load_case(name, plan.images, plan.seed), RADII[name]
        page.add("", f"## {name}, Linf {radius:.4g}", "")
        page.add(f"{len(case.labels)} of {case.drawn} drawn images are classified correctly; {engine_of(case)}.")
        page.table("attack | side | grid | robust accuracy | wall s | x AutoAttack | rows | gradients | course")
        _linf_of(page, case, radius, steps, queries)
    page.write("robust accuracy in Linf beside AutoAttack", LINF)


def _linf_of(page: Page, case: Case, radius: float, steps: int, queries: int) -> None:
    reference = math.nan

    def theirs(rival: Rival) -> list[Measured]:
        runs = page.theirs(case, rival, Norm.LINF, radius)
        page.row(rival.name, rival.peer, Grid.NONE, *_linf_cells(case, runs, reference))
        return runs

    def ours(name: str, attacks: Sequence[Step], grid: Grid, budget: int) -> None:
        runs = page.ours(lambda seed: assess_at(case, Norm.LINF, radius, attacks, grid, queries=budget, seed=seed))
        if runs:
            page.row(name, "charpy", grid, *_linf_cells(case, runs, reference))

    for rival in page.peers.batteries(Norm.LINF, radius):
        runs = theirs(rival)
        if rival.peer == "auto-attack" and not failures(runs):
            reference = statistics.median(run.seconds for run in runs)
    for grid in (Grid.NONE, Grid.EIGHT_BIT):
        for name, attacks in _batteries(page):
            ours(name, attacks, grid, queries)
    for step, budget, rivals in _singles(page.peers, radius, steps, queries):
        for rival in rivals:
            theirs(rival)
        ours(step.kind, [step], Grid.NONE, budget)


def _batteries(page: Page) -> list[tuple[str, Sequence[Step]]]:
    """charpy's batteries that are there; those made of the same attacks share a row."""
    names: dict[str, str] = {}
    found: dict[str, Sequence[Step]] = {}
    for name in BATTERIES:
        try:
            attacks = battery(name, Norm.LINF)
        except MissingError as cause:
            page.missing.add(f"charpy's {cause}")
            continue
        names[str(attacks)] = f"{names[str(attacks)]}, {name}" if str(attacks) in names else name
        found[str(attacks)] = attacks
    return [(names[text], attacks) for text, attacks in found.items()]


def _linf_cells(case: Case, runs: list[Measured], reference: float) -> tuple[str, ...]:
    if failed := failures(runs):
        return ("-",) * 5 + (failed,)
    seconds = statistics.median(run.seconds for run in runs)
    held = statistics.mean(len(case.labels) - run.broken for run in runs) / case.drawn
    rows, gradients = (statistics.mean(getattr(run, what) for run in runs) for what in ("rows", "gradients"))
    count = max(1, len(case.labels))
    return (
        f"{held:.1%}",
        f"{seconds:.1f}",
        "-" if math.isnan(reference) else f"{seconds / reference:.3f}",
        f"{rows / count:,.0f}",
        "" if gradients < 0 else f"{gradients / count:,.0f}",
        ", ".join(runs[0].notes),
    )


def _singles(peers: Peers, radius: float, steps: int, queries: int) -> list[tuple[Step, int, list[Rival]]]:
    """charpy's attack, its query budget and its rivals."""
    targeted = peers.targeted(radius, steps)
    return [
        (Step("pgd", {"steps": PGD_STEPS, "step": 2.5 / PGD_STEPS}), UNLIMITED, peers.pgd(radius, PGD_STEPS)),
        (Step("apgd_ce", {"steps": steps, "restarts": 1}), UNLIMITED, peers.apgd(radius, steps, "ce")),
        (Step("apgd_dlr", {"steps": steps, "restarts": 1}), UNLIMITED, peers.apgd(radius, steps, "dlr")),
        (Step("apgd_t", {"steps": steps}), UNLIMITED, [rival for rival in targeted if rival.kind == "apgd_t"]),
        (Step("fab_t", {"steps": steps}), UNLIMITED, [rival for rival in targeted if rival.kind == "fab_t"]),
        (Step("square", {}), queries, peers.square(radius, queries)),
    ]


@app.command
def minimal(
    *,
    setting: Setting = PLAIN,
    norms: tuple[Norm, ...] = tuple(Norm),
    calls: tuple[int, ...] = (100, 1000),
) -> None:
    """Median smallest distance at equal gradient calls, in L0 (pixels), L1, L2 and Linf.

    Args:
        setting: models, images, seeds, peers.
        norms: l0, l1, l2, linf.
        calls: gradients an image that an attack may spend.
    """
    plan, peers = setting.plan(images=64), setting.start()
    page = Page("minimal", plan, peers)
    for name in plan.models:
        case = load_case(name, plan.images, plan.seed, drawn=False)
        page.add("", f"## {name}", "", f"{len(case.labels)} correctly classified images; {engine_of(case)}.")
        page.table("norm | calls | attack | side | median | mean | reached | spent | wall s | failed")
        best = [minimal_rows(page, case, norm, budget) for norm in norms for budget in calls]
        page.table("norm | calls | best of charpy | best peer | charpy / peer")
        for cells in best:
            page.row(*cells)
    page.write("median smallest distance at equal gradient calls", MINIMAL)


@app.command
def sparse(
    *,
    setting: Setting = PLAIN,
    pixels: tuple[int, ...] = (5, 10),
    queries: tuple[int, ...] = (1000, 10_000),
) -> None:
    """Sparse-RS, the original and ours, at equal pixels and queries.

    Args:
        setting: models, images, seeds, peers.
        pixels: k.
        queries: budgets an image.
    """
    plan, peers = setting.plan(repeats=3), setting.start()
    page = Page("sparse", plan, peers)
    page.table(
        "model | pixels | queries | original: broken | charpy: broken | original: wall s | charpy: wall s "
        "| charpy / original | original: rows | charpy: queries | failed"
    )
    for name in plan.models:
        case = load_case(name, plan.images, plan.seed, drawn=False)
        for k in pixels:
            for budget in queries:
                page.row(name, k, f"{budget:,}", *_sparse_cells(page, case, k, budget))
    page.write("Sparse-RS", SPARSE)


def _sparse_cells(page: Page, case: Case, pixels: int, queries: int) -> tuple[str, ...]:
    rivals, step = page.peers.sparse_rs(pixels, queries), Step("sparse_rs", {})
    theirs = [run for rival in rivals for run in page.theirs(case, rival, Norm.L0, pixels)]
    ours = page.ours(lambda seed: assess_at(case, Norm.L0, pixels, [step], Grid.NONE, queries=queries, seed=seed))
    count = len(case.labels)

    def share(runs: list[Measured]) -> str:
        broken = [run.broken / count for run in runs]
        return f"{statistics.mean(broken):.1%} [{min(broken):.0%} to {max(broken):.0%}]" if runs else "-"

    walls = [statistics.median([run.seconds for run in runs] or [math.nan]) for runs in (theirs, ours)]
    rows = [f"{sum(run.rows for run in runs) / max(1, count * len(runs)):,.0f}" for runs in (theirs, ours)]
    ratio = walls[1] / walls[0] if walls[0] else math.nan
    return (
        share(theirs),
        share(ours),
        *(f"{wall:.1f}" for wall in walls),
        f"{ratio:.2f}",
        *rows,
        failures([*theirs, *ours]),
    )


@app.command
def overhead(
    *,
    setting: Setting = PLAIN,
    steps: int = 20,
    queries: int = 100,
) -> None:
    """Wall time over that of the same rows through the bare module, ours and the peers'.

    Args:
        setting: models, images, seeds, peers.
        steps: of PGD and APGD-CE.
        queries: of Square.
    """
    plan, peers = setting.plan(models=("cifar10-resnet8-robust",), images=256, repeats=5), setting.start()
    page = Page("overhead", plan, peers)
    for name in plan.models:
        case = load_case(name, plan.images, plan.seed, drawn=False)
        page.add("", f"## {name}", "", f"{len(case.labels)} images; {engine_of(case)}.")
        page.table(OVERHEAD_HEAD)
        for cells in overhead_rows(case, page.peers, plan.seed, plan.repeats, steps, queries, page.missing):
            page.row(*cells)
    page.write("what surrounds the model", OVERHEAD)


if __name__ == "__main__":
    app()
