"""The findings of Kotyan & Vargas 2020, each held against what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import dual_published as paper
from scipy.stats import binomtest, spearmanr

from charpy.analysis.comparison.document import Comparison
from charpy.analysis.comparison.entries import Entry, read_entries
from charpy.outcome import Outcome
from charpy.runfile import RunFile

LEVELS = (1, 3, 5, 10)
WHITE_BOX = ("fgm", "bim", "pgd")
"""Those of Table IV whose distance is bounded."""


def findings(compared: Mapping[str, Comparison], out: Path) -> Iterator[str]:
    """A table: the finding, the paper's figures, ours."""
    yield "| finding | in the paper | here |"
    yield "|---|---|---|"
    if "levels" in compared:
        document = compared["levels"]
        yield from map(_line, (rankings(document), adversarial_training(document)))
        if "strong" in compared:
            yield _line(what_training_gains(compared["strong"]))
        yield from map(_line, (one_norm_only(document), transfers(document)))
    if "optimisers" in compared:
        yield _line(optimisers(compared["optimisers"]))
    if "attacks" in compared:
        yield from map(_line, (missed(out), distances(compared["attacks"])))
    if "minimal" in compared:
        yield _line(most_robust(compared["minimal"]))


def _line(row: Sequence[str]) -> str:
    return f"| {' | '.join(row)} |"


def rankings(document: Comparison) -> tuple[str, str, str]:
    """Rank correlation of the networks' adversarial accuracy between the two norms, level by level."""
    networks = [entry.title for entry in document.entries if entry.title in paper.AREAS]
    cells = {(cell.norm, cell.entry, cell.th): cell.broken.value or 0.0 for cell in document.dual}

    def rho(values: Mapping[str, Sequence[float]]) -> str:
        return f"{spearmanr(values['l0'], values['linf']).statistic:.2f}"

    ours, theirs = [], []
    for column, th in enumerate(LEVELS):
        ours.append(rho({norm: [cells[norm, name, th] for name in networks] for norm in paper.DUAL}))
        theirs.append(rho({norm: [rows[name][column] for name in networks] for norm, rows in paper.DUAL.items()}))
    name = (
        "few pixels and threshold rank the seven networks differently (rank correlation at th = 1, 3, 5, 10; 1: alike)"
    )
    return name, ", ".join(theirs), ", ".join(ours)


def adversarial_training(document: Comparison) -> tuple[str, str, str]:
    """AT under both norms, with the exact test on images that one norm alone breaks."""
    cells = {(cell.norm, cell.th): cell.broken.value or 0.0 for cell in document.dual if cell.entry == "AT"}
    alone = {part.th: (part.only_l0, part.only_linf) for part in document.agreement if part.entry == "AT"}
    ours = []
    for th in LEVELS if alone else ():
        first, second = alone[th]
        p = binomtest(first, first + second).pvalue if first + second else 1.0
        ours.append(f"{cells['l0', th]:.0%} to {cells['linf', th]:.0%} (p {_p(p)})".replace("%", " %"))
    theirs = [f"{l0} to {linf} %" for l0, linf in zip(paper.DUAL["l0"]["AT"], paper.DUAL["linf"]["AT"], strict=True)]
    return (
        "adversarial training is weaker under L0 than under Linf (broken at th = 1, 3, 5, 10)",
        "; ".join(theirs),
        ("; ".join(ours)),
    )


def what_training_gains(document: Comparison) -> tuple[str, str, str]:
    """ResNet and AT under charpy's own attacks at th = 1, 3, 5, 10."""
    cells = {(cell.norm, cell.entry, cell.th): cell.broken.value or 0.0 for cell in document.dual}
    words = [
        f"{norm} {name} " + ", ".join(f"{cells[norm, name, th]:.0%}".replace("%", " %") for th in LEVELS)
        for norm in paper.DUAL
        for name in ("ResNet", "AT")
        if (norm, name, LEVELS[0]) in cells
    ]
    theirs = [f"{norm} {name} {paper.DUAL[norm][name]}" for norm in paper.DUAL for name in ("ResNet", "AT")]
    return "the same under the battery `fast`: what it gains", "; ".join(theirs), "; ".join(words)


def one_norm_only(document: Comparison) -> tuple[str, str, str]:
    """Figure 5, ResNet and DenseNet at th = 10."""
    found = {part.entry: part for part in document.agreement if part.th == LEVELS[-1]}
    ours = [
        f"{name} {(found[name].only_l0 + found[name].only_linf) / found[name].samples:.0%}".replace("%", " %")
        for name in ("ResNet", "DenseNet", "AT", "CapsNet")
        if name in found
    ]
    return "some images are broken under one norm only (th = 10)", "ResNet about 17 %", ", ".join(ours)


def transfers(document: Comparison) -> tuple[str, str, str]:
    """Figure 4: the mean of all but the diagonal."""
    means = {}
    for norm in paper.DUAL:
        values = [
            part.fooled.value
            for part in document.transfer
            if part.norm == norm and part.source != part.target and part.fooled.value is not None
        ]
        means[norm] = f"{statistics.mean(values):.0%}".replace("%", " %")
    name = "few-pixel images transfer less than threshold images (mean over pairs of models)"
    return name, "less than most", f"{means['l0']} to {means['linf']}"


def optimisers(document: Comparison) -> tuple[str, str, str]:
    """Table II: levels and models at which CMA-ES broke more than DE, fewer, or as many."""
    run_of = {entry.title: entry.run.split()[1] for entry in document.entries}
    variant = {(cell.norm, cell.attack): run_of[cell.entry] for cell in document.attacks}
    tally = {(norm, rival): [0, 0, 0, 0] for norm in paper.DUAL for rival in ("de", "de-small")}
    for duel in document.duels:
        first, second = variant[duel.norm, duel.first], variant[duel.norm, duel.second]
        if "cma-es" not in (first, second):
            continue
        rival = second if first == "cma-es" else first
        won = None if duel.winner is None else variant[duel.norm, duel.winner]
        place = 1 if won is None else 0 if won == "cma-es" else 2
        tally[duel.norm, rival][place] += 1
        tally[duel.norm, rival][3] += won is not None and duel.p_value < 0.05
    ours = [
        f"{norm}, {rival}: {more} more, {same} as many, {fewer} fewer ({clear} with p < 0.05)"
        for (norm, rival), (more, same, fewer, clear) in tally.items()
    ]
    name = (
        "CMA-ES beats DE on threshold, not on few pixels (two models, four levels: CMA-ES breaks more, as many, fewer)"
    )
    return name, "l0: 2 more, 6 fewer; linf: 8 more", "; ".join(ours)


def distances(document: Comparison) -> tuple[str, str, str]:
    """Table IV: mean L2 of the threshold attack at th = 1 as a share of that of one pixel."""
    models = {entry.title: entry.model for entry in document.entries}
    mean = {(cell.kind, models[cell.entry]): cell.mean_l2 for cell in document.attacks if cell.th == 1}
    ratios = []
    for model in dict.fromkeys(models.values()):
        pixel, threshold = mean.get(("few_pixel", model)), mean.get(("threshold", model))
        if pixel and threshold:
            ratios.append(threshold / pixel)
    then = [
        paper.ATTACKS["threshold, th = 1"][name][1] / paper.ATTACKS["few_pixel, th = 1"][name][1]
        for name in paper.AREAS
    ]
    name = "the threshold attack at th = 1 needs a fraction of the L2 of one pixel (mean over networks)"
    return (
        name,
        f"{statistics.mean(then):.0%} (text: about 12 %)".replace("%", " %"),
        (f"{statistics.mean(ratios):.0%} of {len(ratios)} networks".replace("%", " %") if ratios else "-"),
    )


def most_robust(document: Comparison) -> tuple[str, str, str]:
    """Table V: the largest area under each norm."""
    ours = []
    for norm in paper.DUAL:
        best = max((part for part in document.areas if part.norm == norm), key=lambda part: part.value / part.samples)
        ours.append(f"{norm}: {best.entry}")
    return (
        "no network is the most robust under both norms (largest area)",
        "l0: CapsNet, linf: AllConv",
        ", ".join(ours),
    )


def missed(out: Path) -> tuple[str, str, str]:
    """Images that the dual set breaks at th = 10 and no bounded white-box attack at 8/255."""
    with ExitStack() as stack:
        paths = [path / "run.charpy" for part in ("levels", "others") for path in sorted((out / part).iterdir())]
        entries = read_entries([stack.enter_context(RunFile.open(path)) for path in paths])
        words = []
        for model in paper.AREAS:
            rows = [entry for entry in entries if entry.model == model]
            if not rows:
                continue
            dual = [row for row in rows if row.run_title.startswith("levels")]
            white = [row for row in rows if row.run_title.startswith("others")]
            found = _broken(dual[0], "l0") | _broken(dual[0], "linf")
            pixels, seen = _broken(dual[0], "l0"), white[0].correct & False
            for row in white:
                seen |= _broken(row, "linf")
            words.append(
                f"{model} {int((found & ~seen).sum())} (few pixels {int((pixels & ~seen).sum())}) of "
                f"{int(dual[0].correct.sum())}"
            )
    name = f"a white-box set ({', '.join(WHITE_BOX)} at 8/255) misses images that the dual set breaks at th = 10"
    return name, "DenseNet and ResNet: 50 to 55 % against 74 to 90 %", "; ".join(words)


def _broken(entry: Entry, norm: str) -> object:
    """bool `(T,)`: broken at the largest level."""
    return entry.outcomes[norm].mask(Outcome.BROKEN)[:, -1]


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.2g}"
