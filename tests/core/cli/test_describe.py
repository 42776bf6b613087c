"""`charpy describe`: a component and its parameters."""

from __future__ import annotations

import json

import pytest
from pydantic import BaseModel, Field

from charpy.cli.describe import parameters
from charpy.plugins import registry
from charpy.threat import Norm


def test_an_attack_with_its_parameters_bounds_units_and_sources(charpy):
    done = charpy("describe", "attack", "few_pixel")
    assert done.code == 0
    for text in ("few_pixel (attack)", "norms: l0", "access: SCORES", "family: target distortion", "Kotyan"):
        assert text in done.out
    row = next(line for line in done.out.splitlines() if line.startswith("sigma0"))
    assert "15.75" in row
    assert "> 0" in row


def test_as_json(charpy):
    found = json.loads(charpy("describe", "attacks", "corner_pixels", "--json").out)
    assert found["kind"] == "corner_pixels"
    assert found["package"] == "charpy-corner-attack"
    assert found["declares"] == {
        "norms": ["l0"],
        "access": "LABELS",
        "family": "target distortion",
        "goals": ["targeted", "untargeted"],
    }
    assert found["parameters"] == [
        {
            "name": "colours",
            "type": "integer",
            "default": "4",
            "bounds": ">= 1",
            "unit": "images",
            "description": "colours tried at the same places",
            "source": "ours",
        }
    ]
    assert found["schema"]["properties"]["colours"]["minimum"] == 1


@pytest.mark.parametrize("entry", registry().entries(), ids=lambda entry: f"{entry.hook}-{entry.kind}")
def test_every_installed_component_can_be_described(charpy, entry):
    done = charpy("describe", entry.hook[:-1], entry.kind)
    assert done.code == 0, done.err
    assert entry.summary.split()[0] in done.out
    assert json.loads(charpy("describe", entry.hook, entry.kind, "--json").out)["summary"] == entry.summary


def test_what_it_refuses(charpy):
    for arguments, expected in (
        (["atack", "few_pixel"], "did you mean attack"),
        (["attack", "few_pixl"], "did you mean few_pixel"),
        (["attack"], "KIND"),
    ):
        done = charpy("describe", *arguments)
        assert done.code == 2
        assert expected in done.err


def test_parameters_of_every_shape():
    class Inner(BaseModel):
        """A nested mapping."""

    class Params(BaseModel):
        """Fields as plugins write them."""

        needed: int = Field(ge=0, lt=10, json_schema_extra={"unit": "steps"})
        maybe: float | None = Field(None, gt=0, le=0.5)
        norm: Norm = Norm.L0
        word: str = Field("x", min_length=1, max_length=3)
        many: tuple[int, ...] = Field((1,), min_length=1)
        nested: Inner = Inner()
        yes: bool = True

    rows = {row["name"]: row for row in parameters(Params.model_json_schema())}
    assert rows["needed"]["default"] == "(required)"
    assert rows["needed"]["bounds"] == ">= 0, < 10"
    assert rows["needed"]["unit"] == "steps"
    assert (rows["maybe"]["type"], rows["maybe"]["bounds"]) == ("number or null", "> 0, <= 0.5")
    assert (rows["norm"]["type"], rows["norm"]["default"]) == ("one of l0, l1, l2, linf, unrestricted", '"l0"')
    assert rows["word"]["bounds"] == "at least 1 long, at most 3 long"
    assert (rows["many"]["type"], rows["many"]["bounds"]) == ("list of integer", "at least 1 items")
    assert rows["nested"]["type"] == "mapping"
    assert (rows["yes"]["type"], rows["yes"]["default"]) == ("boolean", "true")
