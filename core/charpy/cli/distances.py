"""`charpy distances`: how far images of a dataset are from each other, by class, and levels chosen from that."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from charpy.cli.console import results
from charpy.cli.pages import write_pages
from charpy.cli.references import data_of
from charpy.errors import SpecError
from charpy.plugins import registry
from charpy.reports.inert import visible
from charpy.reports.names import folder_name

if TYPE_CHECKING:
    from charpy.analysis.distances.document import Distances
    from charpy.analysis.distances.survey import EpsWish


def distances(
    data: str,
    /,
    *,
    metrics: str = "l0_pixels,l1,l2,linf",
    per_class: int | Literal["all"] | None = None,
    samples: int | None = None,
    seed: int = 0,
    against: Literal["sample", "all"] = "sample",
    eps_norm: Literal["l0", "l1", "l2", "linf"] | None = None,
    rule: Literal["half", "combination"] = "half",
    alike: str | None = None,
    threshold: float | None = None,
    combine: int | None = None,
    split: str | None = None,
    data_dir: Path | None = None,
    out: Path | None = None,
) -> int:
    """Measure how far images of a class are from each other and from those of other classes, and choose levels.

    Writes distances.json and distances.html, and eps.json where levels are asked for, into the output folder, and
    prints the tables. A class that is nearer to another class than to itself is marked.

    Args:
        data: digits, mnist, fashion-mnist, cifar10, FILE.npz, or a folder of images with one subfolder a class.
        metrics: any that `charpy plugins` lists; l0_pixels, l1, l2 and linf are fast, others measure pair by pair.
        per_class: images that are drawn of each class; `all` for all. Default: 100, or as many as the smallest has.
        samples: instead, the images that a run of so many samples and this seed assesses.
        seed: of the draw.
        against: sample: the nearest image of another class is sought among those drawn; all: in the whole data set.
        eps_norm: choose a level of this norm for every drawn image, and write eps.json.
        rule: half: below half the distance to the nearest image of another class. combination (linf): the largest level
            at which x0 + eps sign(x1) still looks like x0, for images x1 of every other class.
        alike: of the rule combination: the metric that says what looks alike. Default: ssim.
        threshold: of the rule combination: the least alike value that still counts. Default: 0.9 for ssim.
        combine: of the rule combination: images x1 of each other class. Default: 3.
        split: of the data set, where it has splits, such as train.
        data_dir: where data sets are found that are given by name. Default: $CHARPY_DATA.
        out: output folder. Default: charpy-distances-DATA in the working directory.
    """
    from charpy.analysis.distances.survey import Wish, survey
    from charpy.epsfile import eps_bytes
    from charpy.reports.distances_html import render_page
    from charpy.reports.json_report import json_bytes
    from charpy.specs import DataSpec, parse
    from charpy.subjects import open_dataset

    kinds = tuple(part.strip() for part in metrics.split(","))
    if not all(kinds):
        raise SpecError("an empty entry", where="--metrics", found=repr(metrics), expected="kinds with commas: l2,linf")
    if samples is not None and per_class is not None:
        raise SpecError(
            "two draws are asked for",
            where="--samples",
            found=f"--samples {samples} and --per-class {per_class}",
            expected="one of them",
        )
    plugins = registry()
    where = data_of(data, data_dir, plugins)
    if split is not None:
        where["params"] = {**where["params"], "split": split}
    dataset = open_dataset(parse(DataSpec, where, where="charpy distances"), plugins)
    wish = Wish(
        metrics=kinds,
        per_class=per_class,
        samples=samples,
        seed=seed,
        against=against,
        eps=_wish(eps_norm, rule, alike, threshold, combine),
    )
    document, levels = survey(dataset, where["kind"], wish, plugins)
    pages = {"distances.json": json_bytes(document), "distances.html": render_page(document)}
    if levels is not None:
        pages["eps.json"] = eps_bytes(levels)
    folder = out if out is not None else Path(f"charpy-distances-{folder_name(Path(data).name)}")
    written = write_pages(pages, folder, "the distances")
    _show(document, written)
    return 0


def _wish(
    norm: str | None,
    rule: Literal["half", "combination"],
    alike: str | None,
    threshold: float | None,
    combine: int | None,
) -> EpsWish | None:
    from charpy.analysis.distances.eps import COMBINE
    from charpy.analysis.distances.survey import EpsWish
    from charpy.threat import Norm

    options = {"--alike": alike, "--threshold": threshold, "--combine": combine}
    given = [name for name, value in options.items() if value is not None]
    if given and (norm is None or rule == "half"):
        raise SpecError(
            "an option of the rule combination",
            where=given[0],
            found=f"--rule {rule}" if norm is not None else "no --eps-norm",
            expected="--eps-norm linf --rule combination",
        )
    if norm is None:
        if rule != "half":
            raise SpecError("levels of which norm?", where="--rule", found="no --eps-norm", expected="--eps-norm linf")
        return None
    return EpsWish(Norm(norm), rule, alike, threshold, COMBINE if combine is None else combine)


def _show(document: Distances, written: list[Path]) -> None:
    from charpy.reports.distances_terminal import distance_tables
    from charpy.reports.distances_view import marked_sentences, no_marks

    console = results()
    for table in distance_tables(document):
        console.print(table)
    for part in document.metrics:
        for sentence in marked_sentences(part) or [no_marks(part)]:
            console.print(visible(f"{part.kind}: {sentence}"), soft_wrap=True)
    for note in document.notes:
        console.print(visible(f"note: {note}"), soft_wrap=True)
    for path in written:
        console.print(visible(str(path)), soft_wrap=True)
