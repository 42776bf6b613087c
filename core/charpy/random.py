"""Randomness keyed by (seed, sample id, draw), so that no result depends on batch size, order, device or worker.

Counter-based: each number is a hash of its key and position, so any number of samples draw in one batched call and no
generator state exists. Each row's 64-bit key comes from SplitMix64 (Steele, Lea & Flood 2014) of seed, sample and draw;
each 32-bit word is a keyed multiply-xorshift hash of its position (the finaliser family of Wellons' `lowbias32`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1, _MIX_2 = -4658895280553007687, -7723592293110705685  # SplitMix64's multipliers, signed
_WORD = (-1640531535, 2146121005, -2073254261, 739982445)  # odd 32-bit multipliers, signed
_CHUNK = 1 << 16  # words hashed at a time: the working set stays in a core's cache


def sample_keys(ids: Sequence[str]) -> torch.Tensor:
    """int64 `(N,)` keys of sample ids, the same on every machine."""
    digests = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in ids]
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)


class Random:
    """Streams of numbers for N samples.

    Every call names the samples that draw (`rows`, positions `(B,)`) and, per row, which draw it is (`draws`, a number
    or `(B,)`): the same (seed, sample, draw) always gives the same numbers, whatever else is in the batch.
    """

    def __init__(self, seed: int, keys: torch.Tensor) -> None:
        self.seed = seed
        self.keys = keys
        self._seeded = _splitmix(keys ^ _signed(seed * 0x9E3779B97F4A7C15))

    def fork(self, name: str) -> Random:
        """Independent streams for another purpose."""
        digest = hashlib.blake2b(f"{self.seed}/{name}".encode(), digest_size=8).digest()
        return Random(int.from_bytes(digest, "little", signed=True), self.keys)

    def words(self, rows: torch.Tensor, draws: torch.Tensor | int, count: int) -> torch.Tensor:
        """int32 `(B, count)`, uniform over all 2^32 words."""
        key = self._row_keys(rows, draws)
        low, high = key.to(torch.int32)[:, None], (key >> 32).to(torch.int32)[:, None]
        counter = torch.arange(count, dtype=torch.int32, device=key.device).mul_(_WORD[0])[None]
        out = torch.empty(len(rows), count, dtype=torch.int32, device=key.device)
        if not (len(rows) and count):
            return out
        height, width = max(1, _CHUNK // count), min(count, _CHUNK)
        for top in range(0, len(rows), height):
            for left in range(0, count, width):
                block = (slice(top, top + height), slice(left, left + width))
                _hash(counter[:, block[1]], low[block[0]], high[block[0]], out[block])
        return out

    def uniform(self, rows: torch.Tensor, draws: torch.Tensor | int, *shape: int) -> torch.Tensor:
        """float32 `(B, *shape)` in [0, 1), multiples of 2^-24."""
        words = self.words(rows, draws, _size(shape))
        numbers = words.bitwise_right_shift_(8).bitwise_and_(0xFFFFFF).to(torch.float32).mul_(2.0**-24)
        return numbers.view(len(rows), *shape)

    def normal(self, rows: torch.Tensor, draws: torch.Tensor | int, *shape: int) -> torch.Tensor:
        """float32 `(B, *shape)`, standard normal through 65,536 equiprobable quantiles (|z| < 4.33, variance 1)."""
        size = _size(shape)
        words = self.words(rows, draws, (size + 1) // 2)
        table = _quantiles(str(words.device))
        out = torch.empty(len(rows), 2 * words.shape[1], device=words.device)
        halves = words.view(torch.int16)
        height = max(1, 2 * _CHUNK // max(1, out.shape[1]))
        for top in range(0, len(rows), height):
            index = halves[top : top + height].to(torch.int32).add_(32768)
            out[top : top + height] = table.index_select(0, index.view(-1)).view(index.shape)
        return out[:, :size].reshape(len(rows), *shape)

    def integers(self, rows: torch.Tensor, draws: torch.Tensor | int, high: int, *shape: int) -> torch.Tensor:
        """int64 `(B, *shape)` in [0, high); the bias is below high / 2^32."""
        words = self.words(rows, draws, _size(shape)).to(torch.int64).bitwise_and_(0xFFFFFFFF)
        return words.mul_(high).bitwise_right_shift_(32).view(len(rows), *shape)

    def _row_keys(self, rows: torch.Tensor, draws: torch.Tensor | int) -> torch.Tensor:
        steps = torch.as_tensor(draws, dtype=torch.int64, device=rows.device)
        return _splitmix(self._seeded[rows] + steps * _GOLDEN)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _signed(value: int) -> int:
    value &= (1 << 64) - 1
    return value - (1 << 64) if value >> 63 else value


def _splitmix(key: torch.Tensor) -> torch.Tensor:
    key = key + _GOLDEN
    key = (key ^ ((key >> 30) & ((1 << 34) - 1))) * _MIX_1
    key = (key ^ ((key >> 27) & ((1 << 37) - 1))) * _MIX_2
    return key ^ ((key >> 31) & ((1 << 33) - 1))


def _hash(counter: torch.Tensor, low: torch.Tensor, high: torch.Tensor, out: torch.Tensor) -> None:
    """`out` = hash of (counter, low, high); int32 shifts are arithmetic, so each is masked to a logical one."""
    torch.bitwise_xor(counter, low, out=out)
    out.mul_(_WORD[1])
    out.bitwise_xor_((out >> 15).bitwise_and_(0x1FFFF))
    out.add_(high).mul_(_WORD[2])
    out.bitwise_xor_((out >> 16).bitwise_and_(0xFFFF))
    out.mul_(_WORD[3])
    out.bitwise_xor_((out >> 15).bitwise_and_(0x1FFFF))


@cache
def _quantiles(device: str) -> torch.Tensor:
    middle = (torch.arange(65536, dtype=torch.float64) + 0.5) / 65536
    table: torch.Tensor = torch.special.ndtri(middle)
    table /= table.square().mean().sqrt()
    return table.to(torch.float32).to(device)
