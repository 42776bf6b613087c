"""A torch module as ONNX: for `charpy export`, and for the query engine."""

from __future__ import annotations

import copy
import importlib.util
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from charpy.errors import ModelError
from charpy.wholefile import replacing
from charpy_plugins.wrappers.onnx_session import Session

if TYPE_CHECKING:
    from charpy.interfaces.model import Forward

INPUT, OUTPUT = "images", "scores"
TOLERANCE = 1e-3
"""Largest difference between the export and the module, relative to the largest score."""


@dataclass(frozen=True)
class Export:
    """What was written, and how far ONNX Runtime's answers are from torch's on random images."""

    path: Path
    bytes: int
    opset: int
    exporter: str
    images: int
    max_difference: float
    relative_difference: float


def export_onnx(
    module: torch.nn.Module,
    input_shape: tuple[int, int, int],
    path: Path,
    *,
    opset: int = 17,
    images: int = 16,
    seed: int = 0,
    tolerance: float = TOLERANCE,
) -> Export:
    """Write `module` to `path` and hold ONNX Runtime's answers against torch's on random images.

    The input is `images`, float32 `(N, C, H, W)` in [0, 1] with N free; the output is `scores`. The file appears under
    its name only after it has passed.

    Args:
        module: the module; a copy of it in eval mode is exported.
        input_shape: `(C, H, W)`.
        path: where to write.
        opset: ONNX operator set.
        images: random images to compare on.
        seed: of these images.
        tolerance: largest difference, relative to the largest score (at least 1).

    Raises:
        ModelError: the module cannot be exported, or the export answers differently.
    """
    import onnx

    module = copy.deepcopy(module).eval()
    data, exporter = _export(module, input_shape, opset)
    onnx.checker.check_model(onnx.load_model_from_string(data), full_check=True)
    probe = torch.rand((images, *input_shape), generator=torch.Generator().manual_seed(seed))
    parameter = next(iter(module.parameters()), None)
    with torch.no_grad():
        expected = module(probe if parameter is None else probe.to(parameter.device)).cpu()
    session = Session(data, torch.device("cpu"), where=str(path))
    found = session.run(session.inputs[0].name, probe, session.outputs[0])
    difference = float((found.double() - expected.double()).abs().max())
    relative = difference / max(float(expected.double().abs().max()), 1.0)
    if found.shape != expected.shape or not relative <= tolerance:
        raise ModelError(
            "the export does not answer like the module",
            where=str(path),
            found=f"largest difference {difference:.3g} ({relative:.3g} relative), shape {tuple(found.shape)}",
            expected=f"at most {tolerance:g} relative, shape {tuple(expected.shape)}",
            hint="look for control flow that depends on the data: tracing fixes the branch that it saw",
        )
    with replacing(path) as partial:
        partial.write_bytes(data)
    return Export(path, len(data), opset, exporter, images, difference, relative)


def forward_through_onnx(module: torch.nn.Module, input_shape: tuple[int, int, int], device: torch.device) -> Forward:
    """A forward-only function on ONNX Runtime that computes `module`; its answers lie on `device`."""
    data, _ = _export(module, input_shape, 17)
    session = Session(data, device)
    if session.device.type != device.type:
        raise ModelError("; ".join(session.notes))
    name, output = session.inputs[0].name, session.outputs[0]

    def forward(images: torch.Tensor) -> torch.Tensor:
        return session.run(name, images, output)

    return forward


def _export(module: torch.nn.Module, input_shape: tuple[int, int, int], opset: int) -> tuple[bytes, str]:
    """The serialised model and which of torch's exporters made it."""
    parameter = next(iter(module.parameters()), None)
    # two rows: with one, an exporter may take the batch size for a constant
    example = torch.zeros((2, *input_shape), device=None if parameter is None else parameter.device)
    causes = []
    with _quiet():
        for exporter, export in (("torchscript", _by_tracing), ("dynamo", _by_export)):
            if exporter == "dynamo" and importlib.util.find_spec("onnxscript") is None:
                causes.append("dynamo: needs the package onnxscript")
                continue
            try:
                return export(module, example, opset), exporter
            except Exception as cause:  # noqa: BLE001 - the exporters run the module and raise whatever it raises
                text = str(cause).strip().splitlines()
                causes.append(f"{exporter}: {type(cause).__name__}: {text[0] if text else ''}"[:300])
    raise ModelError(
        "torch cannot export the module to ONNX",
        where=type(module).__qualname__,
        found="; ".join(causes),
        hint="replace the operation that has no ONNX counterpart",
    )


def _by_tracing(module: torch.nn.Module, example: torch.Tensor, opset: int) -> bytes:
    # four times faster than the newer exporter, and without its dependency
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (example,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )
        return path.read_bytes()


def _by_export(module: torch.nn.Module, example: torch.Tensor, opset: int) -> bytes:
    program = torch.onnx.export(
        module,
        (example,),
        dynamo=True,
        verbose=False,
        opset_version=max(opset, 18),  # the oldest that it writes without a conversion
        input_names=[INPUT],
        output_names=[OUTPUT],
        dynamic_shapes=({0: torch.export.Dim("N")},),
    )
    if program is None:
        raise ModelError("torch.onnx.export returned nothing")
    data: bytes = program.model_proto.SerializeToString()
    return data


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' deprecation warnings, their log lines, and the graph that they print when they fail."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    # torch.onnx has no switch for this one, and it writes to stdout, which is for results
    printer = getattr(torch._C, "_jit_onnx_log", None)
    logger.setLevel(logging.ERROR)
    if printer is not None:
        torch._C._jit_onnx_log = lambda *_: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
        if printer is not None:
            torch._C._jit_onnx_log = printer
