"""What a front door is to the fuzzer: inputs to begin with, how one is changed, and how charpy takes it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from random import Random
from typing import ClassVar


class WrongAnswerError(Exception):
    """An input that charpy took, and should not have taken so: the door's own complaint."""


class Door(ABC):
    """One front door. `open` may raise charpy's own errors; everything else that it raises is a finding."""

    name: ClassVar[str]
    title: ClassVar[str]
    ways: ClassVar[str]
    """How inputs are made, for the page."""
    memory_gib: ClassVar[float] = 3.0
    """Resident memory that no input may need."""
    largest: ClassVar[int] = 1 << 16
    """Bytes of an input, at most."""

    @abstractmethod
    def seeds(self) -> list[bytes]:
        """Inputs that charpy takes."""

    @abstractmethod
    def mutate(self, data: bytes, random: Random) -> bytes:
        """Another input, from one."""

    @abstractmethod
    def open(self, data: bytes, folder: Path) -> None:
        """Let charpy take the input, with all that follows; only `folder` may be written to.

        Raises:
            CharpyError: charpy refuses it.
            WrongAnswerError: charpy takes it for something else than it is.
        """
