"""Architectures by name: `package.module:callable`, or the kind of a zoo model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch

from charpy.errors import CharpyError, ModelError
from charpy.questioner import describe
from charpy_plugins.wrappers.references import is_reference, load_reference


def build(name: str) -> tuple[torch.nn.Module, type | None]:
    """A fresh module of architecture `name`, and the zoo class that it comes from, if any.

    Raises:
        ModelError: the architecture cannot be found or built, or is no module.
        UnknownNameError: no such object, or no such zoo model.
    """
    zoo: type | None = None
    if is_reference(name):
        make = load_reference(name)
    else:
        zoo = _zoo_class(name)
        make = getattr(zoo, "architecture", None)
        if make is None:
            raise ModelError(
                f"model kind {name!r} has no architecture of its own",
                expected="a zoo model, or package.module:callable that returns an nn.Module",
                hint="name a zoo model, or give package.module:callable",
            )
    return module_from(make, name), zoo


def module_from(make: Any, name: str) -> torch.nn.Module:
    """The module that `make` is (a copy of it), or that it returns when called without arguments."""
    if isinstance(make, torch.nn.Module):
        return copy.deepcopy(make)
    try:
        # fresh weights must not advance the caller's random generator
        with torch.random.fork_rng(devices=[]):
            module = make()
    except CharpyError:
        raise
    except (Exception, SystemExit) as cause:
        raise ModelError(
            "the architecture cannot be built",
            where=name,
            found=f"{type(cause).__name__}: {cause}",
            expected="a callable without arguments that returns an nn.Module",
            hint="call it by itself; its own traceback says more",
        ) from cause
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            "the architecture is no module",
            where=name,
            found=describe(module),
            expected="nn.Module",
            hint="name a function that returns the network, not its weights",
        )
    return module


def load_into(module: torch.nn.Module, state: Mapping[str, torch.Tensor], weights: str, architecture: str) -> None:
    """Fill `module` with `state`; every tensor must fit, none may be missing or left over."""
    try:
        module.load_state_dict(dict(state), strict=True)
    except RuntimeError as cause:
        raise ModelError(
            f"the weights do not fit architecture {architecture!r}",
            where=weights,
            found=f"{len(state)} tensors; {str(cause)[:1000]}",
            expected=f"the {len(module.state_dict())} tensors of {type(module).__qualname__}",
            hint="name the architecture that the weights were trained with",
        ) from None


def _zoo_class(kind: str) -> type:
    from charpy.plugins import registry

    loaded: type = registry().load("models", kind)
    return loaded
