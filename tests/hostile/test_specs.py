"""Rows 14 to 17 of the hostile inputs, through the command line: spec files and options."""

from __future__ import annotations

import json

import pytest

from charpy.errors import DataError, SpecError, UnknownNameError

GOOD = """\
data: {kind: shades, params: {size: 8}}
models: [{reference: brightness}]
threats: [{norm: l0, levels: [1], queries: 10, battery: corner_pixels}]
certify: {certifiers: []}
"""


def laughs(depth: int = 30) -> str:
    return "a0: &a0 [ha, ha]\n" + "".join(
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, depth)
    )  # fmt: skip


TEXTS = {
    # row 14
    "a tag that runs a program": (GOOD + "name: !!python/object/apply:os.mkdir [ran]\n", "tags", "line 5, column 7"),
    "a tag that imports a name": (GOOD + "name: !!python/name:os.system\n", "tags", "line 5, column 7"),
    "a tag of our own type": (GOOD + "seed: !!int '3'\n", "tags", "line 5, column 7"),
    "a local tag": (GOOD + "name: !secret x\n", "tags", "line 5, column 7"),
    "a billion laughs": (laughs() + GOOD, "anchors and aliases", "line 1, column 5"),
    "an alias alone": (GOOD + "name: *other\n", "anchors and aliases", "line 5, column 7"),
    "a merge key": (GOOD + "limits:\n  <<: {unit_seconds: 1}\n", "<<", ""),
    "a key twice": (GOOD + "seed: 1\nseed: 2\n", "stands twice", "line 6, column 1"),
    "a key twice, inside": (GOOD + "limits: {unit_seconds: 9, unit_seconds: 8}\n", "stands twice", "line 5, column 27"),
    "a key twice, in quotes": (GOOD + "\"seed\": 1\nseed: 2\n", "stands twice", "line 6, column 1"),
    "two documents": (GOOD + "---\n" + GOOD, "one document", "line 5"),
    "nested a thousand deep": ("a: " + "[" * 1000 + "]" * 1000, "nested too deeply", "line 1"),
    "a directive": ("%TAG ! tag:evil.example,2026:\n---\n" + GOOD, "directives", "line 2"),
    # row 15
    "a fraction for a level": (GOOD.replace("[1]", "[8/255]"), "8/255", ""),
    "a number as text": (GOOD + "seed: '3'\n", "seed", ""),
    "a float as text": (GOOD + "limits: {unit_seconds: '1e-3'}\n", "unit_seconds", ""),
    "an octal number": (GOOD + "seed: 010\n", "read differently", "line 5, column 7"),
    "a new octal number": (GOOD + "seed: 0o10\n", "read differently", "line 5, column 7"),
    "a hexadecimal number": (GOOD + "seed: 0x10\n", "read differently", "line 5, column 7"),
    "a number with underscores": (GOOD + "seed: 1_000\n", "read differently", "line 5, column 7"),
    "no as a boolean": (GOOD + "carry: no\n", "carry", ""),
    "on as a boolean": (GOOD + "carry: on\n", "carry", ""),
    "1 as a boolean": (GOOD + "carry: 1\n", "carry", ""),
    "not a number": (GOOD + "limits: {unit_seconds: .nan}\n", "read differently", "line 5"),
    "infinity": (GOOD + "limits: {unit_seconds: .inf}\n", "read differently", "line 5"),
    "a number beyond floats": (GOOD + "limits: {unit_seconds: 1e999}\n", "too large", "line 5"),
    # row 16
    "a typo": (GOOD + "sead: 3\n", "did you mean 'seed'?", ""),
    "a typo, inside": (GOOD.replace("queries", "querys"), "did you mean 'queries'?", ""),
    "a field of nothing": (GOOD + "shell: rm\n", "unknown field", ""),
    "a list for a spec": ("- seed: 3\n", "a spec is a mapping", "line 1"),
    "a picture for a spec": ("\x89PNG\r\n\x1a\n\x00\x00", "", ""),
    # row 17
    "no steps": (GOOD.replace("queries: 10", "queries: 0"), "queries", ""),
    "a negative level": (GOOD.replace("[1]", "[-1]"), "levels", ""),
    "level 0": (GOOD.replace("[1]", "[0]"), "levels", ""),
    "more pixels than the image has": (GOOD.replace("[1]", "[37]"), "36", ""),
    "an eps beyond the range": (GOOD.replace("l0", "linf").replace("[1]", "[128]"), "127", ""),
    "an L2 radius beyond the box": (GOOD.replace("l0", "l2").replace("[1]", "[1531]"), "outside the image", ""),
    "no level at all": (GOOD.replace("[1]", "[]"), "at least one level", ""),
    "half a pixel": (GOOD.replace("[1]", "[1.5]"), "levels", ""),
    "no samples": (GOOD.replace("{size: 8}}", "{size: 8}, samples: 0}"), "samples", ""),
    "more samples than there are": (GOOD.replace("{size: 8}}", "{size: 8}, samples: 9}"), "more samples", ""),
    "an attack that is not there": (GOOD.replace("corner_pixels", "corner_pixel"), "corner_pixels", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_yaml(refused, folder, case):
    text, say, where = TEXTS[case]
    (folder / "spec.yaml").write_text(text, encoding="utf-8", newline="")
    kind = {"more samples than there are": DataError, "an attack that is not there": UnknownNameError}.get(
        case, SpecError
    )
    error = refused(kind, say, "run", "spec.yaml", "--out", "out")
    assert where in error.where
    assert not (folder / "ran").exists()


def json_with(**fields: str) -> str:
    """A good spec as JSON, with these fields as they are written."""
    good = {
        "data": {"kind": "shades"},
        "models": [{"reference": "brightness"}],
        "threats": [{"norm": "l0", "levels": [1]}],
    }
    own = [f"{json.dumps(name)}: {value}" for name, value in fields.items()]
    return "{" + ",\n".join([f"{json.dumps(name)}: {json.dumps(value)}" for name, value in good.items()] + own) + "}"


JSON = {
    "NaN": (json_with(limits='{"unit_seconds": NaN}'), "NaN", "line 4, column 28"),
    "infinity": (json_with(limits='{"unit_seconds": -Infinity}'), "Infinity", "line 4, column 28"),
    "1e999": (json_with(limits='{"unit_seconds": 1e999}'), "1e999", "line 4, column 28"),
    "a number of 5,000 digits": (json_with(seed="1" * 5000), "digits", ""),
    "a key twice": (json_with(seed='1,\n"seed": 2'), "stands twice", "line 5"),
    "a key twice, written differently": (json_with(seed='1, "\\u0073eed": 2'), "stands twice", "line 4"),
    "a typo": (json_with(sead="3"), "did you mean 'seed'?", ""),
    "a comment": (json_with(seed="3 // three"), "no JSON", "line 4"),
    "nested a thousand deep": (json_with(seed="[" * 1000 + "]" * 1000), "", ""),
    "nested 100,000 deep": (json_with(seed="[" * 100_000 + "]" * 100_000), "", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", JSON)
def test_json(refused, folder, case):
    text, say, where = JSON[case]
    (folder / "spec.json").write_text(text)
    error = refused(SpecError, say, "run", "spec.json", "--out", "out")
    assert where in error.where


@pytest.mark.parametrize(
    ("options", "say"),
    [
        (("--levels", "8/255"), "th 8"),
        (("--levels", "-1"), "whole number"),
        (("--levels", "1e3"), "whole number"),
        (("--levels", "37", "--norms", "l0"), "36"),
        (("--levels", "\uff11"), "whole number"),  # a digit of another script
        (("--queries", "0"), "queries"),
        (("--norms", "l0,l7"), "l7"),
        (("--norms", "l0,l0"), "once"),
    ],
)
def test_options(refused, options, say):
    refused(SpecError, say, "assess", "brightness", "--data", "shades", "--samples", "8", *options, "--out", "out")


def test_a_fraction_of_a_parameter_is_exact(charpy, folder):
    """Row 15: where the unit is an image value, 8/255 is documented and is exactly the float nearest to it."""
    from charpy.threat import exact_number

    assert exact_number("8/255") == 8 / 255
    assert exact_number(" 1e-3 ") == 1e-3
    for text in ("010", "8/0", "1e999", "nan", "8/255/2", "0x10", "__import__('os')", "8/-255"):
        with pytest.raises(ValueError, match="is not a number"):
            exact_number(text)


def test_the_spec_of_these_tests_runs(charpy, folder):
    """The control: what is refused above is not refused for the rest of its spec."""
    (folder / "spec.yaml").write_text(GOOD)
    code, _, err = charpy("run", "spec.yaml", "--out", "out")
    assert code == 0, err
