"""`charpy new-plugin`: what it writes installs, passes its own tests and is used; what is there is never touched."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from charpy.cli.app import run_program
from charpy.errors import SpecError
from charpy.scaffold.names import Names
from charpy.scaffold.write import PARTS, rendered
from charpy.specfile import load_spec

EVERY = ",".join(PARTS)


@pytest.mark.parametrize(
    ("given", "package", "module"),
    [("mine", "mine", "mine"), ("My.Robust__things-2", "my-robust-things-2", "my_robust_things_2"), ("a", "a", "a")],
)
def test_a_name_becomes_what_pip_and_python_call_it(given, package, module):
    assert Names.of(given) == Names(package, module)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "-mine",
        "mine-",
        "2mine",
        "mi ne",
        "../mine",
        "mine/other",
        "mine\n",
        "m\u00efne",
        'a"b',
        "{{ 1 }}",
        "a" * 61,
    ],
)
def test_what_is_no_name_is_refused(given, tmp_path, capsys):
    with pytest.raises(SpecError, match="cannot be the name"):
        Names.of(given)
    assert run_program(["new-plugin", "--out", str(tmp_path / "out"), "--", given]) == 2
    assert not (tmp_path / "out").exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    "given",
    ["class", "match", "json", "charpy", "charpy-plugins", "tests", "torch", "scikit-learn", "sklearn", "pytest"],
)
def test_names_that_are_taken_are_refused(given):
    with pytest.raises(SpecError, match=f"charpy-{given}"):
        Names.of(given)


@pytest.mark.parametrize(("given", "owner"), [("numpy", "numpy"), ("Pillow", "pillow"), ("sklearn", "scikit-learn")])
def test_a_name_that_would_replace_an_installed_package_is_refused(given, owner):
    with pytest.raises(SpecError, match="take its place") as refused:
        Names.of(given)
    assert refused.value.found == owner


def test_a_plugin_may_be_written_again():
    assert Names.of("charpy-corner-attack").module == "charpy_corner_attack"


def test_an_unknown_kind_names_the_nearest(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert run_program(["new-plugin", "mine", "--kinds", "atack,metric", "--out", out]) == 2
    assert "did you mean attack" in capsys.readouterr().err
    assert run_program(["new-plugin", "mine", "--kinds", " , ", "--out", out]) == 2
    assert "no kind of component" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("there", ["file", "folder", "link"])
def test_nothing_is_overwritten(there, tmp_path, capsys):
    out = tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    elif there == "link":
        (tmp_path / "empty").mkdir()
        out.symlink_to(tmp_path / "empty")
    else:
        out.mkdir()
        (out / "README.md").write_text("mine")
    assert run_program(["new-plugin", "mine", "--out", str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    kept = {"file": [], "folder": [out / "README.md"], "link": []}[there]
    assert (sorted(out.iterdir()) if out.is_dir() else []) == kept
    assert there != "file" or out.read_text() == "mine"


def test_an_empty_folder_is_filled_and_a_closed_one_named(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert run_program(["new-plugin", "mine", "--out", str(tmp_path / "out")]) == 0
    assert (tmp_path / "out" / "src" / "mine" / "sign_search.py").is_file()
    (tmp_path / "file").write_text("")
    assert run_program(["new-plugin", "mine", "--out", str(tmp_path / "file" / "deeper")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("kinds", [*([kind] for kind in PARTS), list(PARTS)], ids=" ".join)
def test_every_choice_of_kinds_is_a_whole_package(kinds, tmp_path):
    files = rendered(Names.of("my-robust.things"), kinds)
    for name, text in files.items():
        assert text.endswith("\n")
        assert not text.endswith("\n\n")
        assert not re.search(r"\{\{|\{%|\bNone\b.*j2", text), name
        assert not [line for line in text.splitlines() if line != line.rstrip()], name
        if name.endswith(".py"):
            ast.parse(text)
            assert max(map(len, text.splitlines())) <= 120, name
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["entry-points"]["charpy"] == {"my_robust_things": "my_robust_things.plugin"}
    assert sum(name.startswith("src/") for name in files) == 2 + len(kinds)
    (tmp_path / "example.yaml").write_text(files["example.yaml"])
    assert load_spec(tmp_path / "example.yaml").name == "my-robust-things"
    unused = [kind for kind in kinds if f"my_robust_things_{PARTS[kind].file}" not in files["example.yaml"]]
    assert not unused
    hooks = re.findall(r"def charpy_(\w+)\(", files["src/my_robust_things/plugin.py"])
    assert hooks == [PARTS[kind].hook for kind in kinds]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """All six kinds, installed in an environment of their own, and how to run its Python."""
    folder = tmp_path_factory.mktemp("new")
    assert run_program(["new-plugin", "robust-things", "--kinds", EVERY, "--out", str(folder / "package")]) == 0
    venv.create(folder / "venv", with_pip=False)
    python = folder / "venv" / "bin" / "python"
    purelib = Path(sysconfig.get_path("purelib", vars={"base": str(folder / "venv")}))
    everything = sysconfig.get_path("purelib")  # with its own .pth files: charpy may be installed to be edited
    purelib.joinpath("dependencies.pth").write_text(f"import site; site.addsitedir({everything!r})\n")
    install = ["-m", "pip", "--disable-pip-version-check", "--python", python, "install", "--quiet", "--no-deps"]
    subprocess.run(
        [sys.executable, *install, "--no-build-isolation", "-e", folder / "package"], check=True, capture_output=True
    )
    environment = {**os.environ, "CHARPY_SUPERVISE": "0", "PIP_NO_INDEX": "1"}

    def run(*arguments):
        return subprocess.run(
            [python, *arguments],
            cwd=folder / "package",
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            timeout=240,
        )

    return run


@pytest.mark.slow
def test_it_is_listed_once_installed(installed):
    done = installed("-m", "charpy", "plugins", "--check", "--json")
    rows = [row for row in json.loads(done.stdout)["components"] if row["package"] == "robust-things"]
    assert {row["hook"] for row in rows} == {part.hook for part in PARTS.values()}
    assert all("failure" not in row and row["summary"].endswith(".") for row in rows)


@pytest.mark.slow
def test_its_tests_pass(installed):
    done = installed("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    passed = int(re.search(r"(\d+) passed", done.stdout)[1])
    assert passed >= 100, done.stdout[-500:]


@pytest.mark.slow
def test_assess_uses_it(installed):
    names = {kind: f"robust_things_{part.file}" for kind, part in PARTS.items()}
    done = installed(
        "-m", "charpy", "assess", names["model"], "--data", "digits", "--samples", "6", "--norms", "linf",
        "--battery", names["attack"], "--defenses", names["defense"], "--queries", "30", "--out", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = installed("-c", "print(open('out/report.json').read())")
    assert set(re.findall(r"robust_things_(?:nearest_mean|sign_search|local_mean)", report.stdout)) == {
        names["model"], names["attack"], names["defense"]
    }  # fmt: skip
    assert "robust-things 0.1.0" in report.stdout


@pytest.mark.slow
def test_its_example_shows_what_each_part_does(installed):
    done = installed("-m", "charpy", "run", "example.yaml", "--out", "shown")
    assert done.returncode == 0, done.stderr
    plain, defended = json.loads(installed("-c", "print(open('shown/report.json').read())").stdout)["reports"]
    assert plain["clean"]["count"] >= 10
    assert plain["threats"][0]["proven"] > 0
    for report in (plain, defended):
        assert report["threats"][-1]["broken"] > 0
        assert report["threats"][-1]["metrics"]["robust_things_block_mean"] > 0
