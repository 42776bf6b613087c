"""Real browsers before a real server: chromium, `charpy study serve`, and somebody who takes part."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
"""Options of chromium: no page reaches anything but this machine."""


def _beside(name: str) -> ModuleType:
    """A module of this folder; the tests are no package, so it is loaded by its place."""
    full = f"charpy_tests_study_{name}"
    if full not in sys.modules:
        spec = importlib.util.spec_from_file_location(full, Path(__file__).with_name(f"{name}.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[full] = module
        spec.loader.exec_module(module)
    return sys.modules[full]


@pytest.fixture(scope="session")
def options(chromium: str) -> dict[str, object]:
    """What every start of chromium is given."""
    return {"executable_path": chromium, "args": list(QUIET)}


@pytest.fixture(scope="session")
def browser(engine: BrowserType, options: dict[str, object]) -> Iterator[Browser]:
    """One chromium for all tests; each takes a fresh profile of it."""
    with engine.launch(**options) as found:
        yield found


@pytest.fixture(scope="session")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., object]]:
    """`serve(study, *options)`: a `charpy study serve` process with answers of its own, ended with the session."""
    servers: list = []

    def start(study: object, *options: str) -> object:
        server = _beside("server").Server(study, tmp_path_factory.mktemp("served"), *options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def short(serve: Callable[..., object], make_study: Callable[..., object]) -> object:
    """A server that many tests share: four questions and one check, at three sizes."""
    return serve(make_study(questions=4, checks=1, sizes=(1, 2, 4)))


@pytest.fixture(scope="session")
def visitor_class() -> type:
    """For a browser that a test starts itself: `visitor_class(context, server)`."""
    return _beside("visitor").Visitor


@pytest.fixture
def visit(browser: Browser, visitor_class: type) -> Iterator[Callable[..., object]]:
    """`visit(server, **context)`: a fresh browser profile before a server, watched to the end of the test."""
    visitors: list = []

    def come(server: object, **context: object) -> object:
        visitor = visitor_class(browser.new_context(**context), server)
        visitors.append(visitor)
        return visitor

    yield come
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.faults for visitor in visitors] == [[]] * len(visitors)
    assert {url for visitor in visitors for url in visitor.elsewhere} == set()
