"""Continuous batching: every sample gets all its runs, whatever the width, and batches stay full."""

from __future__ import annotations

import pytest
import torch

from charpy.search.stream import stream


def record(*, count: int, width: int, runs: int = 1, abreast: int = 1, ends=None, done_at=None):
    """Runs a search whose row for (sample, run) ends after `ends(sample, run)` steps; a sample is done by `done_at`."""
    log, sizes, spent = [], [], torch.zeros(count, dtype=torch.int64)

    def begin(sample, run):
        return {
            "step": torch.zeros_like(sample),
            "length": torch.tensor([ends(int(s), int(r)) for s, r in zip(sample, run, strict=True)]),
        }

    def advance(state):
        state["step"] = state["step"] + 1
        sizes.append(len(state["sample"]))
        rows = zip(state["sample"].tolist(), state["run"].tolist(), state["step"].tolist(), strict=True)
        log.extend(rows)
        spent.index_add_(0, state["sample"], torch.ones_like(state["sample"]))
        return state["step"] >= state["length"]

    def active(sample):
        return torch.ones_like(sample, dtype=torch.bool) if done_at is None else spent[sample] < done_at

    stream(begin, advance, active, torch.arange(count), width=width, runs=runs, abreast=abreast)
    return log, sizes


def length(sample: int, run: int) -> int:
    return 1 + (3 * sample + 2 * run) % 4


@pytest.mark.parametrize("width", [1, 2, 5, 100])
@pytest.mark.parametrize(("runs", "abreast"), [(1, 1), (3, 1), (3, 2), (4, 4), (2, 5)])
def test_every_run_of_every_sample_goes_to_its_end_once(width, runs, abreast):
    log, _ = record(count=7, width=width, runs=runs, abreast=abreast, ends=length)
    expected = sorted((s, r, step + 1) for s in range(7) for r in range(runs) for step in range(length(s, r)))
    assert sorted(log) == expected


def test_the_place_of_a_finished_sample_is_taken_at_once():
    _, sizes = record(count=20, width=4, ends=lambda s, _: 1 + s % 3)
    total = sum(1 + s % 3 for s in range(20))
    assert sizes[:-3] == [4] * (len(sizes) - 3)
    assert sum(sizes) == total


@pytest.mark.parametrize("abreast", [1, 3])
def test_what_a_sample_spends_does_not_depend_on_the_width(abreast):
    def spent(width):
        log, _ = record(count=6, width=width, runs=3, abreast=abreast, ends=length, done_at=4)
        return [sum(s == sample for s, _, _ in log) for sample in range(6)]

    assert spent(1) == spent(3) == spent(50)


def test_the_next_runs_begin_when_those_before_have_finished():
    log, _ = record(count=2, width=50, runs=4, abreast=2, ends=length)
    for sample in range(2):
        order = [run for s, run, _ in log if s == sample]
        assert max(order.index(0), order.index(1)) < min(order.index(2), order.index(3))
        last = max(i for i, run in enumerate(order) if run < 2)
        assert last < min(order.index(2), order.index(3))


def test_no_sample_is_no_work():
    assert record(count=0, width=4, ends=length) == ([], [])
