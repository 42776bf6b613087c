"""Fixtures of the tests of the zoo."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks train many times faster on one thread when the cores are shared; the count is restored."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Random images are the same in every run; the generator is restored."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
