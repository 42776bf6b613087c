"""`python -m charpy.testing`: every check of the contract classes, as a Markdown page."""

from __future__ import annotations

import inspect

from charpy import testing
from charpy.testing.contract import Contract

INTRODUCTION = """# The checks of the contract classes

Every check that a test of a plugin inherits from `charpy.testing`, class by class
([how](plugins.md#the-contract-classes)). A check that does not apply is skipped with its reason.
`python -m charpy.testing` writes this page.
"""


def sentence(check: object) -> str:
    """The first line of its docstring, as a cell of a table."""
    return (inspect.getdoc(check) or "").split("\n", 1)[0].replace("|", "\\|")


def page() -> str:
    """The checks that all share, then those of each class."""
    named: list[type] = [part for name in testing.__all__ if inspect.isclass(part := getattr(testing, name))]
    kinds: list[type[Contract]] = [kind for kind in named if issubclass(kind, Contract)]
    total = len(Contract.checks()) + sum(len(kind.checks()) - len(Contract.checks()) for kind in kinds)
    parts = [INTRODUCTION, f"There are {total} checks.\n"]
    for kind in sorted(kinds, key=lambda kind: (kind is not Contract, kind.__name__)):
        shared = () if kind is Contract else Contract.checks()
        names = sorted(set(kind.checks()) - set(shared), key=lambda name: getattr(kind, name).__code__.co_firstlineno)
        title = "Every one" if kind is Contract else f"`{kind.__name__}`"
        rows = [f"| `{name}` | {sentence(getattr(kind, name))} |" for name in names]
        parts.append(
            "\n".join([f"## {title}: {len(rows)} checks\n", "| check | what is held |", "|---|---|", *rows, ""])
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
