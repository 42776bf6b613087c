"""The tables of docs/reproductions/smooth.md: what was measured, with the paper's figure beside it in italics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from page import Sheet, command
from reproduction import table

from charpy.analysis.document import Assessment, CharacteristicPart

PUBLISHED: Mapping[str, Mapping[str, tuple[float, float]]] = {
    "C4": {
        "FGSM": (0.89, 5.02), "I-FGSM": (1.00, 2.69), "PGD2": (1.00, 1.71), "C&W": (1.00, 2.49),
        "sPGD2": (0.97, 3.36), "sC&W": (1.00, 1.97),
    },
    "C4 adversarially trained": {
        "FGSM": (0.15, 4.53), "I-FGSM": (1.00, 3.48), "PGD2": (1.00, 2.52), "C&W": (0.93, 3.03),
        "sPGD2": (0.99, 2.94), "sC&W": (0.99, 2.39),
    },
    "bilateral": {
        "FGSM": (0.77, 5.13), "I-FGSM": (0.82, 5.12), "PGD2": (1.00, 5.14), "C&W": (0.82, 4.75),
        "sPGD2": (0.95, 5.13), "sC&W": (0.68, 2.91),
    },
    "trained": {
        "FGSM": (0.04, 10.20), "I-FGSM": (0.02, 10.10), "PGD2": (0.12, 10.26), "C&W": (0.02, 10.21),
        "sPGD2": (0.01, 10.17), "sC&W": (0.01, 4.63),
    },
}  # fmt: skip
"""Tables 1 and 2 (MNIST), and 3 (InceptionV3 on ImageNet): success and mean L2 distortion."""

DISTORTIONS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)
"""Where the operating characteristics are read."""

WHOLE = 255


def blocks(reports: Mapping[tuple[str, str], Path]) -> dict[str, str]:
    """Every block that the reports can fill, as Markdown; `(part, model) -> report.json`, which may not be there."""
    found = {key: Assessment.model_validate_json(path.read_bytes()) for key, path in reports.items() if path.is_file()}
    makers = (attacks, curves, descents, graphs, grid, transfer)
    texts = {make.__name__: "\n".join(make(found)) for make in makers}
    return {**texts, "how": f"Written by `{command()}`. {Sheet('').machine}."}


Found = Mapping[tuple[str, str], Assessment]


def attacks(found: Found) -> Iterator[str]:
    """Tables 1 and 2."""
    for model in ("C4", "C4 adversarially trained"):
        if (report := found.get(("attacks", model))) is None:
            continue
        clean = report.clean
        yield f"\n{model}, {clean.count} of {clean.total} images classified correctly:\n"
        yield from table(
            ["attack", "success", "paper", "mean distortion", "paper", "largest"],
            (_row(part, PUBLISHED[model].get(part.name)) for part in report.characteristics),
        )


def curves(found: Found) -> Iterator[str]:
    """Figure 2, read at some distortions."""
    if (report := found.get(("attacks", "C4"))) is None:
        return
    rows = (
        [part.name, *(f"{_within(part, WHOLE * size):.0%}".replace("%", " %") for size in DISTORTIONS)]
        for part in report.characteristics
    )
    yield from table(["broken within a distortion of", *map(str, DISTORTIONS)], rows)


def descents(found: Found) -> Iterator[str]:
    """C&W, sC&W and the penalty, by iterations and constants."""
    rows = []
    for part, ended in (("descents", ""), ("whole", ", to the end")):
        if (report := found.get((part, "C4"))) is not None:
            rows += [[f"{setting}{ended}", *cells] for setting, *cells in _settings(report)]
    head = ["iterations x constants", "C&W", "sC&W", "penalty (eq. 14)", "sC&W against C&W"]
    yield from table(head, rows)


def _settings(report: Assessment) -> Iterator[list[str]]:
    parts = {tuple(part.name.split(", ")): part for part in report.characteristics}
    costs = {part.name: part.queries_mean for part in report.attacks}
    for setting in dict.fromkeys(setting for _, setting in parts):
        kinds = {kind: parts[kind, setting] for kind in ("C&W", "sC&W", "penalty")}
        plain, smooth = kinds["C&W"].mean, kinds["sC&W"].mean
        cells = [
            f"{_success(part)}, {_mean(part)}, {part.metrics['magnification']:.2f} ({costs[f'{kind}, {setting}']:,.0f})"
            for kind, part in kinds.items()
        ]
        yield [setting, *cells, "-" if not plain or not smooth else f"{100 * (smooth / plain - 1):+.0f} %"]


def graphs(found: Found) -> Iterator[str]:
    """sPGD2 and sC&W on other graphs."""
    if (report := found.get(("graphs", "C4"))) is None:
        return
    parts = {part.name: part for part in report.characteristics}
    names = list(dict.fromkeys(name.split(", ", 1)[1] for name in parts if ", " in name))
    rows = [["PGD2", f"{_success(parts['PGD2'])}, {_mean(parts['PGD2'])}", ""]]
    for name in names:
        cells = [parts[f"{kind}, {name}"] for kind in ("sPGD2", "sC&W")]
        rows.append([name, *(f"{_success(part)}, {_mean(part)}" for part in cells)])
    yield from table(["graph", "sPGD2", "sC&W (100 x 5)"], rows)


def grid(found: Found) -> Iterator[str]:
    """Real values beside the 8-bit grid; the first is of all images."""
    if (report := found.get(("grid", "C4"))) is None:
        return
    rows = ([*_row(part, None)[:2], _mean(part)] for part in report.characteristics)
    yield from table(["attack, 8-bit images", "success", "mean distortion"], rows)


def transfer(found: Found) -> Iterator[str]:
    """Table 3."""
    columns = {"bilateral": "C4 behind a bilateral filter", "trained": "C4 adversarially trained"}
    cells: dict[str, dict[str, CharacteristicPart]] = {}
    for column, model in columns.items():
        for part in ("transfer", "transfer-found"):
            if (report := found.get((part, model))) is not None:
                for one in report.characteristics:
                    cells.setdefault(one.name, {})[column] = one
    rows = []
    for name, beside in cells.items():
        row = [name]
        for column in columns:
            part, then = beside.get(column), PUBLISHED[column].get(name)
            row += ["-", "-"] if part is None else [_success(part), _mean(part)]
            if then:
                row[-2:] = [f"{row[-2]} *{then[0]:.2f}*", f"{row[-1]} *{then[1]:.2f}*"]
        rows.append(row)
    head = [
        cell for model in ("bilateral filter", "adversarially trained") for cell in (f"{model}: success", "distortion")
    ]
    yield from table(["made on C4 by", *head], rows)


def _row(part: CharacteristicPart, then: tuple[float, float] | None) -> list[str]:
    share = part.success
    between = "" if share.low is None or share.high is None else f" [{share.low:.3f}..{share.high:.3f}]"
    beside = ("", "") if then is None else (f"*{then[0]:.2f}*", f"*{then[1]:.2f}*")
    largest = "-" if part.largest is None else f"{part.largest / WHOLE:.2f}"
    return [part.name, f"{_success(part)}{between}", beside[0], _mean(part), beside[1], largest]


def _success(part: CharacteristicPart) -> str:
    return "-" if part.success.value is None else f"{part.success.value:.3f}"


def _mean(part: CharacteristicPart) -> str:
    return "-" if part.mean is None else f"{part.mean / WHOLE:.2f}"


def _within(part: CharacteristicPart, size: float) -> float:
    return max((share for distance, share in part.curve if distance <= size), default=0.0)
