"""The Python front door: `charpy.assess(model, images, labels)`."""

from __future__ import annotations

import copy
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from charpy.analysis.document import Assessment
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.errors import ModelError, SpecError
from charpy.evaluator import evaluate
from charpy.gates import Gate
from charpy.interfaces.dataset import Dataset
from charpy.interfaces.model import Model
from charpy.plugins import registry
from charpy.reports.inert import visible
from charpy.reports.terminal import dual_table, plain_table
from charpy.runfile import RunFile
from charpy.specs import ModelSpec, RunSpec, levels_under, parse
from charpy.stages import Progress
from charpy.subjects import Subject, subject_of, wrap_object

if TYPE_CHECKING:
    from rich.table import Table


class Result:
    """A finished assessment of one model, on top of its run file."""

    def __init__(self, path: Path, *, temporary: bool = False) -> None:
        self.path = path
        if temporary:  # the folder goes when the result goes
            weakref.finalize(self, shutil.rmtree, path.parent, ignore_errors=True)
        with RunFile.open(path) as run:
            self.assessment: Assessment = RunSummary.of(run).assessments[0]

    def table(self) -> Table:
        """The dual table, for a terminal or a notebook; `print(result)` gives it as text."""
        return dual_table(self.assessment)

    def save(self, path: str | Path, *, gates: Iterable[Gate] = ()) -> Path:
        """Write the report; the end of the name chooses the format (`.html`, `.json`, `.junit.xml`, a plugin's).

        `gates` are judged in it (`charpy.gates.read_gate` reads one).
        """
        target = Path(path)
        reports = [registry().create("reports", entry.kind) for entry in registry().entries("reports")]
        fitting = [report for report in reports if target.name.endswith(report.suffix)]
        if not fitting:
            known = ", ".join(sorted(report.suffix for report in reports))
            raise SpecError("no report format has this suffix", found=target.suffix or "(none)", expected=known)
        with RunFile.open(self.path) as run:
            written: Path = max(fitting, key=lambda report: len(report.suffix)).write(
                RunSummary.of(run, gates=gates), target
            )
        return written

    def __str__(self) -> str:
        return f"{plain_table(self.assessment)}\n{visible(self.assessment.verdict)}"

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def assess(
    model: object,
    images: Any = None,
    labels: Any = None,
    *,
    data: Dataset | None = None,
    name: str | None = None,
    levels: Sequence[int] | Mapping[str, Sequence[int]] | Literal["minimal"] | None = None,
    norms: Sequence[str] = ("l0", "linf"),
    queries: int = 5000,
    seed: int = 0,
    battery: str = "standard",
    grid: str | None = None,
    batch_size: int | None = None,
    certify: float = 0.0,
    out: str | Path | None = None,
    listen: Callable[[Progress], None] | None = None,
) -> Result:
    """Assess `model` on `images` and `labels`, under L0 and Linf or other norms.

    Args:
        model: a torch module, a path or reference (`net.onnx`, `digits-cnn`), any callable from float32 images
            `(N, C, H, W)` in [0, 1] to scores `(N, K)` or labels `(N,)`, or a `charpy.interfaces.model.Model`.
        images: numpy array or torch tensor `(N, C, H, W)`, uint8, or float in [0, 1].
        labels: whole numbers `(N,)`.
        data: a dataset, instead of `images` and `labels`.
        name: the model's name in the report.
        levels: th (pixels under L0, 1/255 steps under the other norms) for every norm, or by norm, such as
            `{"l2": (64, 128)}`, or "minimal" for each sample's smallest. A norm that gets none takes its own:
            1, 3, 5, 10 under L0 and Linf; see `charpy.threat.default_levels`.
        norms: any of "l0", "l1", "l2", "linf".
        queries: model rows that each attack may spend per sample and level.
        seed: of every random draw.
        battery: which attacks; `charpy plugins` lists them.
        grid: "8bit" or "none"; "none" when the images do not lie on k/255.
        batch_size: model rows in one batch; measured if not given.
        certify: seconds for proofs under each norm, on what no attack broke; 0: none.
        out: folder for `run.charpy`, kept and resumable; a temporary one if not given.
        listen: told about progress.

    Raises:
        DataError, ModelError, SpecError: for input that cannot be assessed, naming what and the next step.
    """
    dataset = data if data is not None else ArrayDataset(images, labels)
    title = name or (str(model) if isinstance(model, str | Path) else _title(model))
    threat = {"queries": queries, "battery": battery}
    fields: dict[str, Any] = {
        "name": title,
        "seed": seed,
        "data": {"kind": "arrays"},
        "models": [{"name": title, "reference": title}],
        "threats": [{"norm": str(norm), **levels_under(str(norm), levels, norms), **threat} for norm in norms],
        "grid": str(grid or dataset.grid),
        "batch_size": batch_size,
        "certify": {"seconds": certify} if certify > 0 else {"certifiers": []},
    }
    spec = parse(RunSpec, fields, where="assess")
    folder = Path(out).absolute() if out is not None else Path(tempfile.mkdtemp(prefix="charpy-"))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.charpy"
    try:
        evaluate(spec, path, subjects=[_subject(model, title)], dataset=dataset, listen=listen)
    except BaseException as cause:
        if out is None:
            shutil.rmtree(folder, ignore_errors=True)
        if isinstance(cause, SystemExit):  # a model's exit(0) must not end the caller's script as a success
            found = f"SystemExit({cause.code!r})"
            raise ModelError("the model or a plugin tried to end the process", where=title, found=found) from cause
        raise
    return Result(path, temporary=out is None)


def _subject(model: object, title: str) -> Subject:
    if isinstance(model, str | Path):
        found = subject_of(ModelSpec(name=title, reference=str(model)), registry())
        return Subject(title, found.kind, found.open)
    if isinstance(model, Model):
        return Subject(title, type(model).__name__, lambda: _copied(model))
    kind = type(wrap_object(model, registry())).__name__
    return Subject(title, kind, lambda: wrap_object(model, registry()))


def _copied(model: Model) -> Model:
    """The judge needs a model of its own; one that cannot be copied is shared."""
    try:
        return copy.deepcopy(model)
    except Exception as cause:
        raise ModelError(
            "the model cannot be copied, and the judge needs one of its own",
            found=f"{type(cause).__name__}: {cause}",
            hint="pass the torch module, path or callable itself",
        ) from cause


def _title(model: object) -> str:
    return getattr(model, "__name__", None) or type(model).__name__
