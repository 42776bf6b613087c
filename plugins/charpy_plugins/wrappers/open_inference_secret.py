"""The header that lets us in, from an environment variable; and the certificates by which a server is known."""

from __future__ import annotations

import base64
import os
import re
import ssl

from charpy.errors import SpecError


def secret_of(variable: str, where: str) -> str:
    """The header's value, from the environment variable of this name.

    Raises:
        SpecError: it is not set, or holds no header. The value is not shown.
    """
    if not re.fullmatch("[A-Z_][A-Z0-9_]*", variable):
        raise SpecError(
            "auth_env names no environment variable",
            where=where,
            found=f"{len(variable)} characters, not shown: they may be the secret itself",
            expected="a name in capitals, such as MODEL_SERVER_AUTH",
            hint="put the secret into an environment variable, and the variable's name here",
        )
    value = os.environ.get(variable)
    if not value:
        raise SpecError(
            "the environment variable with the server's secret is not set",
            where=where,
            found=f"{variable} (auth_env)",
            expected="the value of the header, such as `Bearer ...`",
            hint=f"export {variable}=... before the command; it is written nowhere",
        )
    if not (value.isascii() and value.isprintable() and value == value.strip()):
        raise SpecError(
            "the environment variable with the server's secret holds no header",
            where=where,
            found=f"{variable} (auth_env), {len(value)} characters",
            expected="printable ASCII without spaces around it or a line break",
            hint="look for a line break at the end of the file that it was read from",
        )
    return value


def forms_of(value: str) -> tuple[str, ...]:
    """The texts by which a server could give the secret back, the longest first."""
    parts = [part for part in value.split() if len(part) >= 4]
    try:
        decoded = base64.b64decode(value.split()[-1], validate=True).decode()
        parts += [decoded, *(part for part in decoded.split(":") if len(part) >= 4)]
    except ValueError:
        pass
    return tuple(sorted({value, *(part for part in parts if part.lower() not in {"bearer", "basic"})}, key=len)[::-1])


def trusted(ca_file: str | None) -> ssl.SSLContext:
    """What checks certificates: against those in `ca_file`, or against the system's.

    Raises:
        SpecError: no such file, or no certificates in it.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as cause:
        raise SpecError(
            "the file of certificates cannot be used",
            where=ca_file or "ca_file",
            found=cause.strerror or type(cause).__name__,
            expected="certificates in PEM",
            hint="give the certificate of the authority that signed the server's",
        ) from None
