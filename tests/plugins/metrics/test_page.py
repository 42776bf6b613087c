"""docs/metrics.md says of every built-in metric what the metric says of itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from charpy.errors import DataError
from charpy.interfaces.metric import Metric
from charpy.plugins import registry
from charpy_plugins.metrics.lpips_networks import layers
from charpy_plugins.plugin import charpy_metrics

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.read_text(encoding="utf-8").splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_the_page_lists_every_metric() -> None:
    assert set(ROWS) == set(charpy_metrics())


@pytest.mark.parametrize("kind", sorted(charpy_metrics()))
def test_the_row_of_each_metric_is_true(kind: str, tmp_path: Path) -> None:
    params = {}
    if kind == "lpips":  # its published weights are not in charpy
        state = {f"features.{name}": value for name, value in layers("alex").state_dict().items()}
        torch.save(state, tmp_path / "drawn.pth")
        params = {"weights": str(tmp_path / "drawn.pth")}
    metric = registry().create("metrics", kind, params)
    assert isinstance(metric, Metric)
    direction, span, unit, gradient, side = ROWS[kind]
    low, high = metric.range
    assert (direction, span, unit) == (str(metric.direction), f"{low:.4g} to {high:.4g}", metric.unit)

    images = torch.rand(1, 1, int(side), int(side), generator=torch.Generator().manual_seed(0))
    perturbed = (0.9 * images).requires_grad_()
    value = metric(images, perturbed)
    assert low <= value.item() <= high
    assert value.requires_grad == (gradient == "yes")
    if int(side) > 1:
        with pytest.raises(DataError, match="next"):
            metric(images[..., 1:], images[..., 1:])
