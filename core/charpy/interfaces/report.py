"""The report contract: one finished run in, one file out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from charpy.errors import SpecError
from charpy.interfaces.component import Component
from charpy.wholefile import replacing

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


class Report(Component, ABC):
    """Writes a run for a reader."""

    suffix: ClassVar[str]

    @abstractmethod
    def render(self, run: RunSummary) -> bytes:
        """The whole report; the same run gives the same bytes."""

    def write(self, run: RunSummary, path: Path) -> Path:
        """Render to `path` through a temporary file in the same folder, so that a reader never sees half a report.

        Raises:
            SpecError: nothing can be written there; what stood there before is left.
        """
        text = self.render(run)
        try:
            with replacing(path) as partial:
                partial.write_bytes(text)
        except OSError as cause:
            raise SpecError(
                "the report cannot be written",
                where=str(path),
                found=cause.strerror or cause,
                hint="make room, or give another --out; the run file is whole, and `charpy report` makes its reports",
            ) from None
        return path
