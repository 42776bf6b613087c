"""`charpy perceive`: is a condition D(x, x') <= eps necessary and sufficient for two images to look alike?"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from charpy.cli.app import PASS
from charpy.cli.console import results
from charpy.cli.pages import write_pages
from charpy.cli.pairs import pairs_of
from charpy.errors import SpecError, UnknownNameError
from charpy.plugins import registry
from charpy.reports.inert import visible

if TYPE_CHECKING:
    from charpy.analysis.perception.perceive import Study
    from charpy.perception.groups import Originals, PairGroup
    from charpy.perception.made import Limits

DEFAULT_FOLDER = Path("charpy-perception")
LEADS = ("l2", "ssim")


def perceive(
    *runs: Path,
    data: str | None = None,
    samples: str | None = None,
    originals: Path | None = None,
    changed: Path | None = None,
    metrics: str | None = None,
    leads: str | None = None,
    answers: Path | None = None,
    alike: str | None = None,
    different: str | None = None,
    rotation: float = 10.0,
    shift: float | None = None,
    scale: float = 0.1,
    brightness: float = 0.1,
    outside: str = "black",
    eps: str = "0.1,0.2,0.3",
    blends: str = "0.25,0.5",
    seed: int = 0,
    data_dir: Path | None = None,
    out: Path = DEFAULT_FOLDER,
) -> int:
    """Test a threat model itself: is D(x, x') <= eps necessary and sufficient for two images to look alike?

    Pairs are made of the images of a dataset, of two folders of pictures, or of the originals of runs, whose witnesses
    are pairs too. Writes perceive.html, perceive.json and pairs.csv into the output folder.

    Args:
        runs: run files, or the folders that hold them, over the same data.
        data: instead, a dataset to make pairs of.
        samples: of the dataset: how many images, or all. Default: 100, or as many as there are.
        originals: instead, a folder of pictures.
        changed: the folder of the changed pictures, of the same file names.
        metrics: kinds of metrics, such as l2,ssim. Default: all that can measure these images.
        leads: one or two of them, by which pairs are drawn and chosen to be shown. Default: l2,ssim.
        answers: a CSV file of what people said: a column pair, as in pairs.csv, or columns original and changed, and a
            column same (yes, no, or 7/10).
        alike: groups of pairs that are stated to look alike, such as ssim_pgd.
        different: groups of pairs that are stated to look different.
        rotation: degrees, at most, to either side; 0: none.
        shift: pixels, at most; 0: none. Default: 2, or a fourteenth of the shorter side where that is less.
        scale: size changed by this share at most; 0: none.
        brightness: image values, at most; 0: none.
        outside: what comes in from beyond the edge of a moved image: black or edge.
        eps: of the combinations of two classes.
        blends: shares of the other class in the blends.
        seed: of the draws.
        data_dir: the folder with mnist, fashion-mnist and cifar10. Default: $CHARPY_DATA.
        out: output folder.
    """
    from charpy.analysis.perception.labels import labels_of
    from charpy.analysis.perception.perceive import perceive as perceived
    from charpy.perception.measure import chosen_metrics

    pairs = pairs_of(runs, data, samples, (originals, changed), data_dir)
    bounds = {"--rotation": rotation, "--shift": shift, "--scale": scale, "--brightness": brightness}
    limits = _limits(pairs.originals, bounds, outside, eps, blends, seed)
    made, notes = _made(pairs.originals, limits)
    groups = pairs.groups + made
    if not groups:
        raise SpecError(
            "there are no pairs", where="charpy perceive", expected="a bound above 0: --rotation, --shift, ..."
        )
    chosen, left_out = chosen_metrics(_names(metrics, "--metrics"), registry(), groups[0])
    shown = _leads(_names(leads, "--leads"), chosen)
    labels = labels_of(groups, answers, _names(alike, "--alike") or (), _names(different, "--different") or ())
    study = perceived(
        pairs.originals,
        groups,
        chosen,
        labels,
        leads=shown,
        left_out=left_out,
        runs=pairs.runs,
        notes=notes,
        settings=_settings(limits),
    )
    _show(study, _write(study, shown, out))
    return PASS


def _limits(
    originals: Originals, bounds: dict[str, float | None], outside: str, eps: str, blends: str, seed: int
) -> Limits:
    from charpy.perception.made import Limits, small_shift
    from charpy.warp import Outside

    edges = {edge.name.lower(): edge for edge in Outside}
    if outside not in edges:
        raise SpecError("unknown edge", where="--outside", found=outside, expected=" or ".join(edges))
    most = {"--rotation": 180.0, "--shift": float(max(originals.shape[1:])), "--scale": 0.9, "--brightness": 1.0}
    for option, value in bounds.items():
        if value is not None and not 0 <= value <= most[option]:
            raise SpecError("out of range", where=option, found=value, expected=f"0 to {most[option]:g}")
    shift = bounds["--shift"]
    return Limits(
        rotation=bounds["--rotation"] or 0.0,
        shift=small_shift(originals.shape) if shift is None else shift,
        scale=bounds["--scale"] or 0.0,
        brightness=bounds["--brightness"] or 0.0,
        outside=edges[outside],
        eps=_shares(eps, "--eps"),
        blends=_shares(blends, "--blends"),
        seed=seed,
    )


def _made(originals: Originals, limits: Limits) -> tuple[list[PairGroup], list[str]]:
    from charpy.perception.made import look_alikes, mixtures

    mixed = mixtures(originals, limits)
    notes = [] if mixed else ["The originals are of one class, so no mixtures of two classes were made"]
    return look_alikes(originals, limits) + mixed, notes


def _names(text: str | None, option: str) -> list[str] | None:
    """Names between commas; a comma within parentheses, or before a space, belongs to a name."""
    if text is None:
        return None
    import re

    parts = [part.strip() for part in re.split(r",(?! )", text)]
    if not all(parts):
        raise SpecError("an empty entry", where=option, found=repr(text), expected="names with commas and no spaces")
    return parts


def _shares(text: str, option: str) -> tuple[float, ...]:
    found = []
    for part in text.split(",") if text.strip() else ():
        try:
            value = float(part)
        except ValueError:
            value = -1.0
        if not 0 < value <= 1:
            raise SpecError(
                "not a list of numbers", where=option, found=repr(text), expected="above 0, at most 1: 0.1,0.3"
            )
        found.append(value)
    return tuple(dict.fromkeys(found))


def _leads(wanted: list[str] | None, metrics: Collection[str]) -> tuple[str, ...]:
    if wanted is None:
        first = [kind for kind in LEADS if kind in metrics] or list(metrics)
        return tuple(first[:2])
    if len(wanted) > 2:
        raise SpecError("too many", where="--leads", found=", ".join(wanted), expected="one or two metrics")
    for kind in wanted:
        if kind not in metrics:
            raise UnknownNameError(
                f"metric {kind!r} is not measured", where="--leads", expected=f"one of {', '.join(metrics)}"
            )
    return tuple(dict.fromkeys(wanted))


def _settings(limits: Limits) -> dict[str, str]:
    return {
        "rotation": f"up to {limits.rotation:g} degrees",
        "shift": f"up to {limits.shift:g} pixels",
        "scale": f"by up to {100 * limits.scale:g} %",
        "brightness": f"by up to {limits.brightness:g}",
        "beyond the edge": limits.outside.name.lower(),
        "eps of the combinations": ", ".join(f"{value:g}" for value in limits.eps) or "none",
        "shares of the blends": ", ".join(f"{value:g}" for value in limits.blends) or "none",
        "seed": str(limits.seed),
    }


def _write(study: Study, leads: tuple[str, ...], out: Path) -> list[Path]:
    from charpy.analysis.perception.perceive import pairs_csv
    from charpy.reports.json_report import json_bytes
    from charpy.reports.perceive_html import render_page

    pages = {
        "perceive.html": render_page(study, leads),
        "perceive.json": json_bytes(study.document),
        "pairs.csv": pairs_csv(study.measured),
    }
    return write_pages(pages, out, "the study")


def _show(study: Study, written: list[Path]) -> None:
    from charpy.reports.perceive_terminal import perception_tables

    console, document = results(), study.document
    for table in perception_tables(document):
        console.print(table)
    console.print(visible(document.verdict), soft_wrap=True)
    console.print(visible(document.proxy), soft_wrap=True)
    for kind, reason in document.left_out.items():
        console.print(visible(f"left out: {kind}: {reason}"), soft_wrap=True)
    for note in document.notes:
        console.print(visible(f"note: {note}"), soft_wrap=True)
    for path in written:
        console.print(visible(str(path)), soft_wrap=True)
