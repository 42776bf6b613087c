"""Memory that runs out while a model answers: the batch is halved, and what it answers stays the same."""

from __future__ import annotations

import gc

import torch

_SIGNS = ("out of memory", "failed to allocate memory", "can't allocate memory", "cannot allocate memory")


def out_of_memory(cause: BaseException | None) -> bool:
    """Whether `cause` says that a batch did not fit, in the words of torch, CUDA or ONNX Runtime."""
    if isinstance(cause, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(cause, Exception) and any(sign in str(cause).lower() for sign in _SIGNS)


def release() -> None:
    """Give back what nobody holds any more."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        gc.collect()
        torch.cuda.empty_cache()
