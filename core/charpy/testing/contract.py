"""What every contract class shares: its checks, and how they run under pytest, unittest's loader or nothing at all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar
from unittest import SkipTest

import numpy as np
import torch

from charpy.errors import SpecError
from charpy.global_state import generator_states
from charpy.interfaces.component import Component
from charpy.specs import parse

NUMBERS = ("integer", "number")
BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "const")


class ContractError(AssertionError):
    """A check that failed: what the component did, and what its contract says."""


def require(held: object, what: str, found: object = None) -> None:
    """Raise `ContractError` with `what`, and what was found, unless `held`; no optimisation leaves it out."""
    if not bool(held):
        raise ContractError(what if found is None else f"{what}; found: {found}")


@contextmanager
def nothing_global_changes() -> Iterator[None]:
    """ContractError where random generators, the default dtype, grad mode or the number of threads are left changed."""
    generators, dtype = generator_states(), torch.get_default_dtype()
    grad, threads = torch.is_grad_enabled(), torch.get_num_threads()
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002 - the global one is watched
    try:
        yield
        moved = [a != b for a, b in zip(generators, generator_states(), strict=True)]
        require(not moved[0], "it moves torch's global random generator")
        require(not moved[1], "it moves Python's global random generator")
        require(not moved[2], "it moves NumPy's global random generator")
        require(torch.get_default_dtype() == dtype, "it changes torch's default dtype")
        require(torch.is_grad_enabled() == grad, "it changes torch's grad mode")
        require(torch.get_num_threads() == threads, "it changes torch's number of threads")
    finally:
        torch.set_default_dtype(dtype)
        torch.set_grad_enabled(grad)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_rng_state(state[0])
        random.setstate(state[1])
        np.random.set_state(state[2])  # noqa: NPY002


class _Unnamed:
    """What stands for `component` until a test names one."""

    def __get__(self, test: object, cls: type) -> type[Component]:
        raise ContractError(f"{cls.__name__} names no component; write `component = YourClass` in it")


class Contract:
    """Base of the contract classes: what holds of every component.

    A test inherits one and names what is tested. Every method `test_*` is a check, so that pytest runs them; without a
    test runner, `breaches` does. A check that does not apply raises `unittest.SkipTest` with the reason.

    Attributes:
        component: the class that is tested.
        params: its parameters.
        effects: name of a parameter -> another value, which must change what the component does.
    """

    component: ClassVar[type[Component]] = _Unnamed()  # type: ignore[assignment]  # gives no class, and says so
    params: ClassVar[Mapping[str, Any]] = {}
    effects: ClassVar[Mapping[str, Any]] = {}
    sort: ClassVar[type[Component]] = Component
    """What `component` derives from."""

    def __init_subclass__(cls, **rest: Any) -> None:
        """Refuse a component of another sort where it is named, before a check trips over it.

        Raises:
            ContractError: `component` is no class, or does not derive from `sort`.
        """
        super().__init_subclass__(**rest)
        named = vars(cls).get("component")
        if named is not None and not (isinstance(named, type) and issubclass(named, cls.sort)):
            raise ContractError(f"{cls.__name__} tests classes that derive from {cls.sort.__name__}; found: {named!r}")

    @classmethod
    def checks(cls) -> tuple[str, ...]:
        """The names of the checks."""
        return tuple(sorted(name for name in dir(cls) if name.startswith("test_")))

    @classmethod
    def breaches(cls) -> dict[str, str]:
        """Run every check; name -> why it failed. Checks that hold, and those that do not apply, are not there."""
        found = {}
        for name in cls.checks():
            try:
                getattr(cls(), name)()
            except SkipTest:
                continue
            except Exception as cause:  # noqa: BLE001 - a stranger's component; whatever it raises breaks the check
                found[name] = f"{type(cause).__name__}: {cause}"
        return found

    def make(self, **changes: Any) -> Any:
        """A fresh component, of `params` with `changes`."""
        return self.component(parse(self.component.Params, {**self.params, **changes}, where=self.component.__name__))

    def schema(self) -> Mapping[str, Mapping[str, Any]]:
        """Name of each parameter -> its JSON Schema."""
        fields: Mapping[str, Mapping[str, Any]] = self.component.Params.model_json_schema().get("properties", {})
        return fields

    def test_has_a_summary(self) -> None:
        """The first line of its docstring is a sentence."""
        summary = self.component.summary() if "__doc__" in vars(self.component) else ""
        require(summary.endswith("."), "its docstring has no first line that ends with a full stop", repr(summary))

    def test_every_parameter_is_documented(self) -> None:
        """Each has a description, and each number but a seed has bounds."""
        for name, field in self.schema().items():
            require(field.get("description"), f"parameter {name!r} has no description")
            parts = [field, *field.get("anyOf", [])]
            if name != "seed" and any(part.get("type") in NUMBERS for part in parts):
                bounded = any(key in part for part in parts for key in BOUNDS)
                require(bounded, f"the number {name!r} has no bounds")

    def test_unknown_parameters_are_refused(self) -> None:
        """A misspelt parameter is an error, never ignored."""
        try:
            parse(self.component.Params, {**self.params, "no_such_parameter": 1}, where=self.component.__name__)
        except SpecError as error:
            require("no_such_parameter" in str(error), "the error does not name the unknown parameter", error)
        else:
            raise ContractError(
                "an unknown parameter is ignored; derive Params from charpy.interfaces.component.Params"
            )

    def test_effects_name_parameters(self) -> None:
        """`effects` speaks of parameters that there are."""
        unknown = sorted(set(self.effects) - set(self.component.Params.model_fields))
        require(not unknown, "effects names parameters that the component has not", ", ".join(unknown))


def unlike(first: Any, second: Any) -> bool:
    """Whether two answers differ; NaN equals NaN."""
    if isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor):
        return first.shape != second.shape or not torch.equal(first.nan_to_num(nan=-7e7), second.nan_to_num(nan=-7e7))
    return bool(first != second)
