"""`charpy new-plugin`: a working package of components, with tests, to be changed into one's own."""

from __future__ import annotations

from pathlib import Path

from charpy.cli.console import results
from charpy.reports.inert import visible


def new_plugin(name: str, /, *, kinds: str = "attack", out: Path | None = None) -> int:
    """Write a package with one small component of each kind, the tests of their contracts, and a README.

    Args:
        name: of the package, as pip knows it: letters, digits, `.`, `_` and `-`.
        kinds: any of attack, metric, defense, model, certifier, dataset, with commas between.
        out: folder of the package, which must not exist or be empty. Default: NAME in the working directory.
    """
    from charpy.scaffold.names import Names
    from charpy.scaffold.write import kinds_of, write

    names = Names.of(name)
    folder = out or Path(names.package)
    console = results()
    for path in write(names, kinds_of(kinds), folder):
        console.print(visible(str(path)), soft_wrap=True)
    console.print(visible(f"next: cd {folder} && pip install --no-deps --no-build-isolation -e . && python -m pytest"),
                  soft_wrap=True)  # fmt: skip
    return 0
