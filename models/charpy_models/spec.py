"""The spec of a training, as `charpy train` reads it from a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from charpy.errors import SpecError
from charpy.reports.names import folder_name
from charpy.specfile import read_mapping
from charpy.specs import Spec, parse
from charpy_models.recipe import Precision, Recipe
from charpy_models.recipes import recipe_for

LIKE = "like"
"""Key of a recipe in a spec that starts from one of the zoo; the other keys change it."""


class OwnData(Spec):
    """Data that has no `train` and `test` split under one name."""

    train: str = Field(min_length=1, description=".npz file, or folder with one subfolder a class")
    test: str = Field(min_length=1, description="like `train`; only the finished network is measured on it")


class TrainSpec(Spec):
    """One training: a recipe, and where and how it is carried out."""

    name: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="of the files; the spec file's own name if not given"
    )
    recipe: Recipe = Field(description=f"in a file also a kind of the zoo, or `{LIKE}: KIND` and what differs from it")
    data: OwnData | None = Field(default=None, description="instead of the recipe's dataset")
    data_dir: str | None = Field(default=None, description="folder with the data sets; $CHARPY_DATA if not given")
    seed: int = Field(default=0, ge=0, lt=2**63, description="of every random draw")
    validation: float = Field(
        default=0.1,
        ge=0,
        lt=1,
        description="share of the training images that is held out; the weights of the epoch that does best on them are"
        " kept. 0: all images are trained on, and the last epoch's weights are kept; a generator's always are the last",
    )
    threads: int | None = Field(
        default=None, ge=1, description="of torch, which chooses if not given; another number gives other weights"
    )
    device: str = Field(default="auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")
    precision: Precision | None = Field(
        default=None,
        description="of the passes; if not given, float32 on the CPU and bfloat16 on a GPU (float16 where it has none)",
    )
    out: str = Field(min_length=1, description="output folder; charpy-NAME in the working directory if not given")


def load_train_spec(path: Path) -> TrainSpec:
    """The spec in `path`, .yaml, .yml or .json; relative paths are taken from the folder of the file.

    Raises:
        SpecError: the file cannot be read or is no valid spec.
        UnknownNameError: there is no such recipe.
    """
    data = dict(read_mapping(path))
    name = data.setdefault("name", folder_name(path.stem))
    data.setdefault("out", os.path.abspath(f"charpy-{name}"))
    if "recipe" in data:
        data["recipe"] = _written_out(data["recipe"], path)
    spec = parse(TrainSpec, data, where=str(path), hint="`charpy train --schema` lists every field")
    changes: dict[str, Any] = {"out": _root(spec.out, path)}
    if spec.data_dir is not None:
        changes["data_dir"] = _root(spec.data_dir, path)
    if spec.data is not None:
        changes["data"] = OwnData(train=_root(spec.data.train, path), test=_root(spec.data.test, path))
    return spec.model_copy(update=changes)


def schema() -> dict[str, Any]:
    """JSON Schema of a training spec."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **TrainSpec.model_json_schema()}


def _written_out(recipe: Any, path: Path) -> Any:
    """`recipe` without `like`; what is no recipe stays as it is, for the parser to refuse."""
    changes = {LIKE: recipe} if isinstance(recipe, str) else recipe
    if not isinstance(changes, Mapping) or LIKE not in changes:
        return recipe
    if not isinstance(kind := changes[LIKE], str):
        raise SpecError("no kind of the zoo", where=f"{path}, recipe.{LIKE}", found=kind, expected="text")
    start = recipe_for(kind).model_dump(mode="json")
    return {**start, **{key: value for key, value in changes.items() if key != LIKE}}


def _root(text: str, spec: Path) -> str:
    return os.path.expanduser(text) if text.startswith("~") else os.path.abspath(spec.parent / text)
