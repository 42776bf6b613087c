"""What belongs to the process and not to a model: random generators, the default dtype, the number of threads."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generator_states() -> list[Any]:
    """The states of the global random generators, in a form that `==` compares."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002 - the global generator is what is watched
    states = [torch.get_rng_state().numpy().tobytes(), random.getstate(), (kind, np.asarray(keys).tobytes(), *rest)]
    if _cuda_in_use():
        states += [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()]
    return states


@contextmanager
def default_dtype_kept() -> Iterator[None]:
    """Restore the default dtype, which what comes after a model's answer relies on."""
    dtype = torch.get_default_dtype()
    try:
        yield
    finally:
        if torch.get_default_dtype() != dtype:
            torch.set_default_dtype(dtype)


@contextmanager
def global_state_kept(notes: list[str]) -> Iterator[None]:
    """Restore what a model may not change: random generators, grad mode, the default dtype, the number of threads."""
    generator, own, legacy = torch.get_rng_state(), random.getstate(), np.random.get_state()  # noqa: NPY002
    devices = torch.cuda.get_rng_state_all() if _cuda_in_use() else []
    dtype, threads, gradients = torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
        if torch.get_default_dtype() != dtype:
            notes.append("the model changes torch's default dtype; it is restored")
        if torch.get_num_threads() != threads:
            notes.append("the model changes torch's number of threads; it is restored")
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
        torch.set_rng_state(generator)
        random.setstate(own)
        np.random.set_state(legacy)  # noqa: NPY002
        for index, state in enumerate(devices):
            torch.cuda.set_rng_state(state, index)


@contextmanager
def generators_seeded(seed: int) -> Iterator[None]:
    """The global random generators begin at `seed`, and go on afterwards where they were."""
    with global_state_kept([]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002 - a stranger's model may draw from it
        yield


def _cuda_in_use() -> bool:
    """Whether CUDA has been used; asking its generators for their state would start it."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
