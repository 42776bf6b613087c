from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from charpy.errors import DataError, UnsafeFileError
from charpy_plugins.datasets.locate import Shelf, Source

CONTENT = b"the published file"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]  # before the client can go on
        self.send_response(200 if self.path == "/set.gz" else 404)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), _Handler)
    server.asked = []  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pooch = pytest.importorskip("pooch", reason="downloads need the extra `data`")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("CHARPY_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda project: tmp_path / "cache")
    return tmp_path / "cache"


def shelf(data_dir: Path | None, download: bool = True) -> Shelf:
    return Shelf("set", None if data_dir is None else str(data_dir), ("set",), download)


def source(server: HTTPServer, name: str = "set.gz", sha256: str = SHA256) -> Source:
    return Source(f"http://127.0.0.1:{server.server_port}/{name}", sha256)


def test_a_missing_file_is_downloaded_once_and_its_checksum_verified(server: HTTPServer, cache: Path) -> None:
    for _ in range(2):
        path = shelf(None).file(["set.gz"], source(server))
        assert path == cache / "set" / "set.gz"
        assert path.read_bytes() == CONTENT
    assert server.asked == ["/set.gz"]  # type: ignore[attr-defined]


def test_a_file_with_another_checksum_is_refused_and_not_kept(server: HTTPServer, cache: Path) -> None:
    with pytest.raises(UnsafeFileError, match="not the published one"):
        shelf(None).file(["set.gz"], source(server, sha256="0" * 64))
    assert not (cache / "set" / "set.gz").exists()


def test_a_server_that_does_not_answer_is_named_with_the_next_step(server: HTTPServer, cache: Path) -> None:
    for address in (source(server, "other.gz"), Source("http://127.0.0.1:9/set.gz", SHA256)):
        with pytest.raises(DataError) as caught:
            shelf(None).file(["set.gz"], address)
        assert address.url in caught.value.what
        assert "CHARPY_DATA" in caught.value.hint


def test_a_file_that_is_there_is_not_downloaded(server: HTTPServer, cache: Path, tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.gz").write_bytes(b"mine")
    assert shelf(tmp_path).file(["set.gz"], source(server)).read_bytes() == b"mine"
    assert server.asked == []  # type: ignore[attr-defined]


def test_nothing_is_downloaded_without_leave_or_without_the_extra(
    server: HTTPServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"download: true"):
        shelf(None, download=False).file(["set.gz"], source(server))
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DataError, match=r"pip install charpy\[data\]"):
        shelf(None).file(["set.gz"], source(server))
    assert server.asked == []  # type: ignore[attr-defined]


def test_a_file_is_sought_by_name_first_and_by_folder_second(tmp_path: Path) -> None:
    here = Shelf("set", str(tmp_path), ("one", "two"), False)
    for place in ("one/b", "two/a", "two/b"):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    assert here.find(["a", "b"]) == tmp_path / "two" / "a"
    assert here.find(["b"]) == tmp_path / "one" / "b"
    assert here.find(["c"]) is None
