from __future__ import annotations

import json
from typing import Any

import pytest

from charpy.errors import SpecError
from charpy.specs import ComponentSpec, RunSpec, ThreatSpec, levels_under, parse, schema
from charpy.threat import DEFAULT_LEVELS, Norm, default_levels

GOOD: dict[str, Any] = {"data": {"kind": "digits"}, "models": [{"reference": "digits-cnn"}]}


def problems(**changes: Any) -> str:
    with pytest.raises(SpecError) as caught:
        parse(RunSpec, {**GOOD, **changes}, where="run.yaml")
    assert caught.value.where == "run.yaml"
    return caught.value.what


def test_the_least_spec_assesses_both_norms_at_the_levels_of_the_paper() -> None:
    spec = parse(RunSpec, GOOD)
    assert [threat.norm for threat in spec.threats] == [Norm.L0, Norm.LINF]
    assert all(threat.levels == DEFAULT_LEVELS for threat in spec.threats)


@pytest.mark.parametrize("norm", list(Norm))
def test_a_threat_without_levels_takes_those_of_its_norm_and_they_are_what_is_stored(norm: Norm) -> None:
    threat = parse(ThreatSpec, {"norm": norm})
    assert threat.levels == default_levels(norm)
    assert threat.model_dump(mode="json")["levels"] == list(default_levels(norm))
    assert parse(ThreatSpec, threat.model_dump(mode="json")) == threat
    if norm is Norm.UNRESTRICTED:
        for levels in ("minimal", [2], [1, 2]):
            with pytest.raises(SpecError, match="has no ball and so one level, 1; leave `levels` out"):
                parse(ThreatSpec, {"norm": norm, "levels": levels})
    else:
        assert parse(ThreatSpec, {"norm": norm, "levels": "minimal"}).levels == "minimal"


def test_a_norm_that_is_refused_is_not_reported_again_for_its_levels() -> None:
    assert problems(threats=[{"norm": "l9"}]).count("threats") == 1
    assert problems(threats=[{}]).count("threats") == 1


@pytest.mark.parametrize(
    ("levels", "field"),
    [
        (None, {}),
        ("minimal", {"levels": "minimal"}),
        ((1, 3), {"levels": [1, 3]}),
        ({"l0": (1,), Norm.L2: (64, 128)}, {"levels": [64, 128]}),
        ({"l0": [1]}, {}),
    ],
)
def test_levels_for_every_norm_or_by_norm(levels: Any, field: dict[str, Any]) -> None:
    assert levels_under("l2", levels, ["l0", "l2"]) == field


def test_levels_of_a_norm_that_is_not_assessed_are_refused() -> None:
    with pytest.raises(SpecError, match="not assessed") as caught:
        levels_under("l0", {"l0": [1], "l1": [510]}, ["l0", "linf"])
    assert (caught.value.found, caught.value.expected) == ("l1", "l0, linf")


def test_a_spec_survives_json() -> None:
    spec = parse(RunSpec, {**GOOD, "threats": [{"norm": "l0", "levels": "minimal"}]})
    assert parse(RunSpec, json.loads(spec.model_dump_json())) == spec


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"thraets": []}, "thraets: unknown field, did you mean 'threats'?"),
        ({"data": {"kind": "digits", "smaples": 1}}, "data.smaples: unknown field, did you mean 'samples'?"),
        ({"models": [{"referense": "a"}]}, "models.0.referense: unknown field, did you mean 'reference'?"),
        ({"threats": [{"norm": "l0", "level": [1]}]}, "threats.0.level: unknown field, did you mean 'levels'?"),
        ({"qqq": 1}, "qqq: unknown field"),
    ],
)
def test_row_16_an_unknown_field_names_the_nearest_one(changes: dict[str, Any], says: str) -> None:
    assert says in problems(**changes)


@pytest.mark.parametrize("value", ["7", 7.5, True, None, [7], float("nan"), float("inf")])
def test_row_15_only_a_whole_number_is_a_seed(value: Any) -> None:
    problems(seed=value)


@pytest.mark.parametrize("value", ["no", "false", 0, 1, None])
def test_row_15_only_a_boolean_is_a_boolean(value: Any) -> None:
    assert "carry" in problems(carry=value)


@pytest.mark.parametrize(
    ("threat", "says"),
    [
        ({"norm": "l0", "levels": [0]}, "levels [0] are outside 1..127"),
        ({"norm": "l0", "levels": [-1, 5]}, "levels [-1] are outside"),
        ({"norm": "linf", "levels": [128]}, "levels [128] are outside"),
        ({"norm": "linf", "levels": []}, "at least one level"),
        ({"norm": "linf", "levels": [3, 3]}, "twice"),
        ({"norm": "linf", "queries": 0}, "threats.0.queries"),
        ({"norm": "l3"}, "threats.0.norm"),
        ({"norm": "l2", "levels": [0, 128]}, "levels [0] are outside 1..the diameter of the image box"),
        ({"norm": "l1", "levels": [2**53 + 1]}, "are outside 1..the diameter"),
        ({"norm": "l2", "levels": [0.5]}, "threats.0.levels"),
    ],
)
def test_row_17_a_threat_without_sense_is_refused(threat: dict[str, Any], says: str) -> None:
    assert says in problems(threats=[threat])


def test_an_error_inside_a_field_is_not_reported_again_for_the_field() -> None:
    assert problems(threats=[{"norm": "l0", "levels": [300]}]) == (
        "threats.0.levels: levels [300] are outside 1..127 (found [300])"
    )
    assert problems(models=[{"name": "a"}]).startswith("models.0: give either `reference` or `kind`")
    assert "models: " not in problems(models=[{"name": "a"}])


def test_errors_of_different_fields_are_all_reported() -> None:
    found = problems(seed=-1, shard=0, threats=[{"norm": "l9"}])
    assert [part.split(":")[0] for part in found.split("; ")] == ["seed", "threats.0.norm", "shard"]


def test_an_outer_error_of_its_own_is_reported() -> None:
    assert problems(models=[]).startswith("models: Tuple should have at least 1 item")


def test_names_and_norms_stand_once() -> None:
    assert "distinct names" in problems(models=[{"reference": "a"}, {"reference": "a"}])
    assert "each norm may stand once" in problems(threats=[{"norm": "l0"}, {"norm": "l0", "levels": [1]}])


def test_levels_are_put_in_order() -> None:
    assert parse(ThreatSpec, {"norm": "l0", "levels": [10, 1, 5]}).levels == (1, 5, 10)


def test_the_schema_refuses_what_parse_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema())
    validator.validate(GOOD)
    for bad in ({**GOOD, "thraets": []}, {**GOOD, "seed": "7"}, {"data": {"kind": "digits"}}):
        assert list(validator.iter_errors(bad))


def test_specs_do_not_change() -> None:
    spec = parse(ComponentSpec, {"kind": "a"})
    with pytest.raises(ValueError, match="frozen"):
        spec.kind = "b"  # type: ignore[misc]


def test_a_static_attacker_needs_a_defence_to_overlook() -> None:
    model = {"reference": "digits-cnn", "attackers": ["static"]}
    with pytest.raises(SpecError, match=r"a static attacker overlooks defences, and this model has none"):
        parse(RunSpec, {"data": {"kind": "digits"}, "models": [model]})
    parse(RunSpec, {"data": {"kind": "digits"}, "models": [{**model, "defenses": [{"kind": "bilateral_filter"}]}]})
