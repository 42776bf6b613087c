"""`charpy study build`: choose stimuli from runs, and freeze them in a study file."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

SUFFIX = ".study"


def build(
    *runs: Path,
    conditions: str | None = None,
    spec: Path | None = None,
    out: Path | None = None,
    model: str | None = None,
    norm: str | None = None,
    level: float | None = None,
    stimuli: int | None = None,
    unpaired: bool = False,
    questions: int | None = None,
    labels: str | None = None,
    sizes: str | None = None,
    resampling: str | None = None,
    seed: int | None = None,
    data_dir: Path | None = None,
    force: bool = False,
    schema: bool = False,
) -> int:
    """Choose stimuli from runs by outcome and metric, check each as it will be shown, and freeze a study.

    The study file holds the images, conditions, labels, instructions, consent and sizes. The same command again writes
    the same bytes.

    Args:
        runs: run files, or the folders that hold them, over the same data and of the same model.
        conditions: names with commas: benign, imperceptible, perceptible, painted, or conditions of the spec.
        spec: a YAML or JSON file with everything else; what an option says replaces what it says.
        out: the study file. Default: NAME.study of the spec's name, or charpy.study.
        model: title of the model in the runs. Default: their only one.
        norm: of the threat, such as l0. Default: the only one that the runs have witnesses under.
        level: of the threat: pixels for l0, otherwise 1/255 steps. Default: the largest of the runs.
        stimuli: how many originals are drawn. Default: all.
        unpaired: keep originals that have no stimulus in every condition.
        questions: image questions a participant. Default: 25.
        labels: words for the classes, in order, with commas. Default: the class names.
        sizes: of every image, such as 1,2,4. Default: 1,2,4.
        resampling: nearest, bilinear, bicubic or lanczos. Default: nearest.
        seed: of the draw of originals. Default: 0.
        data_dir: the folder with the data sets, where it is not that of the run.
        force: write over another study; never over one that has answers.
        schema: print the JSON Schema of a spec instead.
    """
    from charpy.cli.runs import opened_runs
    from charpy.errors import SpecError
    from charpy.plugins import registry
    from charpy_plugins.study.build import spec as specs

    if schema:
        sys.stdout.write(json.dumps(specs.schema(), indent=2, ensure_ascii=False) + "\n")
        return 0
    if not runs:
        raise SpecError(
            "no run is given", where="charpy study build", expected="one or more run files or their folders"
        )
    options: dict[str, Any] = {
        "model": model,
        "norm": norm,
        "level": level,
        "stimuli": stimuli,
        "paired": False if unpaired else None,
        "questions": questions,
        "labels": None if labels is None else _parts(labels, "--labels"),
        "sizes": None if sizes is None else _whole(sizes, "--sizes"),
        "resampling": resampling,
        "seed": seed,
    }
    wanted = specs.read_build_spec(
        spec,
        {name: value for name, value in options.items() if value is not None},
        None if conditions is None else tuple(_parts(conditions, "--conditions")),
    )
    path = out if out is not None else Path(f"{_file_name(wanted.name or 'charpy')}{SUFFIX}")
    from charpy_plugins.study.build.build import build as built
    from charpy_plugins.study.build.place import check_place, place
    from charpy_plugins.study.build.tables import show

    check_place(path)
    with opened_runs(runs) as opened:
        made = built(opened, wanted, path.stem, registry(), data_dir)
    place(made.study, path, force=force)
    show(made, path)
    return 0


def _file_name(name: str) -> str:
    from charpy.reports.names import folder_name

    return folder_name(name)


def _parts(text: str, option: str) -> list[str]:
    from charpy.errors import SpecError

    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise SpecError("an empty entry", where=option, found=repr(text), expected="a list with commas")
    return parts


def _whole(text: str, option: str) -> list[int]:
    from charpy.errors import SpecError

    parts = _parts(text, option)
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise SpecError("not a list of whole numbers", where=option, found=repr(text), expected="for example 1,2,4")
    return [int(part) for part in parts]
