"""Serving the editor's pages on one address of this machine, until it is interrupted."""

from __future__ import annotations

import socket

from waitress.server import create_server

from charpy.errors import SpecError
from charpy_plugins.study.editor.app import OnceToken, create_app, largest_body
from charpy_plugins.study.editor.session import EditSession

THREADS = 8
"""A slow model holds one a page; the others go on answering."""

LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Service:
    """The pages, bound to `host` and `port` (0: any free one), not serving yet.

    Attributes:
        url: the address that opens them, once.

    Raises:
        SpecError: the address is not one of this machine, is every address of it, or is taken.
    """

    def __init__(self, edit: EditSession, host: str, port: int) -> None:
        self._socket = _bound(host, port)
        port = int(self._socket.getsockname()[1])
        names = {host, *LOOPBACK} if host in LOOPBACK else {host}
        token = OnceToken()
        app = create_app(edit, token, [f"{_written(name)}:{port}" for name in names], cookie=f"charpy_edit_{port}")
        self.url = f"http://{_written(host)}:{port}/enter/{token.text}"
        self._server = create_server(
            app,
            sockets=[self._socket],
            threads=THREADS,
            max_request_body_size=largest_body(edit),
            ident="charpy",
            clear_untrusted_proxy_headers=True,
        )

    def run(self) -> None:
        """Serve until the process is interrupted (Ctrl-C)."""
        try:
            self._server.run()
        finally:
            self.close()

    def close(self) -> None:
        """Give the address back."""
        self._server.close()


def _bound(host: str, port: int) -> socket.socket:
    if host in {"", "0.0.0.0", "::"}:
        raise SpecError(
            "the pages answer to one address, not to all of this machine",
            where="--host",
            found=repr(host),
            expected="127.0.0.1, or one address or name of this machine",
        )
    try:
        if not 0 <= port <= 65535:
            raise OSError("a port is 0 to 65535")
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as cause:
        raise SpecError(
            "no page can be served here",
            where=f"--host {host} --port {port}",
            found=str(cause),
            expected="an address of this machine, and a free port (0: any)",
        ) from None


def _written(host: str) -> str:
    return f"[{host}]" if ":" in host else host
