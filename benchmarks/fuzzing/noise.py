"""Changes that know nothing of what they change, and changes of trees of plain data."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from random import Random
from typing import Any

EDGES = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    2**62,
    2**63 - 1,
    2**64 - 1,
)

VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2, 127, 128, 255, 65536, 2**31, 2**53, 2**63, 10**30, -(2**63), 0.5, -0.0, 1e-320,
    1e308, 1e999,
    float("nan"), "", "0", "8/255", "1e3", "\0", "\ud800", "é\u202e\x1b[31m", "../../x", "/etc/hostname", "~",
    "x" * 3000, "linf", "l0", "minimal", "auto", "standard", [], {}, [[]], [None], {"": None}, {"kind": "pgd"}, [1, 1],
    [[1, 2], [3]], {"path": "x.json"},
)  # fmt: skip
"""Values at which readers stumble."""


def noise(data: bytes, random: Random) -> bytes:
    """Bits, bytes, runs and whole pieces changed, left out, doubled or moved."""
    raw = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        at = random.randrange(len(raw) + 1)
        size = random.choice((1, 2, 4, 8, random.randrange(1, 200)))
        match random.randrange(8):
            case 0 if at < len(raw):
                raw[at] ^= 1 << random.randrange(8)
            case 1 if at < len(raw):
                raw[at] = random.randrange(256)
            case 2:
                width = random.choice((1, 2, 4, 8))
                number = random.choice(EDGES) & (1 << 8 * width) - 1
                raw[at : at + width] = number.to_bytes(width, random.choice(("big", "little")))
            case 3:
                del raw[at : at + size]
            case 4:
                raw[at:at] = raw[at : at + size]
            case 5:
                raw[at:at] = random.randbytes(min(size, 32))
            case 6:
                start = random.randrange(len(raw) + 1)
                raw[at : at + size] = raw[start : start + size]
            case 7 if random.random() < 0.2:
                del raw[at:]
    return bytes(raw)


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value in nested lists and mappings, the root's last."""
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [place for key, value in inner for place in places(value, (*path, key))] + [path]


def at(tree: Any, path: Sequence[Any]) -> Any:
    """The value at a path."""
    for key in path:
        tree = tree[key]
    return tree


def changed(tree: Any, random: Random, words: Sequence[str] = ()) -> Any:
    """A copy of `tree` with one to three of its values or names changed; `words` are names that mean something."""
    tree = copy.deepcopy(tree)
    for _ in range(random.choice((1, 1, 2, 3))):
        path = random.choice(places(tree))
        if not path:
            if random.random() < 0.05:
                tree = random.choice(VALUES)
            continue
        holder, key = at(tree, path[:-1]), path[-1]
        match random.randrange(8):
            case 0 | 1:
                holder[key] = copy.deepcopy(random.choice(VALUES))
            case 2:
                holder[key] = _near(holder[key], random, words)
            case 3:
                del holder[key]
            case 4:
                holder[key] = copy.deepcopy(at(tree, random.choice(places(tree))))
            case 5 if isinstance(holder, dict):
                name = random.choice(words) if words and random.random() < 0.8 else str(random.choice(VALUES))
                holder[name] = holder.pop(key) if random.random() < 0.5 else copy.deepcopy(random.choice(VALUES))
            case 5:
                holder.insert(key, copy.deepcopy(random.choice(holder)))
            case 6:
                holder[key] = [holder[key]] if random.random() < 0.5 else {random.choice(words or ("x",)): holder[key]}
            case 7 if isinstance(holder[key], dict):
                holder[key][random.choice(words or ("x",))] = copy.deepcopy(random.choice(VALUES))
    return tree


def _near(value: Any, random: Random, words: Sequence[str]) -> Any:
    """A value of the same type that is not far."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + random.choice((-1, 1, 2, -value, value, 255))
    if isinstance(value, float):
        return value * random.choice((-1.0, 0.0, 2.0, 1e300, 1e-300))
    if isinstance(value, str):
        if words and random.random() < 0.6:
            return random.choice(words)
        cut = random.randrange(len(value) + 1)
        return value[:cut] + random.choice(("", "x", "/", " ", "@", ":", "\n", "0", ".onnx", "é")) + value[cut:]
    return value
