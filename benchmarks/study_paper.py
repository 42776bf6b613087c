"""Sharif et al. 2018, section 4, over simulated populations with the paper's accuracies: do its conclusions come out?

    python benchmarks/study_paper.py              # prints and writes benchmarks/results/study_paper.md

No person answers here. Each study of the paper is simulated with its numbers of images and participants, its mean
accuracies and its mean confidences; how much people differ is not published, so it is varied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from cyclopts import App
from numpy.typing import NDArray
from page import Sheet, command
from scipy import stats

from charpy_plugins.study.analysis.analyse import analysed
from charpy_plugins.study.analysis.comparisons import holm
from charpy_plugins.study.analysis.differences import permutation, student
from charpy_plugins.study.document import Condition, Consent, Kind, Source, Stimulus, StudyDocument, Texts
from charpy_plugins.study.habits import Habits, draw
from charpy_plugins.study.simulation import population

app = App(name="python benchmarks/study_paper.py", help_format="plaintext", version_flags=[])
B, AI, AP = "benign", "imperceptible", "perceptible"
NAMES = (B, AI, AP)
LEVEL = 0.01
"""The paper's: `statistically significant (p < 0.01)`."""

HOW = """**SIMULATED: no person answered.** Participants' abilities and images' difficulties are normal on the scale of
logits; mean accuracy and mean confidence of each condition are those of the paper; every wrong answer to a changed
image is the model's own with probability 0.8. `Spread` is the standard deviation of ability: the paper does not give
one. Every participant is a unit, as 25 answers of one person are not independent. The paper's test: Student's,
two-sided, uncorrected. The primary test: a permutation test of Welch's t, after Holm's correction over the three pairs
of conditions. A conclusion comes out where the test is below 0.01 exactly where the paper's is."""


class Claim(NamedTuple):
    """One test that the paper reports."""

    measure: str
    first: str
    second: str
    significant: bool
    published: str


@dataclass(frozen=True)
class Paper:
    """One study of the paper."""

    name: str
    images: int
    participants: Mapping[str, int]
    accuracies: Mapping[str, float]
    confidences: Mapping[str, float]
    claims: tuple[Claim, ...]


def of(*values: float) -> dict[str, float]:
    return dict(zip(NAMES, values, strict=True))


PAPERS = (
    Paper("L0", 75, {B: 73, AI: 59, AP: 69}, of(0.95, 0.97, 0.03), of(4.47, 4.4, 4.19), (
        Claim("accuracy", B, AI, False, "p = 0.34"), Claim("accuracy", B, AP, True, "p < 0.01"),
        Claim("accuracy", AI, AP, True, "p < 0.01"))),
    Paper("L2", 100, {B: 25, AI: 38, AP: 36}, of(0.93, 0.89, 0.57), of(4.31, 4.37, 2.97), (
        Claim("accuracy", B, AI, False, "p ≈ 1"), Claim("accuracy", B, AP, True, "p < 0.01"),
        Claim("confidence", B, AP, True, "p < 0.01"))),
    Paper("Linf", 100, {B: 36, AI: 31, AP: 32}, of(0.91, 0.79, 0.36), of(4.45, 3.98, 3.04), (
        Claim("accuracy", B, AI, True, "p < 0.01"), Claim("accuracy", B, AP, True, "p < 0.01"),
        Claim("confidence", B, AI, True, "p < 0.01"), Claim("confidence", B, AP, True, "p < 0.01"))),
)  # fmt: skip
"""Section 4.3 to 4.5. The confidence of L0's imperceptible condition is not given but lies between the other two."""


def study_of(paper: Paper) -> StudyDocument:
    """A study of ten classes; what fools the model is taken for the class three further on."""
    kinds = dict(zip(NAMES, (Kind.BENIGN, Kind.WITNESS, Kind.PAINTED), strict=True))
    stimuli = [
        Stimulus(
            id=f"{place:08x}{image:08x}",
            condition=name,
            original=str(image),
            label=image % 10,
            prediction=(image if name == B else image + 3) % 10,
            digests=("-",),
        )
        for place, name in enumerate(NAMES)
        for image in range(paper.images)
    ]
    return StudyDocument(
        name=f"Sharif et al. 2018, {paper.name}",
        source=Source(dataset="simulated", shape=(1, 28, 28), class_names=tuple("0123456789")),
        labels=tuple("0123456789"),
        conditions=tuple(Condition(name=name, kind=kind, text=name) for name, kind in kinds.items()),
        stimuli=tuple(stimuli),
        sizes=(1,),
        texts=Texts(title="-", instructions="-", consent=Consent(version="1", text="-")),
    )


class Means(NamedTuple):
    """Of `S` populations: participants' means by condition `(S, P)`, images right by majority vote `(S,)`."""

    accuracy: dict[str, NDArray[np.float64]]
    confidence: dict[str, NDArray[np.float64]]
    majority: dict[str, NDArray[np.float64]]


def simulated(paper: Paper, spread: float, seeds: range) -> Means:
    """Every seed's population, straight from the arrays."""
    document, habits = study_of(paper), Habits(spread=spread)
    means = Means({}, {}, {})
    for condition in document.conditions:
        name = condition.name
        truth = np.array([stimulus.label for stimulus in document.of(name)])
        rows = [
            draw(document, condition, paper.accuracies[name], paper.participants[name],
                 seed=seed, confidence=paper.confidences[name], habits=habits)
            for seed in seeds
        ]  # fmt: skip
        means.accuracy[name] = np.array([(row.label == truth[row.stimulus]).mean(1) for row in rows])
        means.confidence[name] = np.array([row.confidence.mean(1) for row in rows])
        means.majority[name] = np.array([_majority(row.stimulus, row.label, truth) for row in rows])
    return means


def _majority(stimulus: NDArray[np.int64], label: NDArray[np.int64], truth: NDArray[np.int64]) -> float:
    """Share of images whose only most frequent label is the true class."""
    votes = np.bincount((stimulus * 10 + label).ravel(), minlength=10 * len(truth)).reshape(-1, 10)
    alone = (votes == votes.max(1, keepdims=True)).sum(1) == 1
    return float((alone & (votes.argmax(1) == truth)).mean())


def p_values(means: Means, measure: str, draws: int) -> tuple[dict[tuple[str, str], NDArray[np.float64]], ...]:
    """Of each pair of conditions, `(S,)`: the paper's p, and that of the primary test after Holm."""
    values = means.accuracy if measure == "accuracy" else means.confidence
    pairs = [(B, AI), (B, AP), (AI, AP)]
    papers = {pair: student(values[pair[0]], values[pair[1]]).p for pair in pairs}
    primary = np.stack([permutation(values[a], values[b], draws, 0).p for a, b in pairs], axis=1)
    adjusted = np.array([holm(list(row)) for row in primary])
    return papers, {pair: adjusted[:, place] for place, pair in enumerate(pairs)}


def figures(sheet: Sheet, paper: Paper, means: Means) -> None:
    """The paper's figures beside those of the populations."""
    sheet.add("", f"### {paper.name}: {paper.images} images, {'/'.join(map(str, paper.participants.values()))} people")
    sheet.table("condition | accuracy, paper | simulated | majority vote, simulated | confidence, paper | simulated")
    for name in NAMES:
        accuracy, sure = means.accuracy[name].mean(1), means.confidence[name].mean(1)
        asked = f"{paper.confidences[name]:.2f}" + (" (ours)" if paper.name == "L0" and name == AI else "")
        sheet.row(name, f"{100 * paper.accuracies[name]:.0f} %", _spread(100 * accuracy, 1, " %"),
                  _spread(100 * means.majority[name], 0, " %"), asked, _spread(sure, 2, ""))  # fmt: skip


def _spread(values: NDArray[np.float64], digits: int, unit: str) -> str:
    low, high = np.percentile(values, [5, 95])
    return f"{values.mean():.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


def conclusions(sheet: Sheet, paper: Paper, spread: float, means: Means, draws: int) -> None:
    """How often each test of the paper comes out as published."""
    tests = {measure: p_values(means, measure, draws) for measure in ("accuracy", "confidence")}
    people = means.accuracy[B].std(axis=1, ddof=1).mean()
    together = [np.ones(len(means.majority[B]), dtype=bool) for _ in range(2)]
    for claim in paper.claims:
        rows = [found[claim.first, claim.second] for found in tests[claim.measure]]
        agree = [(row < LEVEL) == claim.significant for row in rows]
        together = [before & now for before, now in zip(together, agree, strict=True)]
        said = "differ" if claim.significant else "do not differ"
        sheet.row(paper.name, f"{claim.measure}: {claim.first}, {claim.second} {said}", claim.published,
                  f"{spread:g}", f"{100 * people:.0f} %", f"{np.median(rows[0]):.2g}", *map(_share, agree))  # fmt: skip
    sheet.row(
        paper.name, "**all of these together**", "", f"{spread:g}", f"{100 * people:.0f} %", "", *map(_share, together)
    )


def _share(agree: NDArray[np.bool_]) -> str:
    return f"{100 * agree.mean():.0f} %"


def implied(sheet: Sheet) -> None:
    """How much participants' accuracies must have differed for the paper's test of them to give what was published."""
    how = (
        "The pooled standard deviation of participants' accuracies at which Student's t test of a published difference "
        "gives the published p; the brackets allow for accuracies that are rounded to whole per cent."
    )
    sheet.add("", "## How much people must have differed", "", how)
    sheet.table("study | comparison | published | standard deviation")
    for paper, p, relation in zip(PAPERS, (0.34, None, LEVEL), ("", "", "less than "), strict=True):
        claim = paper.claims[0]
        n, m = paper.participants[claim.first], paper.participants[claim.second]
        gap = abs(paper.accuracies[claim.first] - paper.accuracies[claim.second])
        if p is None:
            above = f"more than {_deviation(gap, LEVEL, n, m)} for p above {LEVEL:g}"
            said = f"{above}; p ≈ 1 fits a corrected or one-sided test only"
        else:
            said = relation + _deviation(gap, p, n, m)
        sheet.row(paper.name, f"accuracy: {claim.first}, {claim.second}", claim.published, said)


def _deviation(gap: float, p: float, n: int, m: int) -> str:
    scale = 1 / (stats.t.isf(p / 2, n + m - 2) * np.sqrt(1 / n + 1 / m))
    low, here, high = (100 * max(gap + off, 0.0) * scale for off in (-0.01, 0.0, 0.01))
    return f"{here:.0f} % ({low:.0f} to {high:.0f})"


def pooled(sheet: Sheet) -> None:
    """What a t test of all answers, as if they were independent, would have given on the published figures."""
    how = "Student's t test on single answers, 25 a person, of the published accuracies, as if they were independent."
    sheet.add("", "## If the answers had been pooled", "", how)
    sheet.table("study | comparison | published | p, answers pooled")
    for paper in PAPERS:
        claim = paper.claims[0]
        rows = []
        for name in (claim.first, claim.second):
            count, share = 25 * paper.participants[name], paper.accuracies[name]
            rows += [share, np.sqrt(share * (1 - share) * count / (count - 1)), count]
        found = stats.ttest_ind_from_stats(*rows).pvalue
        sheet.row(paper.name, f"accuracy: {claim.first}, {claim.second}", claim.published, f"{found:.2g}")


@app.default
def main(
    seeds: int = 200,
    draws: int = 1000,
    spreads: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0),
    out: Path = Path("benchmarks/results"),
) -> None:
    """Simulate the three studies.

    Args:
        seeds: populations of each study and spread.
        draws: of the permutation test.
        spreads: standard deviations of ability, logits; the figures are of the second.
        out: folder of the page.
    """
    sheet = Sheet("study_paper")
    found = {(paper.name, spread): simulated(paper, spread, range(seeds)) for paper in PAPERS for spread in spreads}
    shown = spreads[min(1, len(spreads) - 1)]
    sheet.add(f"## Figures, spread {shown:g}", "", f"Mean of {seeds} populations; 90 % of them lie in the brackets.")
    for paper in PAPERS:
        figures(sheet, paper, found[paper.name, shown])
    sheet.add("", "## Conclusions", "", f"Of {seeds} populations each, how many come to the paper's conclusion.")
    sheet.table(
        "study | conclusion | paper | spread | people's deviation, benign | median p | paper's test | primary test"
    )
    for paper in PAPERS:
        for spread in spreads:
            conclusions(sheet, paper, spread, found[paper.name, spread], draws)
    implied(sheet)
    pooled(sheet)
    sheet.add(
        "", "## One population, as `charpy study analyse` reads it", "", f"Seed 0, spread {shown:g}, level 0.01.", ""
    )
    for paper in PAPERS:
        document = study_of(paper)
        counts = dict(paper.participants)
        people = population(document, paper.accuracies, counts, seed=0, confidences=paper.confidences, spread=shown)
        everybody = document.model_copy(
            update={"exclusion": document.exclusion.model_copy(update={"failed_checks": 9})}
        )
        analysis = analysed(everybody, people, alpha=LEVEL, draws=draws, models=False)
        for part in analysis.hypotheses:
            said = part.sentence.replace(f" ({people.simulated})", "")
            sheet.add(f"- {paper.name}, **{part.verdict}**: {part.hypothesis}. {said}")
    text = ["# The paper's study from simulated populations", "", f"Written by `{command()}`.", "", HOW, "",
            f"{sheet.machine}.", "", *sheet.lines, ""]  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    (out / "study_paper.md").write_text("\n".join(text), encoding="utf-8")


if __name__ == "__main__":
    app()
