"""What each library reports about models that cannot be scored: charpy, AutoAttack, foolbox, torchattacks and ART.

    python benchmarks/faulty_models.py [--peers DIR] [--only NAME ...]

Linf, 16/255, PGD of 20 steps and Square of 200 queries where a library has it, on 32 test images of digits. charpy is
run through its command line. Each peer imports itself once and answers for every model in a process forked for it, with
a time limit; the figure is the one that its own documentation computes. Writes benchmarks/results/faulty_models.md.
"""

from __future__ import annotations

import importlib.util
import json
import logging.handlers
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
from cyclopts import App, Parameter
from faulty_zoo import FAULTS
from peers import Peers

from charpy.environment import environment

LIBRARIES = ("auto-attack", "foolbox", "torchattacks", "art")
NAMES = {"auto-attack": "AutoAttack", "foolbox": "foolbox", "torchattacks": "torchattacks", "art": "ART"}
RADIUS, STEPS, QUERIES, SAMPLES = 16 / 255, 20, 200, 32
SECONDS = 40.0
HERE = Path(__file__).parent

app = App(help=__doc__)


@app.default
def compare(
    *, peers: Path | None = None, only: Annotated[tuple[str, ...], Parameter(consume_multiple=True)] = ()
) -> None:
    """Run everything and write the page."""
    names = only or tuple(FAULTS)
    rows = {name: {"charpy": ours(name)} for name in names}
    for library in LIBRARIES:
        command = [sys.executable, __file__, "peer", library, *names]
        own = {**os.environ, **({"CHARPY_PEERS": str(peers)} if peers else {})}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=own, check=False)
        for line in done.stdout.splitlines():
            if line.startswith("{"):
                answer = json.loads(line)
                rows[answer["model"]][library] = answer["text"]
        print(library, "done", file=sys.stderr)
    if only:
        print(table(rows))
        return
    page = HERE / "results" / "faulty_models.md"
    page.write_text(text_of(rows), encoding="utf-8")
    print(page)


@app.command
def peer(library: str, *names: str) -> None:
    """One library on each model, in a forked process each; a line of JSON a model."""
    folder = os.environ.get("CHARPY_PEERS")
    loaded = Peers.load(Path(folder) if folder else None)
    if folder:
        sys.path.append(str(Path(folder) / "deps"))  # what ART imports and is not installed, if it lies there
    data = samples()
    try:
        measure = robust_accuracy(library, loaded)
    except (ImportError, KeyError) as cause:
        for name in names:
            print(json.dumps({"model": name, "text": f"not installed ({cause})"}), flush=True)
        return
    for name in names:
        print(json.dumps({"model": name, "text": forked(lambda name=name: measure(name, *data))}), flush=True)


def ours(name: str) -> str:
    """What `charpy run` says of one model, in a few words; where it gives no gradients, of Square alone."""
    both = [{"kind": "pgd", "params": {"steps": STEPS}}, {"kind": "square"}]
    said = _run(name, both)
    return f"{_run(name, both[1:])} (Square alone)" if "needs GRADIENTS" in said else said


def _run(name: str, attacks: list[dict[str, Any]]) -> str:
    spec = {
        "data": {"kind": "digits", "samples": SAMPLES},
        "models": [{"reference": f"faulty_zoo:{name}"}],
        "threats": [{"norm": "linf", "levels": [16], "queries": QUERIES, "battery": attacks}],
        "limits": {"silent_seconds": 12},
    }
    with tempfile.TemporaryDirectory() as folder:
        file, out = Path(folder, "spec.json"), Path(folder, "out")
        file.write_text(json.dumps(spec))
        path = os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")])
        command = [sys.executable, "-m", "charpy", "run", str(file), "--out", str(out)]
        done = subprocess.run(
            command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, cwd=HERE, check=False
        )
        if not (out / "report.json").is_file():
            first = next((line for line in done.stderr.splitlines() if line.startswith("charpy: ")), "").split(": ")[-1]
            return f"refused, exit code {done.returncode}: {first}"
        report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    (threat,) = report["threats"]
    figure = percent(threat["robust_accuracy"]["not_broken"])
    why = report["status_reason"] or (threat["grade_reasons"] or [""])[0]
    if report["status"] != "valid" or threat["grade"] == "invalid":
        return f"**invalid**, exit code {done.returncode}: {why}"
    if threat["grade"] == "weak":
        return f"{figure}, **weak evidence**: {why}"
    note = next(iter(report["model"]["notes"]), "")
    return f"{figure}, supported; {f'noted: {note}' if note else '**nothing noted**'}"


def robust_accuracy(library: str, peers: Peers) -> Callable[..., float]:
    """The figure of one library for `(model, images, labels)`, the way its documentation gets it."""
    import faulty_zoo

    def open_(name: str) -> torch.nn.Module:
        module: torch.nn.Module = getattr(faulty_zoo, name)()
        return module.eval()

    def right(module: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> float:
        with torch.no_grad():
            return float((module(images).argmax(1) == labels).float().mean())

    if library == "auto-attack":
        package = peers.modules[library]

        def auto_attack(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
            module = open_(name)
            named: dict[str, Any] = {"norm": "Linf", "eps": RADIUS, "version": "custom", "verbose": False, "seed": 0}
            attack = package.AutoAttack(module, device="cpu", attacks_to_run=["apgd-ce", "square"], **named)
            attack.apgd.n_iter, attack.square.n_queries = STEPS, QUERIES
            found = attack.run_standard_evaluation(images, labels, bs=SAMPLES)
            return 100 * attack.clean_accuracy(found, labels, bs=SAMPLES)

        return auto_attack
    if library == "foolbox":
        package = peers.modules[library]

        def foolbox(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
            wrapped = package.PyTorchModel(open_(name), bounds=(0, 1), device="cpu")
            attack = package.attacks.LinfPGD(steps=STEPS, rel_stepsize=2.5 / STEPS)
            _, _, success = attack(wrapped, images, labels, epsilons=RADIUS)
            return 100 * (1 - float(success.float().mean()))

        return foolbox
    if library == "torchattacks":
        package = peers.modules[library]

        def torchattacks(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
            module = open_(name)
            found = package.PGD(module, eps=RADIUS, alpha=2.5 * RADIUS / STEPS, steps=STEPS)(images, labels)
            return 100 * right(module, found, labels)

        return torchattacks
    if importlib.util.find_spec("six") is None:  # which ART imports and does not ask for
        sys.modules["six"] = types.ModuleType("six")
        sys.modules["six"].__dict__.update(
            string_types=(str,), integer_types=(int,), add_metaclass=lambda _: lambda c: c
        )
    from art.attacks.evasion import ProjectedGradientDescent
    from art.estimators.classification import PyTorchClassifier

    def art(name: str, images: torch.Tensor, labels: torch.Tensor) -> float:
        loss = torch.nn.CrossEntropyLoss()
        wrapped = PyTorchClassifier(open_(name), loss, (1, 8, 8), 10, clip_values=(0, 1), device_type="cpu")
        attack = ProjectedGradientDescent(
            wrapped, eps=RADIUS, eps_step=2.5 * RADIUS / STEPS, max_iter=STEPS, batch_size=SAMPLES, verbose=False
        )
        found = attack.generate(images.numpy(), labels.numpy())
        answer = torch.from_numpy(wrapped.predict(found, batch_size=SAMPLES))
        return 100 * float((answer.argmax(1) == labels).float().mean())

    return art


def forked(measure: Callable[[], float]) -> str:
    """What `measure` gives in a process of its own: a figure, or how it ended; and the warnings that it printed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        printed, logged = (
            os.fdopen(os.memfd_create("printed"), "rb"),
            logging.handlers.MemoryHandler(10**6, logging.CRITICAL + 1),
        )
        os.dup2(printed.fileno(), 1)
        logging.getLogger().addHandler(logged)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                answer = {"figure": f"{measure():.1f} %"}
            except Exception as cause:  # noqa: BLE001 - whatever a library raises is its answer
                traceback.print_exc()
                answer = {"error": f"{type(cause).__name__}"}
            except SystemExit as cause:
                os._exit(0 if cause.code in (None, 0) else 1)
        sys.stdout.flush()
        printed.seek(0)
        texts = [
            str(item.message) for item in caught if not issubclass(item.category, FutureWarning | DeprecationWarning)
        ]
        texts += [record.getMessage() for record in logged.buffer if record.levelno >= logging.WARNING]
        texts += [line for line in printed.read().decode(errors="replace").splitlines() if "warning" in line.lower()]
        said = sorted({text.strip().splitlines()[0].removeprefix("Warning: ")[:60] for text in texts if text.strip()})
        os.write(writer, json.dumps({**answer, "said": said}).encode())
        os._exit(0)
    os.close(writer)
    ready = select.select([reader], [], [], SECONDS)[0]
    if not ready:
        os.kill(child, signal.SIGKILL)
    content = os.read(reader, 1 << 16) if ready else b""
    os.close(reader)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ready:
        return f"hangs (stopped after {SECONDS:.0f} s)"
    if not content:
        return f"no figure, exit code {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"
    answer = json.loads(content)
    warned = f"; warns: {', '.join(answer['said'])}" if answer["said"] else ""
    return answer.get("figure", f"raises {answer.get('error')}") + warned


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    """The images and labels that charpy draws for the same spec."""
    from charpy.plugins import registry
    from charpy.specs import DataSpec
    from charpy.subjects import chosen_samples, open_dataset

    spec = DataSpec(kind="digits", samples=SAMPLES)
    data = open_dataset(spec, registry())
    piece = data.read(chosen_samples(data, spec))
    return piece.images, piece.labels


def table(rows: dict[str, dict[str, str]]) -> str:
    """Markdown: one row a model."""
    columns = ("charpy", *LIBRARIES)
    lines = ["| model | " + " | ".join(["charpy", *NAMES.values()]) + " |", "|---" * (len(columns) + 1) + "|"]
    for name, row in rows.items():
        cells = [row.get(column, "no answer").replace("|", "/") for column in columns]
        lines.append(f"| `{name}`: {FAULTS[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text_of(rows: dict[str, dict[str, str]]) -> str:
    """The page."""
    trusted = [name for name, row in rows.items() if "supported" in row["charpy"]]
    silent = [name for name in trusted if "nothing noted" in rows[name]["charpy"]]
    counts = [
        f"{NAMES[library]} {sum('%' in row.get(library, '') and 'warns' not in row[library] for row in rows.values())}"
        for library in LIBRARIES
    ]
    machine = ", ".join(f"{name} {value}" for name, value in environment().items())
    listed = f" ({', '.join(f'`{name}`' for name in trusted)}: put right, and the report says how)" if trusted else ""
    return f"""# Faulty models: what each library reports

{len(rows)} models with one fault each, over the same digits network and the same {SAMPLES} images: Linf 16/255, PGD of
{STEPS} steps, and Square of {QUERIES} queries where charpy and AutoAttack run it (AutoAttack: APGD instead of PGD). A
figure is robust accuracy.

charpy gives {len(trusted)} of them a figure that is neither `invalid` nor weak evidence nor refused{listed}, and
{len(silent)} without saying anything. Figures without a word of warning by others: {", ".join(counts)}.

{table(rows)}

Written by `python benchmarks/faulty_models.py`. Machine: {machine}. Peers: see `benchmarks/peers.py`.
"""


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"


if __name__ == "__main__":
    started = time.monotonic()
    app()
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
