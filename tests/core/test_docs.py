"""Every code block of the README and of docs/ is run, top to bottom, a folder a page; with cheaper settings."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

import charpy
from charpy.cli.app import build_app, run_program
from charpy.plugins import registry
from charpy.specfile import load_spec
from charpy_models.spec import load_train_spec
from charpy_plugins.study.build.spec import read_build_spec

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
STRANGER = ROOT / "tests" / "third_party"
LONG = {"ci.md", "cli.md", "cluster.md", "defenses.md", "perceive.md", "reproducibility.md", "threat-models.md"}
"""Pages that take longer than the others; they are run with the slow tests."""

REAL = re.compile(r"\b(mnist|fashion-mnist|cifar10)\b")

MYMODEL = """
import numpy as np

def scores(images):
    bright = 20 * (images.reshape(len(images), -1).mean(1) - 0.3)
    return np.stack([0 * bright, bright] + [-9 + 0 * bright] * 8, 1)
"""


class Block(NamedTuple):
    language: str
    text: str
    line: int


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^( *)```(\w*)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL):
        yield Block(match[2], dedent(match[3]), text.count("\n", 0, match.start()) + 1)


def commands(block: Block) -> list[list[str]]:
    lines = [line for line in block.text.splitlines() if line.startswith("$ ")]
    return [shlex.split(line[2:], comments=True) for line in lines]


def cheap(arguments: list[str]) -> list[str]:
    """The same command over fewer samples and queries, or fewer questions of a study."""
    if arguments[:2] == ["study", "build"]:
        return [*arguments, "--questions", "1"]
    if arguments[0] not in {"assess", "certify"}:
        return arguments
    few = {"--samples": "6", "--queries": "20", "--levels": "1,3"}
    few |= {"--certify": "1"} if arguments[0] == "assess" else {"--seconds": "2"}
    arguments = list(arguments)
    for option, value in few.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        elif not (option == "--levels" and "--minimal" in arguments):
            arguments += [option, value]
    return arguments


def cheap_spec(text: str, path: Path) -> None:
    """Read the spec as it stands, then leave one with fewer samples and queries (or epochs) in its place."""
    path.write_text(text, encoding="utf-8")
    if "\nconditions:" in text:
        read_build_spec(path, {}, None)
        return
    if "\nrecipe:" in text:
        load_train_spec(path)
        path.write_text(re.sub(r"epochs: \d+", "epochs: 1", text), encoding="utf-8")
        return
    spec = json.loads(load_spec(path).model_dump_json())
    spec["data"]["samples"] = 6
    for threat in spec["threats"]:
        threat["queries"] = 20
        for attack in threat["battery"] if isinstance(threat["battery"], list) else ():
            attack["queries"] = 10
    path.write_text(json.dumps(spec), encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def _quick_measurement() -> Iterator[None]:
    """How long the query engine may measure: speed is not what these tests are about."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.05)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("docs") / "out"
    assert run_program(cheap(["assess", "digits-cnn", "--data", "digits", "--out", str(out)])) == 0
    return out


@pytest.fixture
def folder(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with what the pages take as given."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(charpy.assess.__kwdefaults__, "queries", 20)
    for name in ("run.charpy", "report.json"):
        shutil.copy(finished / name, tmp_path)
    (tmp_path / "mymodel.py").write_text(MYMODEL)
    registry().create("models", "digits-cnn").export(tmp_path / "model.onnx")
    digits = registry().create("datasets", "digits").read(range(20))
    pixels = (digits.images.numpy() * 255).round().astype(np.uint8)
    np.savez(tmp_path / "data.npz", images=pixels, labels=digits.labels.numpy())
    for number, (image, label) in enumerate(zip(pixels, digits.labels.tolist(), strict=True)):
        (tmp_path / "images" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(tmp_path / "images" / str(label) / f"{number}.png")
    yield tmp_path
    sys.modules.pop("mymodel", None)


def run_console(block: Block) -> None:
    for program, *arguments in commands(block):
        if program == "make":
            subprocess.run(["make", "--dry-run", *arguments], cwd=ROOT, capture_output=True, check=True)
        elif program == "charpy":
            if not REAL.search(" ".join(arguments)):
                assert run_program(cheap(arguments)) == 0, arguments
        else:
            pytest.fail(f"line {block.line}: no way to test {program!r}")


@pytest.mark.parametrize(
    "page", [pytest.param(page, marks=[pytest.mark.slow] * (page.name in LONG), id=page.name) for page in PAGES]
)
def test_every_block_of_a_page_works(page, folder, capsys):
    names: dict[str, object] = {"__name__": page.stem}
    for block in blocks(page):
        if block.language == "console":
            assert commands(block), f"line {block.line}: a console block without a command"
            run_console(block)
        elif block.language == "python":
            exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        elif block.language == "yaml":
            cheap_spec(block.text, folder / block.text.split("\n", 1)[0].removeprefix("# "))
        elif block.language == "toml":
            named = tomllib.loads(block.text)["project"]["entry-points"]["charpy"]
            assert (
                named == tomllib.loads((STRANGER / "pyproject.toml").read_text())["project"]["entry-points"]["charpy"]
            )
        else:
            assert block.language == "text", f"{page.name}, line {block.line}: say what the block is"
    capsys.readouterr()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_block_escapes(page):
    fences = re.findall(r"^[ >]*(?:```|~~~)", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(fences) == 2 * len(list(blocks(page)))


def shown_commands() -> list[tuple[str, int, str]]:
    """Page, line and text of every `charpy ...` in a block that is only shown: it waits for people, or for a server."""
    return [
        (page.name, block.line, re.split(r"\s{2,}", line.removeprefix("$ "))[0])
        for page in PAGES
        for block in blocks(page)
        if block.language == "text"
        for line in block.text.replace("\\\n", "").splitlines()
        if line.removeprefix("$ ").startswith("charpy ")
    ]


@pytest.mark.parametrize(("page", "line", "text"), shown_commands())
def test_a_command_that_is_only_shown_is_one_that_charpy_takes(page, line, text):
    _, words = text.split(" ", 1)
    build_app(registry()).parse_args(shlex.split(words, comments=True), exit_on_error=False, print_error=False)


def real_commands() -> list[list[str]]:
    found = [
        line for page in PAGES for block in blocks(page) if block.language == "console" for line in commands(block)
    ]
    return [line[1:] for line in found if line[0] == "charpy" and REAL.search(" ".join(line))]


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("arguments", real_commands(), ids=" ".join)
def test_commands_on_real_data(arguments, data_dir, folder):
    assert run_program([*cheap(arguments), "--data-dir", str(data_dir)]) == 0


def test_the_attack_of_the_readme_is_the_whole_file_of_the_package():
    source = (STRANGER / "src" / "charpy_corner_attack" / "corner_pixels.py").read_text(encoding="utf-8")
    assert source in [block.text for block in blocks(ROOT / "README.md")]
    assert len(source.splitlines()) <= 36  # "30 lines", and blank ones


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


def test_every_command_and_option_of_assess_is_documented(capsys):
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for entry in registry().entries("commands"):
        assert f"charpy {entry.kind}" in page, entry.kind
    assert run_program(["assess", "--help"]) == 0
    for option in set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}:
        assert option in page, option


@pytest.mark.slow
def test_the_examples_work(folder, capsys):
    spec = ROOT / "examples" / "dual.yaml"
    cheap_spec(spec.read_text(encoding="utf-8"), folder / "dual.yaml")
    assert run_program(["run", "dual.yaml"]) == 0
    cheap_spec((ROOT / "examples" / "train.yaml").read_text(encoding="utf-8"), folder / "train.yaml")
    assert run_program(["train", "train.yaml"]) == 0
    assert (folder / "charpy-digits-resnet" / "digits-resnet.safetensors").is_file()
    source = (ROOT / "examples" / "own_model.py").read_text(encoding="utf-8").replace("queries=1000", "queries=10")
    exec(compile(source, "own_model.py", "exec"), {"__name__": "__main__"})
    assert (folder / "own_model.html").is_file()
    capsys.readouterr()
