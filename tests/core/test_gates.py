"""Gates: the grammar of a line, what it refuses, and where it stands in a spec."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from charpy.errors import SpecError
from charpy.gates import EXAMPLE, FIGURES, Gate, GateError, gate_of, read_gate
from charpy.specs import RunSpec, parse, schema
from charpy.threat import Norm

SPEC = {
    "data": {"kind": "digits"},
    "models": [{"reference": "a.onnx"}, {"reference": "b", "name": "a b"}],
    "threats": [{"norm": "linf", "levels": [1, 3]}, {"norm": "l2", "levels": "minimal"}],
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("linf th=3 robust_accuracy >= 0.4", Gate("robust_accuracy", ">=", 0.4, "lower", Norm.LINF, 3)),
        ("linf th=3 robust_accuracy lower bound >= 0.4", Gate("robust_accuracy", ">=", 0.4, "lower", Norm.LINF, 3)),
        ("linf th=3 robust_accuracy upper bound>=40%", Gate("robust_accuracy", ">=", 0.4, "upper", Norm.LINF, 3)),
        ("  l0   th=127 proven > 2.5 % ", Gate("proven", ">", 0.025, "lower", Norm.L0, 127)),
        ("l2 th=510 adversarial_accuracy<0.5", Gate("adversarial_accuracy", "<", 0.5, "upper", Norm.L2, 510)),
        ("clean_accuracy > 0.1234567891 %", Gate("clean_accuracy", ">", 0.0012345679, "lower")),
        ("clean_accuracy > 10 %", Gate("clean_accuracy", ">", 0.1, "lower")),
        ("clean_accuracy >= 1", Gate("clean_accuracy", ">=", 1.0, "lower")),
        ("invalid lower bound <= 0", Gate("invalid", "<=", 0.0, "lower")),
        ("l1 th=own invalid <= 0.001", Gate("invalid", "<=", 0.001, "upper", Norm.L1, 0)),
        (
            "linf th=1 robust_accuracy >= 0.4 even if weak of a model, even if weak of it",
            Gate("robust_accuracy", ">=", 0.4, "lower", Norm.LINF, 1, True, "a model, even if weak of it"),
        ),
        ("clean_accuracy > 0.5 of of", Gate("clean_accuracy", ">", 0.5, "lower", model="of")),
    ],
)
def test_a_gate_is_read_as_it_is_written(text, expected):
    assert read_gate(text) == expected
    assert read_gate(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "what", "expected"),
    [
        ("", "the gate ends too early, at word 1", "one of l0"),
        ("Linf th=3 robust_accuracy >= 0.4", "did you mean 'linf'?", "one of l0"),
        ("linf th=3 robust_acuracy >= 0.4", "did you mean 'robust_accuracy'?), at word 3", "clean_accuracy"),
        ("robust_accuracy >= 0.4", "robust_accuracy is a figure of a level", "a norm and a level"),
        ("linf th=3 clean_accuracy >= 0.4", "has no norm", "as the first word"),
        ("linf robust_accuracy >= 0.4", "'robust_accuracy' is no level, at word 2", "th=LEVEL"),
        ("linf th=8/255 robust_accuracy >= 0.4", "'th=8/255' is no level", "8/255 under linf is th=8"),
        ("linf th=03 robust_accuracy >= 0.4", "is no level", "a whole number"),
        ("linf th=0 robust_accuracy >= 0.4", "is no level", "a whole number"),
        ("linf th=128 robust_accuracy >= 0.4", "is no level of linf", "th=1 to th=127"),
        ("unrestricted th=2 robust_accuracy >= 0.4", "is no level of unrestricted", "th=1 to th=1"),
        ("linf th=3 robust_accuracy lower >= 0.4", "'>=' is not understood", "`lower bound`"),
        ("linf th=3 robust_accuracy lowr bound >= 0.4", "did you mean 'lower'?", "lower bound, upper bound, >="),
        ("linf th=3 robust_accuracy == 0.4", "'==' is no comparator", "an interval equals nothing"),
        ("linf th=3 robust_accuracy 0.4", "'0.4' is no comparator", ">="),
        ("linf th=3 robust_accuracy >=", "the gate ends too early", "a share such as 0.4"),
        ("linf th=3 robust_accuracy >= .4", "'.4' is no number", "40 %"),
        ("linf th=3 robust_accuracy >= 4e-1", "is no number", "40 %"),
        ("linf th=3 robust_accuracy >= nan", "is no number", "40 %"),
        ("linf th=3 robust_accuracy >= -0.1", "is no number", "40 %"),
        ("linf th=3 robust_accuracy >= 40", "40 is no share", "0 % to 100 %"),
        ("linf th=3 robust_accuracy >= 101 %", "101 % is no share", "0 % to 100 %"),
        ("linf th=3 robust_accuracy >= 0", "no figure can fail", "a figure can miss"),
        ("invalid <= 100%", "no figure can fail", "a figure can miss"),
        ("invalid < 0", "no figure can pass", "a figure can reach"),
        ("linf th=3 robust_accuracy >= 0.4 even weak", "'weak' is not understood", "`even if weak`"),
        ("linf th=3 robust_accuracy >= 0.4 evn if weak", "did you mean 'even'?", "`even if weak`, `of MODEL`"),
        ("linf th=3 robust_accuracy >= 0.4 of ", "no model is named", "the name of a model"),
        ("linf th=3 robust_accuracy >= 0.4, invalid < 0.1", "'0.4,' is no number", "40 %"),
        ("clean_accuracy >= 0.4 of " + "m" * 400, "too long", "400 characters"),
    ],
)
def test_what_is_no_gate_is_refused_saying_what_where_and_what_was_expected(text, what, expected):
    with pytest.raises(SpecError) as refused:
        gate_of(text, "--gate")
    error = refused.value
    assert what in error.what
    assert expected in error.expected
    assert error.where == "--gate"
    assert error.found
    assert EXAMPLE in error.hint


@given(
    st.text(max_size=60) | st.lists(st.sampled_from(["linf", "th=3", *FIGURES, ">=", "0.4", "of", "m"])).map(" ".join)
)
def test_every_text_is_a_gate_or_refused(text):
    with suppress(GateError):
        gate = read_gate(text)
        assert read_gate(str(gate)) == gate


@pytest.mark.parametrize(
    ("comparator", "holds"), [(">=", (1, 1, 0)), (">", (1, 0, 0)), ("<=", (0, 1, 1)), ("<", (0, 0, 1))]
)
def test_what_a_comparator_means(comparator, holds):
    gate = read_gate(f"clean_accuracy {comparator} 0.5")
    assert [gate.holds(value) for value in (0.6, 0.5, 0.4)] == [bool(h) for h in holds]
    assert gate.bound == ("lower" if ">" in comparator else "upper")


def test_a_spec_holds_gates_as_text():
    spec = parse(RunSpec, {**SPEC, "gates": [EXAMPLE, "clean_accuracy > 90 % of a b", "l2 th=128 proven >= 0.1"]})
    assert [type(gate) for gate in spec.gates] == [Gate] * 3
    dumped = spec.model_dump(mode="json")
    assert dumped["gates"][1] == "clean_accuracy lower bound > 0.9 of a b"
    assert parse(RunSpec, json.loads(json.dumps(dumped))) == spec
    assert TypeAdapter(Gate).validate_python(spec.gates[0]) is spec.gates[0]
    assert "even if weak" in json.dumps(schema()["properties"]["gates"])


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("linf th=3 robust >= 0.4", "did you mean 'robust_accuracy'?"),
        ("linf th=5 robust_accuracy >= 0.4", "those of linf are 1, 3"),
        ("l0 th=1 robust_accuracy >= 0.4", "its norms are linf, l2"),
        ("l2 th=own robust_accuracy >= 0.4", "those of l2 are 32, 64, 128, 255"),
        ("clean_accuracy >= 0.4 of a.onx", "did you mean 'a.onnx'?"),
        (3, "gates.0"),
    ],
)
def test_a_spec_refuses_a_gate_that_it_cannot_answer(gate, said):
    with pytest.raises(SpecError, match="gate") as refused:
        parse(RunSpec, {**SPEC, "gates": [gate]}, where="spec.yaml")
    assert said in str(refused.value)
    assert refused.value.where == "spec.yaml"


def test_of_a_model_with_several_attackers_the_row_or_the_model_may_be_named():
    models = [{"reference": "m", "defenses": [{"kind": "jpeg"}], "attackers": ["static", "adaptive"]}]
    for name in ("m", "m (static)"):
        parse(RunSpec, {**SPEC, "models": models, "gates": [f"clean_accuracy > 0.5 of {name}"]})
