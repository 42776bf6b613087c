"""Digests by which a model is known again: of tensors, of source code, and of fitted Python objects."""

from __future__ import annotations

import dis
import hashlib
import inspect
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where an object lies in memory: part of many a repr, of no identity."""

_MADE_OF = ("__func__", "fget", "fset", "func", "__wrapped__")
"""Where static and class methods, properties and decorated functions keep theirs."""

_DEPTH = 100
"""Objects nested deeper than this (a linked list, say) are cut off: by then they are told apart."""


def of_file(path: Path) -> str:
    """SHA-256 of the file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def of_tensors(tensors: Iterable[tuple[str, torch.Tensor]]) -> str:
    """SHA-256 of names, types, shapes and values, whatever the order in which they come."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors, key=lambda pair: pair[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        plain = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        digest.update(plain.numpy().data)
    return digest.hexdigest()


def of_module_state(module: torch.nn.Module) -> str:
    """SHA-256 of all parameters and buffers, those that a state dict leaves out included."""
    return of_tensors([*module.named_parameters(), *module.named_buffers()])


def of_module_source(module: torch.nn.Module) -> str:
    """SHA-256 of how the module is put together, of every class in it that is not torch's own with what that uses by
    name of its package, and of what its parts hold beside parameters, buffers and modules: numbers, functions, hooks.
    """
    kinds = {type(part) for part in module.modules()}
    own = [of_object(kind, _package(kind)) for kind in kinds if _package(kind) != "torch"]
    held = [of_object(_held(part)) for part in module.modules()]
    structure = _ADDRESS.sub("", repr(module))
    return hashlib.sha256("\n".join([structure, *sorted(own), *held]).encode()).hexdigest()


def _held(part: torch.nn.Module) -> dict[str, Any]:
    """What a module holds that `of_module_state` does not see; of hooks not the numbers by which torch keeps them."""
    state = {name: value for name, value in vars(part).items() if name not in ("_parameters", "_buffers", "_modules")}
    hooks = {name: list(value.values()) for name, value in state.items() if name.endswith("_hooks") and value}
    return {name: value for name, value in state.items() if not name.startswith("_")} | hooks


def source_of(thing: Any) -> str:
    """The source text of a class or function; its qualified name where there is none (typed at a prompt, compiled)."""
    try:
        return inspect.getsource(thing)
    except (OSError, TypeError):
        return f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def of_object(subject: Any, home: str = "") -> str:
    """SHA-256 of a Python object by its value: arrays, numbers, texts, containers, and the state of anything else.

    Unlike a pickle it does not depend on padding bytes inside structured arrays (the trees of scikit-learn have some),
    and random generators, which change by being used, count by their type only.

    Of functions and classes of the package `home` also what they use by name counts: functions and classes of that
    package, and values; not what they write themselves, such as counters.
    """
    digest = hashlib.sha256()
    _add(digest, subject, {}, 0, home)
    return digest.hexdigest()


def home_of(function: Any) -> str:
    """The package that a callable comes from."""
    while hasattr(function, "func"):  # functools.partial
        function = function.func
    of = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    return _package(of)


def _add(digest: Any, item: Any, seen: dict[int, tuple[int, Any]], depth: int, home: str) -> None:
    """Add `item`; `seen` holds what was met before (and keeps it alive), so that cycles and shared parts end there."""
    digest.update(f"<{type(item).__module__}.{type(item).__qualname__}>".encode())
    if item is None or isinstance(item, bool | int | float | complex | str | bytes | np.generic):
        digest.update(repr(item).encode())
        return
    if id(item) in seen:
        digest.update(f"#{seen[id(item)][0]}".encode())
        return
    seen[id(item)] = (len(seen), item)
    if isinstance(item, torch.Tensor):
        digest.update(of_tensors([("", item)]).encode())
    elif isinstance(item, np.ndarray) and not item.dtype.hasobject:
        _add_array(digest, item)
    elif depth < _DEPTH and not isinstance(item, np.random.RandomState | np.random.Generator):
        for part in _parts(item, home):
            _add(digest, part, seen, depth + 1, home)


def _add_array(digest: Any, array: np.ndarray[Any, Any]) -> None:
    digest.update(f"{array.dtype} {array.shape}".encode())
    for field in array.dtype.names or ():
        _add_array(digest, array[field])
    if array.dtype.names is None:
        digest.update(np.ascontiguousarray(array).tobytes())


def _parts(item: Any, home: str) -> Iterable[Any]:
    """What an object is made of."""
    if isinstance(item, Mapping):
        return [part for pair in item.items() for part in pair]
    if isinstance(item, np.ndarray):
        return [item.shape, *item.ravel().tolist()]
    if isinstance(item, set | frozenset):
        return sorted(item, key=repr)
    if isinstance(item, list | tuple):
        return item
    if inspect.ismethod(item):
        return [item.__func__, item.__self__]
    if inspect.isroutine(item) or inspect.isclass(item) or inspect.ismodule(item):
        closure = inspect.getclosurevars(item).nonlocals if inspect.isfunction(item) else {}
        return [source_of(item), *closure.items(), *_used_by_name(item, home)]
    try:
        # what pickle would write of it, which nothing is executed for but the object's own methods
        reduced = item.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - an object that refuses to be pickled still has a type
        reduced = ()
    state = list(reduced[:3]) + [list(rest) for rest in reduced[3:5] if rest is not None]
    return [source_of(type(item)), *state] if isinstance(reduced, tuple) else [source_of(type(item)), reduced]


def _used_by_name(item: Any, home: str) -> list[tuple[str, Any]]:
    """The global names that a function, or the methods and bases of a class, of the package `home` use, and what they
    mean: its own functions and classes, and values; what other packages bring is known by their versions.
    """
    if not home or _package(item) != home:
        return []
    used: dict[str, Any] = {}
    for function in _functions_of(item):
        used |= inspect.getclosurevars(function).nonlocals if inspect.isclass(item) else {}
        written, read = _globals_of(function, home)
        for name, value in read:
            code = inspect.isroutine(value) or inspect.isclass(value)
            if name not in written and not inspect.ismodule(value) and (not code or _package(value) == home):
                used[name] = value
    bases = item.__bases__ if inspect.isclass(item) else ()
    return [*sorted(used.items()), *((base.__name__, base) for base in bases if _package(base) == home)]


def _functions_of(item: Any) -> list[FunctionType]:
    """A function itself; of a class what its methods and properties are made of."""
    values = list(vars(item).values()) if inspect.isclass(item) else [item]
    parts = [part for value in values for part in (value, *(getattr(value, name, None) for name in _MADE_OF))]
    return [part for part in parts if inspect.isfunction(part)]


def _globals_of(function: FunctionType, home: str) -> tuple[set[str], list[tuple[str, Any]]]:
    """The global names that a function writes, and those that it reads with what they mean, functions inside it
    included; `helpers.scale` is what that module, of the package `home`, has under this name.
    """
    written, read, codes = set(), [], [function.__code__]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        name, value = "", None
        for step in dis.get_instructions(code):
            if step.opname == "STORE_GLOBAL":
                written.add(step.argval)
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__:
                name, value = step.argval, function.__globals__[step.argval]
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and inspect.ismodule(value) and _is_of(value, home):
                name, value = f"{name}.{step.argval}", getattr(value, step.argval, None)
            else:
                name, value = "", None
            if name:
                read.append((name, value))
    return written, read


def _is_of(module: ModuleType, home: str) -> bool:
    return module.__name__.split(".", 1)[0] == home


def _package(item: Any) -> str:
    return str(getattr(item, "__module__", None) or "").split(".", 1)[0]
