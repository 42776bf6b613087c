"""Digests by which a model is known again: of tensors, of source code, and of fitted Python objects."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch

from charpy_plugins.wrappers.code_used import (
    changed_by_use,
    functions_of,
    package_of,
    parts_of_class,
    parts_of_function,
    source_of,
)

_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
"""Where an object lies in memory: part of many a repr, of no identity."""

_PASSING = re.compile(
    r"(_thread|threading|queue|_queue|multiprocessing|concurrent|asyncio|subprocess|socket|tempfile|logging|io|_io"
    r"|random|_random|numpy\.random|weakref|itertools|torch\._(?!ops)|torch\.storage)(\.|$)"
)
"""Modules of what changes by being used, or belongs to a process: locks, files, generators, what torch compiles."""

_MANGLED = re.compile(r"(__torch__\.|___torch_mangle_\d+\.?)")

_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")

_BARE = frozenset(vars(torch.nn.Module()))
"""What every module holds, of no say in what it answers or seen elsewhere."""

_FOREIGN = sys.stdlib_module_names - {"__main__"} | {"torch", "numpy", ""}
"""Packages whose helpers are not followed: known by their versions."""

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

    Not of what its forward pass changes itself, nor of train or eval mode.
    """
    parts = list(module.modules())
    own = [kind for kind in dict.fromkeys(map(type, parts)) if package_of(kind) != "torch"]
    held = [_held(part) for part in parts]
    homes = {*map(package_of, own), *(home_of(value) for state in held for value in _callables(state))}
    digest = hashlib.sha256(_structure(module).encode())
    seen = {id(part): (number, part) for number, part in enumerate(parts)}  # who points back at one means its number
    _add(digest, [own, held], seen, 0, frozenset(homes - _FOREIGN))
    return digest.hexdigest()


def _structure(module: torch.nn.Module) -> str:
    try:
        return _ADDRESS.sub("", repr(module))
    except Exception:  # noqa: BLE001 - a part that cannot say what it is
        return "\n".join(f"{name} {type(part).__qualname__}" for name, part in module.named_modules())


def _held(part: torch.nn.Module) -> dict[str, Any]:
    """What a module holds that `of_module_state` does not see; of hooks not the numbers by which torch keeps them.

    Not what its forward pass writes or torch derives from parameters; private names where the class itself uses them.
    """
    kind, state = type(part), dict(vars(part))
    hooks = {name: list(state[name].values()) for name in _HOOKS if state.get(name)}
    if isinstance(part, torch.jit.ScriptModule | torch.fx.GraphModule):
        return {"code": _code(part)} | hooks
    if str(kind.__module__).startswith("torch._"):
        return hooks
    own = [base for base in kind.__mro__ if package_of(base) not in ("torch", "builtins")]
    names = {name for base in own for one in functions_of(base) for name in one.__code__.co_names}
    changed = changed_by_use(kind) | {name for base in own for name, value in vars(base).items() if _fills(value)}
    left_out = (
        changed | _BARE | {name for name in state if not {f"{name}_orig", f"{name}_g"}.isdisjoint(part._parameters)}
    )
    kept = {name: value for name, value in state.items() if name not in left_out}
    return {name: value for name, value in kept.items() if not name.startswith("_") or name in names} | hooks


def _callables(state: Mapping[str, Any]) -> list[Any]:
    """The functions and hooks that a module holds."""
    values = [item for value in state.values() for item in (value if type(value) is list else [value])]
    return [item for item in values if issubclass(type(item), FunctionType | MethodType | functools.partial)]


def _fills(value: Any) -> bool:
    return isinstance(value, functools.cached_property)


def _code(part: Any) -> str:
    """What a module that torch compiled or traced computes, without the numbers by which torch keeps classes apart."""
    try:
        return _MANGLED.sub("", str(part.code))
    except Exception:  # noqa: BLE001 - it has no forward of its own
        return ""


def of_object(subject: Any, home: str = "") -> str:
    """SHA-256 of a Python object by its value: arrays, numbers, texts, containers, and the state of anything else.

    Unlike a pickle it does not depend on padding bytes inside structured arrays (the trees of scikit-learn have some),
    and random generators, which change by being used, count by their type only.

    Of functions and classes of the package `home` also what they use by name counts: functions and classes of that
    package, and values; not what they write themselves, such as counters.
    """
    return _digest(subject, {}, 0, frozenset({home} - {""}))


def home_of(function: Any) -> str:
    """The package that a callable comes from."""
    while isinstance(function, functools.partial):
        function = function.func
    of = function if inspect.isroutine(function) or inspect.isclass(function) else type(function)
    return package_of(of)


def _add(digest: Any, item: Any, seen: dict[int, tuple[int, Any]], depth: int, homes: frozenset[str]) -> None:
    """Add `item`; `seen` holds what was met before (and keeps it alive), so that cycles and shared parts end there."""
    digest.update(f"<{type(item).__module__}.{type(item).__qualname__}>".encode())
    if id(item) in seen:
        digest.update(f"#{seen[id(item)][0]}".encode())
        return
    try:
        if item is None or isinstance(item, bool | int | float | complex | str | bytes | np.generic):
            digest.update(repr(item).encode())
            return
        seen[id(item)] = (len(seen), item)
        if isinstance(item, np.ndarray) and not item.dtype.hasobject:
            _add_array(digest, item)
            return
        parts = list(_parts(item, seen, depth, homes)) if depth < _DEPTH else []
    except Exception:  # noqa: BLE001 - what cannot be looked at still has a type
        parts = []
    for part in parts:
        _add(digest, part, seen, depth + 1, homes)


def _add_array(digest: Any, array: np.ndarray[Any, Any]) -> None:
    digest.update(f"{array.dtype} {array.shape}".encode())
    for field in array.dtype.names or ():
        _add_array(digest, array[field])
    if array.dtype.names is None:
        digest.update(np.ascontiguousarray(array).tobytes())


def _parts(item: Any, seen: dict[int, tuple[int, Any]], depth: int, homes: frozenset[str]) -> Iterable[Any]:
    """What an object is made of."""
    if isinstance(item, torch.nn.Module):
        tensors = [*item.named_parameters(recurse=False), *item.named_buffers(recurse=False)]
        return [type(item), item.extra_repr(), _held(item), *tensors, *item.named_children()]
    if isinstance(item, torch.Tensor):
        return _parts_of_tensor(item)
    if isinstance(item, np.ndarray):
        return [item.shape, *item.ravel().tolist()]
    if inspect.isfunction(item):
        return parts_of_function(item, homes)
    if inspect.isclass(item):
        return parts_of_class(item, homes)
    if isinstance(item, functools._lru_cache_wrapper):
        return [item.__wrapped__]
    if inspect.ismethod(item):
        return [item.__func__, item.__self__]
    if inspect.isroutine(item) or inspect.ismodule(item):
        return [source_of(item)]
    if isinstance(item, CodeType):
        return [item.co_code, item.co_consts, item.co_names]
    if _PASSING.match(type(item).__module__) or isinstance(item, Iterator | torch.Generator):
        return []
    if package_of(type(item)) == "torch" and (hasattr(item, "__enter__") or "_ops" in type(item).__module__):
        return [str(item)] if "_ops" in type(item).__module__ else []
    if isinstance(item, Mapping):
        return [part for pair in item.items() for part in pair]
    if isinstance(item, set | frozenset):
        return sorted(_digest(part, dict(seen), depth + 1, homes) for part in item)
    if isinstance(item, list | tuple):
        return item
    return _reduced(item)


def _reduced(item: Any) -> list[Any]:
    """What pickle would write of it, for which nothing is executed but the object's own methods."""
    try:
        reduced = item.__reduce_ex__(4)
    except Exception:  # noqa: BLE001 - an object that refuses to be pickled still has a type
        reduced = ()
    if not isinstance(reduced, tuple):
        return [type(item), reduced]
    return [type(item), *reduced[:3], *(list(rest) for rest in reduced[3:5] if rest is not None)]


def _parts_of_tensor(tensor: torch.Tensor) -> list[Any]:
    """A tensor's values; what stands for them where it is sparse, quantised, conjugated or without any."""
    try:
        return [of_tensors([("", tensor.resolve_conj().resolve_neg())])]
    except Exception:  # noqa: BLE001 - every layout has limits of its own
        kind = f"{tensor.dtype} {tensor.layout}"
    if tensor.is_quantized:
        return [kind, str(tensor.qscheme()), tensor.dequantize()]
    if tensor.layout == torch.sparse_coo:
        return [kind, tuple(tensor.shape), tensor.coalesce().indices(), tensor.coalesce().values()]
    return [kind, tensor.to_dense()] if tensor.layout != torch.strided else [kind]


def _digest(item: Any, seen: dict[int, tuple[int, Any]], depth: int, homes: frozenset[str]) -> str:
    digest = hashlib.sha256()
    _add(digest, item, seen, depth, homes)
    return digest.hexdigest()
