"""`charpy certify`: what can be proven of one model, with a short attack for the other side of the bracket."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from charpy.cli.assess import document_of
from charpy.cli.publish import FORMATS
from charpy.cli.references import norms_of
from charpy.errors import SpecError
from charpy.threat import BALLS, Norm


def certify(
    model: str,
    /,
    *,
    data: str,
    samples: int | Literal["all"] | None = None,
    levels: str | None = None,
    norms: str = "l0,linf",
    certifiers: str = "auto",
    seconds: float | None = None,
    battery: str = "fast",
    queries: int = 5000,
    seed: int = 0,
    out: Path | None = None,
    data_dir: Path | None = None,
    grid: Literal["8bit", "none"] = "8bit",
    batch_size: int | None = None,
    minimal: bool = False,
    name: str | None = None,
    gate: tuple[str, ...] = (),
    formats: Annotated[str, Parameter("--format")] = ",".join(FORMATS),
) -> int:
    """Prove how far no image changes the model's answer, and write the dual report.

    A battery attacks first, so that no time is spent on proofs of what is broken; then each certifier that supports the
    model is asked level after level, and about some broken samples, too: one proof of these makes the run unsound.
    Writes run.charpy, report.json and report.html into the output folder, as `charpy assess` does.

    Args:
        model: a zoo name (digits-cnn), FILE.onnx, package.module:callable, weights.safetensors@architecture, or
            http://HOST:PORT/v2/models/NAME.
        data: digits, mnist, fashion-mnist, cifar10, FILE.npz, or a folder of images with one subfolder a class.
        samples: how many images, drawn at random; `all` for all. Default: 100, or all where there are fewer.
        levels: as of `charpy assess`.
        norms: any of l0, l1, l2, linf.
        certifiers: kinds in order, such as crown,few_pixels, or `auto` for those of charpy that support the model.
        seconds: no proof begins later under one norm. Default: no limit; each certifier has its own for one sample.
        battery: what attacks first.
        queries: model rows that each attack may spend per sample and level.
        seed: of every random draw of every attack.
        out: output folder. Default: charpy-proofs-MODEL-DATA in the working directory.
        data_dir: where data sets are found that are given by name. Default: $CHARPY_DATA.
        grid: 8bit or none, for the attacks; proofs are about all real values.
        batch_size: model rows in one batch; measured if not given.
        minimal: search each sample's largest proven level over the whole range.
        name: title of the report and name of the model in it. Default: MODEL.
        gate: what the run must show, such as "linf th=3 proven >= 0.4"; may be given several times. Exit code 1 if one
            fails.
        formats: report formats, separated by commas; `charpy plugins` lists them.
    """
    from charpy.cli.execute import execute, with_gates
    from charpy.reports.names import folder_name
    from charpy.specs import RunSpec, parse

    if Norm.UNRESTRICTED in norms_of(norms):
        raise SpecError(
            "nothing can be proven without a ball",
            where="--norms",
            found=norms,
            expected=", ".join(BALLS),
            hint="`charpy assess --norms unrestricted` attacks it",
        )
    document = document_of(
        model, data, samples, levels, norms, queries, seed, data_dir, battery, grid, batch_size, minimal, name
    )
    kinds = [{"kind": kind.strip()} for kind in certifiers.split(",")]
    proofs = {"certifiers": "auto" if certifiers == "auto" else kinds, "seconds": seconds}
    spec = with_gates(parse(RunSpec, {**document, "certify": proofs}, where="charpy certify"), gate)
    folder = f"charpy-proofs-{folder_name(Path(model).name)}-{folder_name(Path(data).name)}"
    return execute(spec, out if out is not None else Path(folder), formats)
