"""`charpy assess`: one model, one dataset, both norms or any others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from charpy.cli.publish import FORMATS
from charpy.cli.references import data_of, levels_of, norms_of
from charpy.errors import SpecError
from charpy.plugins import registry
from charpy.reports.names import folder_name

if TYPE_CHECKING:
    from charpy.specs import RunSpec

DEFAULT_SAMPLES = 100
"""A first answer in a minute or so, at about +-10 points; a figure to publish wants 1,000 or all."""


def assess(
    model: str,
    /,
    *,
    data: str,
    samples: int | Literal["all"] | None = None,
    levels: str | None = None,
    norms: str = "l0,linf",
    queries: int = 5000,
    seed: int = 0,
    out: Path | None = None,
    data_dir: Path | None = None,
    battery: str = "standard",
    grid: Literal["8bit", "none"] = "8bit",
    batch_size: int | None = None,
    minimal: bool = False,
    certify: float = 30.0,
    defenses: str | None = None,
    attackers: str = "static,adaptive,black-box",
    name: str | None = None,
    gate: tuple[str, ...] = (),
    formats: Annotated[str, Parameter("--format")] = ",".join(FORMATS),
) -> int:
    """Break one model under L0 and Linf side by side, and write the dual report.

    Writes run.charpy, report.json and report.html into the output folder and prints the dual table, the verdict and
    the paths. The same command again goes on where it stopped.

    Args:
        model: a zoo name (digits-cnn), FILE.onnx, package.module:callable, weights.safetensors@architecture, or
            http://HOST:PORT/v2/models/NAME.
        data: digits, mnist, fashion-mnist, cifar10, FILE.npz, or a folder of images with one subfolder a class.
        samples: how many images, drawn at random; `all` for all. Default: 100, or all where there are fewer.
        levels: robustness levels th: th pixels for l0, th/255 for the other norms; 1..127 for l0 and linf, up to the
            diameter of the image box for l1 and l2. A list such as 1,3,5 is for every norm; l0=1,3,l2=64,128 gives
            each norm its own. Default: 1,3,5,10 for l0 and linf, 510,1530,3060 for l1, 32,64,128,255 for l2.
        norms: any of l0, l1, l2, linf.
        queries: model rows that each attack may spend per sample and level.
        seed: of every random draw of every attack; which samples are drawn does not depend on it.
        out: output folder. Default: charpy-MODEL-DATA in the working directory.
        data_dir: where data sets are found that are given by name. Default: $CHARPY_DATA.
        battery: which attacks: a battery or one attack, as `charpy plugins` lists them.
        grid: 8bit: every adversarial image survives a PNG. none: real values.
        batch_size: model rows in one batch; measured if not given. It never changes a result.
        minimal: search each sample's smallest level over the whole range, instead of fixed levels.
        certify: seconds for proofs under each norm, on what no attack broke; 0: none. `charpy certify` sets no limit.
        defenses: kinds of defences that are wrapped around the model, the first one innermost, such as jpeg,tvm.
        attackers: of a model with defences, what they see of these, as rows of one report: static (the model without
            them), adaptive, black-box.
        name: title of the report and name of the model in it. Default: MODEL.
        gate: what the run must show, such as "linf th=3 robust_accuracy >= 0.4"; may be given several times. Exit code
            1 if one fails.
        formats: report formats, separated by commas; `charpy plugins` lists them.
    """
    from charpy.cli.execute import execute, with_gates

    document = document_of(
        model, data, samples, levels, norms, queries, seed, data_dir, battery, grid, batch_size, minimal, name
    )
    if defenses is not None:
        (subject,) = document["models"]
        subject |= {"defenses": [{"kind": kind.strip()} for kind in defenses.split(",")]}
        subject |= {"attackers": [name.strip() for name in attackers.split(",")]}
    proofs: dict[str, Any] = {"seconds": certify} if certify > 0 else {"certifiers": []}
    spec = with_gates(_parsed({**document, "certify": proofs}), gate)
    return execute(spec, out if out is not None else _default_folder(model, data), formats)


def document_of(
    model: str,
    data: str,
    samples: int | Literal["all"] | None,
    levels: str | None,
    norms: str,
    queries: int,
    seed: int,
    data_dir: Path | None,
    battery: str,
    grid: Literal["8bit", "none"],
    batch_size: int | None,
    minimal: bool,
    name: str | None,
) -> dict[str, Any]:
    """The spec that the options of `assess` and `certify` stand for, without what is to be proven."""
    from charpy.specs import levels_under

    for option, value in (("--name", name), ("--battery", battery)):
        if value == "":
            raise SpecError("is empty", where=option)
    where_data = data_of(data, data_dir, registry())
    chosen = norms_of(norms)
    wanted = "minimal" if minimal else levels_of(levels)
    return {
        "name": name or f"{model} on {data}",
        "seed": seed,
        "data": {**where_data, "samples": _how_many(samples, where_data)},
        "models": [{"reference": model, "name": name}],
        "threats": [
            {"norm": norm, **levels_under(norm, wanted, chosen), "queries": queries, "battery": battery}
            for norm in chosen
        ],
        "grid": grid,
        "batch_size": batch_size,
    }


def _parsed(document: dict[str, Any]) -> RunSpec:
    from charpy.specs import RunSpec, parse

    return parse(RunSpec, document, where="charpy assess")


def _how_many(samples: int | Literal["all"] | None, data: dict[str, Any]) -> int | None:
    """The number for the spec, None for all."""
    if samples == "all":
        return None
    if samples is not None:
        return samples
    from charpy.specs import DataSpec, parse
    from charpy.subjects import open_dataset

    return min(DEFAULT_SAMPLES, len(open_dataset(parse(DataSpec, data, where="charpy assess"), registry())))


def _default_folder(model: str, data: str) -> Path:
    return Path(f"charpy-{folder_name(Path(model).name)}-{folder_name(Path(data).name)}")
