"""What the reproductions of papers share: runs that resume, and pages whose measured blocks are filled in."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"(<!-- measured: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def run(spec: Mapping[str, Any], out: Path, folder: Path) -> int:
    """`charpy run` of `spec` into `out / folder`, from the start or from where it stopped; its exit code."""
    where = out / folder
    where.mkdir(parents=True, exist_ok=True)
    path, text = where / "spec.json", json.dumps(spec, indent=1)
    if (where / "report.json").is_file() and path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    path.write_text(text, encoding="utf-8")
    with (where / "log.txt").open("w", encoding="utf-8") as log:
        done = charpy(["run", str(path), "--out", str(where)], log)
    print(f"{folder}: {'done' if done == 0 else f'exit code {done}, see log.txt'}", flush=True)
    return done


def command(arguments: Sequence[str], out: Path, folder: Path, last: str) -> int:
    """`charpy` with these arguments into `out / folder`, unless the file `last` is there; its exit code."""
    where = out / folder
    where.mkdir(parents=True, exist_ok=True)
    if (where / last).is_file():
        return 0
    with (where / "log.txt").open("w", encoding="utf-8") as log:
        done = charpy([*arguments, "--out", str(where)], log)
    print(f"{folder}: {'done' if done == 0 else f'exit code {done}, see log.txt'}", flush=True)
    return done


def charpy(arguments: Sequence[str], log: Any) -> int:
    """The command with these arguments, on one thread; its exit code."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "charpy", *arguments], stdout=log, stderr=log, env=environment, check=False
    ).returncode


def fill(page: Path, blocks: Mapping[str, str]) -> None:
    """Replace what stands between `<!-- measured: NAME -->` and `<!-- end -->`; a block without a text stays."""
    text = page.read_text(encoding="utf-8")
    page.write_text(
        BLOCK.sub(lambda m: f"{m[1]}\n{blocks[m[2]].strip()}\n\n{m[3]}" if m[2] in blocks else m[0], text),
        encoding="utf-8",
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """A pipe table; the first column is text."""
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "---:|" * (len(head) - 1)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
