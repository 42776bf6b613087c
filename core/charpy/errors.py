"""Every error that charpy raises on purpose, and the exit code that the command line gives it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Self


class CharpyError(Exception):
    """An error with the four things a reader needs: what happened, where, found and expected, and the next step."""

    exit_code = 2

    def __init__(
        self, what: str, *, where: str = "", found: object = None, expected: object = None, hint: str = ""
    ) -> None:
        self.what, self.where, self.found, self.expected, self.hint = what, where, found, expected, hint
        lines = [f"{where}: {what}" if where else what]
        if found is not None:
            lines.append(f"  found:    {found}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if hint:
            lines.append(f"  next:     {hint}")
        super().__init__("\n".join(lines))

    def at(self, where: str) -> Self:
        """The same error, and where."""
        return type(self)(self.what, where=where, found=self.found, expected=self.expected, hint=self.hint)


class SpecError(CharpyError):
    """A spec, an option or a parameter that cannot be used as written."""


class DataError(CharpyError):
    """Images or labels that an evaluation must refuse."""


class ModelError(CharpyError):
    """A model that cannot be loaded, or that does not answer as its contract says."""


class ServiceError(ModelError):
    """A model's server that is gone, lets nobody in, or serves another model than before.

    It is no answer to an image: it stops the run where it is, and the same command goes on from there.
    """

    exit_code = 4


class UnsafeFileError(CharpyError):
    """A file that would run code, read other files or fill the memory when loaded."""


class UnknownNameError(CharpyError):
    """A name that nothing answers to; the message lists the nearest ones."""


class PluginError(CharpyError):
    """A plugin or a component that breaks its contract."""


class DuplicateNameError(PluginError):
    """Two plugins that register the same kind under the same hook."""


class AccessError(PluginError):
    """An attack that asks the oracle for more than its threat model allows."""


class BudgetError(PluginError):
    """An attack that does not stop when nothing is left to ask."""


class WorkerError(CharpyError):
    """The process that computes a run crashed: a defect of ours, or of a plugin where none can be survived."""

    exit_code = 4


class RunFileError(CharpyError):
    """A run file that is not ours, is of another schema version, or is damaged."""


class ChangedError(RunFileError):
    """A run file whose bytes are not those that were written."""


class IdentityError(RunFileError):
    """A run that cannot be resumed: what it is about has changed since it was started."""


class InvalidEvidenceError(CharpyError):
    """A run whose evidence does not support a figure."""

    exit_code = 3


def unknown_name(what: str, name: str, known: Iterable[str], *, where: str = "", hint: str = "") -> UnknownNameError:
    """The error for `name`, listing the nearest of `known` first (all of them when none is near)."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    expected = f"did you mean {', '.join(near)}?" if near else f"one of {', '.join(names) or '(none registered)'}"
    return UnknownNameError(f"unknown {what} {name!r}", where=where, expected=expected, hint=hint)


LONGEST_TOLD = 500
"""Characters of a stranger's error that are kept."""


def storable(text: str) -> str:
    """`text` with every lone surrogate written out: for what a stranger's code says, which must not cost the run."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def told_of(cause: BaseException) -> str:
    """A stranger's error as one short text that can be stored, whatever it holds and even if it has no text."""
    try:
        text = storable(str(cause).strip()[: LONGEST_TOLD + 1])
    except Exception:  # noqa: BLE001 - its own `__str__` may fail, too
        text = "(an error whose text cannot be made)"
    text = text if len(text) <= LONGEST_TOLD else f"{text[:LONGEST_TOLD]}..."
    return f"{type(cause).__name__}: {text}" if text else type(cause).__name__


def line_of(cause: BaseException) -> str:
    """`told_of` on one line."""
    return "; ".join(" ".join(line.split()) for line in told_of(cause).splitlines())
