"""The box and the map onto it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charpy.search.box import Box

BOUNDS = [(0.0, 8.0), (127.0, 129.0), (-5.0, 5.0), (0.0, 255.0)]


@settings(max_examples=200)
@given(st.sampled_from(BOUNDS), st.floats(-1e3, 1e3, width=32))
def test_every_real_gene_lands_inside(bounds, gene):
    low, high = bounds
    point = float(Box(torch.tensor([[low]]), torch.tensor([[high]])).fold(torch.tensor([[[gene]]])))
    assert low - 1e-4 <= point <= high + 1e-4


@pytest.mark.parametrize("bounds", BOUNDS)
def test_unfold_inverts_fold_on_the_whole_box(bounds):
    low, high = bounds
    box = Box(torch.tensor([[low]]).double(), torch.tensor([[high]]).double())
    points = torch.linspace(low, high, 101, dtype=torch.float64)[:, None]
    wide = Box(box.lower.expand(101, 1), box.upper.expand(101, 1))
    assert torch.allclose(wide.fold(wide.unfold(points)[:, None])[:, 0], points, atol=1e-9)


@pytest.mark.parametrize("bounds", BOUNDS)
def test_the_map_is_the_identity_between_the_curved_zones(bounds):
    low, high = bounds
    box = Box(torch.tensor([[low]]), torch.tensor([[high]]))
    below, above = float(box.below), float(box.above)
    inner = torch.linspace(low + below, high - above, 50)[None, :, None]
    assert torch.allclose(box.fold(inner), inner)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("bounds", BOUNDS)
def test_equals_pycmas_bound_transform(bounds):
    cma = pytest.importorskip("cma")
    handler = cma.boundary_handler.BoundTransform([[bounds[0]], [bounds[1]]])
    width = bounds[1] - bounds[0]
    genes = np.linspace(bounds[0] - 3 * width, bounds[1] + 3 * width, 301)
    expected = [handler.transform([gene])[0] for gene in genes]
    box = Box(torch.tensor([[bounds[0]]]).double(), torch.tensor([[bounds[1]]]).double())
    found = box.fold(torch.from_numpy(genes)[None, :, None])[0, :, 0]
    assert found.tolist() == pytest.approx(expected, abs=1e-6 * max(1.0, math.fabs(bounds[1])))
