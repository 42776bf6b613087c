"""The `charpy` program: one file a command, each registered through the `charpy_commands` hook."""

from charpy.cli.app import main

__all__ = ["main"]
