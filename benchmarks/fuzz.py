"""Fuzzing of the front doors: changed inputs, each of which must get a result or one of charpy's own errors.

python benchmarks/fuzz.py [--minutes 15] [--seed 0] [--corpus build/fuzz]
        at each door for so long; writes benchmarks/results/fuzzing.md from all that was run with this corpus so far
python benchmarks/fuzz.py --door spec|run|image|onnx
        at one door, without the page; `--minutes 0` writes the page alone
python benchmarks/fuzz.py --door onnx --again FILE
        opens one input, and says what is wrong with the answer

With atheris (`charpy[fuzz]`) inputs that reach something new are changed further; without it only seeds are.
What charpy's answer must not be is in `fuzzing/watch.py`. A process that an input ends is started again.
"""

from __future__ import annotations

import argparse
import faulthandler
import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fuzzing.loop import DOORS, Loop, door_of, instrumented, keep
from fuzzing.page import write_page
from fuzzing.watch import ASLEEP, OUT_OF_MEMORY, Finding, look

MEMORY = next((folder for folder in ("/dev/shm",) if os.access(folder, os.W_OK)), None)
"""A folder that is no disk, where there is one: each input gets files of its own."""

_FRAME = re.compile(r'File "[^"]*/(?:charpy|charpy_plugins|charpy_models)/(?:[^"]*/)?([^"/]+)", line \d+ in (\S+)')


def main() -> None:
    """Fuzz, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--door", choices=[*DOORS, "all"], default="all")
    parser.add_argument("--minutes", type=float, default=15.0, help="for each door")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=Path("build/fuzz"), help="kept between runs")
    parser.add_argument("--again", type=Path, help="open this input once")
    parser.add_argument("--worker", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    sys.dont_write_bytecode = True
    if given.again is not None:
        raise SystemExit(_again(given.door, given.again))
    if given.worker is not None:
        _work(given.door, given.corpus, given.seed, given.worker)
        return
    for name in DOORS if given.door == "all" else (given.door,):
        if given.minutes > 0:
            _fuzz(name, given.corpus / name, given.seed, given.minutes * 60)
    if given.door == "all":
        write_page(given.corpus, {name: door_of(name) for name in DOORS})


def _fuzz(name: str, folder: Path, seed: int, seconds: float) -> None:
    """Processes at one door, until the time is up."""
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(door_of(name).seeds()):
        (corpus / f"seed-{number:03d}").write_bytes(data)
    began, count, deaths = time.monotonic(), 0, 0
    while (left := seconds - (time.monotonic() - began)) > 1:
        command = [sys.executable, __file__, "--door", name, "--corpus", str(folder), "--worker", f"{left:.0f}"]
        (folder / "count").write_text("0", encoding="utf-8")
        command += ["--seed", str(seed + deaths)]
        try:
            ended = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=left + 2 * ASLEEP)
        except subprocess.TimeoutExpired:  # its time is up, and it does not come to its end: a lock of the fuzzer's
            ended = None
        count += json.loads((folder / "count").read_text(encoding="utf-8"))
        if ended is None or ended.returncode == 0:
            break
        deaths += 1
        found = _death(ended.returncode, ended.stderr.decode(errors="replace"))
        if keep(folder, found, (folder / "current").read_bytes()):
            print(f"finding: {found.key}", flush=True)
    known = json.loads((folder / "done").read_text()) if (folder / "done").exists() else []
    part = {"seconds": time.monotonic() - began, "inputs": count, "ended": deaths, "guided": _guided(), "seed": seed}
    (folder / "done").write_text(json.dumps([*known, part], indent=1), encoding="utf-8")
    print(f"{name}: {count} inputs in {part['seconds']:.0f} s, {deaths} processes ended", flush=True)


def _death(code: int, told: str) -> Finding:
    """What ended a process, and where charpy was."""
    frame = _FRAME.search(told[told.find("(most recent call first)") :])
    place = f"{frame[1]}:{frame[2]}" if frame else "(outside charpy)"
    hangs = code == -signal.SIGPROF or "Timeout (" in told
    kind = "memory" if code == OUT_OF_MEMORY else "hang" if hangs else f"process ended with {code}"
    return Finding(kind, place, told[-6000:])


def _work(name: str, folder: Path, seed: int, seconds: float) -> None:
    faulthandler.enable()
    os.environ["CHARPY_SUPERVISE"] = "0"
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY, ignore_cleanup_errors=True) as scratch:
        door = instrumented(lambda: door_of(name)) if _guided() else door_of(name)
        loop = Loop(door, folder, Path(scratch).resolve() / "open", seed, seconds)
        loop.warm()
        if _guided():
            loop.guided()
        else:
            loop.blind()


def _guided() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _again(name: str, path: Path) -> int:
    os.environ["CHARPY_SUPERVISE"] = "0"
    faulthandler.enable()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch:
        found = look(door_of(name), path.read_bytes(), Path(scratch).resolve() / "open")
    print("nothing is wrong" if found is None else f"{found.key}\n\n{found.told}")
    return found is not None


if __name__ == "__main__":
    main()
