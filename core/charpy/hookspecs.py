"""Every hook of charpy, one sentence each.

A component hook returns a mapping from kind name to the component class or to its import string `package.module:Class`;
with strings, listing the components imports nothing of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from charpy.specs import RunSpec

hookspec = pluggy.HookspecMarker("charpy")
hookimpl = pluggy.HookimplMarker("charpy")

Components = Mapping[str, "type | str"]


@hookspec
def charpy_models() -> Components:
    """Model wrappers and ready-made models, by kind."""
    raise NotImplementedError


@hookspec
def charpy_attacks() -> Components:
    """Attacks and batteries, by kind."""
    raise NotImplementedError


@hookspec
def charpy_metrics() -> Components:
    """Metrics of image pairs, by kind."""
    raise NotImplementedError


@hookspec
def charpy_defenses() -> Components:
    """Defences (transforms, training procedures, detectors), by kind."""
    raise NotImplementedError


@hookspec
def charpy_certifiers() -> Components:
    """Certifiers, by kind."""
    raise NotImplementedError


@hookspec
def charpy_datasets() -> Components:
    """Datasets, by kind."""
    raise NotImplementedError


@hookspec
def charpy_generators() -> Components:
    """Generators of images of a class, by kind."""
    raise NotImplementedError


@hookspec
def charpy_executors() -> Components:
    """Executors, by kind."""
    raise NotImplementedError


@hookspec
def charpy_reports() -> Components:
    """Report formats, by kind."""
    raise NotImplementedError


@hookspec
def charpy_commands() -> Components:
    """Commands of the `charpy` program, by the word that calls them."""
    raise NotImplementedError


@hookspec
def charpy_run_started(spec: RunSpec, units: int, run_id: str, done: int, outcomes: Mapping[str, int]) -> None:
    """Called when a run begins or goes on, with its spec, an estimate of its number of units, an id that stays the same
    when it is resumed, and what is there already: how many units are done, and how many samples ended how in them."""


@hookspec
def charpy_outcomes(unit: Mapping[str, Any], outcomes: Mapping[str, int]) -> None:
    """Called after each unit is written, with what it was and how many samples ended how."""


@hookspec
def charpy_run_finished(path: str) -> None:
    """Called once when a run is complete, with the path of its run file."""
