"""The door of run files: real runs edited, opened, and given to the commands that read one.

An input is a script of edits (`run_edits`), so that it can be read, and says the same of the next run file.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import sqlite3
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import numpy as np

from charpy.runfile import RunFile
from charpy.runfile.integrity import sealed
from charpy.runfile.schema import COLUMNS
from fuzzing import networks
from fuzzing.door import Door, WrongAnswerError
from fuzzing.noise import noise
from fuzzing.run_edits import COMMANDS, applied, drawn, only_bytes

ATTACKED = (
    {"norm": "l0", "levels": [1, 3], "queries": 40, "battery": [{"kind": "few_pixel"}]},
    {"norm": "linf", "levels": [10, 40], "queries": 40, "battery": [{"kind": "square"}]},
)
SEARCHED = (
    {"norm": "linf", "levels": "minimal", "queries": 20, "battery": [{"kind": "square"}]},
    {"norm": "l2", "levels": [400], "queries": 20, "battery": [{"kind": "square"}]},
)


class _EnoughError(Exception):
    """So much of a run was wanted."""


class Runs(Door):
    """Bytes, pages, rows and JSON of a run file; what opens is verified, reported, exported, compared or resumed."""

    name, title = "run", "run files"
    ways = (
        "bits, bytes, pages and header; files beside it; rows, values and JSON by SQL, with and without new digests "
        "and seal; views and triggers"
    )
    memory_gib = 4.0
    largest = 1 << 14

    def __init__(self) -> None:
        home = Path(tempfile.mkdtemp(prefix="fuzz-runs-"))
        weakref.finalize(self, shutil.rmtree, home, ignore_errors=True)
        self._runs, self._specs = made_runs(home)
        self._contents = [_contents(path) for path in self._runs]
        self._figures = [_figures(path) for path in self._runs]

    def seeds(self) -> list[bytes]:
        """Runs as they are, by the quicker commands, and edits."""
        quick = COMMANDS[:3]
        whole = [{"run": run, "do": do, "edits": []} for run, do in zip((0, 1, 2), quick, strict=True)]
        random = Random(0)
        one = [
            {"run": n % 3, "do": quick[n % 3], "edits": [drawn(random)], "digests": True, "seal": "off"}
            for n in range(16)
        ]
        return [json.dumps(script).encode() for script in (*whole, *one)]

    def mutate(self, data: bytes, random: Random) -> bytes:
        """Edits more, fewer or others."""
        script = _script(data)
        edits = list(script["edits"])
        match random.randrange(6):
            case 0 if edits:
                del edits[random.randrange(len(edits))]
            case 1 | 2:
                edits.append(drawn(random))
            case 3 if edits:
                edits[random.randrange(len(edits))] = drawn(random)
            case 4:
                edits = [drawn(random)]
            case _:
                edits = [drawn(random) for _ in range(random.randrange(1, 4))]
        script["edits"] = edits[-6:]
        if random.random() < 0.4:
            script |= {"run": random.randrange(3), "do": random.choices(COMMANDS, (6, 6, 4, 1, 3, 6))[0]}
        if random.random() < 0.3:
            script |= {"digests": random.random() < 0.8, "seal": random.choice(("off", "off", "renew", "keep"))}
        return json.dumps(script).encode()

    def open(self, data: bytes, folder: Path) -> None:
        """The edited run, opened; then the command of the script."""
        script = _script(data)
        number = script["run"]
        path = folder / "run.charpy"
        shutil.copyfile(self._runs[number], path)
        applied(script, path)
        before, was_sealed = path.read_bytes(), sealed(path)
        with RunFile.open(path) as run:
            same = _contents_of(run) == self._contents[number]
        if only_bytes(script) and not same:
            raise WrongAnswerError("a changed run was opened: nothing was noticed")
        if script["do"] == "resume":
            code = resumed(self._specs[number], path)
        else:
            code = _command(script["do"], path, folder, self._runs[2 if number == 0 else 0])
        if was_sealed and path.read_bytes() != before:
            raise WrongAnswerError("a sealed run was written to: " + script["do"])
        if code == 0 and script["do"] == "verify":
            self._believed(path, number)

    def _believed(self, path: Path, number: int) -> None:
        """A run that is said to agree has no witness and no right answer more than were found."""
        found, expected = _figures(path), self._figures[number]
        if any(found[key] > expected.get(key, 0) for key in found):
            raise WrongAnswerError(f"a forged run was verified: {found} instead of {expected}")


def _script(data: bytes) -> dict[str, Any]:
    try:
        script = json.loads(data)
        edits = script["edits"]
        number, do = int(script["run"]) % 3, str(script["do"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError):
        script, edits, number, do = {}, [["write", 0, noise(data, Random(0)).hex()[:4000]]], 0, "verify"
    edits = edits if isinstance(edits, list) else []
    return {**script, "edits": edits, "run": number, "do": do if do in COMMANDS else "verify"}


def _command(do: str, path: Path, folder: Path, other: Path) -> int:
    from charpy.cli.compare import compare
    from charpy.cli.export import export
    from charpy.cli.report import report
    from charpy.cli.verify import verify

    out = folder / "out"
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()), _in_this_process():
        match do:
            case "verify":
                return verify(path, as_json=True)
            case "report":
                return report(path, formats="json,csv,markdown,junit,sarif", out=out)
            case "html":
                return report(path, formats="html", out=out)
            case "export":
                return export(str(path), formats="csv,png", folder=out)
            case _:
                return compare(path, other, out=out) or 0


@contextlib.contextmanager
def _in_this_process() -> Iterator[None]:
    with patch.dict(os.environ, {"CHARPY_SUPERVISE": "0"}):
        yield


def _contents(path: Path) -> dict[str, list[Any]]:
    with RunFile.open(path) as run:
        return _contents_of(run)


def _contents_of(run: RunFile) -> dict[str, list[Any]]:
    """Every row of every table, without its digest."""
    db = run._db
    tables = {table: f"SELECT {', '.join(columns)} FROM {table}" for table, columns in COLUMNS.items()}
    try:
        return {table: sorted(map(repr, db.execute(query))) for table, query in tables.items()}
    except sqlite3.Error as cause:
        return {"error": [str(cause)]}


def _figures(path: Path) -> dict[str, int]:
    """Without what lies beside it: how many witnesses and right answers there are of each model."""
    queries = {
        "witnesses": "SELECT model, COUNT(DISTINCT norm || sample) FROM witnesses GROUP BY model",
        "right": "SELECT model, COUNT(*) FROM samples WHERE prediction = label AND valid = 1 GROUP BY model",
    }
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True)) as db:
        return {f"{key} {model}": count for key, query in queries.items() for model, count in db.execute(query)}


@cache
def _images() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    return random.integers(0, 256, (6, 1, 6, 6), np.uint8), np.array([0, 1, 0, 1, 0, 1])


def resumed(spec: dict[str, Any], path: Path, most: int | None = None) -> int:
    """Do the assessment that `path` holds, or what is left of it, until it has so many units."""
    from charpy.evaluator import evaluate
    from charpy.specs import RunSpec, parse

    def listen(now: Any) -> None:
        if most is not None and path.exists() and _units(path) >= most:
            raise _EnoughError

    with patch("charpy.engine._MEASURE_SECONDS", 0.02), contextlib.suppress(_EnoughError):
        evaluate(parse(RunSpec, json.loads(json.dumps(spec))), path, listen=listen)
    return 0


def made_runs(home: Path) -> tuple[list[Path], list[dict[str, Any]]]:
    """A finished run, one of two models with searched levels, and one that was not finished; and their specs."""
    images, _ = _images()
    model, net = home / "net.onnx", home / "two.onnx"
    model.write_bytes(networks.linear())
    net.write_bytes(networks.convolutional())
    from charpy_plugins.wrappers.onnx_file import OnnxModel

    labels = OnnxModel(OnnxModel.Params(path=str(model), device="cpu")).predict(_tensor(images)).argmax(1).numpy()
    labels[5] = 1 - labels[5]  # one that is classified wrongly
    np.savez(home / "data.npz", images=images, labels=labels)
    data = {"kind": "npz", "params": {"path": str(home / "data.npz")}}
    proofs = {"certifiers": [{"kind": "crown", "params": {"seconds": 1}}]}
    first = {
        "data": data,
        "models": [{"reference": str(model), "name": "net"}],
        "threats": ATTACKED,
        "certify": proofs,
        "shard": 4,
    }
    second = {
        "data": data, "grid": "none", "threats": SEARCHED, "models": [
            {"reference": str(net), "name": "two"},
            {"reference": str(model), "name": "behind", "defenses": [{"kind": "jpeg"}], "attackers": ["black-box"]},
        ],
    }  # fmt: skip
    made = []
    for number, (spec, most) in enumerate(((first, None), (second, None), (first, 6))):
        path = home / f"{number}" / "run.charpy"
        path.parent.mkdir()
        resumed(spec, path, most)
        with closing(sqlite3.connect(path)) as db:
            if most is not None:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        made.append(path)
    return made, [first, second, first]


def _tensor(images: Any) -> Any:
    import torch

    return torch.from_numpy(images).float() / 255


def _units(path: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT COUNT(*) FROM units").fetchone()[0])
    except sqlite3.Error:
        return 0
