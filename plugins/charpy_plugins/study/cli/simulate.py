"""`charpy study simulate`: answers of a simulated population, for planning and for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import PASS
from charpy.cli.console import messages, results
from charpy.errors import DataError, SpecError, unknown_name
from charpy.reports.inert import visible
from charpy.wholefile import replacing

if TYPE_CHECKING:
    from charpy_plugins.study.document import StudyDocument
    from charpy_plugins.study.responses import Responses


def simulate(
    study: Path,
    *,
    accuracies: str,
    participants: str = "50",
    confidences: str = "",
    spread: float = 1.0,
    difficulty: float = 1.0,
    misled: float = 0.8,
    careless: float = 0.0,
    dropout: float = 0.0,
    seed: int = 0,
    out: str | None = None,
) -> int:
    """Answers of a simulated population, for planning: SIMULATED on everything that is made of them, never people.

    Args:
        study: a study file.
        accuracies: mean accuracy of each condition, as benign=0.95,changed=0.4, or in the order of the study: 0.95,0.4.
        participants: of each condition: 50, or 73,59,69, or benign=73,changed=59.
        confidences: mean confidence of each condition, 1 to 5, in the same way. Default: 4 for all.
        spread: standard deviation of ability between people, logits.
        difficulty: standard deviation of difficulty between images, logits.
        misled: of wrong answers to an image that fools the model, the share that are the model's answer.
        careless: share of people who answer at random, fail attention checks and are fast.
        dropout: share of people who leave before their last question.
        seed: of all draws.
        out: the file of answers, as x.json, or a database of them: x.sqlite, or postgresql://... Default: beside the
            study, as STUDY.simulated.json.
    """
    from charpy_plugins.study.addresses import shown_address
    from charpy_plugins.study.habits import Habits
    from charpy_plugins.study.simulation import CONFIDENCE, population
    from charpy_plugins.study.studyfile import read_study

    document = read_study(study).document
    names = [condition.name for condition in document.conditions]
    counts = {name: int(value) for name, value in _values(participants, names, "--participants", whole=True).items()}
    means = dict.fromkeys(names, CONFIDENCE)
    if confidences:
        means |= _values(confidences, names, "--confidences")
    habits = Habits(spread=spread, difficulty=difficulty, misled=misled, careless=careless, dropout=dropout)
    shares = _values(accuracies, names, "--accuracies")
    responses = population(document, shares, counts, seed=seed, confidences=means, habits=habits)
    where = out or f"{study}.simulated.json"
    (_write if where.endswith(".json") else _store)(document, responses, where)
    messages().print(visible(f"SIMULATED, not people: {responses.simulated}"), soft_wrap=True)
    results().print(visible(shown_address(where)), soft_wrap=True)
    return PASS


def _store(document: StudyDocument, responses: Responses, where: str) -> None:
    from charpy_plugins.study.addresses import shown_address
    from charpy_plugins.study.export.source import open_store

    with open_store(where, document, create=True, simulated=responses.simulated) as store:
        if held := len(store.responses().participants):
            found = f"{held} participants"
            hint = "give another one: --out FILE"
            raise DataError("answers are there already", where=shown_address(where), found=found, hint=hint)
        store.write(responses)


def _write(document: StudyDocument, responses: Responses, where: str) -> None:
    from charpy_plugins.study.export.responses_file import read_responses, responses_bytes

    path = Path(where)
    if path.exists():
        hint = "give another file: --out FILE"
        try:
            held = read_responses(path, document)
        except DataError as cause:
            raise DataError("another file is there", where=str(path), found=cause.what, hint=hint) from None
        if not held.simulated:
            raise DataError(
                "people's answers are there", where=str(path), expected="a file of simulated ones, or none", hint=hint
            )
    try:
        with replacing(path) as partial:
            partial.write_bytes(responses_bytes(document, responses))
    except OSError as cause:
        raise DataError("the answers cannot be written", where=str(path), found=cause.strerror) from None


def _values(text: str, names: list[str], option: str, *, whole: bool = False) -> Mapping[str, float]:
    """A number for each condition: `name=number` each, numbers in the order of `names`, or one for all."""
    parts = [part.strip() for part in text.split(",")]
    if not any("=" in part for part in parts):
        if len(parts) not in (1, len(names)):
            expected = f"one for all, or one for each of {', '.join(names)}"
            raise SpecError("another number of conditions", where=option, found=text, expected=expected)
        parts = [f"{name}={value}" for name, value in zip(names, parts * len(names), strict=False)]
    found: dict[str, float] = {}
    for part in parts:
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in names:
            raise unknown_name("condition", name, names, where=option)
        if name in found:
            raise SpecError("a condition twice", where=option, found=text)
        try:
            found[name] = int(value) if whole else float(value)
        except ValueError:
            expected = f"a {'whole ' if whole else ''}number, as {names[0]}={50 if whole else 0.95}"
            raise SpecError("not a number", where=option, found=part, expected=expected) from None
    return found
