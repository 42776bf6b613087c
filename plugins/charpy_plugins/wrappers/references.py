"""Python references of the form `package.module:object`, as they stand on a command line or in a spec."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from charpy.errors import CharpyError, ModelError, told_of, unknown_name

_FORM = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_reference(text: str) -> bool:
    """Whether `text` has the form `package.module:object`; nothing is imported."""
    return _FORM.fullmatch(text) is not None


def load_reference(reference: str) -> Any:
    """The object that `package.module:object` names. Imports the module, which runs its code.

    The working directory is importable while the module is imported, as with `python -m`, and only then.

    Raises:
        ModelError: the form is wrong, the module cannot be imported, or it has no such object.
    """
    if not is_reference(reference):
        raise ModelError(
            "not a Python reference",
            found=repr(reference),
            expected="package.module:object",
            hint="write package.module:callable",
        )
    name, _, attributes = reference.partition(":")
    with _working_directory_importable():
        try:
            found: Any = importlib.import_module(name)
        except (Exception, SystemExit) as cause:
            raise ModelError(
                f"module {name!r} cannot be imported",
                where=reference,
                found=told_of(cause),
                hint="run charpy in the folder that holds the module, or install its package",
            ) from cause
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            known = [each for each in vars(found) if not each.startswith("_")] if hasattr(found, "__dict__") else []
            raise unknown_name("object", attribute, known, where=reference)
        found = getattr(found, attribute)
    return found


def produced(found: Any, reference: str, factory: bool | None) -> Any:
    """`found`, or what it returns when it is a factory.

    With `factory` None it counts as one when it is a class, a function without parameters, or a function without
    required parameters that is annotated to return a module.
    """
    if factory is False or (factory is None and not _is_factory(found)):
        return found
    try:
        return found()
    except CharpyError:
        raise
    except (Exception, SystemExit) as cause:
        raise ModelError(
            "the factory fails",
            where=reference,
            found=told_of(cause),
            expected="a callable without arguments that returns the model",
            hint="set factory: false if it is the model itself",
        ) from cause


def _is_factory(found: Any) -> bool:
    if isinstance(found, type):
        return True
    if not inspect.isroutine(found):
        return False
    try:
        signature = inspect.signature(found)
    except (ValueError, TypeError):
        return False
    required = [each for each in signature.parameters.values() if each.default is each.empty]
    return not signature.parameters or (not required and "Module" in str(signature.return_annotation))


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
