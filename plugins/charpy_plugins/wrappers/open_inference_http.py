"""HTTP to a model server: tried again while that may help, bounded in time and size, and silent about secrets."""

from __future__ import annotations

import random
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from charpy.errors import CharpyError, ModelError, ServiceError
from charpy_plugins.wrappers.open_inference_pace import pace_of
from charpy_plugins.wrappers.open_inference_secret import forms_of, secret_of, trusted

AGAIN = frozenset({429, 502, 503, 504})
"""Status codes after which the same request may succeed."""

LONGEST_PAUSE = 60.0
"""Seconds between two tries, at most, where the server does not ask for more."""

LONGEST_ASKED = 600.0
"""Seconds that a server may ask for with Retry-After."""

EXCERPT = 300
"""Characters of an answer that an error message shows."""


@dataclass(frozen=True)
class Manners:
    """How a server is asked.

    Attributes:
        timeout: seconds for one answer, from its first byte to its last, and for a connection.
        retries: tries after the first.
        backoff: seconds before the first of them; doubled each time, less up to a half by chance.
        cap: bytes of an answer, at most.
        requests_per_second, rows_per_second: None for no limit.
        parallel: connections at most.
        ca_file: certificates to trust, instead of the usual ones.
        auth_header, auth_env: a header, and the environment variable that holds its value.
    """

    timeout: float = 60.0
    retries: int = 5
    backoff: float = 0.5
    cap: int = 2**26
    requests_per_second: float | None = None
    rows_per_second: float | None = None
    parallel: int = 1
    ca_file: str | None = None
    auth_header: str = "Authorization"
    auth_env: str | None = None


@dataclass(frozen=True)
class Reply:
    """What the server said."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Channel:
    """Asks one server."""

    def __init__(self, manners: Manners, where: str) -> None:
        """Nothing is sent yet.

        Raises:
            ModelError: httpx is not installed.
            SpecError: the variable with the header's value is not set, or holds no header; no such certificates.
        """
        try:
            import httpx
        except ImportError:
            raise ModelError(
                "a served model needs httpx",
                where=where,
                found="it is not installed",
                expected="the extra `served`",
                hint="pip install 'charpy[served]'",
            ) from None
        self.manners, self.where = manners, where
        headers = {"accept-encoding": "identity", "user-agent": "charpy"}
        self._secrets: tuple[str, ...] = ()
        if manners.auth_env is not None:
            value = secret_of(manners.auth_env, where)
            self._secrets = forms_of(value)
            headers[manners.auth_header] = value
        origin = httpx.URL(where)
        self._pace = pace_of(f"{origin.host}:{origin.port}", manners.requests_per_second, manners.rows_per_second)
        self._client = httpx.Client(
            headers=headers,
            verify=trusted(manners.ca_file),
            timeout=httpx.Timeout(manners.timeout),
            limits=httpx.Limits(max_connections=manners.parallel),
            follow_redirects=False,
            trust_env=False,
        )
        weakref.finalize(self, self._client.close)

    def get(self, url: str, *, patient: bool = True) -> Reply:
        """GET; any status is an answer, but a redirect is refused. If not `patient`, those of `AGAIN` are, too."""
        return self._send("GET", url, None, {}, 0, patient=patient)

    def post(self, url: str, content: bytes, headers: Mapping[str, str], rows: int) -> Reply:
        """POST `content`, `rows` rows of a batch; any status is an answer, but a redirect is refused.

        Raises:
            ServiceError: no answer, or only ones of `AGAIN`, after all tries.
            ModelError: a redirect, an answer that is too large.
        """
        return self._send("POST", url, content, headers, rows)

    def excerpt(self, text: str | bytes) -> str:
        """The beginning of a text of the server's, in one line and without the secret."""
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        for secret in self._secrets:
            plain = plain.replace(secret, "***")
        plain = " ".join(plain.split())
        return plain if len(plain) <= EXCERPT else f"{plain[:EXCERPT]}..."

    def without_secrets(self, value: Any) -> Any:
        """A JSON value of the server's, without the secret in any text."""
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, "***")
            return value
        if isinstance(value, list):
            return [self.without_secrets(part) for part in value]
        if isinstance(value, dict):
            return {self.without_secrets(key): self.without_secrets(part) for key, part in value.items()}
        return value

    @contextmanager
    def masking(self) -> Iterator[None]:
        """No error that leaves the block shows the secret, whatever the server put into its answers."""
        try:
            yield
        except CharpyError as error:
            texts = {"what": error.what, "where": error.where, "found": error.found, "expected": error.expected}
            masked = self.without_secrets({name: None if v is None else str(v) for name, v in texts.items()})
            if masked == {name: None if v is None else str(v) for name, v in texts.items()}:
                raise
            raise type(error)(masked.pop("what"), **masked, hint=error.hint) from None

    def _send(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        rows: int,
        *,
        patient: bool = True,
    ) -> Reply:
        import httpx

        retries = self.manners.retries
        for attempt in range(retries + 1):
            self._pace.wait(rows)
            asked = None
            try:
                reply = self._once(method, url, content, headers)
            except httpx.TransportError as cause:
                why = self._explained(cause)
                if isinstance(cause, httpx.LocalProtocolError | httpx.UnsupportedProtocol) or "CERTIFICATE" in why:
                    raise self._gone(why, attempt, "give the server's certificates with `ca_file`") from None
            else:
                if reply.status not in AGAIN or not patient:
                    return reply
                why = f"HTTP {reply.status}: {self.excerpt(reply.body)}"
                asked = _retry_after(reply.headers)
                if asked is not None and asked > LONGEST_ASKED:
                    raise self._gone(f"{why}; it asks to be left alone for {asked:.0f} s", attempt)
            if attempt < retries:
                own = min(LONGEST_PAUSE, self.manners.backoff * 2**attempt) * random.SystemRandom().uniform(0.5, 1.0)
                time.sleep(own if asked is None else max(asked, own))
        raise self._gone(why, retries)

    def _once(self, method: str, url: str, content: bytes | None, headers: Mapping[str, str]) -> Reply:
        import httpx

        ends = time.monotonic() + self.manners.timeout
        with self._client.stream(method, url, content=content, headers=dict(headers)) as response:
            status, found = response.status_code, {name.lower(): value for name, value in response.headers.items()}
            if 300 <= status < 400:
                raise ModelError(
                    "the server redirects",
                    where=self.where,
                    found=f"HTTP {status} to {self.excerpt(found.get('location', 'nowhere'))}",
                    expected="an answer",
                    hint="give the address that it redirects to, if you trust it: what is sent there is not checked",
                )
            if found.get("content-encoding", "identity") != "identity":
                raise ModelError(
                    "the answer is compressed, which was not asked for",
                    where=self.where,
                    found=self.excerpt(found["content-encoding"]),
                    expected="no content-encoding",
                    hint="switch compression off in the server, or in the proxy before it",
                )
            pieces, size = [], 0
            for piece in response.iter_raw():
                size += len(piece)
                if size > self.manners.cap:
                    raise self._too_large()
                if time.monotonic() > ends:
                    raise httpx.ReadTimeout(f"{size} bytes in {self.manners.timeout:g} s")
                pieces.append(piece)
        return Reply(status, found, b"".join(pieces))

    def _explained(self, cause: Exception) -> str:
        """What went wrong on the way, in words; never what was sent."""
        import httpx

        if isinstance(cause, httpx.LocalProtocolError):
            return "the request cannot be sent as it is"
        kind = type(cause).__name__
        if isinstance(cause, httpx.TimeoutException):
            return f"no answer in {self.manners.timeout:g} s ({kind})"
        return f"{kind}: {self.excerpt(str(cause))}" if str(cause) else kind

    def _gone(self, why: str, retries: int, hint: str = "") -> ServiceError:
        tries = f"tried {retries + 1} times, last: " if retries else ""
        return ServiceError(
            "the server does not answer",
            where=self.where,
            found=f"{tries}{why}",
            expected=f"an answer within {self.manners.timeout:g} s",
            hint=hint
            or "look whether it runs; a slow one wants a smaller `batch` or a longer `timeout_seconds`; "
            "the same command goes on from here",
        )

    def _too_large(self) -> ModelError:
        return ModelError(
            "the answer is too large",
            where=self.where,
            found=f"more than {self.manners.cap} bytes",
            expected="one row of scores for each image",
            hint="set output_name, so that only the scores are sent; or a smaller `batch`, or a larger `answer_mib`",
        )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks for: a number, or a date."""
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, ((when if when.tzinfo else when.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
