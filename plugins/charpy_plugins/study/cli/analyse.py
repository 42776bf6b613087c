"""`charpy study analyse`: accuracy, confidence and tests of every condition, as a page, JSON and CSV."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import NO_EVIDENCE, PASS
from charpy.cli.console import results
from charpy.errors import SpecError
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy_plugins.study.analysis.document import StudyAnalysis
    from charpy_plugins.study.responses import Responses
    from charpy_plugins.study.studyfile import Study

DEFAULT_FOLDER = Path("charpy-study-analysis")


def analyse(
    study: Path | None = None,
    *,
    answers: str | None = None,
    alpha: float = 0.05,
    margin: float = 0.1,
    confidence_margin: float = 0.5,
    draws: int = 10_000,
    seed: int = 0,
    without_models: bool = False,
    gallery: int = 6,
    out: Path = DEFAULT_FOLDER,
    schema: bool = False,
) -> int:
    """What participants said: accuracy, majority vote, confidence and agreement of every condition, and the tests.

    Writes analysis.html, analysis.json, participants.csv, answers.csv, stimuli.csv, human_labels.csv, codebook.md and
    responses.json, and the pictures of the pairs of human_labels.csv, into the output folder. Exit code 3 where no
    participant is included.

    Args:
        study: the study file that was served.
        answers: the database of its answers, a path or postgresql://..., or a file of responses, as x.json. Default:
            STUDY.answers.sqlite.
        alpha: level of every test, after Holm's correction.
        margin: of equivalence in accuracy, as a share.
        confidence_margin: of equivalence in confidence, points of 1 to 5.
        draws: permutations and bootstrap samples.
        seed: of those.
        without_models: leave out the mixed and the ordinal models, which take the most time.
        gallery: images shown of each condition.
        out: output folder.
        schema: print the JSON Schema of analysis.json instead.
    """
    if schema:
        from charpy_plugins.study.pages.schema import analysis_schema, schema_text

        sys.stdout.write(schema_text(analysis_schema()))
        return PASS
    if study is None:
        raise SpecError("no study", where="charpy study analyse", expected="a study file: charpy study analyse STUDY")
    if not 0 <= gallery <= 200:
        raise SpecError("out of range", where="--gallery", found=gallery, expected="0 to 200")
    from charpy_plugins.study.analysis.analyse import analysed
    from charpy_plugins.study.export.source import responses_of
    from charpy_plugins.study.studyfile import read_study

    whole = read_study(study)
    responses = responses_of(answers or f"{study}.answers.sqlite", whole.document)
    analysis = analysed(
        whole.document,
        responses,
        alpha=alpha,
        margin=margin,
        confidence_margin=confidence_margin,
        draws=draws,
        seed=seed,
        models=not without_models,
    )
    _show(analysis, _write(whole, responses, analysis, gallery, out))
    return PASS if any(part.included for part in analysis.flow) else NO_EVIDENCE


def _write(study: Study, responses: Responses, analysis: StudyAnalysis, gallery: int, out: Path) -> list[Path]:
    from charpy.cli.pages import write_pages
    from charpy.reports.json_report import json_bytes
    from charpy_plugins.study.export.codebook import codebook
    from charpy_plugins.study.export.folders import write_folders
    from charpy_plugins.study.export.human_labels import human_labels, human_table, pictures
    from charpy_plugins.study.export.responses_file import responses_bytes
    from charpy_plugins.study.export.tables import tables
    from charpy_plugins.study.pages.html import render_page

    labels = human_labels(study.document, analysis)
    simulated = bool(analysis.simulated)
    people, given, stimuli = tables(study.document, responses, analysis)
    pairs = human_table(study.document, labels.pairs, simulated=simulated)
    pages = {
        "analysis.html": render_page(study, analysis, labels, gallery=gallery),
        "analysis.json": json_bytes(analysis),
        people.name: people.csv(),
        given.name: given.csv(),
        stimuli.name: stimuli.csv(),
        pairs.name: pairs.csv(),
        "codebook.md": codebook(study.document, analysis.simulated, (people, given, stimuli, pairs)),
        "responses.json": responses_bytes(study.document, responses),
    }
    return write_pages(pages, out, "the analysis") + write_folders(
        pictures(study, labels.pairs, simulated=simulated), out
    )


def _show(analysis: StudyAnalysis, written: list[Path]) -> None:
    from charpy_plugins.study.pages.terminal import analysis_tables

    console = results()
    if analysis.simulated:
        console.print(visible(f"SIMULATED, no person answered: {analysis.simulated}"), soft_wrap=True)
    for table in analysis_tables(analysis):
        console.print(table)
    for part in analysis.hypotheses:
        console.print(visible(f"{part.verdict}: {part.hypothesis}. {part.sentence}"), soft_wrap=True)
    for said in (*analysis.notes, *analysis.sensitivity.changed):
        console.print(visible(f"note: {said}"), soft_wrap=True)
    for path in written:
        console.print(visible(str(path)), soft_wrap=True)
