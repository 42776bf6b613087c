"""Opening a generator by what a spec calls it: a kind, or a reference that one of the kinds recognises."""

from __future__ import annotations

from charpy.errors import unknown_name
from charpy.interfaces.generator import Generator
from charpy.plugins import Registry


def open_generator(reference: str, registry: Registry) -> Generator:
    """The generator that `reference` names.

    Raises:
        UnknownNameError: no generator recognises it.
    """
    entries = registry.entries("generators")
    if any(entry.kind == reference for entry in entries):
        named: Generator = registry.create("generators", reference)
        return named
    for entry, component in registry.usable("generators"):
        params = component.accepts(reference)
        if params is not None:
            found: Generator = registry.create("generators", entry.kind, params)
            return found
    raise unknown_name(
        "generator",
        reference,
        [entry.kind for entry in entries],
        hint="give a kind that `charpy plugins` lists, package.module:object, or FILE.safetensors of a trained one",
    )
