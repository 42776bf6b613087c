"""The tables of Zhang et al. 2019 on MNIST, from examples/smooth_paper.yaml.

    export CHARPY_DATA=DIR                            # mnist/
    python benchmarks/smooth_paper.py --out FOLDER    # runs what FOLDER lacks, then fills in its page

Each part of a model is one `charpy run`, which resumes. The same command again goes on where it stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cyclopts import App
from reproduction import fill, run
from smooth_page import blocks

from charpy.specfile import read_mapping

app = App(name="python benchmarks/smooth_paper.py", help_format="plaintext", version_flags=[])
HERE = Path(__file__).parent
SPEC = HERE.parent / "examples" / "smooth_paper.yaml"
PAGE = HERE.parent / "docs" / "reproductions" / "smooth.md"

PLAIN, TRAINED = "C4", "C4 adversarially trained"
FILTERED = {
    "name": "C4 behind a bilateral filter",
    "reference": "mnist-c4",
    "defenses": [{"kind": "bilateral_filter", "params": {"window": 5, "sigma_space": 0.5, "sigma_colour": 0.2}}],
}
"""Section 5.4: standard deviations 0.5 and 0.2, of the distance in pixels and of the difference of values."""

EPSILON, DISTORTION = 77, 1275
"""Section 5.2, the settings of section 5.4: epsilon 0.3 of FGSM and I-FGSM, 5 of PGD2 and sPGD2, in 1/255."""

DESCENTS = ((50, 1), (100, 1), (200, 1), (400, 1), (100, 5), (400, 5), (1000, 5))
"""(iterations, constants) of C&W and sC&W: the paper gives neither, its released code 1,000 and 5."""

WHOLE = ((100, 1), (400, 1))
"""Those that are also run to their end, where a descent that has stopped falling would be given up."""

MEASURED = {"metrics": [{"kind": "l2"}, {"kind": "magnification"}]}

GRAPHS: Mapping[str, Mapping[str, Any]] = {
    "as in Table 1": {},
    "scale 0.03": {"scale": 0.03},
    "scale 0.3": {"scale": 0.3},
    "scale 1": {"scale": 1.0},
    "alpha 0.8": {"alpha": 0.8},
    "alpha 0.997": {"alpha": 0.997},
    "8 neighbours": {"neighbours": 8},
    "Gaussian kernel, scale 0.22": {"kernel": "gaussian", "scale": 0.2236},
}
"""What the paper leaves open of the graph. exp(-10 d^2), the weights of the released code, is the last."""

Threats = list[dict[str, Any]]


@dataclass(frozen=True)
class Piece:
    """One run: one part of one model."""

    part: str
    model: Mapping[str, Any] = field(hash=False)
    threats: Threats = field(hash=False)
    samples: int
    changes: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def folder(self) -> Path:
        """Below the output folder."""
        return Path(self.part, str(self.model["name"]).replace(" ", "-"))


def pieces(spec: Mapping[str, Any], samples: int, few: int, out: Path, trained: int = 0) -> Iterator[Piece]:
    """Every run of the reproduction, those that others need first."""
    models = {model["name"]: model for model in spec["models"]}
    yield Piece("attacks", models[PLAIN], spec["threats"], samples)
    yield Piece("attacks", models[TRAINED], spec["threats"], trained or samples)
    yield Piece("descents", models[PLAIN], descents(DESCENTS), few, MEASURED)
    yield Piece("whole", models[PLAIN], descents(WHOLE, abort_early=False), few, MEASURED)
    yield Piece("graphs", models[PLAIN], graphs(), few)
    yield Piece("grid", models[PLAIN], grid(spec), few, {"grid": "8bit"})
    found = out / "attacks" / PLAIN / "run.charpy"
    for model in (FILTERED, models[TRAINED]):
        yield Piece("transfer", model, transfer(spec), samples)
        yield Piece("transfer-found", model, transfer_found(found), samples)


def descents(settings: Sequence[tuple[int, int]], **changes: Any) -> Threats:
    """C&W, sC&W and the penalty of equation 14 with longer and shorter descents."""
    fixed = {"learning_rate": 0.1, "constant": 15, "confidence": 1, "line_search": 0, **changes}
    battery = []
    for steps, searches in settings:
        params = {**fixed, "steps": steps, "searches": searches}
        name = f"{steps} x {searches}"
        battery += [
            {"kind": "cw", "name": f"C&W, {name}", "params": params},
            {"kind": "scw", "name": f"sC&W, {name}", "params": params},
            {"kind": "scw", "name": f"penalty, {name}", "params": {**params, "form": "penalty"}},
        ]
    return [{"norm": "l2", "levels": [2040], "queries": 5000, "battery": battery}]


def graphs() -> Threats:
    """sPGD2 and sC&W with other graphs."""
    levels = [255, 383, 510, 638, 765, 893, 1020, 1148, 1275, 1403, 1530, 2040]
    descent = {"steps": 100, "searches": 5, "learning_rate": 0.1, "constant": 15, "confidence": 1, "line_search": 0}
    battery: list[dict[str, Any]] = [{"kind": "pgd2", "name": "PGD2", "params": LONG_STEPS}]
    for name, graph in GRAPHS.items():
        battery += [
            {"kind": "spgd2", "name": f"sPGD2, {name}", "params": {**LONG_STEPS, **graph}},
            {"kind": "scw", "name": f"sC&W, {name}", "params": {**descent, **graph}},
        ]
    return [{"norm": "l2", "levels": levels, "queries": 500, "battery": battery}]


LONG_STEPS = {"clip": "rescale", "loss": "cross_entropy"}
"""PGD2 as the paper has it."""


def grid(spec: Mapping[str, Any]) -> Threats:
    """The attacks of Table 1, for images that a PNG can hold."""
    return [threat for threat in spec["threats"] if threat["norm"] == "l2"]


def transfer(spec: Mapping[str, Any]) -> Threats:
    """Table 3, attacks that are given a distortion: made on C4, one image a sample, at one distortion."""
    levels = {"linf": [EPSILON], "l2": [DISTORTION]}
    return [
        {
            "norm": threat["norm"],
            "levels": levels[threat["norm"]],
            "battery": [
                _shown(attack) for attack in threat["battery"] if attack["kind"] in {"fgm", "bim", "pgd2", "spgd2"}
            ],
        }
        for threat in spec["threats"]
    ]


def _shown(attack: Mapping[str, Any]) -> dict[str, Any]:
    """The image that an attack on C4 leaves as its surest."""
    made = {"kind": attack["kind"], "params": attack.get("params", {})}
    params = {"surrogate": {"reference": "mnist-c4"}, "attack": made, "surrogate_queries": 50, "shown": 1}
    return {"kind": "transfer", "name": attack["name"], "params": params}


def transfer_found(found: Path) -> Threats:
    """Table 3, attacks that find their own distortion: their witnesses against C4."""
    names = ("C&W", "sC&W", "C&W, one short descent", "sC&W, one short descent")
    battery = [
        {"kind": "transfer", "name": name, "params": {"source": str(found), "source_attack": name}} for name in names
    ]
    return [{"norm": "l2", "levels": [2040], "battery": battery}]


@app.default
def main(
    *,
    out: Path,
    parts: str | None = None,
    samples: int | None = None,
    samples_trained: int = 0,
    few: int = 100,
    workers: int = 2,
) -> int:
    """Run what is missing and fill in the page.

    Args:
        out: folder of the runs.
        parts: attacks, descents, whole, graphs, grid, transfer, transfer-found, separated by commas; all if not given.
        samples: images of Tables 1 to 3; those of the spec if not given.
        samples_trained: images of Table 2; as many as of the others if not given.
        few: images of the parts that vary descents, graphs and grid.
        workers: runs at once, of one thread each.
    """
    spec = dict(read_mapping(SPEC))
    made = list(pieces(spec, samples or spec["data"]["samples"], few, out.resolve(), samples_trained))
    wanted = [piece for piece in made if parts is None or piece.part in parts.split(",")]
    first = [piece for piece in wanted if piece.part != "transfer-found"]
    failed: list[str] = []
    for batch in (first, [piece for piece in wanted if piece not in first]):
        with ThreadPoolExecutor(workers) as pool:
            codes = list(pool.map(lambda piece: _run(spec, piece, out), batch))
        failed += [str(piece.folder) for piece, code in zip(batch, codes, strict=True) if code]
    if failed:
        print("without a result:", ", ".join(failed), file=sys.stderr)
        return 1
    reports = {(piece.part, str(piece.model["name"])): out / piece.folder / "report.json" for piece in made}
    fill(PAGE, blocks(reports))
    return 0


def _run(spec: Mapping[str, Any], piece: Piece, out: Path) -> int:
    own = {
        **spec,
        **piece.changes,
        "name": f"{piece.part}, {piece.model['name']}",
        "data": {**spec["data"], "samples": piece.samples},
        "models": [piece.model],
        "threats": piece.threats,
    }
    return run(own, out, piece.folder)


if __name__ == "__main__":
    sys.exit(app())
