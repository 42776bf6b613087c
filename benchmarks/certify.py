"""What is proven, what is broken and what stays open; the bounds beside auto_LiRPA's; verdicts of a competition.

    export CHARPY_DATA=DIR                        # mnist/, cifar10/, vnncomp/
    python benchmarks/certify.py bracket          # digits-cnn and mnist-lenet, L0 and Linf
    python benchmarks/certify.py beside           # auto_LiRPA's CROWN on the same boxes; its checkout on PYTHONPATH
    python benchmarks/certify.py competition      # VNN-COMP instances with known verdicts

Each stage prints and writes one page, benchmarks/results/certify_STAGE.md.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import torch
from contest import load_case
from cyclopts import App, Parameter
from page import Sheet, command

from charpy.analysis.document import Assessment
from charpy.analysis.summary import RunSummary
from charpy.bounds.backward import lower_bounds
from charpy.bounds.from_torch import graph_of_module
from charpy.bounds.inner import known_bounds, lines_of
from charpy.bounds.regions import Box
from charpy.evaluator import evaluate
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.threat import Norm, ThreatModel

app = App(name="python benchmarks/certify.py", help_format="plaintext", version_flags=[],
          default_parameter=Parameter(consume_multiple=True))  # fmt: skip
RESULTS = Path(__file__).parent / "results"


class Page(Sheet):
    """A page of certificates."""

    def write(self, title: str, how: str) -> None:
        """The page."""
        head = [f"# Certificates: {title}", "", f"Written by `{command()}`.", "", how, "", f"{self.machine}."]
        text = "\n".join([*head, *self.lines, ""])
        (RESULTS / f"certify_{self.stage}.md").write_text(text, encoding="utf-8")


BRACKET = """Of the correctly classified among the drawn test images. Broken: by the battery `standard` on the 8-bit
grid. Proven: for all real-valued images of the ball, in real arithmetic with a slack of 1e-4. Seconds: of one proof or
its failure, over all images that were asked about. A contradiction is an image that is both."""


@app.command
def bracket(
    *,
    runs: tuple[str, ...] = (
        "digits-cnn:digits:l0:1:300", "digits-cnn:digits:linf:1,3,5,10:300", "mnist-lenet:mnist:l0:1:200",
        "mnist-lenet:mnist:linf:1,3,5:200", "digits-cnn:digits:l0:2,3:100", "mnist-lenet:mnist:l0:2:20",
    ),
    queries: int = 5000,
    seconds: float = 10.0,
    page_name: str = "bracket",
) -> None:  # fmt: skip
    """Proven, broken and undecided.

    Args:
        runs: MODEL:DATA:NORM:LEVELS:SAMPLES each.
        queries: of each attack, per image and level.
        seconds: of each proof.
        page_name: of the page.
    """
    page, contradictions, pairs = Page(page_name), 0, 0
    page.table("model | norm | th | images | proven | broken | undecided | median s | largest s | contradictions")
    for text in runs:
        model, data, norm, levels, samples = text.split(":")
        found, times = _assessed(
            model, data, norm, [int(th) for th in levels.split(",")], int(samples), queries, seconds
        )
        wrong = [row for row in found.brackets[0].samples if row.broken is not None and row.proven >= row.broken]
        contradictions += len(wrong)
        for threat in found.threats:
            count = threat.proven + threat.broken + threat.held
            pairs += threat.proven
            spent = sorted(times.get(threat.th, [])) or [0.0]
            shares = (f"{n} ({n / count:.1%})" for n in (threat.proven, threat.broken, threat.held))
            page.row(
                model,
                norm,
                threat.th,
                count,
                *shares,
                f"{statistics.median(spent):.2f}",
                f"{spent[-1]:.1f}",
                len(wrong),
            )
    page.add("", f"{pairs:,} certified pairs of image and level were attacked; {contradictions} contradictions.")
    page.write("the bracket", BRACKET)


def _assessed(
    model: str, data: str, norm: str, levels: list[int], samples: int, queries: int, seconds: float
) -> tuple[Assessment, dict[int, list[float]]]:
    """The assessment, and the seconds each image took, by level (of a call with several images, each its share)."""
    kind = registry().load("datasets", data)
    kinds = ["few_pixels"] if norm == "l0" else ["crown", "branch_and_bound"]
    certifiers = [{"kind": kind, "params": {"seconds": seconds}} for kind in kinds]
    document: dict[str, Any] = {
        "data": {"kind": data, "params": kind.accepts(data, os.environ.get("CHARPY_DATA")) or {}, "samples": samples},
        "models": [{"reference": model}],
        "threats": [{"norm": norm, "levels": levels, "queries": queries}],
        "certify": {"certifiers": certifiers},
    }
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.charpy"
        evaluate(parse(RunSpec, document), path)
        with RunFile.open(path) as run:
            times: defaultdict[int, Counter[int]] = defaultdict(Counter)
            for record in run.proofs(0):
                for sample in record.proven:
                    times[record.key.th][sample] += record.seconds / len(record.proven)
            spent = {th: list(of.values()) for th, of in times.items()}
            return RunSummary.of(run).assessments[0], spent


BESIDE = """Plain CROWN (no optimised slopes) of the margins over a Linf ball, one image at a time, one thread: inner
bounds backward for unstable values only, on both sides. `difference`: charpy minus auto_LiRPA, least and largest over
images and classes; above 0 charpy's bound is tighter. Where the network has max pooling the relaxations differ."""


@app.command
def beside(*, models: tuple[str, ...] = ("mnist-lenet:1", "mnist-lenet:3", "mnist-robust:3"), images: int = 10) -> None:
    """auto_LiRPA's CROWN and ours.

    Args:
        models: MODEL:TH each; also `dense`, a network of linear layers and ReLUs alone.
        images: of each.
    """
    from auto_LiRPA import BoundedModule, BoundedTensor, PerturbationLpNorm

    torch.set_num_threads(1)
    page = Page("beside")
    page.table("model | th | images | difference | median s, auto_LiRPA | median s, charpy | ratio of time")
    for text in models:
        name, th = text.split(":")
        module, case_images, labels = _module(name, images)
        graph, classes, radius = graph_of_module(module, tuple(case_images.shape[1:])), 10, int(th) / 255
        theirs_model = BoundedModule(module, case_images[:1], bound_opts={"conv_mode": "matrix"})
        walls: tuple[list[float], list[float]] = ([], [])
        gaps = []
        for image, label in zip(case_images, labels.tolist(), strict=True):
            low, high = (image[None] - radius).clamp(0, 1), (image[None] + radius).clamp(0, 1)
            rows = torch.zeros(1, classes - 1, classes)
            rows[0, :, label] = 1
            rows[0, range(classes - 1), [k for k in range(classes) if k != label]] -= 1
            began = time.perf_counter()
            ball = BoundedTensor(image[None], PerturbationLpNorm(norm=float("inf"), x_L=low, x_U=high))
            theirs = theirs_model.compute_bounds(x=(ball,), C=rows, method="CROWN", bound_upper=False)[0].detach()
            walls[0].append(time.perf_counter() - began)
            began = time.perf_counter()
            with torch.no_grad():
                box, margins = Box(low, high), graph.margins(label)
                known = known_bounds(margins, box)
                lines, last = lines_of(margins, known), len(margins.nodes) - 1
                ours = lower_bounds(margins, last, torch.eye(classes - 1)[None], lines, box)
            walls[1].append(time.perf_counter() - began)
            gaps += (ours - theirs).flatten().tolist()
        medians = [statistics.median(wall) for wall in walls]
        page.row(name, th, images, f"{min(gaps):+.2g} to {max(gaps):+.2g}", *(f"{m:.3f}" for m in medians),
                 f"{medians[1] / medians[0]:.2f}")  # fmt: skip
    page.write("the bounds beside auto_LiRPA's", BESIDE)


def _module(name: str, images: int) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    case = load_case("mnist-lenet" if name == "dense" else name, images, 0, drawn=False)
    if name != "dense":
        return case.module, case.images, case.labels
    torch.manual_seed(0)
    widths = [784, 100, 100, 10]
    layers: list[torch.nn.Module] = [torch.nn.Flatten()]
    for i, o in itertools.pairwise(widths):
        layers += [torch.nn.Linear(i, o), torch.nn.ReLU()]
    module = torch.nn.Sequential(*layers[:-1]).eval()
    return module, case.images, module(case.images).argmax(1)


COMPETITION = """Instances of VNN-COMP whose verdict is known (`safe`: sound verifiers agree; `unsafe`: a counterexample
exists), untargeted ones, on balls inside [0, 1]. An `unsafe` that is proven would be a defect of ours; a `safe` that is
not proven is only undecided."""


@app.command
def competition(*, seconds: float = 30.0, most: int = 40) -> None:
    """Known verdicts.

    Args:
        seconds: of each proof.
        most: instances of each network and verdict.
    """
    folder = Path(os.environ["CHARPY_DATA"]) / "vnncomp"
    layouts = {row["model"]: row for row in csv.DictReader((folder / "models.csv").open(encoding="utf-8"))}
    certifiers = [registry().create("certifiers", kind, {"seconds": seconds}) for kind in ("crown", "branch_and_bound")]
    counts: Counter[tuple[str, str, str]] = Counter()
    walls: dict[str, list[float]] = {}
    page = Page("competition")
    for row in csv.DictReader((folder / "manifest.csv").open(encoding="utf-8")):
        name, verdict = row["model"], row["verdict"]
        asked = sum(counts[name, verdict, answer] for answer in ("proven", "undecided"))
        if row["property"] != "untargeted" or verdict not in {"safe", "unsafe"} or asked >= most:
            continue
        model = _competitor(folder, layouts[name])
        image, label = _image(row["image_source"])
        began = time.perf_counter()
        threat = ThreatModel(norm=Norm.LINF, radius=float(row["eps"]))
        labels = torch.tensor([int(row["label"])])
        proven = any(bool(certifier.certify(model, image, labels, threat)) for certifier in certifiers)
        walls.setdefault(name, []).append(time.perf_counter() - began)
        counts[name, verdict, "proven" if proven else "undecided"] += 1
        if proven and verdict == "unsafe":
            page.add(f"DEFECT: {name} {row['spec']} is unsafe and was proven (label {label}).")
    page.table("network | safe: proven | safe: undecided | unsafe: proven | unsafe: undecided | median s")
    for name in walls:
        cells = [counts[name, verdict, answer] for verdict in ("safe", "unsafe") for answer in ("proven", "undecided")]
        page.row(Path(name).stem, *cells, f"{statistics.median(walls[name]):.2f}")
    page.write("verdicts of a competition", COMPETITION)


_MODELS: dict[str, Any] = {}


def _competitor(folder: Path, row: dict[str, str]) -> Any:
    name = row["model"]
    if name not in _MODELS:
        layout = {"NCHW": "nchw", "NHWC": "nhwc", "N,784,1": "flat_chw"}[row["input_layout"]]
        mean, std = ([float(v) for v in row[key].split()] for key in ("input_mean", "input_std"))
        params = {"path": str(folder / name), "layout": layout, "mean": mean, "std": std}
        model = registry().create("models", "onnx", params)
        shape = (1, 28, 28) if row["dataset"] == "mnist" else (3, 32, 32)
        model.predict(torch.zeros(1, *shape))
        _MODELS[name] = model
    return _MODELS[name]


def _image(source: str) -> tuple[torch.Tensor, int]:
    """An image of a test set by its row, `mnist_test[12]`."""
    name, _, rest = source.partition("_test[")
    if name not in _MODELS:
        kind = registry().load("datasets", name)
        _MODELS[name] = registry().create("datasets", name, kind.accepts(name, os.environ["CHARPY_DATA"]))
    samples = _MODELS[name].read([int(rest.rstrip("]"))])
    images = samples.images
    return (images.float() / 255 if images.dtype == torch.uint8 else images), int(samples.labels[0])


if __name__ == "__main__":
    app()
