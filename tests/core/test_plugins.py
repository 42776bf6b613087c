"""The registry: duplicates refused, broken plugins listed, nothing imported for a listing, order without meaning."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from importlib.metadata import distributions
from itertools import permutations
from types import SimpleNamespace

import pytest

from charpy.errors import DuplicateNameError, PluginError, SpecError, UnknownNameError
from charpy.hookspecs import hookimpl
from charpy.interfaces.component import Component, Params, param
from charpy.plugins import HOOKS, Registry


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Installs a package of one module under an entry point, as pip would; `entry_points()` gives all of them."""
    monkeypatch.syspath_prepend(tmp_path)

    class Installer:
        def __call__(self, name: str, source: str, version: str = "1.0") -> None:
            module = name.replace("-", "_")
            (tmp_path / f"{module}.py").write_text(textwrap.dedent(source), encoding="utf-8")
            info = tmp_path / f"{module}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
            (info / "entry_points.txt").write_text(f"[charpy]\n{module} = {module}\n")

        def entry_points(self):
            return [point for found in distributions(path=[str(tmp_path)]) for point in found.entry_points]

    yield Installer()
    for name in [name for name in sys.modules if name.startswith("stranger")]:
        del sys.modules[name]


def attacks(**kinds):
    """A plugin object with these attacks."""
    return SimpleNamespace(charpy_attacks=lambda: kinds)


class Sharp(Component):
    """A component for tests."""

    class Params(Params):
        """One bounded number."""

        edge: float = param(1.0, gt=0, le=2, description="how sharp", unit="mm", source="ours")


PLUGIN = """
    def charpy_attacks():
        return {{"{kind}": "stranger_component:{kind}"}}
"""


# Finding


def test_an_installed_package_is_found_with_its_name_and_version(install):
    install("stranger-one", PLUGIN.format(kind="scratch"), version="3.1")
    found = Registry(install.entry_points())
    assert [(e.hook, e.kind, e.plugin, e.package, e.version) for e in found.entries()] == [
        ("attacks", "scratch", "stranger_one", "stranger-one", "3.1")
    ]
    assert not found.failures
    assert not found.conflicts


def test_the_built_in_parts_come_through_the_same_door():
    owners = {entry.plugin: entry.package for entry in Registry().entries()}
    assert owners["charpy_core"] == owners["charpy_plugins"] == owners["charpy_models"] == "charpy"
    assert not Registry().failures
    assert not Registry().conflicts


def test_components_are_sorted_by_hook_and_kind():
    found = Registry([])
    found.add(attacks(b=Sharp, a=Sharp), "x")
    found.add(SimpleNamespace(charpy_models=lambda: {"z": Sharp}, charpy_commands=lambda: {"c": len}), "y")
    assert [(e.hook, e.kind) for e in found.entries()] == [
        ("models", "z"), ("attacks", "a"), ("attacks", "b"), ("commands", "c"),
    ]  # fmt: skip
    assert [e.kind for e in found.entries("attacks")] == ["a", "b"]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_read(hook):
    found = Registry([])
    found.add(SimpleNamespace(**{f"charpy_{hook}": lambda: {"one": Sharp}}), "x")
    assert found.find(hook, "one").load() is Sharp


# Duplicates


def test_a_duplicate_is_refused_naming_both_owners(install):
    install("stranger-one", PLUGIN.format(kind="scratch"), version="1.0")
    install("stranger-two", PLUGIN.format(kind="scratch"), version="2.0")
    found = Registry(install.entry_points())
    with pytest.raises(DuplicateNameError) as error:
        found.find("attacks", "scratch")
    for part in ("scratch", "stranger_one", "stranger-one 1.0", "stranger_two", "stranger-two 2.0"):
        assert part in str(error.value)
    assert [[entry.plugin for entry in owners] for owners in found.conflicts] == [["stranger_one", "stranger_two"]]


def test_a_stranger_cannot_take_over_a_built_in_name():
    found = Registry()
    found.add(attacks(few_pixel=Sharp), "impostor", "impostor-package", "0.1")
    with pytest.raises(DuplicateNameError, match="impostor-package"):
        found.create("attacks", "few_pixel")
    assert found.create("attacks", "threshold") is not None


def test_one_name_under_two_hooks_is_no_duplicate():
    found = Registry([])
    found.add(SimpleNamespace(charpy_attacks=lambda: {"x": Sharp}, charpy_metrics=lambda: {"x": Component}), "both")
    assert found.load("attacks", "x") is Sharp
    assert found.load("metrics", "x") is Component
    assert not found.conflicts


def test_nothing_depends_on_the_order_of_plugins(install):
    for number, kind in (("one", "a"), ("two", "b"), ("three", "a"), ("four", "c")):
        install(f"stranger-{number}", PLUGIN.format(kind=kind))
    install("stranger-five", "raise RuntimeError('no')")
    seen = set()
    for points in permutations(install.entry_points()):
        found = Registry(points)
        listing = [(e.hook, e.kind, e.plugin) for e in found.entries()]
        conflicts = [[e.plugin for e in owners] for owners in found.conflicts]
        seen.add(json.dumps([listing, sorted(conflicts), [f.plugin for f in found.failures]]))
    assert len(seen) == 1


# Broken plugins


BROKEN = {
    "raises": ("raise RuntimeError('the disk is full')", "RuntimeError: the disk is full"),
    "syntax": ("def (:", "SyntaxError"),
    "missing": ("import a_module_that_is_nowhere", "ModuleNotFoundError: No module named 'a_module_that_is_nowhere'"),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "hook raises": ("def charpy_attacks(): raise OSError('later')", "OSError: later"),
    "no mapping": ("def charpy_attacks(): return ['a']", "returned no mapping"),
    "no import string": ("def charpy_attacks(): return {'a': 'module.Class'}", "has no import string"),
    "unknown hook": (
        "from charpy.hookspecs import hookimpl\n@hookimpl\ndef charpy_atacks(): return {}",
        "UnknownNameError: stranger_bad: unknown hook 'charpy_atacks'; expected: did you mean charpy_attacks, ",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_plugin_is_listed_with_its_cause_and_hides_nothing(install, case):
    source, cause = BROKEN[case]
    install("stranger-bad", source, version="0.3")
    install("stranger-good", PLUGIN.format(kind="scratch"))
    found = Registry(install.entry_points())
    assert [(f.plugin, f.package, f.version) for f in found.failures] == [("stranger_bad", "stranger-bad", "0.3")]
    assert cause in found.failures[0].cause
    assert "\n" not in found.failures[0].cause
    assert [entry.kind for entry in found.entries()] == ["scratch"]


def test_a_component_that_cannot_be_imported_names_its_owner(install):
    install("stranger-one", "def charpy_attacks(): return {'x': 'stranger_nowhere:X', 'y': 'json:NoSuchName'}")
    found = Registry(install.entry_points())
    for kind in ("x", "y"):
        with pytest.raises(PluginError) as error:
            found.load("attacks", kind)
        assert "stranger_one" in str(error.value)
        assert "stranger-one 1.0" in str(error.value)
    assert "cannot be found" in found.find("attacks", "x").summary


def test_what_is_no_component_is_not_constructed():
    found = Registry([])
    found.add(attacks(number=int, function=len), "x")
    for kind in ("number", "function"):
        with pytest.raises(PluginError, match="not a charpy Component"):
            found.create("attacks", kind)


# Names and parameters


def test_an_unknown_name_lists_the_nearest_ones():
    found = Registry([])
    found.add(attacks(few_pixel=Sharp, threshold=Sharp, square=Sharp), "x")
    with pytest.raises(UnknownNameError, match="did you mean threshold"):
        found.find("attacks", "treshold")
    with pytest.raises(UnknownNameError, match="one of few_pixel, square, threshold"):
        found.find("attacks", "qqqq")
    with pytest.raises(UnknownNameError, match="none registered"):
        found.find("metrics", "threshold")


def test_parameters_are_validated_with_the_nearest_name():
    found = Registry([])
    found.add(attacks(sharp=Sharp), "x")
    assert found.create("attacks", "sharp", {"edge": 1.5}).params.edge == 1.5
    assert found.create("attacks", "sharp").params.edge == 1.0
    with pytest.raises(SpecError, match=r"did you mean 'edge'"):
        found.create("attacks", "sharp", {"egde": 1.5})
    for value in (0, 2.5, "sharp", None, float("nan")):
        with pytest.raises(SpecError):
            found.create("attacks", "sharp", {"edge": value})


# Laziness


def test_a_listing_imports_no_component_and_no_torch():
    code = """
        import sys
        from charpy.plugins import registry
        rows = [(entry.hook, entry.kind, entry.summary) for entry in registry().entries()]
        assert len(rows) > 10, rows
        assert all(summary and "cannot be found" not in summary for _, _, summary in rows), rows
        heavy = {"torch", "onnx", "onnxruntime", "scipy", "sklearn", "altair", "cma"} & set(sys.modules)
        assert not heavy, heavy
        folders = {entry.target.rpartition(".")[0] for entry in registry().entries("attacks") if "." in entry.target}
        loaded = {name for name in sys.modules if name.startswith("charpy_plugins.attacks.")}
        assert loaded <= folders, loaded - folders  # to look for a file Python runs the __init__ of its folder
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_summary_is_read_from_the_source_without_running_it(install):
    install("stranger-one", "def charpy_attacks(): return {'x': 'stranger_component:X'}")
    install(
        "stranger-component",
        '''
        raise RuntimeError("imported")
        class X:
            """The first line.

            The rest.
            """
        ''',
    )
    found = Registry([point for point in install.entry_points() if point.name == "stranger_one"])
    assert found.find("attacks", "x").summary == "The first line."


# Hooks


def test_events_reach_every_plugin_that_listens():
    heard = []

    class Listener:
        def __init__(self, name):
            self.name = name

        @hookimpl
        def charpy_run_started(self, spec, units):
            heard.append((self.name, "started", units))

        @hookimpl
        def charpy_run_finished(self, path):
            heard.append((self.name, "finished", path))

    found = Registry([])
    found.add(Listener("a"), "a")
    found.add(Listener("b"), "b")
    found.hooks.hook.charpy_run_started(spec=None, units=3, run_id="a", done=0, outcomes={})
    found.hooks.hook.charpy_run_finished(path="run.charpy")
    assert sorted(heard) == [
        ("a", "finished", "run.charpy"), ("a", "started", 3), ("b", "finished", "run.charpy"), ("b", "started", 3),
    ]  # fmt: skip


def test_a_plugin_with_a_misspelt_argument_is_refused_whole():
    class Wrong:
        @hookimpl
        def charpy_run_finished(self, pathh):
            """An argument that the hook does not have."""

        def charpy_attacks(self):
            return {"sharp": Sharp}

    found = Registry([])
    with pytest.raises(Exception, match="pathh"):
        found.add(Wrong(), "wrong")
    assert not found.entries()
