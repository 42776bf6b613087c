"""`charpy study serve`: the pages of a study, for participants and for the operator."""

from __future__ import annotations

import secrets
import sys
from contextlib import ExitStack, closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from charpy.cli.app import INTERRUPTED, TERMINATED
from charpy.errors import DataError, SpecError
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy_plugins.study.document import StudyDocument

SHORTEST_TOKEN = 16


def serve(
    study: Path,
    *,
    answers: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    public_url: str | None = None,
    proxy: bool = False,
    insecure: bool = False,
    preview: bool = False,
    panel: bool = False,
    laboratory: bool = False,
    completion_code: str | None = None,
    completion_url: str | None = None,
    screen_out_url: str | None = None,
    full_url: str | None = None,
    per_condition: int | None = None,
    operator_token_file: Path | None = None,
    threads: int = 8,
) -> int:
    """Put a study before participants, in the browser, until Ctrl-C.

    Every answer is on disk before the next question comes. The same command again goes on from there. The token for the
    operator's page is printed on stderr, where none is given.

    Args:
        study: a study file.
        answers: the database: a path of SQLite, or postgresql://user:password@host/database. Default: the study file's
            name and .answers.sqlite.
        host: the address to listen on; other machines reach the pages through a reverse proxy with https.
        port: to listen on; 0 takes a free one.
        public_url: what participants type, https://...: cookies go over https only.
        proxy: a reverse proxy stands before the server; its X-Forwarded headers are believed.
        insecure: serve other machines without https, as in a laboratory's own network.
        preview: try it out: texts may have [[places]] that are not filled in, and answers go elsewhere.
        panel: only who comes from Prolific may take part.
        laboratory: one device for many participants: the last page has a button for the next one, who starts anew.
        completion_code: where who is done goes: Prolific's code ...
        completion_url: ... or an https address.
        screen_out_url: where who does not agree goes; an https address or a code of Prolific.
        full_url: where who comes too late goes; an https address or a code of Prolific.
        per_condition: participants a condition needs; with so many in every one, the study is full.
        operator_token_file: a file with the token of the operator's page, 16 characters at least.
        threads: requests that are answered at once.
    """
    _check_installed()
    from charpy_plugins.study.placeholders import placeholders
    from charpy_plugins.study.store.opening import PREVIEW
    from charpy_plugins.study.store.store import Store
    from charpy_plugins.study.studyfile import read_study
    from charpy_plugins.study.web.app import create_app
    from charpy_plugins.study.web.prolific import address
    from charpy_plugins.study.web.server import BACKLOG, is_loopback, reserved, serve_until_told
    from charpy_plugins.study.web.settings import Settings

    if not is_loopback(host) and not insecure and not (public_url or "").startswith("https://"):
        raise SpecError(
            "other machines can reach this address, and nothing would be encrypted",
            where=f"--host {host}",
            expected="--public-url https://..., with a reverse proxy that has the certificate",
            hint="`docs/study.md` shows one; --insecure serves a laboratory's own network all the same",
        )
    if completion_code and completion_url:
        raise SpecError("two ways out", where="--completion-code, --completion-url", expected="one of the two")
    if panel and laboratory:
        found = "a panel's participants come with their own browser"
        raise SpecError("one or the other", where="--panel, --laboratory", found=found, expected="one of the two")
    for name, number in (("--per-condition", per_condition), ("--threads", threads)):
        if number is not None and number < 1:
            raise SpecError("too few", where=name, found=number, expected="1 or more")
    if not 0 <= port <= 65535:
        raise SpecError("no such port", where="--port", found=port, expected="0 to 65535")
    for name, way in (
        ("--completion-code", completion_code),
        ("--completion-url", completion_url),
        ("--screen-out-url", screen_out_url),
        ("--full-url", full_url),
    ):
        address(way or "", name)
    token = _token(operator_token_file)
    whole = read_study(study)
    _check(whole.document, study, placeholders(whole.document), preview)
    settings = Settings(
        secure=(public_url or "").startswith("https://"),
        allowed_hosts=_hosts(host, public_url, insecure),
        proxies=int(proxy),
        panel=panel,
        laboratory=laboratory,
        completion=completion_code or completion_url or "",
        screened_out=screen_out_url or "",
        full=full_url or "",
        per_condition=per_condition,
        operator_token=token,
        limited=True,
    )
    where = answers or str(study.with_name(study.name + (".preview.sqlite" if preview else ".answers.sqlite")))
    simulated = PREVIEW if preview else ""
    with ExitStack() as opened:
        server = opened.enter_context(reserved(host, port))
        store = opened.enter_context(closing(Store.open(where, whole.document, create=True, simulated=simulated)))
        app = create_app(whole, store, settings)
        here = f"{f'[{host}]' if ':' in host else host}:{server.getsockname()[1]}"
        base = (public_url or f"http://{here}").rstrip("/")
        server.listen(BACKLOG)  # before anybody is told where: who comes now waits a moment
        if public_url:
            print(f"charpy: listening on {here}", file=sys.stderr, flush=True)
        print(f"participants  {visible(base)}/\noperator      {visible(base)}/operator/", flush=True)
        if operator_token_file is None:
            print(f"operator's token, for this run: {token}", file=sys.stderr, flush=True)
        number = serve_until_told(app.wsgi_app, server, store, threads=threads, proxy=proxy)
    print("charpy: stopped; every answer that was acknowledged is stored", file=sys.stderr)
    return INTERRUPTED if number == 2 else TERMINATED


def _check(document: StudyDocument, study: Path, unfilled: tuple[str, ...], preview: bool) -> None:
    if unfilled and not preview:
        raise DataError(
            "participants would read what nobody has written yet",
            where=str(study),
            found=", ".join(unfilled[:5]) + (" ..." if len(unfilled) > 5 else ""),
            hint="fill the texts in and build the study again; --preview shows it as it is",
        )
    empty = [condition.name for condition in document.conditions if not document.of(condition.name)]
    if empty:
        raise DataError("a condition has no images", where=str(study), found=", ".join(empty))
    for condition in document.conditions:
        images = len(document.of(condition.name))
        if images < document.questions:
            text = (
                f"{condition.name} has {images} images for {document.questions} questions: its participants get fewer"
            )
            print(f"charpy: {text}", file=sys.stderr)


def _token(file: Path | None) -> str:
    if file is None:
        return secrets.token_urlsafe(24)
    try:
        text = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise SpecError("the token cannot be read", where=str(file), found=str(cause)) from None
    if len(text) < SHORTEST_TOKEN:
        expected = f"{SHORTEST_TOKEN} characters at least"
        hint = "python -c 'import secrets; print(secrets.token_urlsafe(24))' writes one"
        raise SpecError("a token that can be guessed", where=str(file), found=len(text), expected=expected, hint=hint)
    return text


def _hosts(host: str, public_url: str | None, insecure: bool) -> tuple[str, ...]:
    """Names under which the pages answer; any, where nobody can say."""
    if public_url is not None:
        parts = urlsplit(public_url)
        plain = parts.scheme in ("http", "https") and parts.hostname and parts.path in ("", "/") and not parts.query
        if not plain:
            raise SpecError("no address of a site", where="--public-url", found=public_url, expected="https://name")
        return (str(parts.hostname),)
    return () if insecure else ("localhost", "127.0.0.1", "[::1]", host)


def _check_installed() -> None:
    names = {"flask": "flask", "flask_wtf": "flask-wtf", "flask_limiter": "flask-limiter"}
    names |= {"sqlalchemy": "sqlalchemy", "waitress": "waitress"}
    missing = [name for module, name in names.items() if find_spec(module) is None]
    if missing:
        found = f"no {', '.join(missing)}"
        raise SpecError(
            "the pages need packages that are not installed", found=found, hint="pip install 'charpy[study]'"
        )
