"""The report contract: one finished run in, one file out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from charpy.interfaces.component import Component

if TYPE_CHECKING:
    from charpy.analysis.summary import RunSummary


class Report(Component, ABC):
    """Writes a run for a reader."""

    suffix: ClassVar[str]

    @abstractmethod
    def render(self, run: RunSummary) -> bytes:
        """The whole report; the same run gives the same bytes."""

    def write(self, run: RunSummary, path: Path) -> Path:
        """Render to `path` through a temporary file in the same folder, so that a reader never sees half a report."""
        partial = path.with_name(path.name + ".partial")
        partial.write_bytes(self.render(run))
        partial.replace(path)
        return path
