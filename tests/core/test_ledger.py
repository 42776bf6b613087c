"""The accounts behind an oracle: what is admitted, charged, kept and told, held against counting by hand."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charpy.errors import BudgetError, PluginError
from charpy.ledger import PATIENCE, TRACE, Ledger
from charpy.pixels import distances
from charpy.threat import BALLS, Grid, Norm, ThreatModel

PLENTY = torch.full((3,), 1000)


def ledger_of(norm: Norm = Norm.L0, *, count: int = 3, minimise: bool = False, **threat) -> Ledger:
    fields = {"norm": norm, "radius": 4.0, "queries": 50, **threat}
    dtype = torch.float32 if fields.get("grid") is Grid.NONE else torch.uint8
    return Ledger(torch.zeros(count, 1, 2, 2, dtype=dtype), ThreatModel(**fields), minimise=minimise)


def pixels(*values: int) -> torch.Tensor:
    """One image a value: black with one pixel of that value."""
    images = torch.zeros(len(values), 1, 2, 2, dtype=torch.uint8)
    images[:, 0, 1, 0] = torch.tensor(values, dtype=torch.uint8)
    return images


def test_the_first_rows_of_each_sample_are_admitted_and_told_by_their_places():
    owner = torch.tensor([2, 0, 0, 2, 2, 1])
    rows, places = ledger_of().admit(pixels(1, 2, 3, 4, 5, 6), owner, torch.tensor([1, 0, 2]))
    assert places.tolist() == [0, 1, 3]
    assert rows[:, 0, 1, 0].tolist() == [1, 2, 4]
    rows, places = ledger_of().admit(pixels(1, 2, 3, 4, 5, 6), owner, PLENTY)
    assert places.tolist() == [0, 1, 2, 3, 4, 5]
    assert rows[:, 0, 1, 0].tolist() == [1, 2, 3, 4, 5, 6]


@settings(max_examples=60)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=12), st.lists(st.integers(0, 6), min_size=3, max_size=3))
def test_no_more_is_admitted_than_is_left_and_no_less(owners, left):
    _, places = ledger_of().admit(pixels(*range(len(owners))), torch.tensor(owners), torch.tensor(left))
    spent, expected = [0, 0, 0], []
    for place, owner in enumerate(owners):
        if spent[owner] < left[owner]:
            spent[owner] += 1
            expected.append(place)
    assert places.tolist() == expected


def test_off_the_grid_rows_are_brought_into_the_box():
    rows = torch.tensor([-0.5, 1.5, torch.nan, 0.3, torch.inf, -torch.inf])[:, None, None, None].expand(6, 1, 2, 2)
    found, _ = ledger_of(grid=Grid.NONE).admit(rows, torch.zeros(6, dtype=torch.int64), PLENTY)
    assert found[:, 0, 0, 0].tolist() == pytest.approx([0.0, 1.0, 0.0, 0.3, 1.0, 0.0])


def test_on_the_grid_rows_are_stored_next_to_the_sample_that_they_belong_to():
    """0.6 steps off: rounded to a whole one, unless that leaves a ball that the row itself was inside."""
    originals = torch.tensor([10, 100, 200], dtype=torch.uint8)[:, None, None, None].expand(3, 1, 2, 2)
    ledger = Ledger(originals, ThreatModel(norm=Norm.LINF, radius=0.7 / 255), minimise=False)
    owner = torch.tensor([2, 0, 2, 1])
    rows = (originals[owner] + torch.tensor([0.6, 0.6, 0.8, 0.6])[:, None, None, None]) / 255
    found, places = ledger.admit(rows, owner, torch.tensor([0, 5, 5]))
    assert places.tolist() == [0, 2, 3]
    assert found.dtype == torch.uint8
    assert found[:, 0, 0, 0].tolist() == [200, 201, 100], "the second was outside before"


def test_rows_of_another_shape_are_refused_with_both_shapes():
    with pytest.raises(PluginError) as caught:
        ledger_of().admit(torch.zeros(2, 1, 2, 3), torch.zeros(2, dtype=torch.int64), PLENTY)
    assert caught.value.what
    assert caught.value.found == "candidates (2, 1, 2, 3), owner (2,)"
    assert caught.value.expected == "(M, 1, 2, 2) and (M,)"


def test_an_attack_that_asks_on_and_on_is_stopped_and_one_that_gets_an_answer_is_not():
    ledger, one, zero = ledger_of(), pixels(1), torch.zeros(1, dtype=torch.int64)
    nothing = torch.zeros(3, dtype=torch.int64)
    for _ in range(2):  # an answer in between begins the count anew
        for _ in range(PATIENCE - 1):
            assert not len(ledger.admit(one, zero, nothing)[0])
        assert len(ledger.admit(one, zero, PLENTY)[0])
    for _ in range(PATIENCE - 1):
        ledger.admit(one, zero, nothing)
    with pytest.raises(BudgetError) as caught:
        ledger.admit(one, zero, nothing)
    assert caught.value.what
    assert str(PATIENCE) in str(caught.value.found)
    assert "active" in caught.value.hint


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=8), max_size=4), st.integers(1, 3))
def test_every_query_has_its_number(calls, each):
    ledger, spent = ledger_of(), [0, 0, 0]
    for owners in calls:
        expected = []
        for owner in owners:
            expected.append(spent[owner] + 1)
            spent[owner] += each
        assert ledger.charge(torch.tensor(owners), each).tolist() == expected
        assert ledger.queries.tolist() == spent


def test_which_samples_are_worth_another_query():
    for minimise, expected in ((False, [True, False, False, False]), (True, [True, True, False, False])):
        ledger = ledger_of(count=4, queries=3, minimise=minimise)
        ledger.keep(pixels(7), torch.tensor([1]), torch.tensor([1]))
        ledger.invalid[2] = True
        ledger.charge(torch.tensor([0, 0, 3, 3, 3]), 1)
        assert ledger.active.tolist() == expected


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-9, 9)), min_size=1, max_size=30))
def test_the_trace_is_the_least_margin_up_to_fewer_than_each_power_of_two(steps):
    ledger, seen = ledger_of(), [[], [], []]
    for owner, value in steps:
        ledger.charge(torch.tensor([owner]), 1)
        ledger.follow(torch.tensor([owner]), torch.tensor([float(value)]))
        seen[owner].append(value)
    trace = ledger.recorded().trace
    assert trace.shape == (3, TRACE)
    for owner, values in enumerate(seen):
        for k in range(TRACE):
            if len(values) >= 2**k:
                assert float(trace[owner, k]) == min(values[: 2 ** (k + 1) - 1])
            elif values or k:
                assert bool(trace[owner, k].isnan())


def test_a_margin_that_is_no_number_is_none():
    ledger = ledger_of()
    ledger.charge(torch.tensor([0, 1]), 1)
    ledger.follow(torch.tensor([0, 1, 1]), torch.tensor([torch.nan, torch.nan, 2.0]))
    assert ledger.recorded().trace[:2, 0].isnan().tolist() == [True, False]


def test_the_longest_search_still_fits_the_trace():
    ledger = ledger_of(count=1, queries=2**62)
    ledger.charge(torch.tensor([0]), 2**40)
    ledger.follow(torch.tensor([0]), torch.tensor([3.0]))
    trace = ledger.recorded().trace[0]
    assert float(trace[-1]) == 3.0
    assert trace[:-1].isnan().all()


def test_the_last_row_before_a_power_of_two_is_not_beyond_it():
    """log2 of 2^21 - 1 is 21 in float32."""
    ledger = ledger_of(count=1, queries=2**62)
    ledger.charge(torch.tensor([0]), 2**21 - 1)
    ledger.follow(torch.tensor([0]), torch.tensor([3.0]))
    assert ledger.recorded().trace[0].isfinite().nonzero()[:, 0].tolist() == [20]


def test_without_a_ball_the_image_nearest_in_l2_is_kept():
    ledger = ledger_of(Norm.UNRESTRICTED, radius=1.0)
    for value, number in ((9, 1), (3, 2), (5, 3)):
        ledger.keep(pixels(value), torch.tensor([1]), torch.tensor([number]))
    found = ledger.recorded()
    assert int(found.images[1, 0, 1, 0]) == 3
    assert found.queries_to_success.tolist() == [-1, 1, -1]


def test_gradients_are_watched_while_a_sample_stands():
    ledger = ledger_of()
    slopes = torch.ones(5, 1, 2, 2)
    slopes[1] = 0.0
    slopes[2, 0, 0, 0], slopes[3, 0, 1, 1] = torch.nan, -torch.inf
    slopes[4] = torch.tensor([[0.0, -1e-9], [0.0, 0.0]])
    ledger.keep(pixels(7), torch.tensor([2]), torch.tensor([1]))
    ledger.watch(torch.tensor([0, 0, 1, 1, 1]), slopes)
    ledger.watch(torch.tensor([2]), slopes[1:2])
    assert ledger.recorded().gradients.tolist() == [2, 3, 0]
    assert ledger.recorded().vanished.tolist() == [1, 2, 0]


KEPT = st.lists(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**16 - 1)), max_size=6), max_size=3)


@settings(max_examples=80)
@given(KEPT, st.sampled_from([*BALLS, Norm.UNRESTRICTED]))
def test_of_each_sample_the_first_number_and_the_nearest_image_are_kept(calls, norm):
    """Of equally near ones the earlier. Without a ball, nearness is the Euclidean one."""
    ledger, number = ledger_of(norm, radius=1.0), 0
    nearest: dict[int, tuple[float, torch.Tensor]] = {}
    first: dict[int, int] = {}
    for call in calls:
        rows = torch.zeros(len(call), 1, 2, 2, dtype=torch.uint8)
        for place, (_, bits) in enumerate(call):
            rows[place].view(-1).copy_(torch.tensor([bits >> shift & 15 for shift in (0, 4, 8, 12)]))
        owner = torch.tensor([owner for owner, _ in call], dtype=torch.int64)
        numbers = number + len(call) - torch.arange(len(call))  # told in any order
        number += len(call)
        ledger.keep(rows, owner, numbers)
        how_far = distances(Norm.L2 if norm is Norm.UNRESTRICTED else norm, torch.zeros_like(rows), rows).tolist()
        for row, sample, far in zip(rows, owner.tolist(), how_far, strict=True):
            if sample not in nearest or far < nearest[sample][0]:
                nearest[sample] = far, row
        for sample in set(owner.tolist()):
            first.setdefault(
                sample, min(n for n, s in zip(numbers.tolist(), owner.tolist(), strict=True) if s == sample)
            )
    found = ledger.recorded()
    assert found.found.tolist() == [sample in first for sample in range(3)]
    assert found.queries_to_success.tolist() == [first.get(sample, -1) for sample in range(3)]
    for sample in range(3):
        expected = nearest[sample][1] if sample in nearest else torch.zeros(1, 2, 2, dtype=torch.uint8)
        assert torch.equal(found.images[sample], expected)


def test_what_was_told_does_not_change_afterwards():
    ledger = ledger_of()
    before = ledger.recorded()
    copies = [part.clone() for part in vars(before).values()]
    ledger.charge(torch.tensor([0, 1]), 2)
    ledger.follow(torch.tensor([0]), torch.tensor([1.0]))
    ledger.watch(torch.tensor([0]), torch.zeros(1, 1, 2, 2))
    ledger.keep(pixels(9), torch.tensor([0]), torch.tensor([1]))
    ledger.invalid[1] = True
    after = ledger.recorded()
    for was, copy, now in zip(vars(before).values(), copies, vars(after).values(), strict=True):
        assert was.nan_to_num(nan=-7.0).equal(copy.nan_to_num(nan=-7.0))
        assert not now.nan_to_num(nan=-7.0).equal(copy.nan_to_num(nan=-7.0))
