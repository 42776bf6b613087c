from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from charpy.checks import check_threat, largest_level
from charpy.errors import SpecError
from charpy.pixels import distances, inside
from charpy.threat import (
    BALLS,
    DEFAULT_LEVELS,
    FIRST_LEVEL,
    LAST_LEVEL,
    Goal,
    Grid,
    Norm,
    Number,
    ThreatModel,
    default_levels,
    exact_number,
)

NUMBER = TypeAdapter(Number)


@given(top=st.integers(0, 10**6), bottom=st.integers(1, 10**6))
def test_row_15_a_fraction_becomes_the_float_nearest_to_it(top: int, bottom: int) -> None:
    # Python's int / int is correctly rounded, independently of fractions.Fraction.
    assert exact_number(f"{top}/{bottom}") == top / bottom


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("1e-3", 1e-3),
        ("0.03", 0.03),
        ("-2", -2.0),
        ("0", 0.0),
        ("1E2", 100.0),
    ],
)
def test_row_15_documented_ways_to_write_a_number(text: str, value: float) -> None:
    assert NUMBER.validate_python(text) == value


@pytest.mark.parametrize(
    "text",
    [
        *("010", "0777", "1_000", "0x10", "no", "yes", "", " ", "inf", "nan"),
        *("8/0", "8/-255", "1/2/3", "1 0", ".5", "5.", "+5", "\N{ARABIC-INDIC DIGIT THREE}"),
        *("1e999", "1e999999999", "9" * 5000),
    ],
)
def test_row_15_every_other_text_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="is not a number"):
        NUMBER.validate_python(text)


@pytest.mark.parametrize("flag", [True, False])
def test_row_15_a_boolean_is_no_number(flag: bool) -> None:
    with pytest.raises(ValidationError, match="a number is needed"):
        NUMBER.validate_python(flag)


@pytest.mark.parametrize("norm", list(BALLS))
@pytest.mark.parametrize("th", range(FIRST_LEVEL, LAST_LEVEL + 1))
def test_a_level_survives_the_way_to_a_radius_and_back(norm: Norm, th: int) -> None:
    threat = ThreatModel.at_level(norm, th)
    assert threat.th == th
    exact = Fraction(th) if norm is Norm.L0 else Fraction(th, 255)
    assert threat.radius == float(exact)


def test_default_levels_are_those_of_the_dual_paper() -> None:
    assert DEFAULT_LEVELS == (1, 3, 5, 10)


def test_at_level_passes_the_rest_on() -> None:
    threat = ThreatModel.at_level(Norm.LINF, 8, goal=Goal.TARGETED, queries=7, grid=Grid.NONE)
    assert (threat.goal, threat.queries, threat.grid) == (Goal.TARGETED, 7, Grid.NONE)


@given(th=st.one_of(st.integers(1, 10**6), st.integers(1, 255 * 3 * 1024 * 1024)), norm=st.sampled_from(["l1", "l2"]))
def test_a_level_of_l1_or_l2_survives_the_way_to_a_radius_and_back(th: int, norm: str) -> None:
    threat = ThreatModel.at_level(Norm(norm), th)
    assert threat.th == th
    assert threat.radius == th / 255
    assert ThreatModel(norm=Norm(norm), radius=(th - 0.01) / 255).th == th - 1


def test_half_an_image_value_of_l2_is_th_128() -> None:
    assert ThreatModel(norm=Norm.L2, radius=0.5).th == 127, "the largest level inside the ball"
    assert ThreatModel.at_level(Norm.L2, 128).radius == pytest.approx(0.502, abs=5e-5)


def test_default_levels_by_norm() -> None:
    assert default_levels(Norm.L0) == default_levels(Norm.LINF) == DEFAULT_LEVELS
    assert default_levels(Norm.L2) == (32, 64, 128, 255)
    assert [th / 255 for th in default_levels(Norm.L1)] == [2, 6, 12], "12 is the usual CIFAR-10 radius"


@pytest.mark.parametrize(
    "values", [{"radius": -1}, {"radius": "-1/255"}, {"radius": float("nan")}, {"radius": float("inf")}, {"queries": 0}]
)
def test_row_17_a_threat_without_sense_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ThreatModel.model_validate({"norm": "linf", "radius": 0.1, **values})


def test_row_16_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValidationError, match="eps"):
        ThreatModel.model_validate({"norm": "linf", "radius": 0.1, "eps": 0.1})


def test_without_a_ball_every_other_image_is_at_distance_1_and_inside() -> None:
    """The discrete metric: whatever the image box holds."""
    threat = ThreatModel.at_level(Norm.UNRESTRICTED, 1)
    assert (threat.radius, threat.th, default_levels(Norm.UNRESTRICTED)) == (1.0, 1, (1,))
    black, white = torch.zeros(3, 3, 4, 5, dtype=torch.uint8), torch.full((3, 3, 4, 5), 255, dtype=torch.uint8)
    white[0] = 0
    white[1, 0, 0, 0] = 1
    assert distances(threat.norm, black, white).tolist() == [0, 1, 1]
    assert inside(threat, black, white).all()
    outside = torch.tensor([1.0, 1.01, float("nan")]).view(3, 1, 1, 1).expand(3, 3, 4, 5)
    assert inside(threat, torch.zeros(3, 3, 4, 5), outside).tolist() == [True, False, False]
    check_threat(threat.norm, 1.0, (3, 4, 5))
    assert largest_level(threat.norm, (3, 4, 5)) == 1
    for radius in (0.5, 2.0):
        with pytest.raises(SpecError):
            check_threat(threat.norm, radius, (3, 4, 5))
