"""Tests in forked processes, each with another version of one function or one module.

One process imports torch and everything else and collects the tests. A child of it has all that at once: it puts the
new code under the function objects that are there and runs the tests that it is told to. What is no function's code (a
constant, a class, a default) needs the module to be imported anew, and with it all of charpy: some ten times slower.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import NoReturn

import coverage
import hypothesis
import pytest
from mutants import Mutant

LOADED = (
    "torch",
    "hypothesis.extra.numpy",
    "scipy.stats",
    "charpy.evaluator",
    "charpy.testing",
    "charpy.testing.bench",
)
"""What takes seconds to import, with all that it imports."""

MEMORY = 16 * 2**30
"""Bytes of addresses that a child may use: a mutant may ask for any number of rows."""

PROFILE = "mutants"

IMPORTED = "ignore::pytest.PytestAssertRewriteWarning"
"""hypothesis, a plugin of pytest, is there before pytest: that is the purpose."""

ASLEEP = 600.0
"""Seconds after which a child that computes nothing is ended; the machine may be busy with something else."""

NOTHING_RAN = 70

_Functions = dict[tuple[str, str], list[FunctionType]]
"""All function objects of some files, by file and qualified name."""

_Codes = Mapping[Path, Mapping[str, CodeType]]
"""The code of each function of some files, by qualified name."""


@dataclass(frozen=True)
class Test:
    """What a test costs and what it runs.

    Attributes:
        name: its node id.
        seconds: of the processor, with coverage on.
        lines: of the files that are looked at, by name.
    """

    name: str
    seconds: float
    lines: Mapping[str, frozenset[int]]


def load() -> None:
    """Import what the tests need, and forget charpy again: a child imports it with its own version of a module."""
    for name in LOADED:
        importlib.import_module(name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "charpy"]:
        del sys.modules[name]
    hypothesis.settings.register_profile(
        PROFILE,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(hypothesis.Phase.explicit, hypothesis.Phase.generate),
    )


def fates(
    files: Sequence[str], paths: Sequence[Path], mutants: Sequence[Mutant]
) -> Iterator[list[Test] | tuple[Mutant, str]]:
    """First the tests in `files`, with what each runs of `paths`; then each mutant with what became of it.

    That is `killed`, `time` or `survived`; those whose module must be imported anew come last.
    """
    reader, writer = os.pipe()
    server = os.fork()
    if server == 0:
        os.close(reader)
        with os.fdopen(writer, "w") as answers:
            _serve(files, _Server(paths, mutants, lambda answer: print(json.dumps(answer), file=answers, flush=True)))
    os.close(writer)
    with os.fdopen(reader) as answers:
        status, found = json.loads(answers.readline() or f"[{NOTHING_RAN}, []]")
        if status != 0:
            raise SystemExit(f"the tests must pass before anything is changed (status {status})")
        tests = _tests(found)
        yield tests
        later = []
        for mutant, answer in zip(mutants, answers, strict=True):
            fate = json.loads(answer)
            if fate == "import":
                later.append(mutant)
            else:
                yield mutant, fate
    os.waitpid(server, 0)
    for mutant in later:
        yield mutant, _imported(mutant, chosen(tests, mutant))


def _serve(files: Sequence[str], server: _Server) -> NoReturn:
    try:
        _pytest(files, server)
    finally:
        os._exit(0)


def chosen(tests: Sequence[Test], mutant: Mutant) -> list[Test]:
    """Those that run something in reach of the mutant, the quickest first."""
    hit = [test for test in tests if any(line in mutant.reach for line in test.lines[mutant.path.name])]
    return sorted(hit, key=lambda test: test.seconds)


def _tests(found: Sequence[tuple[str, float, Mapping[str, Sequence[int]]]]) -> list[Test]:
    return [
        Test(name, seconds, {file: frozenset(run) for file, run in lines.items()}) for name, seconds, lines in found
    ]


def _patience(tests: Sequence[Test]) -> float:
    """Seconds of the processor that they may take."""
    return 5 + 5 * sum(test.seconds for test in tests)


def _fate(status: int | None) -> str:
    if status == NOTHING_RAN:
        raise SystemExit("no test ran")
    return "time" if status in {None, -signal.SIGXCPU} else "survived" if status == 0 else "killed"


class _Server:
    """Instead of running the tests it has collected, answers what becomes of each mutant."""

    def __init__(self, paths: Sequence[Path], mutants: Sequence[Mutant], answer: Callable[[object], None]) -> None:
        self.paths, self.mutants, self.answer = paths, mutants, answer
        self.unchanged = True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed and self.unchanged:
            sys.stderr.write(f"{report.nodeid}\n{report.longreprtext}\n")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = _functions(self.paths)
        originals = {path: _codes(path.read_text(encoding="utf-8"), path) for path in self.paths}
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "tests.json"
            work = partial(self._watched, functions, originals, list(items.values()), out)
            status = in_child(work, seconds=600, quiet=False)
            found, modules = json.loads(out.read_text()) if status == 0 else ([], [])
        self.answer([status, found])
        self.unchanged = False
        for name in modules:
            if name.startswith("torch."):  # what torch imports when it is first needed takes a second
                with contextlib.suppress(ImportError):
                    importlib.import_module(name)
        tests = _tests(found)
        gc.collect()
        gc.freeze()
        for mutant in self.mutants:
            code = _codes(mutant.code, mutant.path).get(mutant.function)
            here = functions.get((str(mutant.path), mutant.function), [])
            if not here or code == originals[mutant.path].get(mutant.function):
                self.answer("import")
                continue
            hit = chosen(tests, mutant)
            work = partial(_changed, here, code, [items[test.name] for test in hit])
            self.answer(_fate(in_child(work, _patience(hit))))
        return True

    def _watched(self, functions: _Functions, codes: _Codes, items: Sequence[pytest.Item], out: Path) -> int:
        """Run all `items`; writes the name, the seconds and the lines run of each.

        They run what a mutant that changes nothing would be: that way of changing a function must not kill by itself.
        """
        for (file, name), here in functions.items():
            for function in here:
                function.__code__ = codes[Path(file)][name]
        watch = coverage.Coverage(data_file=None, config_file=False, include=[str(path) for path in self.paths])
        seconds: dict[str, float] = {}
        watch.start()
        for item, following in zip(items, [*items[1:], None], strict=True):
            started = time.process_time()
            watch.switch_context(item.nodeid)
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            seconds[item.nodeid] = time.process_time() - started
        watch.stop()
        known = {path.name: watch.get_data().contexts_by_lineno(str(path)) for path in self.paths}
        found = [
            (name, spent, {file: [line for line, by in lines.items() if name in by] for file, lines in known.items()})
            for name, spent in seconds.items()
        ]
        out.write_text(json.dumps([found, list(sys.modules)]))
        return 1 if items[0].session.testsfailed else 0


def _changed(functions: Sequence[FunctionType], code: CodeType | None, items: Sequence[pytest.Item]) -> int:
    for function in functions:
        function.__code__ = code  # type: ignore[assignment]
    return _run(items)


def _run(items: Sequence[pytest.Item]) -> int:
    """1 as soon as one fails."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if item.session.testsfailed:
            return 1
    return 0


def _functions(paths: Sequence[Path]) -> _Functions:
    """All function objects of these files by qualified name, also those under decorators."""
    files, found = {str(path) for path in paths}, dict[tuple[str, str], list[FunctionType]]()
    for thing in gc.get_objects():
        if type(thing) is FunctionType and thing.__code__.co_filename in files:
            found.setdefault((thing.__code__.co_filename, thing.__code__.co_qualname), []).append(thing)
    return found


def _codes(source: str, path: Path) -> dict[str, CodeType]:
    """The code of each function and method, by its qualified name."""
    found, left = dict[str, CodeType](), [compile(source, str(path), "exec", dont_inherit=True)]
    while left:
        inner = [part for part in left.pop().co_consts if isinstance(part, CodeType)]
        found |= {code.co_qualname: code for code in inner}
        left += inner
    return found


class _Version(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, module: str, path: Path, code: str) -> None:
        self.module, self.path, self.code = module, path, code

    def find_spec(self, fullname: str, *_: object) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self.module else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self.code, str(self.path), "exec", dont_inherit=True), module.__dict__)


class _Only:
    """Runs the tests of these names, in this order."""

    def __init__(self, names: Sequence[str]) -> None:
        self.place = {name: place for place, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (item for item in items if item.nodeid in self.place), key=lambda item: self.place[item.nodeid]
        )


def _imported(mutant: Mutant, tests: Sequence[Test]) -> str:
    """What becomes of a mutant whose module is imported anew."""
    names = [test.name for test in tests]

    def work() -> int:
        module = f"charpy.{mutant.path.stem}"
        sys.meta_path.insert(0, _Version(module, mutant.path, mutant.code))
        try:
            importlib.import_module(module)  # here, for pytest's own importer would come before ours
        except Exception:  # noqa: BLE001 - whatever it is, the tests would notice
            return 1
        status = _pytest(list(dict.fromkeys(name.partition("::")[0] for name in names)), _Only(names))
        return NOTHING_RAN if status in {4, 5} else status

    return _fate(in_child(work, _patience(tests))) if tests else "survived"


def _pytest(files: Sequence[str], plugin: object) -> int:
    options = ["-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:terminal", "-W", IMPORTED]
    return int(pytest.main([*options, f"--hypothesis-profile={PROFILE}", *files], plugins=[plugin]))


def in_child(work: Callable[[], int], seconds: float, *, quiet: bool = True) -> int | None:
    """What `work` gives in a forked process; negative: the signal that ended it, SIGXCPU after `seconds` of computing.

    None: it was ended because it sleeps.
    """
    child = os.fork()
    if child == 0:
        status = NOTHING_RAN
        try:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(seconds), math.ceil(seconds) + 5))
            if quiet:
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 1)
                os.dup2(nowhere, 2)
            status = work()
        except BaseException:  # noqa: BLE001 - the child ends here, whatever happens
            status = 1
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    end, pause = time.monotonic() + ASLEEP + 20 * seconds, 0.002
    while time.monotonic() < end:
        ended, code = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(code)
        time.sleep(pause)
        pause = min(0.05, 1.5 * pause)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None
