"""Inputs one after the other, in one process that an input may end: guided by atheris, or blindly.

The process writes down each input before it opens it, so that whoever watches knows what ended it.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

from fuzzing.door import Door
from fuzzing.watch import Finding, Guard, look

DOORS = {
    "spec": "fuzzing.spec_door:Specs",
    "run": "fuzzing.run_door:Runs",
    "image": "fuzzing.image_door:Images",
    "onnx": "fuzzing.onnx_door:OnnxFiles",
}
GUIDED = ("charpy", "charpy_plugins", "charpy_models", "ruamel.yaml")
"""Packages in which atheris sees what is reached."""


def door_of(name: str) -> Door:
    """The door of that name."""
    module, _, kind = DOORS[name].partition(":")
    made: Door = getattr(importlib.import_module(module), kind)()
    return made


def keep(folder: Path, finding: Finding, data: bytes) -> bool:
    """Write a finding down; False where one of its kind and place is there already."""
    name = hashlib.sha256(finding.key.encode()).hexdigest()[:12]
    path = folder / "findings" / name
    if path.exists():
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.with_suffix(".txt").write_text(f"{finding.key}\n\n{finding.told}\n", encoding="utf-8", errors="replace")
    return True


class Loop:
    """Opens inputs at one door until the time is up.

    Args:
        folder: of the door: `corpus`, `findings`, `current` (the input that is open), `count`.
        scratch: where inputs may write.
    """

    def __init__(self, door: Door, folder: Path, scratch: Path, seed: int, seconds: float) -> None:
        self._door, self._folder, self._scratch = door, folder, scratch
        self._seed, self._end = seed, time.monotonic() + seconds
        self._guard = Guard(door.memory_gib)
        self._count, self._told = 0, time.monotonic()

    def warm(self) -> None:
        """Open what is known once, unwatched: the first import of torch is no hang."""
        for data in self._door.seeds():
            found = look(self._door, data, self._scratch)
            if found is not None:
                keep(self._folder, found, data)

    def one(self, data: bytes) -> None:
        """Open one input, and write down what is wrong."""
        (self._folder / "current").write_bytes(data)
        with self._guard.input():
            found = look(self._door, data, self._scratch)
        self._count += 1
        if found is not None and keep(self._folder, found, data):
            print(f"finding: {found.key}", flush=True)
        if time.monotonic() > self._told + 1:
            self._told = time.monotonic()
            self.save()

    def save(self) -> None:
        """How many inputs were opened."""
        (self._folder / "count").write_text(json.dumps(self._count), encoding="utf-8")

    def blind(self) -> None:
        """Changes of seeds, and of changed seeds, without a look at what they reach."""
        random = Random(self._seed)
        corpus = [path.read_bytes() for path in sorted((self._folder / "corpus").iterdir())]
        while time.monotonic() < self._end:
            data = random.choice(corpus)
            for _ in range(random.choice((1, 1, 2, 3))):
                data = self._door.mutate(data, random)
            self.one(data[: self._door.largest])
        self.save()

    def guided(self) -> None:
        """By atheris, which keeps what reaches something new."""
        import atheris

        def mutated(data: bytes, most: int, seed: int) -> bytes:
            return self._door.mutate(data, Random(seed))[:most]

        def one(data: bytes) -> None:
            if time.monotonic() > self._end:
                self.save()
                os._exit(0)
            self.one(data)

        options = [
            f"-seed={self._seed + 1}", f"-max_len={self._door.largest}", "-timeout=86400", "-rss_limit_mb=0",
            "-len_control=0", "-handle_segv=0", "-handle_abrt=0", "-handle_bus=0", "-handle_fpe=0", "-handle_ill=0",
            "-reduce_inputs=0", f"-artifact_prefix={self._folder}/",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], str(self._folder / "corpus"), *options], one, custom_mutator=mutated)
        atheris.Fuzz()


def instrumented(make: Callable[[], Door]) -> Door:
    """The door, made while atheris looks into what is imported; stays so for what is imported later."""
    import atheris

    atheris.instrument_imports(include=list(GUIDED)).__enter__()
    return make()
