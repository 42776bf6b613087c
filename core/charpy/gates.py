"""Gates: what a run must show to pass, one line each, such as `linf th=3 robust_accuracy >= 0.4`.

    [NORM th=LEVEL] FIGURE [lower bound | upper bound] >= | > | <= | < NUMBER [even if weak] [of MODEL]

A gate is judged on a bound of the 95 % interval of its figure, never on the figure itself: on the bound that speaks
against it (the lower one of what must be large, the upper one of what must be small) if it names none.
"""

from __future__ import annotations

import difflib
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic_core import CoreSchema, core_schema

from charpy.errors import SpecError
from charpy.threat import DUAL, FIRST_LEVEL, LAST_LEVEL, OWN, Norm

Figure = Literal["clean_accuracy", "robust_accuracy", "proven", "adversarial_accuracy", "invalid"]
Bound = Literal["lower", "upper"]
Comparator = Literal[">=", ">", "<=", "<"]

FIGURES: tuple[Figure, ...] = get_args(Figure)
"""`robust_accuracy` is the bracket's upper edge, what was not broken; `proven` its lower edge."""

AT_A_LEVEL: frozenset[Figure] = frozenset({"robust_accuracy", "proven", "adversarial_accuracy"})
"""Figures that only exist under a norm at a level; `invalid` may be of a level or of the whole run."""

COMPARE: dict[Comparator, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
}

GRAMMAR = "[NORM th=LEVEL] FIGURE [lower bound|upper bound] >=|>|<=|< NUMBER [even if weak] [of MODEL]"
EXAMPLE = "linf th=3 robust_accuracy >= 0.4"
MOST_CHARACTERS = 400
"""A longer line is no gate."""

DECIMALS = 10
"""Of a limit."""

_WORD = re.compile(r"\s*([<>]=?|[^\s<>]+)")
_LEVEL = re.compile(r"th=([1-9][0-9]{0,15}|own)")
_NUMBER = re.compile(r"((?:0|[1-9][0-9]{0,2})(?:\.[0-9]{1,10})?)(%?)")


class GateError(ValueError):
    """A line that is no gate: what is wrong at which word, and what was expected there."""

    def __init__(self, what: str, place: int, expected: str) -> None:
        self.what = f"{what}, at word {place}" if place else what
        self.expected = expected
        super().__init__(f"{self.what}; expected {expected}")


@dataclass(frozen=True)
class Gate:
    """One demand on a run; `str` gives it in its one canonical form, which `read_gate` reads back.

    Attributes:
        norm, th: of the figure; None for one of the whole run.
        limit: what the bound of the figure is compared with, as a share.
        weak: whether weak evidence may pass.
        model: the title of the only model that it is about; None: every model.
    """

    figure: Figure
    comparator: Comparator
    limit: float
    bound: Bound
    norm: Norm | None = None
    th: int | None = None
    weak: bool = False
    model: str | None = None

    def __str__(self) -> str:
        level = f"{self.norm} th={spoken_level(self.th or OWN)} " if self.norm is not None else ""
        text = f"{level}{self.figure} {self.bound} bound {self.comparator} {self.limit:.{DECIMALS}f}".rstrip(
            "0"
        ).rstrip(".")
        text += " even if weak" if self.weak else ""
        return f"{text} of {self.model}" if self.model is not None else text

    def holds(self, measured: float) -> bool:
        """Whether `measured`, the bound of the figure, is as it must be."""
        return COMPARE[self.comparator](measured, self.limit)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """In a spec a gate is its line of text."""
        text = core_schema.chain_schema(
            [core_schema.str_schema(strict=True), core_schema.no_info_plain_validator_function(read_gate)]
        )
        return core_schema.json_or_python_schema(
            json_schema=text,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), text]),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Text; the grammar stands in the description."""
        return {"type": "string", "maxLength": MOST_CHARACTERS, "description": GRAMMAR, "examples": [EXAMPLE]}


def gate_of(text: str, where: str) -> Gate:
    """`text` as a gate.

    Raises:
        SpecError: it is none; the message says at which word, and names the nearest one that is known.
    """
    try:
        return read_gate(text)
    except GateError as cause:
        hint = f"a gate is {GRAMMAR}, for example {EXAMPLE!r}"
        raise SpecError(cause.what, where=where, found=repr(text)[:200], expected=cause.expected, hint=hint) from None


def read_gate(text: str) -> Gate:
    """`text` as a gate.

    Raises:
        GateError: it is none.
    """
    if len(text) > MOST_CHARACTERS:
        raise GateError("a gate is too long", 0, f"at most {MOST_CHARACTERS} characters")
    words = _Words(text)
    norm, th = _level(words)
    figure = _figure(words)
    if norm is None and figure in AT_A_LEVEL:
        raise GateError(f"{figure} is a figure of a level", 1, f"a norm and a level before it, such as {EXAMPLE!r}")
    if norm is not None and figure == "clean_accuracy":
        raise GateError("clean_accuracy has no norm and no level", 1, "clean_accuracy as the first word")
    bound = _bound(words)
    comparator = _comparator(words)
    limit = _limit(words, comparator)
    weak = words.take_all("even", "if", "weak")
    model = words.rest() if words.take_all("of") else None
    if model == "":
        raise GateError("no model is named", words.place, "the name of a model after `of`, to the end of the line")
    if words.peek():
        raise words.refuse("is left over", ("even", "of"), "`even if weak`, `of MODEL` or the end")
    default: Bound = "lower" if comparator in (">=", ">") else "upper"
    return Gate(figure, comparator, limit, bound or default, norm, th, weak, model)


def check_about(gates: Iterable[Gate], titles: Collection[str], levels: Mapping[Norm, Collection[int]]) -> None:
    """Refuse a gate that a run cannot answer, before the run is made.

    Args:
        gates: of the run.
        titles: what its models are called.
        levels: that it shows, by norm.

    Raises:
        ValueError: a gate names another model, norm or level.
    """
    for gate in gates:
        if gate.model is not None and gate.model not in titles:
            near = difflib.get_close_matches(gate.model, list(titles), n=1, cutoff=0.5)
            known = f"did you mean {near[0]!r}?" if near else f"one of {', '.join(sorted(titles))}"
            raise ValueError(f"gate '{gate}' is about no model of this run; {known}")
        if gate.norm is not None and gate.th is not None and gate.th not in levels.get(gate.norm, ()):
            shown = ", ".join(map(spoken_level, levels[gate.norm])) if gate.norm in levels else ""
            known = f"those of {gate.norm} are {shown}" if shown else f"its norms are {', '.join(levels)}"
            raise ValueError(f"gate '{gate}' is about no level of this run; {known}")


def spoken_level(th: int) -> str:
    """A level as a gate names it."""
    return "own" if th == OWN else str(th)


class _Words:
    """The words of a line, one after the other; comparators need no blanks around them."""

    def __init__(self, text: str) -> None:
        self.text, self.at, self.place = text, 0, 1

    def peek(self) -> str:
        """The next word; '' at the end."""
        found = _WORD.match(self.text, self.at)
        return found[1] if found else ""

    def take(self) -> str:
        """The next word, which is done with."""
        found = _WORD.match(self.text, self.at)
        if not found:
            return ""
        self.at, self.place = found.end(), self.place + 1
        return found[1]

    def take_all(self, *words: str) -> bool:
        """Take `words` if the first of them is next; then all of them must be there."""
        if self.peek() != words[0]:
            return False
        for word in words:
            if self.peek() != word:
                raise self.refuse("is not understood", (word,), f"`{' '.join(words)}`")
            self.take()
        return True

    def rest(self) -> str:
        """What is left, without the blanks around it."""
        left, self.at = self.text[self.at :].strip(), len(self.text)
        return left

    def refuse(self, why: str, known: Iterable[str], expected: str) -> GateError:
        """The next word cannot stand there; the nearest one of `known` is named."""
        word = self.peek()
        near = difflib.get_close_matches(word.lower(), set(known) - {word}, n=1, cutoff=0.5)
        found = f"{word!r:.80} {why}" if word else "the gate ends too early"
        return GateError(found + (f" (did you mean {str(near[0])!r}?)" if near else ""), self.place, expected)


def _level(words: _Words) -> tuple[Norm | None, int | None]:
    first = words.peek()
    if first in FIGURES:
        return None, None
    if first not in set(Norm):
        known = [*Norm, *FIGURES]
        raise words.refuse("is no norm and no figure", known, f"one of {', '.join(known)}")
    norm = Norm(words.take())
    found = _LEVEL.fullmatch(words.peek())
    if not found:
        raise words.refuse("is no level", (), "th=LEVEL, a whole number (8/255 under linf is th=8), or th=own")
    th = OWN if found[1] == "own" else int(found[1])
    last = LAST_LEVEL if norm in DUAL else FIRST_LEVEL if norm is Norm.UNRESTRICTED else th
    if th > last:
        raise words.refuse(f"is no level of {norm}", (), f"th={FIRST_LEVEL} to th={last}, or th=own")
    words.take()
    return norm, th


def _figure(words: _Words) -> Figure:
    for figure in FIGURES:
        if words.peek() == figure:
            words.take()
            return figure
    raise words.refuse("is no figure", FIGURES, f"one of {', '.join(FIGURES)}")


def _bound(words: _Words) -> Bound | None:
    for bound in get_args(Bound):
        if words.take_all(bound, "bound"):
            return bound  # type: ignore[no-any-return]
    return None


def _comparator(words: _Words) -> Comparator:
    for comparator in COMPARE:
        if words.peek() == comparator:
            words.take()
            return comparator
    known = ("lower", "upper")
    raise words.refuse(
        "is no comparator", known, "lower bound, upper bound, >=, >, <= or < (an interval equals nothing)"
    )


def _limit(words: _Words, comparator: Comparator) -> float:
    found = _NUMBER.fullmatch(words.peek())
    expected = "a share such as 0.4, or 40 %"
    if not found:
        raise words.refuse("is no number", (), expected)
    place = words.place
    words.take()
    percent = bool(found[2]) or words.take_all("%")
    limit = round(float(found[1]) / 100 if percent else float(found[1]), DECIMALS)
    if limit > 1:
        raise GateError(
            f"{found[1]}{' %' if percent else ''} is no share", place, f"0 to 1, or 0 % to 100 %: {expected}"
        )
    if (comparator, limit) in {(">=", 0.0), ("<=", 1.0)}:
        raise GateError("no figure can fail this gate", place, "a limit that a figure can miss")
    if (comparator, limit) in {("<", 0.0), (">", 1.0)}:
        raise GateError("no figure can pass this gate", place, "a limit that a figure can reach")
    return limit
