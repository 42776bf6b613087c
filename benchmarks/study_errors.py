"""How often each test of `charpy study analyse` finds a difference that is not there, and how often one that is.

pip install 'charpy[study]'
parts="accuracy confidence planning ordinal mixed"
for part in $parts; do python benchmarks/study_errors.py $part --out benchmarks/results; done

Each part takes one to five minutes, and replaces its own part of the page.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
from cyclopts import App
from page import Sheet, command
from scipy.stats import norm
from study_population import NULL, Population

from charpy.analysis.intervals import clopper_pearson
from charpy_plugins.study.analysis import differences, models, planning
from charpy_plugins.study.analysis.trials import Array, Table, Trials

app = App(name="python benchmarks/study_errors.py", help_format="plaintext", version_flags=[])
Part = Literal["accuracy", "confidence", "planning", "ordinal", "mixed"]
DRAWS, BATCH = 2_000, 100
Fit = Callable[[Trials, Trials], models.Fitted]
HEAD = """# Errors of the tests of `charpy study analyse`

Populations: a participant has an ability, an original a difficulty that is the same in both conditions, both normal on
the scale of log odds; each of them answers 25 questions about 25 of 75 images, but where it says otherwise. Confidence
is a latent normal value, cut in five. `reaction` is the standard deviation of what each original does in one condition
only, zero on average: without it there is no difference in any sense; with it there is none over images like these,
but one on these. Rates are of p < 0.05, with their exact 95 % interval; in bold: outside 4 to 6 %."""


def pooled(first: Table, second: Table) -> Array:
    """p of the test that `charpy study analyse` refuses: every answer as independent of all others."""
    n, m = first.count.sum((-1, -2)), second.count.sum((-1, -2))
    means = first.total.sum((-1, -2)) / n, second.total.sum((-1, -2)) / m
    squares = [
        (table.count * np.square(np.where(table.count > 0, table.total, 0) - mean[..., None, None])).sum((-1, -2))
        for table, mean in zip((first, second), means, strict=True)
    ]
    variance = squares[0] / (n - 1) / n + squares[1] / (m - 1) / m
    p: Array = 2 * norm.sf(np.abs(means[1] - means[0]) / np.sqrt(np.maximum(variance, 1e-12)))
    return p


TESTS: dict[str, Callable[[Table, Table], Array]] = {
    "pooled answers (refused)": pooled,
    "Student": lambda a, b: differences.student(a.participants(), b.participants()).p,
    "Welch": lambda a, b: differences.welch(a.participants(), b.participants()).p,
    "permutation": lambda a, b: differences.permutation(a.participants(), b.participants(), DRAWS, 0).p,
    "by original": lambda a, b: differences.images(a, b).p,
    "clustered by both": lambda a, b: differences.crossed(a, b).p,
}


def batches(population: Population, studies: int, seed: int) -> Iterator[dict[str, tuple[Table, Table]]]:
    """`studies` of them, in parts that fit the memory."""
    random = np.random.default_rng(seed)
    for at in range(0, studies, BATCH):
        yield population.tables(random, min(BATCH, studies - at))


def rate(count: int, total: int, *, within: tuple[float, float] = (0.04, 0.06)) -> str:
    """A share with its interval; bold outside `within`."""
    low, high = clopper_pearson(count, total) or (0.0, 1.0)
    text = f"{100 * count / total:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return text if within[0] <= count / total <= within[1] else f"**{text}**"


def on_averages(sheet: Sheet, studies: int, measure: str, populations: Sequence[Population]) -> None:
    """Type-I error of the tests on averages."""
    sheet.add("", f"## Type-I error, {measure}: {studies} studies a row")
    sheet.table("participants | accuracy | ability / difficulty / reaction | " + " | ".join(TESTS))
    for at, population in enumerate(populations):
        found = dict.fromkeys(TESTS, 0)
        for tables in batches(population, studies, seed=at):
            for name, test in TESTS.items():
                found[name] += int((test(*tables[measure]) < 0.05).sum())
        sheet.row(*population.row(), *(rate(count, studies) for count in found.values()))


def accuracy(sheet: Sheet, studies: int) -> None:
    """Type-I error by accuracy, and of the test of equivalence at its margin."""
    on_averages(sheet, studies, "accuracy", NULL)
    sheet.add("", f"## Equivalence where accuracies differ by the margin of 10 points: {studies} studies a row")
    sheet.table("participants | accuracy | ability / difficulty / reaction | equivalent, at most 5 % | where equal")
    for at, population in enumerate((Population(73, 59, 3.9), Population(25, 38, 3.9), Population(25, 38, 0.3))):
        sheet.row(*population.row(), *_equivalence(population, studies, at))


def confidence(sheet: Sheet, studies: int) -> None:
    """Type-I error by confidence."""
    on_averages(sheet, studies, "confidence", (NULL[0], NULL[2], NULL[4], NULL[7], NULL[8]))


def _equivalence(population: Population, studies: int, seed: int) -> tuple[str, str]:
    random = np.random.default_rng(seed)
    below = population.level() - 0.10
    low, high = -6.0, 0.0
    for _ in range(50):
        middle = (low + high) / 2
        moved = Population(1, 1, population.mean + middle, population.ability, population.difficulty).level()
        low, high = (middle, high) if moved < below else (low, middle)
    found = [0, 0]
    for at in range(0, studies, BATCH):
        for column, shift in enumerate((low, 0.0)):
            first, second = population.tables(random, min(BATCH, studies - at), shift)["accuracy"]
            found[column] += int((differences.tost(first.participants(), second.participants(), 0.10).p < 0.05).sum())
    return rate(found[0], studies, within=(0.0, 0.06)), rate(found[1], studies, within=(0.0, 1.0))


def fitted(sheet: Sheet, fits: Sequence[tuple[str, Fit, Population, int]]) -> None:
    """Type-I error of models, with how many could not be fitted and the seconds of one."""
    sheet.table("model | participants | accuracy | ability / difficulty / reaction | rate | studies | no fit | s each")
    for title, fit, population, studies in fits:
        started, ps = time.perf_counter(), []
        measure = "confidence" if fit is models.ordinal else "accuracy"
        for tables in batches(population, studies, seed=77):
            first, second = tables[measure]
            for one in range(len(first.total)):
                arms = [Table(t.total[one], t.count[one]) for t in (first, second)]
                ps.append(fit(*(trials(arm, measure) for arm in arms)).p)
        known = [p for p in ps if p is not None]
        each = (time.perf_counter() - started) / studies
        error = rate(sum(p < 0.05 for p in known), len(known))
        sheet.row(title, *population.row(), error, studies, studies - len(known), f"{each:.2f}")


def ordinal(sheet: Sheet, studies: int) -> None:
    """Type-I error of the ordinal model."""
    sheet.add("", "## Type-I error of the ordinal model, confidence")
    title = "proportional odds, clustered by participants"
    sizes = ((Population(25, 38, 3.9), studies), (Population(73, 59, 3.9), max(1, studies // 10)))
    fitted(sheet, [(title, models.ordinal, population, count) for population, count in sizes])


def mixed(sheet: Sheet, studies: int) -> None:
    """Type-I error of mixed models; fewer at the size of the paper's, which take seconds each."""
    small = Population(12, 15, 3.0, images=30, questions=10)
    large = Population(25, 38, 3.9)
    title, bayes = "linear mixed, crossed", "logistic mixed, variational Bayes (not used)"
    few = max(1, studies // 40)
    sheet.add("", "## Type-I error of mixed models, accuracy")
    fits: list[tuple[str, Fit, Population, int]] = [
        (title, models.mixed, small, studies),
        (title, models.mixed, replace(small, reaction=0.8), studies),
        (title, models.mixed, large, few),
        (bayes, variational, small, max(1, studies // 5)),
    ]
    fitted(sheet, fits)


def trials(table: Table, measure: str) -> Trials:
    """`(P, images)` as single answers; labels 1 and truth 1 where correct."""
    who, what = np.nonzero(table.count)
    value = table.total[who, what].astype(np.intp)
    names = tuple(map(str, range(table.count.shape[-1])))
    ones = np.ones_like(value)
    right, sure = (value, ones) if measure == "accuracy" else (ones, value)
    people = tuple(map(str, range(len(table.total))))
    return Trials(people, names, who, what, tuple(map(str, what)), ones, right, sure, ones.astype(float))


def variational(first: Trials, second: Trials) -> models.Fitted:
    """What statsmodels has for a logistic mixed model: posterior mean over posterior deviation, taken as Wald's z."""
    from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM

    people = np.concatenate([first.participant, second.participant + len(first.participants)])
    effects = (people, np.concatenate([first.original, second.original]))
    columns = [(each[:, None] == np.arange(each.max() + 1)).astype(float) for each in effects]
    condition = np.concatenate([np.zeros(len(first.label)), np.ones(len(second.label))])
    identity = np.repeat([0, 1], [columns[0].shape[1], columns[1].shape[1]])
    correct = np.concatenate([first.values("accuracy"), second.values("accuracy")])
    design = np.column_stack([np.ones(len(correct)), condition])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = BinomialBayesMixedGLM(correct, design, np.hstack(columns), identity).fit_vb()
    estimate, error = float(fit.fe_mean[1]), float(fit.fe_sd[1])
    return models.Fitted(estimate, error, float(2 * norm.sf(abs(estimate) / error)))


def planned(sheet: Sheet, studies: int) -> None:
    """Power by formula, and by simulated studies."""
    sheet.add("", f"## Power, by formula and in {studies} studies of beta-distributed accuracies")
    sheet.table(
        "accuracies | spread | participants | difference: formula | simulated | equivalence: formula | simulated"
    )
    for first, second, spread, people in (
        (0.95, 0.93, 0.05, (73, 59)),
        (0.95, 0.90, 0.08, (60, 60)),
        (0.91, 0.79, 0.10, (36, 31)),
        (0.93, 0.57, 0.15, (12, 12)),
        (0.95, 0.95, 0.08, (40, 40)),
        (0.80, 0.80, 0.12, (40, 60)),
    ):
        arms = planning.Arm(first, spread, people[0]), planning.Arm(second, spread, people[1])
        by_formula = [
            planning.power(*arms, questions=25, alpha=0.05),
            planning.equivalence_power(*arms, questions=25, alpha=0.05, margin=0.1),
        ]
        simulated = planning.simulated_power(*arms, questions=25, alpha=0.05, margin=0.1, studies=studies, seed=1)
        cells = [f"{100 * first:g} %, {100 * second:g} %", f"{100 * spread:g} points", f"{people[0]} + {people[1]}"]
        for formula, share in zip(by_formula, simulated, strict=True):
            cells += [f"{100 * formula:.1f} %", f"{100 * share:.1f} %"]
        sheet.row(*cells)


PARTS: dict[Part, Callable[[Sheet, int], None]] = {
    "accuracy": accuracy,
    "confidence": confidence,
    "planning": planned,
    "ordinal": ordinal,
    "mixed": mixed,
}


@app.default
def main(part: Part, *, studies: int = 2_000, out: Path | None = None) -> None:
    """Measure and print one part, and with `out` put it into the page.

    Args:
        part: what is measured.
        studies: simulated, of each row.
        out: folder of the page.
    """
    sheet = Sheet("study_errors")
    PARTS[part](sheet, studies)
    sheet.add("", f"Written by `{command()}`. {sheet.machine}.")
    if out is not None:
        page = out / "study_errors.md"
        told = page.read_text(encoding="utf-8") if page.is_file() else ""
        before = {name: _between(told, name) for name in PARTS}
        before[part] = "\n".join(sheet.lines).strip()
        text = [HEAD, *(f"{_mark(name)}\n\n{lines}" for name, lines in before.items() if lines), _mark("end")]
        page.write_text("\n\n".join(text) + "\n", encoding="utf-8")


def _between(page: str, part: str) -> str:
    _, _, rest = page.partition(_mark(part))
    return rest.partition("<!--")[0].strip()


def _mark(part: str) -> str:
    return f"<!-- {part} -->"


if __name__ == "__main__":
    app()
