"""The process that serves a study: waitress on one socket, until a signal; what is being answered is finished first."""

from __future__ import annotations

import errno
import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any, Final, TypeAlias

from sqlalchemy.exc import SQLAlchemyError
from waitress import create_server
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from charpy.errors import SpecError
from charpy_plugins.study.store.store import Store

CONNECTIONS: Final = 800
"""At once; below the 1,024 files that a process may open by default."""

LARGEST: Final = 256 * 1024
"""Bytes of a request that reach the application, which refuses most of them; larger ones end here."""

BACKLOG = 1024
"""Connections that wait to be accepted."""

PATIENCE: Final = 10.0
"""Seconds that requests under way get when the server is told to stop."""

Application: TypeAlias = Callable[..., Iterable[bytes]]


def is_loopback(host: str) -> bool:
    """Whether only this machine can connect to an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reserved(host: str, port: int) -> socket.socket:
    """A socket that nobody else listens on, nor does it yet: who connects is refused until `listen`.

    Raises:
        SpecError: the port is in use, or the address is not this machine's.
    """
    where = f"--host {host} --port {port}"
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            found.bind(address[:2])
        except OSError:
            found.close()
            raise
        return found
    except socket.gaierror as cause:
        raise SpecError("no such address", where=where, found=cause.strerror) from None
    except OSError as cause:
        hint = {
            errno.EADDRINUSE: "another program, or another `charpy study serve`, is there: choose another --port",
            errno.EACCES: "ports below 1024 are for root: choose another --port",
        }.get(cause.errno or 0, "")
        raise SpecError("cannot listen there", where=where, found=cause.strerror, hint=hint) from None


def serve_until_told(
    application: Application, server: socket.socket, store: Store, *, threads: int, proxy: bool
) -> int:
    """Serve, and return the signal that ended it: SIGINT or SIGTERM."""
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)  # a full lecture hall is no news
    draining = Draining(application)
    served = create_server(
        draining,
        sockets=[server],
        threads=threads,
        connection_limit=CONNECTIONS,
        asyncore_use_poll=True,
        max_request_body_size=LARGEST,
        clear_untrusted_proxy_headers=not proxy,
        ident=None,
    )
    served.channel_class = _noting(store)
    told: list[int] = []
    done = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        told.append(number)
        done.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    worker = threading.Thread(target=served.run, name="charpy-study", daemon=True)
    worker.start()
    try:
        while not done.wait(0.5):
            pass
        draining.drain(PATIENCE)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        served.task_dispatcher.shutdown(timeout=1)
        server.close()
    return told[0]


class Draining:
    """A WSGI application that can be told to finish what it has begun, and to begin nothing else."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._changed = threading.Condition()
        self._running, self._closed = 0, False

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
        """One request."""
        with self._changed:
            refused = self._closed
            self._running += 1
        try:
            if refused:
                headers = [
                    ("Content-Type", "text/plain; charset=utf-8"),
                    ("Retry-After", "10"),
                    ("Connection", "close"),
                ]
                start_response("503 Service Unavailable", headers)
                yield b"The study is being restarted. Please try again in a minute; your answers so far are kept.\n"
                return
            parts = self._application(environ, start_response)
            try:
                yield from parts
            finally:
                getattr(parts, "close", lambda: None)()
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def drain(self, patience: float) -> None:
        """Begin nothing else, and wait until all is finished, at most so many seconds."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._running == 0, timeout=patience)
        time.sleep(0.2)  # the last bytes are on their way to the socket


def _noting(store: Store) -> type[HTTPChannel]:
    """A channel that counts, once a second at most, the requests that never reach the application."""
    quiet_until = 0.0

    class NotedError(ErrorTask):  # type: ignore[misc]
        """The answer to a request that is too large, or no HTTP."""

        def execute(self) -> None:
            """Note, then answer as ever."""
            nonlocal quiet_until
            if time.monotonic() >= quiet_until:
                quiet_until = time.monotonic() + 1
                kind = "too large" if getattr(self.request.error, "code", 400) == 413 else "bad request"
                try:
                    store.note(kind, refused=True)
                except SQLAlchemyError as cause:
                    logging.getLogger(__name__).error("a refusal could not be noted: %s", type(cause).__name__)
            super().execute()

    class Channel(HTTPChannel):  # type: ignore[misc]
        """As ever but for errors."""

        error_task_class = NotedError

    return Channel
