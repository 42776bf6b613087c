"""One ONNX Runtime session: tensors in, tensors out, on the GPU when there is one and on the CPU otherwise."""

from __future__ import annotations

import threading
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from charpy.errors import ModelError

DTYPES = {
    "tensor(float)": (torch.float32, np.float32),
    "tensor(float16)": (torch.float16, np.float16),
    "tensor(double)": (torch.float64, np.float64),
    "tensor(uint8)": (torch.uint8, np.uint8),
    "tensor(int64)": (torch.int64, np.int64),
    "tensor(int32)": (torch.int32, np.int32),
}
"""ONNX Runtime's names of the element types that can go in or come out, and what they are in torch and numpy."""


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: `shape` holds whole numbers where a size is fixed and None where it is free."""

    name: str
    type: str
    shape: tuple[int | None, ...]

    @classmethod
    def of(cls, argument: Any) -> Port:
        """From ONNX Runtime's description, in which a free size is a name or None."""
        shape = tuple(size if isinstance(size, int) else None for size in argument.shape or ())
        return cls(argument.name, argument.type, shape)

    def __str__(self) -> str:
        """For messages: name, type and shape with `?` where a size is free."""
        return f"{self.name!r} {self.type} [{', '.join('?' if size is None else str(size) for size in self.shape)}]"


class Session:
    """ONNX Runtime on the bytes of a model.

    It never spins (other work shares the machine) and uses as many threads as torch does now.

    Attributes:
        inputs: the inputs that must be given (initialisers that may be overridden are not among them).
        outputs: all outputs.
        device: where the session computes, and where `run` returns its answer.
        notes: why it is not on the GPU, where one was asked for.
    """

    def __init__(self, model: bytes, device: torch.device, *, where: str = "", seconds: float | None = None) -> None:
        """Open `model`, a serialised ONNX model without external data.

        Args:
            device: the GPU to use, or the CPU. Where ONNX Runtime cannot use the GPU, the CPU is taken and noted.
            where: the file it came from, for messages.
            seconds: stop a run after this time; only for graphs with loops, since the watch costs time per run.
        """
        import onnxruntime

        self.notes: list[str] = []
        self._where, self._seconds = where, seconds
        try:
            # what it falls back to on a CPU is the same, and it says so on stdout
            falls_back = int(device.type == "cuda")
            self._session = onnxruntime.InferenceSession(
                model, _options(), providers=_providers(device), enable_fallback=falls_back
            )
        except Exception as cause:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
            raise ModelError(
                "ONNX Runtime cannot open the model",
                where=where,
                found=_first_line(cause),
                hint="check it with `python -c \"import onnx; onnx.checker.check_model('FILE')\"`",
            ) from None
        on_gpu = "CUDAExecutionProvider" in self._session.get_providers()
        if device.type == "cuda" and not on_gpu:
            self.notes.append(
                "ONNX Runtime runs on the CPU: its CUDA provider did not start "
                f"(onnxruntime {onnxruntime.__version__}, torch built for CUDA {torch.version.cuda})"
            )
        self.device = device if on_gpu else torch.device("cpu")
        self.inputs = tuple(Port.of(each) for each in self._session.get_inputs())
        self.outputs = tuple(Port.of(each) for each in self._session.get_outputs())

    def run(self, name: str, batch: torch.Tensor, output: Port) -> torch.Tensor:
        """The output `output` for `batch` fed to the input `name`, on the session's device."""
        try:
            with self._watch() as options:
                if self.device.type == "cuda":
                    return self._run_bound(name, batch, output, options)
                # from here to the kernel and back nothing is copied on the CPU
                feed = {name: batch.detach().contiguous().numpy()}
                return torch.from_numpy(self._session.run([output.name], feed, options)[0])
        except Exception as cause:  # noqa: BLE001 - ONNX Runtime's exceptions have no common base
            raise ModelError(
                "ONNX Runtime failed on a batch",
                where=self._where,
                found=f"{tuple(batch.shape)} {batch.dtype}: {_first_line(cause)}",
                expected="; ".join(str(port) for port in self.inputs),
                hint="run the file by itself on one image of the data in ONNX Runtime",
            ) from None

    def _run_bound(self, name: str, batch: torch.Tensor, output: Port, options: Any) -> torch.Tensor:
        """Through IOBinding on torch's own memory: on a GPU nothing is copied between host and device."""
        batch = batch.detach().to(self.device).contiguous()
        kind, rows = np.dtype(str(batch.dtype).removeprefix("torch.")), len(batch)
        place, index = self.device.type, self.device.index or 0
        binding = self._session.io_binding()
        binding.bind_input(name, place, index, kind, tuple(batch.shape), batch.data_ptr())
        known = None not in output.shape[1:] and output.shape[:1] in ((rows,), (None,))
        answer = None
        if known:
            dtype, element = DTYPES[output.type]
            shape = (rows, *(size for size in output.shape[1:] if size is not None))
            answer = torch.empty(shape, dtype=dtype, device=self.device)
            binding.bind_output(output.name, place, index, element, shape, answer.data_ptr())
        else:
            binding.bind_output(output.name)
        if place == "cuda":
            # ONNX Runtime has a stream of its own: torch must have finished writing the batch
            torch.cuda.current_stream(self.device).synchronize()
        self._session.run_with_iobinding(binding, options)
        if answer is not None:
            return answer
        return torch.from_numpy(binding.copy_outputs_to_cpu()[0]).to(self.device)

    def _watch(self) -> AbstractContextManager[Any]:
        return nullcontext(None) if self._seconds is None else _Deadline(self._seconds)


class _Deadline(AbstractContextManager[Any]):
    """Run options that end a run when the time is up: an endless Loop would otherwise never return."""

    def __init__(self, seconds: float) -> None:
        import onnxruntime

        self._options = onnxruntime.RunOptions()
        self._timer = threading.Timer(seconds, self._stop)
        self._timer.daemon = True

    def __enter__(self) -> Any:
        self._timer.start()
        return self._options

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _stop(self) -> None:
        self._options.terminate = True


def _options() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # else bytes that are both a protobuf and ONNX Runtime's own flatbuffer would be read as the latter, unchecked
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return options


def _providers(device: torch.device) -> list[Any]:
    """CUDA only where there is a GPU: asked for in vain, it writes to stderr and falls back in silence."""
    if device.type != "cuda":
        return ["CPUExecutionProvider"]
    return [("CUDAExecutionProvider", {"device_id": device.index or 0}), "CPUExecutionProvider"]


def _first_line(cause: BaseException) -> str:
    text = str(cause).strip().splitlines()
    return (text[0] if text else type(cause).__name__)[:400]
