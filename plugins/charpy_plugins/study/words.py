"""The words around a study's own texts, as participants read them: English, or what the study says instead."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "preview": "This is a preview. Answers are kept apart from those of the study.",
        "contact": "Contact: {contact}",
        # the first page
        "about": "What you will do",
        "consent": "Consent",
        "version": "version {version}",
        "stored": "What is stored",
        "stored-consent": "When you agreed, and to which version of this text.",
        "stored-answers": "Which images you saw, what you answered, and when.",
        "stored-person": "A random number instead of your name. If you come from Prolific, a one-way code of your "
        "Prolific ID, so that nobody takes part twice.",
        "stored-cookie": "Your internet address is not stored. One cookie tells this site where you are in the study; "
        "there are no others.",
        "stored-code": "You get a code with which you can erase your answers, now or later.",
        "adult": "I am at least 18 years old.",
        "agree": "I have read the text above, and I agree to take part.",
        "start": "Start",
        "decline": "I do not agree",
        "withdraw-with-a-code": "Withdraw with a code",
        # a question
        "question": "Question {number} of {total}",
        "code-notice": "Your code for withdrawal is {code}. With it you can erase your answers at any time. It is "
        "shown again at the end.",
        "images": "The image, in {sizes} sizes",
        "image": "The image",
        "image-enlarged": "The image, {size} times as large",
        "check": "Attention check: whatever the image shows, choose the label {label} and any confidence.",
        "type-label": "Or type how the label begins.",
        "missing-both": "To go on, choose a label and say how confident you are.",
        "missing-label": "To go on, choose a label.",
        "missing-confidence": "To go on, say how confident you are.",
        "continue": "Continue",
        "shortcuts": "Keyboard shortcuts",
        "on": "on",
        "off": "off",
        "leave": "Leave the study",
        # leaving, the end, withdrawal
        "leave-any-time": "You can stop at any time, without a reason.",
        "come-back": "Come back later",
        "come-back-text": "Close this page. With this browser you go on where you were.",
        "go-on-now": "Go on now",
        "withdraw": "Withdraw",
        "withdraw-text": "All your answers are erased at once. This cannot be undone.",
        "withdraw-button": "Withdraw, and erase my answers",
        "withdraw-later": "You can also do so later, with your code: {code}",
        "withdraw-with-the-code": "Withdraw with the code",
        "thank-you": "Thank you",
        "the-end": "The end",
        "complete-prolific": "Complete on Prolific",
        "your-code": "Your code for withdrawal",
        "keep-code": "Keep this code if you may want your answers erased later. It is the only way to find them.",
        "withdraw-title": "Withdraw from the study",
        "withdraw-by-code": "All answers that were given under your code are erased at once. This cannot be undone.",
        "code-unknown": "Nobody has this code. Please check it letter by letter: four groups of four, as in "
        "ABCD-EFGH-2345-6789.",
        "to-the-study": "To the study",
        "go-on": "Go on with the study",
        "to-the-first-page": "To the first page of the study",
        # short pages
        "goodbye": "Goodbye",
        "goodbye-text": "You did not agree to take part, and nothing about you was saved.",
        "withdrawn": "You have withdrawn",
        "withdrawn-text": "Your answers have been erased.",
        "withdrawn-prolific": "If you came from Prolific, please return your submission there.",
        "closed": "Thank you for your interest",
        "from-prolific": "Please come from Prolific",
        "from-prolific-text": "This study can only be opened from its page on Prolific.",
        # what was refused, and why; all of these change nothing
        "already-done": "Already done",
        "not-found": "Not found",
        "did-not-work": "This did not work",
        "refused-panel": "This link is not complete. Please open the study again from its page on Prolific.",
        "refused-visit": "Please open the study's first page again, and agree there.",
        "refused-boxes": "Please tick both boxes if you want to take part.",
        "refused-consent": "The consent form has changed. Please read it again.",
        "refused-nobody": "This browser does not take part in the study, or not any more.",
        "refused-choice": "Please choose one of the labels, and how confident you are.",
        "refused-cross-site": "This form was sent from another site. Nothing was changed.",
        "refused-paused": "The study is paused at the moment. Please come back later.",
        "refused-full": "The study has all the participants that it needs.",
        "refused-replayed": "This question has been answered already.",
        "refused-order": "This is not the next question.",
        "refused-code": "Nobody has this code. Please check it letter by letter.",
        "refused-withdrawn": "You have withdrawn from this study. Your answers are deleted.",
        "refused-taken-part": "You have taken part in this study already.",
        # errors
        "unreadable": "This could not be read",
        "unreadable-text": "The request was not complete. Nothing was changed.",
        "no-form-text": "The request was not a form of these pages. Nothing was changed.",
        "nothing-here": "There is nothing here",
        "nothing-here-text": "This page does not exist, or is not yours to see.",
        "cannot-be-done": "This cannot be done",
        "nothing-changed": "Nothing was changed.",
        "too-much": "This is too much",
        "too-much-text": "The request was too large. Nothing was changed.",
        "too-often": "Too many requests",
        "too-often-text": "Please wait a minute, then go on. Nothing was lost.",
        "old-form": "This form cannot be used",
        "old-form-text": "This form is too old, or your browser does not keep cookies. Nothing was changed.",
        "allow-cookies": "Please allow cookies for this site, and go on.",
        "our-mistake": "Our mistake",
        "our-mistake-text": "Something went wrong here. Your answers so far are kept.",
        "break": "A short break",
        "break-text": "Your last answer may not have been saved; all before it are.",
        "try-again": "Please try again in a minute.",
        # a laboratory's device
        "next-participant": "Next participant",
        "next-participant-text": "Keep your code. Then press the button, so that nobody after you sees it.",
    }
)

_PLACE = re.compile(r"\{([a-z]+)\}")
_KEYS: Final = {text: key for key, text in WORDS.items()}
_RIGHT_TO_LEFT: Final = frozenset({"ar", "ckb", "dv", "fa", "he", "ps", "sd", "ug", "ur", "yi"})


def checked_interface(interface: dict[str, str]) -> dict[str, str]:
    """Refuse words that no page has, and words in which a `{place}` lacks or is made up.

    Raises:
        ValueError: no such key, or other places than the English words have.
    """
    for key, text in interface.items():
        if key not in WORDS:
            near = ", ".join(difflib.get_close_matches(key, WORDS, n=3, cutoff=0.5))
            hint = f"did you mean {near}?" if near else "`charpy study build --schema` lists them"
            raise ValueError(f"no page has the words {key!r}; {hint}")
        expected, found = (sorted(_PLACE.findall(one)) for one in (WORDS[key], text))
        if found != expected:
            places = ", ".join(f"{{{name}}}" for name in expected) or "no place"
            raise ValueError(f"{key!r} must have {places}, as in {WORDS[key]!r}")
    return interface


def word(interface: Mapping[str, str], key: str) -> str:
    """What participants read, with its `{places}`."""
    return interface.get(key, WORDS[key])


def filled(text: str, **values: object) -> str:
    """`text` with every `{place}` filled in, once: a value is never looked into for places of its own."""
    return _PLACE.sub(lambda match: str(values[match[1]]) if match[1] in values else match[0], text)


def translated(interface: Mapping[str, str], text: str) -> str:
    """What a refusal says, in the words of the study where it has some."""
    key = _KEYS.get(text)
    return text if key is None else word(interface, key)


def direction(language: str) -> str:
    """`rtl` for a language that is written from right to left, otherwise `ltr`."""
    parts = language.lower().split("-")
    if "latn" in parts[1:]:
        return "ltr"
    return "rtl" if parts[0] in _RIGHT_TO_LEFT or {"arab", "hebr"} & set(parts[1:]) else "ltr"
