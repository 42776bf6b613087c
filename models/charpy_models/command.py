"""`charpy train`: a network by its recipe, from a spec file."""

from __future__ import annotations

import json
import sys
from pathlib import Path


def train(
    spec: Path | None = None,
    /,
    *,
    out: Path | None = None,
    data_dir: Path | None = None,
    device: str | None = None,
    schema: bool = False,
) -> int:
    """Train a network as a spec file says, and measure it on the test split.

    Writes NAME.safetensors, the weights of the epoch that did best on held-out training images, and its card NAME.json
    into the output folder. The same command again goes on after the last complete epoch.

    Args:
        spec: a YAML or JSON file.
        out: output folder. Default: the spec's, or charpy-NAME in the working directory.
        data_dir: folder with the data sets. Default: the spec's, or $CHARPY_DATA.
        device: auto, cpu, cuda or cuda:N. Default: the spec's.
        schema: print the JSON Schema of a spec instead.
    """
    from charpy.cli.console import results
    from charpy.errors import SpecError
    from charpy_models import spec as specs

    if schema:
        sys.stdout.write(json.dumps(specs.schema(), indent=2, ensure_ascii=False) + "\n")
        return 0
    if spec is None:
        raise SpecError("no spec file", expected="charpy train SPEC.yaml", hint="`charpy train --help`")
    given = {"out": out, "data_dir": data_dir, "device": device}
    job = specs.load_train_spec(spec).model_copy(
        update={name: str(value) for name, value in given.items() if value is not None}
    )
    from charpy_models.card import describe
    from charpy_models.train import train as carry_out

    card = carry_out(job, f"charpy train {spec.name}")
    console = results()
    console.print(describe(card), soft_wrap=True)
    for file in (card.weights, f"{card.kind}.json"):
        console.print(str(Path(job.out) / file), soft_wrap=True)
    return 0
