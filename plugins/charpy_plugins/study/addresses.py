"""The address of an answers database as it may be printed: without any password."""

from __future__ import annotations

import re

_PASSWORD = re.compile(r"(?<=://)([^:/@?]*):.*@")
"""Up to the last @, for a password may hold every letter that ends another part."""

_PARAMETER = re.compile(r"([?&][^=&]*pass[^=&]*=)[^&]*", re.IGNORECASE)
"""Libpq takes `password`, `sslpassword` and `passfile` behind the question mark too."""


def shown_address(where: str) -> str:
    """A URL without its password; a path as it is."""
    if "://" not in where:
        return where
    return _PARAMETER.sub(r"\1***", _PASSWORD.sub(r"\1:***@", where, count=1))
