"""Names of a new package: what pip, Python and charpy accept."""

from __future__ import annotations

import contextlib
import keyword
import re
import sys
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, entry_points, packages_distributions

from charpy.errors import SpecError

RESERVED = frozenset({"charpy", "charpy_plugins", "charpy_models", "test", "tests", "src"})
LONGEST = 60
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[._-]+[A-Za-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """What one name becomes: `package` for pip (PEP 503), `module` for Python."""

    package: str
    module: str

    @classmethod
    def of(cls, name: str) -> Names:
        """Of `name` as the user gave it.

        Raises:
            SpecError: pip or Python would not accept it, or it would hide a package that is needed.
        """
        if len(name) > LONGEST or not _NAME.fullmatch(name):
            raise SpecError(
                "this cannot be the name of a package",
                where="charpy new-plugin",
                found=repr(name[:100]),
                expected=f"a letter, then letters, digits, '.', '_' or '-', not at the end; at most {LONGEST} of them",
                hint="charpy new-plugin my-attacks",
            )
        package = re.sub(r"[-_.]+", "-", name).lower()
        module = package.replace("-", "_")
        reserved = module in RESERVED or module in sys.stdlib_module_names or keyword.iskeyword(module)
        if reserved or keyword.issoftkeyword(module):
            raise SpecError(
                "the name is taken by Python or by charpy",
                where="charpy new-plugin",
                found=module,
                expected="a name of your own",
                hint=f"charpy new-plugin charpy-{package}",
            )
        if owners := strangers(package, module):
            raise SpecError(
                "an installed package has this name; the new one would take its place",
                where="charpy new-plugin",
                found=", ".join(owners),
                expected="a name of your own",
                hint=f"charpy new-plugin charpy-{package}",
            )
        return cls(package, module)


def strangers(package: str, module: str) -> list[str]:
    """What is installed as `package` for pip, or gives `module` to Python, but is no plugin of charpy."""
    owners = set(packages_distributions().get(module, ()))
    with contextlib.suppress(PackageNotFoundError):
        owners.add(distribution(package).name)
    plugins = {entry.dist.name for entry in entry_points(group="charpy") if entry.dist}
    return sorted(owners - plugins)
