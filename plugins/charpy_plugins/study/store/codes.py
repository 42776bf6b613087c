"""Secrets of a participant, kept as hashes only: the cookie's token, the panel's ids, the code for withdrawal."""

from __future__ import annotations

import hashlib
import hmac
import unicodedata
from base64 import b32encode
from typing import Final

ALPHABET: Final = "ABCDEFGH8JKLMN9PQRSTUVWXYZ234567"
"""Of codes: the letters and figures that nobody takes for another one; no I, no O, no 0, no 1."""

LENGTH: Final = 16


def digest(text: str) -> str:
    """Of something that cannot be guessed: no salt is needed."""
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()


def salted(salt: bytes, text: str) -> str:
    """Of something that could be guessed, such as the id that a panel gave a person."""
    return hmac.new(salt, text.encode("utf-8", errors="surrogatepass"), hashlib.sha256).hexdigest()


def withdrawal_code(salt: bytes, participant: str) -> str:
    """80 bits as 16 characters in groups of four; who has the salt can tell it from the participant's id."""
    mark = hmac.new(salt, f"withdraw {participant}".encode(), hashlib.sha256).digest()
    standard = b32encode(mark[:10]).decode()
    return _grouped(standard.translate(str.maketrans("IO", "89")))


def tidy(code: str) -> str:
    """A code as somebody typed it, as it was given: any case, with spaces or dashes of any kind, or none."""
    plain = unicodedata.normalize("NFKC", code[:200]).upper()
    return _grouped("".join(letter for letter in plain if letter in ALPHABET))


def _grouped(code: str) -> str:
    return "-".join(code[place : place + 4] for place in range(0, len(code), 4))
