"""What `assess` and `run` share: evaluate a spec into a folder, with progress, and publish what was found."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.progress import progress
from charpy.cli.publish import FORMATS, kinds_of, publish
from charpy.errors import SpecError
from charpy.plugins import registry

if TYPE_CHECKING:
    from charpy.specs import RunSpec

RUN_FILE = "run.charpy"


def execute(spec: RunSpec, out: Path, formats: str = ",".join(FORMATS), source: str = "") -> int:
    """Run `spec` into `out`, or go on with what is there; write the reports; returns the exit code.

    The gates of `spec` are judged, whatever a run file that is there says; `source` is the spec file, if there is one.

    What computes is a process of its own, which may die; with CHARPY_SUPERVISE=0 it is this one (to debug a model).
    """
    plugins = registry()
    kinds = kinds_of(formats)
    for kind in kinds:
        plugins.find("reports", kind)  # before anything is computed
    with output_folder(out), progress() as listen:
        if os.environ.get("CHARPY_SUPERVISE") == "0":
            from charpy.evaluator import evaluate

            evaluate(spec, out / RUN_FILE, registry=plugins, listen=listen)
        else:
            from charpy.supervisor import supervise

            supervise(spec, out / RUN_FILE, listen)
    return publish(out / RUN_FILE, out, kinds, plugins, gates=spec.gates, source=source)


def with_gates(spec: RunSpec, texts: Iterable[str]) -> RunSpec:
    """`spec` with the gates of the command line beside its own.

    Raises:
        SpecError: one is no gate, or is about a model, norm or level that `spec` does not have.
    """
    from charpy.gates import gate_of
    from charpy.specs import RunSpec, parse

    more = [str(gate_of(text, "--gate")) for text in texts]
    if not more:
        return spec
    given = spec.model_dump(mode="json")
    return parse(RunSpec, {**given, "gates": [*given["gates"], *more]}, where="--gate",
                 hint="name a level and a model of this run")  # fmt: skip


@contextmanager
def output_folder(out: Path) -> Iterator[None]:
    """The folder is there in the block; a new one that is still empty when the block fails is taken away again."""
    fresh = not out.exists()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise SpecError("the output folder cannot be made", where=str(out), found=cause.strerror) from None
    try:
        yield
    except BaseException:
        if fresh and out.is_dir() and not any(out.iterdir()):
            out.rmdir()
        raise
