from __future__ import annotations

import json
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from charpy.errors import SpecError
from charpy.specfile import MOST_BYTES, load_spec
from charpy.threat import Norm

GOOD = "data: {kind: digits}\nmodels: [{reference: digits-cnn}]\n"


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(text: str | bytes, name: str = "run.yaml") -> Path:
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def refusal(path: Path) -> SpecError:
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert str(path) in caught.value.where
    return caught.value


FULL = """
# every kind of value
name: "010"
seed: 7
data:
  kind: mnist
  params: {split: test, ratio: 1e-3, half: 0.5, minus: -2, none: null, tilde: ~, empty: , text: 8/255, day: 2024-01-01}
  samples: 50
models:
- reference: digits-cnn
  name: >-
    two
    words
- {kind: callable, name: other, params: {deep: [[1, 2], [{a: true, b: False}]]}}
threats:
- norm: linf
  levels: [3, 1]
carry: false
"""


def test_a_spec_of_every_kind_of_value_means_what_yaml_1_2_says(write: Any) -> None:
    spec = load_spec(write(FULL))
    document = YAML(typ="safe", pure=True).load(FULL)
    assert spec.data.params == {**document["data"]["params"], "day": "2024-01-01"}
    assert spec.models[1].params == document["models"][1]["params"]
    assert (spec.name, spec.seed, spec.carry, spec.models[0].title) == ("010", 7, False, "two words")
    assert (spec.threats[0].norm, spec.threats[0].levels) == (Norm.LINF, (1, 3))


def test_json_and_yaml_say_the_same(write: Any) -> None:
    document = YAML(typ="safe", pure=True).load(FULL.replace("2024-01-01", "'2024-01-01'"))
    spec = load_spec(write(FULL))
    assert load_spec(write(json.dumps(document, indent="\t"), "run.json")) == spec
    assert load_spec(write(json.dumps(document), "run.yml")) == spec, "JSON is YAML"


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode(), b"---\n" + GOOD.encode()]
)
def test_byte_order_mark_line_ends_and_document_start_do_not_matter(write: Any, text: bytes) -> None:
    assert load_spec(write(text)).data.kind == "digits"


@pytest.mark.parametrize(
    ("text", "line", "column", "says"),
    [
        ("data: !!python/object/apply:os.system ['true']\n", 1, 7, "tags"),
        ("a: 1\nb: !custom x\n", 2, 4, "tags"),
        ("a: !!str 1\n", 1, 4, "tags"),
        ("a: &x [lol]\nb: [*x, *x]\n", 1, 4, "anchors"),
        ("a: 1\nb: *x\n", 2, 4, "anchors"),
        (GOOD + "seed: 1\nseed: 2\n", 4, 1, "'seed' stands twice"),
        ("data: {kind: a, params: {b: 1, b: 2}}\n", 1, 32, "'b' stands twice"),
        (GOOD + "'seed': 1\nseed: 2\n", 4, 1, "'seed' stands twice"),
        (GOOD + "---\n" + GOOD, 3, 1, "one document"),
        ("%YAML 1.1\n---\n" + GOOD, 2, 1, "directives"),
        ("%TAG ! tag:x,2000:\n---\n" + GOOD, 2, 1, "directives"),
        ("? [a]\n: b\n", 1, 3, "not text"),
        ("1: a\n", 1, 1, "not text"),
        ("true: a\n", 1, 1, "not text"),
        ("a: " + "[" * 50 + "]" * 50, 1, 36, "nested too deeply"),
        ("a: [", 1, 5, "no YAML"),
        ("a: b: c\n", 1, 5, "no YAML"),
        ("data:\n\tkind: digits\n", 2, 1, "no YAML"),
        ("- a\n", 1, 1, "mapping"),
        ("", 1, 1, "mapping"),
        ("# nothing\n", 1, 1, "mapping"),
    ],
)
def test_row_14_what_goes_beyond_json_is_refused_with_line_and_column(
    write: Any, text: str, line: int, column: int, says: str
) -> None:
    error = refusal(write(text))
    assert error.where.endswith(f"line {line}, column {column}")
    assert says in error.what


def test_row_14_a_python_tag_runs_nothing(write: Any, tmp_path: Path) -> None:
    witness = tmp_path / "was-run"
    refusal(
        write(f"data: !!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.Path ['{witness}']]\n")
    )
    assert not witness.exists()


def test_row_14_billion_laughs_are_refused_at_once(write: Any) -> None:
    names = "abcdefghi"
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" for before, name in pairwise(names)]
    start = time.monotonic()
    assert refusal(write("\n".join(lines))).where.endswith("line 1, column 4")
    assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "number",
    ["010", "0777", "0o17", "0x1F", "0b11", "1_000", "+5", ".5", "5.", ".inf", "-.INF", ".nan", "00", "-01", "1e999"],
)
def test_row_15_numbers_that_readers_understand_differently_are_refused(write: Any, number: str) -> None:
    error = refusal(write(f"{GOOD}seed: {number}\n"))
    assert error.where.endswith("line 3, column 7")
    assert error.found == number
    assert load_spec(write(f'{GOOD}name: "{number}"\n')).name == number


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO", "y", "n"])
def test_row_15_words_are_text_and_no_booleans(write: Any, word: str) -> None:
    assert load_spec(write(f"{GOOD}name: {word}\n")).name == word
    assert "carry: Input should be a valid boolean" in refusal(write(f"{GOOD}carry: {word}\n")).what


@pytest.mark.parametrize(("text", "value"), [("true", True), ("False", False), ("TRUE", True)])
def test_row_15_the_booleans_of_yaml_1_2_are_booleans(write: Any, text: str, value: bool) -> None:
    assert load_spec(write(f"{GOOD}carry: {text}\n")).carry is value


def test_row_15_text_is_no_number(write: Any) -> None:
    assert "seed" in refusal(write(f"{GOOD}seed: '7'\n")).what
    assert "seed" in refusal(write(f"{GOOD}seed: 8/255\n")).what


GOOD_JSON = '{"data": {"kind": "digits"}, "models": [{"reference": "digits-cnn"}]'


@pytest.mark.parametrize(
    ("rest", "line", "column", "says"),
    [
        (', "seed": NaN}', 1, len(GOOD_JSON) + 11, "NaN is no finite number"),
        (',\n "seed": -Infinity}', 2, 10, "-Infinity is no finite number"),
        (',\n "seed": 1e999}', 2, 10, "1e999 is no finite number"),
        (',\n "seed": 1' + "0" * 50 + "}", 2, 10, "is no finite number"),
        (',\n "data": 1}', 2, 2, "'data' stands twice"),
        (', "a": {"b": 1, "c": [{"b": 2}],\n "b": 3}}', 2, 2, "'b' stands twice"),
        (', "s\\u0065ed": 1,\n "seed": 2}', 2, 2, "'seed' stands twice"),
        (', "a": ' + "[" * 40 + "]" * 40 + "}", 1, len(GOOD_JSON) + 40, "nested too deeply"),
        (",\n}", 2, 1, "no JSON"),
        ("}\n{}", 2, 1, "no JSON"),
        (", // note\n}", 1, len(GOOD_JSON) + 3, "no JSON"),
    ],
)
def test_row_16_json_that_is_none_is_refused_with_line_and_column(
    write: Any, rest: str, line: int, column: int, says: str
) -> None:
    error = refusal(write(GOOD_JSON + rest, "run.json"))
    assert says in error.what
    assert error.where.endswith(f"line {line}, column {column}")


def test_row_16_strings_in_json_may_hold_anything(write: Any) -> None:
    name = 'NaN, {"a": 1e999, "a": [}: Infinity \\ \u00e9'
    assert load_spec(write(GOOD_JSON + f', "name": {json.dumps(name)}}}', "run.json")).name == name


@pytest.mark.parametrize("text", ["[" * 100_000, '{"seed": ' + "9" * 5000 + "}"])
def test_row_16_json_that_python_cannot_read_is_refused(write: Any, text: str) -> None:
    refusal(write(text, "run.json"))


def test_row_16_an_unknown_field_names_the_nearest_one(write: Any) -> None:
    assert "thraets: unknown field, did you mean 'threats'?" in refusal(write(GOOD + "thraets: []\n")).what


def test_a_file_that_is_no_spec_is_refused(write: Any, tmp_path: Path) -> None:
    assert "too large" in refusal(write(GOOD + "#" * MOST_BYTES)).what
    assert refusal(write(GOOD + "name: \u00e9".encode().decode() + "\n", "run.toml")).found == ".toml"
    assert "no such file" in refusal(tmp_path / "missing.yaml").what
    assert "no such file" in refusal(tmp_path).what
    error = refusal(write(GOOD.encode() + b"name: \xff\n"))
    assert error.where.endswith("line 3, column 7")
    refusal(write(GOOD + "name: a\0b\n"))


def test_a_hostile_file_of_the_largest_size_is_refused_in_seconds(write: Any) -> None:
    start = time.process_time()  # other work on the machine counts for nothing
    refusal(write("".join(f"k{number}:\n" for number in range(20_000))))
    assert time.process_time() - start < 30


PATHS = """
data: {kind: npz, params: {path: sets/test.npz, data_dir: ../data, images: path}}
models:
- reference: nets/a.onnx
- {reference: "nets/w.safetensors@digits-cnn", name: mine}
- {kind: onnx, name: third, params: {path: b.onnx, other: c.onnx}}
- reference: digits-cnn
- reference: package.module:callable
"""


def test_paths_are_relative_to_the_folder_of_the_spec(
    write: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(PATHS)
    spec = load_spec(path)
    assert spec.data.params == {
        "path": str(tmp_path / "sets/test.npz"),
        "data_dir": str(tmp_path.parent / "data"),
        "images": "path",
    }
    assert [model.reference for model in spec.models] == [
        str(tmp_path / "nets/a.onnx"),
        str(tmp_path / "nets/w.safetensors@digits-cnn"),
        None,
        "digits-cnn",
        "package.module:callable",
    ]
    assert spec.models[2].params == {"path": str(tmp_path / "b.onnx"), "other": "c.onnx"}
    assert [model.title for model in spec.models][:3] == ["nets/a.onnx", "mine", "third"], "names stay as written"
    monkeypatch.chdir(tmp_path)
    assert load_spec(Path("run.yaml")) == spec, "the working folder plays no part"


@pytest.mark.parametrize("path", ["/data/test.npz", "~/test.npz"])
def test_absolute_paths_stay_as_they_are(write: Any, path: str) -> None:
    text = f"data: {{kind: npz, params: {{path: {path}}}}}\nmodels: [{{reference: digits-cnn}}]\n"
    assert load_spec(write(text)).data.params["path"] == path


def test_a_character_that_yaml_does_not_allow_is_named(write: Any) -> None:
    found = refusal(write("data: {kind: digits}\nname: a\x07b\n"))
    assert found.what == "this is no YAML"
    assert "special characters are not allowed" in str(found.found)
    assert "correct the line" in found.hint
