"""`charpy export`: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path

from charpy.cli.console import results
from charpy.errors import SpecError
from charpy.plugins import registry
from charpy.reports.inert import visible


def export(model: str, out: Path, /) -> int:
    """Write a model as an ONNX file that has been checked to answer like the model.

    Args:
        model: a zoo name (digits-cnn), package.module:callable, or weights.safetensors@architecture.
        out: the .onnx file to write; one that is there is replaced.
    """
    from charpy.specs import ModelSpec, parse
    from charpy.subjects import subject_of

    if out.is_dir() or not out.parent.is_dir():
        raise SpecError("cannot be written", where=str(out), expected="the name of a file in a folder that is there")
    opened = subject_of(parse(ModelSpec, {"reference": model}, where="charpy export"), registry()).open()
    facts = opened.export(out)
    console = results()
    console.print(visible(str(out)), soft_wrap=True)
    for name, value in facts.items():
        console.print(visible(f"{name}: {value:.3g}" if isinstance(value, float) else f"{name}: {value}"))
    return 0
