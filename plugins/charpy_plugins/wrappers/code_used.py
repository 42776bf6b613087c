"""What Python code is made of: its source, what it uses by name of its own package, less what it changes itself."""

from __future__ import annotations

import ast
import dis
import enum
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

_MADE_OF = ("__func__", "fget", "fset", "func", "__wrapped__")
"""Where static and class methods, properties and decorated functions keep theirs."""

_CHANGING = {
    "add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popitem", "popleft", "put", "remove",
    "setdefault", "update",
}  # fmt: skip
"""Methods of containers by which code changes what it uses: counters, caches, logs."""


_VERSIONED = sys.stdlib_module_names - {"__main__"} | {"torch"}


def package_of(item: Any) -> str:
    """The package that a class or function says it is from; nothing where it says none."""
    try:
        return str(getattr(item, "__module__", None) or "").split(".", 1)[0]
    except Exception:  # noqa: BLE001 - whatever a stranger's attribute does
        return ""


def source_of(thing: Any) -> str:
    """The source text of a class or function; its qualified name where there is none (typed at a prompt, compiled), and
    of what is torch's or Python's own, which their versions know.
    """
    text = "" if package_of(thing) in _VERSIONED else _text(thing)
    return text or f"{getattr(thing, '__module__', '')}.{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def parts_of_function(function: FunctionType, homes: frozenset[str]) -> list[Any]:
    """Its source (with the compiled code for a lambda, of which several stand in one line, and where there is none),
    defaults, what it closes over, and what it uses by name, but for what it changes itself.

    Of functions that torch puts around others (`no_grad`, `compile`) only those others.
    """
    if _of_torch(function):
        return [source_of(function), getattr(function, "__wrapped__", None)]
    code, text = function.__code__, _text(function)
    facts = [text or source_of(function), None if text and code.co_name != "<lambda>" else code]
    around = sorted(_closed_over(function).items())
    return [*facts, function.__defaults__, function.__kwdefaults__, *around, *_used([function], homes, function)]


def parts_of_class(kind: type, homes: frozenset[str]) -> list[Any]:
    """Its source; of a class of `homes` also its values, its functions that are not in that source (set from outside,
    decorated, without source), what these use by name, and its bases.
    """
    if package_of(kind) not in homes:
        return [source_of(kind)]
    functions, text = functions_of(kind), _text(kind)
    foreign = [one for one in functions if not text or not one.__code__.co_qualname.startswith(f"{kind.__qualname__}.")]
    changed = {name for function in functions for name in changed_by(function.__code__)}
    values = [] if issubclass(kind, enum.Enum) else [pair for pair in vars(kind).items() if _is_value(*pair)]
    around = {name: value for one in functions for name, value in _closed_over(one).items() if name != "__class__"}
    bases = [base for base in kind.__bases__ if package_of(base) in homes]
    held = sorted((name, value) for name, value in (around | dict(values)).items() if name not in changed)
    return [text or source_of(kind), *foreign, *held, *_used(functions, homes, kind), *bases]


def functions_of(kind: type) -> list[FunctionType]:
    """What the methods and properties of a class are made of, without what torch puts around them."""
    values = list(vars(kind).values())
    parts = [part for value in values for part in (value, *(_get(value, name) for name in _MADE_OF))]
    return [part for part in parts if type(part) is FunctionType and not _of_torch(part)]


def changed_by_use(kind: type) -> set[str]:
    """The attributes that `forward` of a class changes, and what it calls of the class: counters, caches, logs."""
    methods: dict[str, list[FunctionType]] = {}
    for base in kind.__mro__:
        if package_of(base) not in ("torch", "builtins"):
            for function in functions_of(base):
                methods.setdefault(function.__code__.co_name, []).append(function)
    found, waiting, met = set[str](), ["forward", "__call__"], set[str]()
    while waiting:
        name = waiting.pop()
        if name not in met:
            met.add(name)
            for function in methods.get(name, ()):
                found |= changed_by(function.__code__)
                waiting += [used for code in _inside(function.__code__) for used in code.co_names]
    return found


@functools.lru_cache(maxsize=4096)
def changed_by(function: CodeType) -> frozenset[str]:
    """Names of variables and attributes that a function writes or whose content it changes, as its source shows."""
    written = {step.argval for code in _inside(function) for step in dis.get_instructions(code) if _writes(step)}
    try:
        nodes = list(ast.walk(ast.parse(textwrap.dedent(_text(function)))))
    except (SyntaxError, ValueError, RecursionError):  # a lambda inside another line, say
        nodes = []
    for node in nodes:
        if isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            written |= set(_chain(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _CHANGING:
            written |= set(_chain(node.func.value))
    return frozenset(written)


def _writes(step: dis.Instruction) -> bool:
    return step.opname in ("STORE_GLOBAL", "STORE_ATTR", "DELETE_ATTR")


def _chain(node: ast.AST) -> Iterator[str]:
    """The names in `a.b[...].c`."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        if isinstance(node, ast.Attribute):
            yield node.attr
        node = node.value
    if isinstance(node, ast.Name):
        yield node.id


def _used(functions: list[FunctionType], homes: frozenset[str], owner: Any) -> list[tuple[str, Any]]:
    """The global names that functions of a package of `homes` use, and what they mean: its own functions and classes,
    and values; what other packages bring is known by their versions.
    """
    if package_of(owner) not in homes:
        return []
    used, changed = {}, {name for function in functions for name in changed_by(function.__code__)}
    for function in functions:
        for name, value in _globals_of(function, homes):
            if isinstance(value, ModuleType) or (
                package_of(value) not in homes if _is_code(value) else name in changed
            ):
                continue
            used[name] = value
    return sorted(used.items(), key=lambda pair: pair[0])


def _globals_of(function: FunctionType, homes: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """The global names that a function reads with what they mean, functions inside it included; `helpers.scale` is what
    that module, of a package of `homes`, has under this name.
    """
    for code in _inside(function.__code__):
        name, value = "", None
        for step in dis.get_instructions(code):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME") and step.argval in function.__globals__:
                name, value = step.argval, function.__globals__[step.argval]
            elif step.opname in ("LOAD_ATTR", "LOAD_METHOD") and inspect.ismodule(value) and _is_of(value, homes):
                name, value = f"{name}.{step.argval}", _get(value, step.argval)
            else:
                name, value = "", None
            if name:
                yield name, value


def _inside(code: CodeType) -> list[CodeType]:
    """The code of a function and of all functions inside it."""
    codes = [code]
    for code in codes:
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return codes


def _closed_over(function: FunctionType) -> dict[str, Any]:
    """What a function takes from around it and does not change; not what is not there yet."""
    found, changed = {}, changed_by(function.__code__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if name not in changed:
            try:
                found[name] = cell.cell_contents
            except ValueError:
                continue
    return found


def _is_value(name: str, value: Any) -> bool:
    """Whether what stands in a class is neither part of its making nor code."""
    bound = isinstance(value, ModuleType) or hasattr(type(value), "__get__")
    return not name.startswith("__") and not bound and not _is_code(value)


def _is_code(value: Any) -> bool:
    return isinstance(value, type) or inspect.isroutine(value)


def _of_torch(function: FunctionType) -> bool:
    return str(function.__globals__.get("__name__", "")).split(".", 1)[0] == "torch"


def _is_of(module: ModuleType, homes: frozenset[str]) -> bool:
    return module.__name__.split(".", 1)[0] in homes


def _get(item: Any, name: str) -> Any:
    try:
        return getattr(item, name, None)
    except Exception:  # noqa: BLE001 - whatever a stranger's attribute does
        return None


def _text(thing: Any) -> str:
    """The source text; of a decorated function that of what stands around it. Nothing where there is none."""
    try:
        return inspect.getsource(thing.__code__ if inspect.isfunction(thing) else thing)
    except Exception:  # noqa: BLE001 - no source, or a metaclass that refuses to be looked at
        return ""
