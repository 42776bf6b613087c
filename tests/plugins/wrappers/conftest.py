"""Small models that the wrapper tests share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper


class SmallCnn(torch.nn.Module):
    """Two layers and dropout, so that train mode shows."""

    def __init__(self, channels: int = 1, classes: int = 4) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, 5, 3, padding=1)
        self.norm = torch.nn.BatchNorm2d(5)
        self.drop = torch.nn.Dropout(0.5)
        self.head = torch.nn.Linear(5 * 36, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.drop(torch.relu(self.norm(self.conv(images)))).flatten(1))


@pytest.fixture
def small_cnn() -> Callable[..., SmallCnn]:
    """`SmallCnn(channels, classes)` with weights that depend on nothing but the arguments; in train mode."""

    def make(channels: int = 1, classes: int = 4) -> SmallCnn:
        with torch.random.fork_rng():
            torch.manual_seed(channels * 10 + classes)
            module = SmallCnn(channels, classes)
            module.norm.running_mean.uniform_()
            module.norm.running_var.uniform_(0.5, 2)
        return module.train()

    return make


@pytest.fixture
def images() -> torch.Tensor:
    """Seven grey 6x6 images."""
    return torch.rand(7, 1, 6, 6, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def save_graph(tmp_path: Path) -> Callable[..., Path]:
    """Writes a graph of `nodes` from input `x` to outputs; a shape has None or a name where a size is free."""

    def save(
        nodes: Sequence[Any],
        shape: Sequence[Any],
        outputs: Sequence[Any],
        constants: dict[str, np.ndarray] | None = None,
        *,
        name: str = "model.onnx",
        dtype: int = TensorProto.FLOAT,
        domains: Sequence[str] = (),
        edit: Callable[[Any], None] | None = None,
    ) -> Path:
        graph = helper.make_graph(
            list(nodes),
            "graph",
            [helper.make_tensor_value_info("x", dtype, list(shape))],
            [helper.make_tensor_value_info(*each) if isinstance(each, tuple) else each for each in outputs],
            [numpy_helper.from_array(value, key) for key, value in (constants or {}).items()],
        )
        opsets = [helper.make_opsetid("", 17), *(helper.make_opsetid(domain, 1) for domain in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        if edit is not None:
            edit(model)
        path = tmp_path / name
        path.write_bytes(model.SerializeToString())
        return path

    return save


@pytest.fixture
def linear_graph(save_graph: Callable[..., Path]) -> Callable[..., tuple[Path, np.ndarray]]:
    """`(path, weights)` of a graph that flattens its input and multiplies it with `weights` `(D, 3)`."""

    def save(shape: Sequence[Any], features: int, *, batch: Any = "N", **rest: Any) -> tuple[Path, np.ndarray]:
        weights = np.random.default_rng(features).normal(size=(features, 3)).astype(np.float32)
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
        outputs = [("y", onnx.TensorProto.FLOAT, [batch, 3])]
        return save_graph(nodes, [batch, *shape], outputs, {"w": weights}, **rest), weights

    return save
