"""Every table and figure of Kotyan & Vargas 2020, sections V-B to V-H, from examples/dual_paper.yaml.

    export CHARPY_DATA=DIR                          # cifar10/
    python benchmarks/dual_paper.py --out FOLDER    # runs what FOLDER lacks, then fills in docs/reproductions/dual.md

Each model has a run of its own for each part, which `charpy run` resumes; what one part shows is one `charpy compare`.
The same command again goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclopts import App
from dual_page import tables
from dual_published import AREAS as NETWORKS
from reproduction import charpy, fill, run

from charpy.analysis.comparison.document import Comparison
from charpy.specfile import read_mapping

app = App(name="python benchmarks/dual_paper.py", help_format="plaintext", version_flags=[])
HERE = Path(__file__).parent
SPEC = HERE.parent / "examples" / "dual_paper.yaml"
PAGE = HERE.parent / "docs" / "reproductions" / "dual.md"

EPSILON = 8
"""Radius of FGM, BIM and PGD in 1/255 (section V-D)."""

ANYWHERE = 14_133
"""An L2 level that no CIFAR-10 image can leave: 255 sqrt(3072)."""

Threats = list[dict[str, Any]]


@dataclass(frozen=True)
class Piece:
    """One run: one model, and what attacks it."""

    part: str
    model: str
    variant: str
    threats: Threats = field(hash=False)
    samples: int

    @property
    def folder(self) -> Path:
        """Below the output folder."""
        return Path(self.part, "-".join(filter(None, (self.model, self.variant))))


def pieces(spec: Mapping[str, Any], samples: Mapping[str, int], queries: int) -> Iterator[Piece]:
    """Every run of the reproduction, part by part."""
    names = [model["name"] for model in spec["models"]]
    networks = [name for name in names if name in NETWORKS]
    for name in names:
        yield Piece("levels", name, "", spec["threats"], samples["levels"])
    for name in networks:
        for variant, battery in others().items():
            yield Piece("others", name, variant, battery, samples["levels"])
    for name in ("ResNet", "CapsNet"):
        for variant, params in OPTIMISERS.items():
            yield Piece("optimisers", name, variant, contest(params, queries), samples["optimisers"])
    for name in names:
        yield Piece(
            "strong", name, "", [{**threat, "battery": "fast"} for threat in spec["threats"]], samples["levels"]
        )
    for name in ("ResNet", "AT"):
        yield Piece("population", name, "", AUTHORS, samples["population"])
    minimal = [{**threat, "levels": "minimal"} for threat in spec["threats"]]
    for name in networks:
        yield Piece("minimal", name, "", minimal, samples["minimal"])


OPTIMISERS: Mapping[str, Mapping[str, Any]] = {
    "cma-es": {"optimiser": "cma-es"},
    "de": {"optimiser": "de", "population": 400},
    "de-small": {"optimiser": "de", "population": 50},
}
"""Table II, at equal queries. 400 is the published population for one pixel; for 3,072 values it would be 3,072."""


AUTHORS: Threats = [
    {
        "norm": "l0",
        "levels": [10],
        "queries": 40_000,
        "battery": [{"kind": "few_pixel", "params": {"population": 400, "generations": 100}}],
    }
]
"""Few pixels with the population of the authors' command line."""


def contest(params: Mapping[str, Any], queries: int) -> Threats:
    """Few-pixel and threshold by one optimiser, which may spend so many queries on an image and level."""
    levels = [1, 3, 5, 10]
    kinds = {"l0": "few_pixel", "linf": "threshold"}
    return [
        {"norm": norm, "levels": levels, "queries": queries, "battery": [{"kind": kind, "params": dict(params)}]}
        for norm, kind in kinds.items()
    ]


def others() -> dict[str, Threats]:
    """The attacks of Table IV, each the first and only one of its battery."""

    def threat(norm: str, level: int, kind: str, **params: Any) -> dict[str, Any]:
        return {"norm": norm, "levels": [level], "battery": [{"kind": kind, "params": params}]}

    return {
        "fgm-deepfool": [threat("linf", EPSILON, "fgm"), threat("l2", ANYWHERE, "deepfool")],
        "bim-newtonfool": [threat("linf", EPSILON, "bim"), threat("l2", ANYWHERE, "newtonfool")],
        "pgd": [threat("linf", EPSILON, "pgd")],
    }


@app.default
def main(
    *,
    out: Path,
    parts: str = "levels,strong,others,optimisers,population,minimal",
    models: str | None = None,
    samples: int | None = None,
    samples_optimisers: int = 20,
    samples_minimal: int = 20,
    samples_population: int = 20,
    queries: int = 2800,
    workers: int = 2,
    page: bool = True,
) -> int:
    """Run what is missing, compare, and fill in the page.

    Args:
        out: folder of the runs and comparisons.
        parts: of the evaluation, separated by commas.
        models: names of the spec, separated by commas; all if not given.
        samples: images of all parts but the two below; those of the spec if not given.
        samples_optimisers: images for DE against CMA-ES.
        samples_minimal: images whose smallest levels are searched.
        samples_population: images of the few-pixel attack with the authors' population.
        queries: of DE and CMA-ES against each other, per image and level: what CMA-ES spends on 100 generations.
        workers: runs at once, of one thread each.
        page: whether the comparisons and the page are made afterwards.
    """
    spec = dict(read_mapping(SPEC))
    counts = {"levels": samples or spec["data"]["samples"], "optimisers": samples_optimisers}
    counts |= {"minimal": samples_minimal, "population": samples_population}
    wanted = [
        piece
        for piece in pieces(spec, counts, queries)
        if piece.part in parts.split(",") and (models is None or piece.model in models.split(","))
    ]
    with ThreadPoolExecutor(workers) as pool:
        codes = list(pool.map(lambda piece: _run(spec, piece, out), wanted))
    if failed := [str(piece.folder) for piece, code in zip(wanted, codes, strict=True) if code]:
        print("without a result:", ", ".join(failed), file=sys.stderr)
        return 1
    if page:
        compared = {part: _compare(part, [p for p in wanted if p.part == part], out) for part in parts.split(",")}
        both = [piece for piece in wanted if piece.part in ("levels", "others") and piece.model in NETWORKS]
        if {"levels", "others"} <= compared.keys():
            compared["attacks"] = _compare("attacks", both, out)
        fill(PAGE, tables(compared, out))
    return 0


def _run(spec: Mapping[str, Any], piece: Piece, out: Path) -> int:
    """One piece, from the start or from where it stopped; the exit code of `charpy run`."""
    (model,) = (model for model in spec["models"] if model["name"] == piece.model)
    own = {
        **spec,
        "name": " ".join(filter(None, (piece.part, piece.variant))),
        "data": {**spec["data"], "samples": piece.samples},
        "models": [model],
        "threats": piece.threats,
    }
    return run(own, out, piece.folder)


def _compare(part: str, made: Sequence[Piece], out: Path) -> Comparison:
    """`charpy compare` of the runs of one part; the levels also with whose witnesses fool whom."""
    folder = out / f"compare-{part}"
    runs = [str(out / piece.folder) for piece in made]
    with (out / f"compare-{part}.txt").open("w", encoding="utf-8") as log:
        flags = ["--transfer"] if part == "levels" else []
        if code := charpy(["compare", *runs, "--out", str(folder), *flags], log):
            raise SystemExit(f"charpy compare of {part} ended with {code}: see {log.name}")
    return Comparison.model_validate_json((folder / "compare.json").read_bytes())


if __name__ == "__main__":
    sys.exit(app())
