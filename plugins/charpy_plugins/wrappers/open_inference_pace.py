"""How fast a server may be asked: requests, and the rows in them, spaced out."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from functools import cache


@dataclass
class Pace:
    """Spaces requests out, those of all threads together; None for no limit."""

    requests_per_second: float | None
    rows_per_second: float | None
    _next: float = 0.0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait(self, rows: int) -> None:
        """Return when a request of `rows` rows may be sent."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            gaps = [1 / self.requests_per_second] if self.requests_per_second else []
            gaps += [rows / self.rows_per_second] if self.rows_per_second else []
            self._next = start + max(gaps, default=0.0)
        if start > now:
            time.sleep(start - now)


@cache
def pace_of(server: str, requests_per_second: float | None, rows_per_second: float | None) -> Pace:
    """One for each server: the judge's model and the attacked one share its limit."""
    return Pace(requests_per_second, rows_per_second)
