"""What participants read where the spec says nothing else, and what a researcher has still to fill in."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from charpy.errors import unknown_name
from charpy_plugins.study.document import StudyDocument, Texts

TITLE = "What do you see?"

INSTRUCTIONS = """\
You will be shown {questions} images, one after the other. Each is shown in {sizes}.

For each image, choose the one label that describes it best, out of {labels}. Then say how confident you are in your \
answer, from 1 (not at all) to 5 (very).

Some images are small, or hard to recognise. If you are not sure, choose what fits best. There is no time limit, and \
we are interested in what you see, not in how many answers are right.{checks}"""

CHECKS = " A few questions ask you to choose a certain label; please choose that one."

CONSENT = """\
You are invited to take part in a study of how people recognise images. It is carried out by [[researcher]] at \
[[institution]] and was approved by [[ethics board and approval number]].

If you take part, you label {questions} images and say how confident you are. This takes about {minutes} minutes. \
You receive [[payment]]. You must be at least 18 years old.

Your answers are stored together with the time they took, under a random number; your name and your address on the \
network are not stored. The answers are kept for [[how long]] and may be published without anything that says who you \
are. We know of no risk beyond that of everyday use of a computer, and no benefit to you beyond the payment.

Taking part is voluntary. You can stop at any time by closing the page, and have your answers deleted with the code \
that you are shown.

Questions: [[contact]]."""

THANKS = "Thank you. Your answers have been saved."

CONTACT = "[[contact]]"

SECONDS = 14
"""A question takes so long: in Sharif et al. 2018, section 4.2, 25 took about six minutes."""

_PLACEHOLDER = re.compile(r"\[\[([^\[\]\n]{1,100})\]\]")
_COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def placeholders(document: StudyDocument) -> tuple[str, ...]:
    """What the texts of a study leave open, `institution` for `[[institution]]`, in order; empty when it may begin."""
    return _open(document.texts.model_dump(mode="json"))


def written(
    given: Mapping[str, Any], fill: Mapping[str, str], *, questions: int, checks: int, sizes: int, labels: int
) -> Texts:
    """The texts of a study: what is given, the defaults for the rest, and placeholders filled in.

    The version of a consent that names none is drawn from its text: another text, another version.

    Args:
        given: fields of `Texts`, those of `consent` too, that replace the defaults.
        fill: what stands for a placeholder, by its name.
        questions: a participant answers.
        checks: attention checks beside them.
        sizes: at which every image is shown.
        labels: to choose from.

    Raises:
        UnknownNameError: no text has a placeholder of that name.
    """
    facts = {
        "questions": str(questions),
        "minutes": str(max(1, round((questions + checks) * SECONDS / 60))),
        "sizes": "one size" if sizes == 1 else f"{_count(sizes)} sizes",
        "labels": _count(labels),
        "checks": CHECKS if checks else "",
    }
    consent = {"version": "", "text": CONSENT.format(**facts)}
    texts = {"title": TITLE, "instructions": INSTRUCTIONS.format(**facts), "thanks": THANKS, "contact": CONTACT}
    whole: dict[str, Any] = {**texts, **given, "consent": {**consent, **given.get("consent", {})}}
    known = _open(whole)
    for name in fill:
        if name not in known:
            raise unknown_name("placeholder", name, known, where="fill")
    whole = _filled(whole, fill)
    if not whole["consent"]["version"]:
        whole["consent"]["version"] = hashlib.sha256(whole["consent"]["text"].encode()).hexdigest()[:12]
    return Texts.model_validate(whole)


def _count(number: int) -> str:
    return _COUNTS[number] if number < len(_COUNTS) else str(number)


def _filled(value: Any, fill: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, fill) for key, item in value.items()}
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda match: fill.get(match[1].strip(), match[0]), value)
    if isinstance(value, list | tuple):
        return tuple(_filled(item, fill) for item in value)
    return value


def _open(value: Any) -> tuple[str, ...]:
    return tuple(dict.fromkeys(match[1].strip() for text in _strings(value) for match in _PLACEHOLDER.finditer(text)))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _strings(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
