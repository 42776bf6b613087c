"""The keyed random numbers: their distributions, their independence, and that nothing but the key decides them."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from scipy import stats

from charpy.random import Random, _splitmix, sample_keys

MANY = 1 << 18
SURE = 1e-6
"""A statistic this far in the tail would be seen once in a million honest generators; the seed is fixed."""


def streams(samples: int, seed: int = 0) -> Random:
    return Random(seed, sample_keys([f"data/{i}" for i in range(samples)]))


def rows(count: int) -> torch.Tensor:
    return torch.arange(count)


def chi_square(values: torch.Tensor, bins: int) -> float:
    counts = torch.bincount(values.flatten(), minlength=bins).numpy()
    return float(stats.chisquare(counts).pvalue)


# Where the numbers come from


def test_splitmix_gives_the_published_sequence():
    state, golden, found = 1234567, 0x9E3779B97F4A7C15, []
    for _ in range(5):
        signed = state - (1 << 64) if state >> 63 else state
        found.append(int(_splitmix(torch.tensor([signed]))) % (1 << 64))
        state = (state + golden) % (1 << 64)
    assert found == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


def test_words_follow_the_documented_hash_in_plain_integers():
    """The same hash in Python's unbounded integers: guards the masks that make torch's signed shifts logical."""

    def splitmix(key: int) -> int:
        key = (key + 0x9E3779B97F4A7C15) % (1 << 64)
        key = ((key ^ (key >> 30)) * 0xBF58476D1CE4E5B9) % (1 << 64)
        key = ((key ^ (key >> 27)) * 0x94D049BB133111EB) % (1 << 64)
        return key ^ (key >> 31)

    def word(key: int, position: int) -> int:
        low, high = key % (1 << 32), key >> 32
        value = (position * 0x9E3779B1) % (1 << 32) ^ low
        value = (value * 2146121005) % (1 << 32)
        value ^= value >> 15
        value = ((value + high) * (-2073254261 % (1 << 32))) % (1 << 32)
        value ^= value >> 16
        value = (value * 739982445) % (1 << 32)
        return value ^ (value >> 15)

    seed, name, draw = 7, "a sample", 5
    digest = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    key = splitmix((splitmix(digest ^ (seed * 0x9E3779B97F4A7C15) % (1 << 64)) + draw * 0x9E3779B97F4A7C15) % (1 << 64))
    found = Random(seed, sample_keys([name])).words(rows(1), draw, 1000)[0]
    assert [int(value) % (1 << 32) for value in found] == [word(key, position) for position in range(1000)]


def test_a_sample_key_is_a_hash_of_its_id_alone():
    name = "mnist/test/7"
    expected = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
    assert sample_keys(["other", name])[1].item() == expected
    assert len(set(sample_keys([f"x/{i}" for i in range(10_000)]).tolist())) == 10_000


# Distributions


def test_uniform_numbers_fill_the_unit_interval_evenly():
    numbers = streams(1).uniform(rows(1), 0, MANY)
    assert numbers.dtype == torch.float32
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert chi_square((numbers * 1024).long(), 1024) > SURE
    assert stats.kstest(numbers[0].double().numpy(), "uniform").pvalue > SURE


def test_the_first_number_of_each_sample_is_uniform_too():
    numbers = streams(MANY // 4).uniform(rows(MANY // 4), 0, 1)
    assert chi_square((numbers * 256).long(), 256) > SURE


def test_the_first_number_of_each_draw_is_uniform_too():
    draws = torch.arange(MANY // 4)
    numbers = streams(1).uniform(torch.zeros_like(draws), draws, 1)
    assert chi_square((numbers * 256).long(), 256) > SURE


def test_every_bit_of_a_word_is_fair_and_no_two_agree():
    words = streams(1).words(rows(1), 0, MANY)[0].to(torch.int64).bitwise_and_(0xFFFFFFFF)
    bits = ((words[:, None] >> torch.arange(32)) & 1).double()
    limit = 5.5 / np.sqrt(MANY)
    assert ((bits.mean(0) - 0.5).abs() < limit / 2).all()
    agreement = torch.corrcoef(bits.T) - torch.eye(32)
    assert agreement.abs().max() < limit


def test_normal_numbers_have_the_moments_and_the_shape_of_the_normal():
    numbers = streams(1).normal(rows(1), 0, MANY)[0].double().numpy()
    assert abs(numbers.mean()) < 5 / np.sqrt(MANY)
    assert abs(numbers.var() - 1) < 5 * np.sqrt(2 / MANY)
    assert abs(stats.skew(numbers)) < 5 * np.sqrt(6 / MANY)
    assert abs(stats.kurtosis(numbers)) < 5 * np.sqrt(24 / MANY) + 1e-3  # the tails end at 4.33
    assert stats.kstest(numbers, "norm").pvalue > SURE
    assert abs(numbers).max() < 4.33


def test_odd_numbers_of_normals_come_in_the_shape_asked_for():
    numbers = streams(3).normal(rows(3), 0, 5, 7)
    assert numbers.shape == (3, 5, 7)
    assert torch.equal(numbers.flatten(1)[:, :34], streams(3).normal(rows(3), 0, 34))


@pytest.mark.parametrize("high", [1, 2, 3, 7, 10, 256, 1000])
def test_integers_are_uniform_in_their_range(high):
    numbers = streams(2).integers(rows(2), 0, high, 50_000)
    assert numbers.dtype == torch.int64
    assert numbers.min() == 0
    assert numbers.max() == high - 1
    if high > 1:
        assert chi_square(numbers, high) > SURE


def test_integers_of_a_large_range_stay_inside_it():
    high = (1 << 31) - 1
    numbers = streams(1).integers(rows(1), 0, high, 10_000)
    assert numbers.min() >= 0
    assert numbers.max() < high
    assert chi_square(numbers * 16 // high, 16) > SURE


# Independence


@pytest.mark.parametrize("kind", ["uniform", "normal"])
def test_samples_and_draws_are_independent_streams(kind):
    count, streams_of = 4096, 48
    random = streams(streams_of)
    by_sample = getattr(random, kind)(rows(streams_of), 3, count)
    by_draw = getattr(random, kind)(torch.zeros(streams_of, dtype=torch.int64), torch.arange(streams_of), count)
    for numbers in (by_sample, by_draw):
        found = torch.corrcoef(numbers.double()) - torch.eye(streams_of)
        assert found.abs().max() < 5.5 / np.sqrt(count)


def test_neighbouring_numbers_of_a_stream_are_uncorrelated():
    numbers = streams(1).uniform(rows(1), 0, MANY)[0].double() - 0.5
    for lag in (1, 2, 3, 4, 64):
        correlation = (numbers[:-lag] * numbers[lag:]).mean() * 12
        assert abs(correlation) < 5.5 / np.sqrt(MANY), lag


def test_pairs_of_neighbours_fill_the_square():
    numbers = (streams(1).uniform(rows(1), 1, MANY)[0] * 32).long()
    assert chi_square(numbers[::2] * 32 + numbers[1::2], 1024) > SURE


def test_forks_are_independent_of_each_other_and_of_their_parent():
    random = streams(1)
    family = [random, random.fork("a"), random.fork("b"), random.fork("a").fork("b")]
    numbers = torch.cat([member.uniform(rows(1), 0, 4096) for member in family]).double()
    found = torch.corrcoef(numbers) - torch.eye(len(family))
    assert found.abs().max() < 5.5 / np.sqrt(4096)
    assert torch.equal(random.fork("a").uniform(rows(1), 0, 9), random.fork("a").uniform(rows(1), 0, 9))


# Nothing but (seed, sample, draw) decides


@pytest.mark.parametrize("kind", ["words", "uniform", "normal"])
@pytest.mark.parametrize("count", [1, 33, 70_001])
def test_the_same_numbers_whatever_else_is_in_the_batch(kind, count):
    random = streams(7)
    draws = torch.tensor([4, 0, 4, 2, 9, 1, 4])
    batch = getattr(random, kind)(rows(7), draws, count)
    for row in range(7):
        alone = getattr(random, kind)(torch.tensor([row]), int(draws[row]), count)
        assert torch.equal(alone[0], batch[row])
    order = torch.tensor([5, 2, 2, 0])
    assert torch.equal(getattr(random, kind)(order, draws[order], count), batch[order])


def test_a_longer_draw_begins_like_a_shorter_one():
    random = streams(2)
    assert torch.equal(random.uniform(rows(2), 0, 100)[:, :10], random.uniform(rows(2), 0, 10))


def test_the_position_of_a_sample_in_the_run_plays_no_part():
    ids = [f"data/{i}" for i in range(20)]
    here = Random(5, sample_keys(ids)).uniform(torch.tensor([12]), 3, 8)
    there = Random(5, sample_keys(ids[12:13])).uniform(torch.tensor([0]), 3, 8)
    assert torch.equal(here, there)


def test_another_seed_sample_or_draw_gives_other_numbers():
    base = streams(2, seed=0).uniform(rows(1), 0, 64)
    others = [
        streams(2, seed=1).uniform(rows(1), 0, 64),
        streams(2, seed=0).uniform(torch.tensor([1]), 0, 64),
        streams(2, seed=0).uniform(rows(1), 1, 64),
        streams(2, seed=0).fork("x").uniform(rows(1), 0, 64),
    ]
    for other in others:
        assert (other != base).float().mean() > 0.9


def test_large_seeds_are_distinct_and_no_error():
    found = [streams(1, seed=seed).words(rows(1), 0, 4) for seed in (2**63 - 1, 2**62, 2**32, 0)]
    assert len({tuple(numbers[0].tolist()) for numbers in found}) == 4


def test_an_empty_batch_and_an_empty_draw():
    assert streams(3).uniform(torch.tensor([], dtype=torch.int64), 0, 5).shape == (0, 5)
    for kind in ("uniform", "normal"):
        assert getattr(streams(3), kind)(rows(3), 0, 2, 0).shape == (3, 2, 0)
    assert streams(3).integers(rows(3), 0, 5, 0).shape == (3, 0)


def test_the_global_generators_are_not_touched():
    torch.manual_seed(3)
    np_state, torch_state = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
    streams(4).normal(rows(4), 0, 100)
    streams(4).integers(rows(4), 0, 5, 100)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (np.random.get_state()[1] == np_state).all()  # noqa: NPY002
