"""One run = one SQLite file, which survives what happens to processes and disks, and tells what happened to it."""

from charpy.runfile.runfile import RunFile

__all__ = ["RunFile"]
