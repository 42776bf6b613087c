"""Digests: equal values give equal digests, in another process too; a changed value, type or name another one."""

from __future__ import annotations

import importlib
import linecache
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from charpy_plugins.wrappers import digests


class Thing:
    def __init__(self, **values):
        self.__dict__.update(values)


def test_tensors_by_name_type_shape_and_value():
    base = [("a", torch.arange(6.0)), ("b", torch.ones(2, dtype=torch.bfloat16)), ("c", torch.tensor(3))]
    digest = digests.of_tensors(base)
    assert digests.of_tensors(reversed(base)) == digest
    assert digests.of_tensors([("a", torch.arange(12.0)[::2] / 2), *base[1:]]) == digest  # the same values, strided
    others = [
        [("x", torch.arange(6.0)), *base[1:]],
        [("a", torch.arange(6.0).reshape(2, 3)), *base[1:]],
        [("a", torch.arange(6.0).double()), *base[1:]],
        [("a", torch.arange(6.0) + 1), *base[1:]],
        base[:2],
    ]
    assert len({digest, *map(digests.of_tensors, others)}) == len(others) + 1


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ({"a": [1, 2.5]}, {"a": [1, 2.5]}, {"a": [1, 2.6]}),
        ({"a": 1}, {"a": 1}, {"a": True}),
        ((1, 2), (1, 2), [1, 2]),
        ({3, 1, 2}, {1, 2, 3}, {1, 2}),
        (np.arange(4), np.arange(4), np.arange(4.0)),
        (np.float32(1), np.float32(1), np.float64(1)),
        (Thing(a=np.ones(3)), Thing(a=np.ones(3)), Thing(a=np.zeros(3))),
        (Thing(a=Thing(b=1)), Thing(a=Thing(b=1)), Thing(a=Thing(b=2))),
        (np.array([{"a": 1}], dtype=object), np.array([{"a": 1}], dtype=object), np.array([{"a": 2}], dtype=object)),
    ],
)
def test_objects_by_value(one, same, other):
    assert digests.of_object(one) == digests.of_object(same)
    assert digests.of_object(one) != digests.of_object(other)


def test_padding_bytes_do_not_count():
    kind = np.dtype({"names": ["a", "b"], "formats": ["u1", "f8"], "offsets": [0, 8], "itemsize": 16})
    memory = [bytearray(48), bytearray(b"\xff" * 48)]
    zeros, ones = (np.frombuffer(bytes_, kind) for bytes_ in memory)
    for field in ("a", "b"):
        ones[field] = zeros[field]
    assert memory[0] != memory[1]
    assert digests.of_object(zeros) == digests.of_object(ones)
    ones["b"][1] = 2
    assert digests.of_object(zeros) != digests.of_object(ones)


def test_cycles_and_widely_shared_parts_end():
    loop: list = [1]
    loop.append(loop)
    assert digests.of_object(loop) == digests.of_object(loop)
    lattice: object = 1
    for _ in range(80):
        lattice = [lattice, lattice]
    digests.of_object(lattice)


def test_random_generators_count_by_type_only():
    generator = np.random.default_rng(0)
    before = digests.of_object(Thing(generator=generator))
    generator.random(3)
    assert digests.of_object(Thing(generator=generator)) == before


def test_another_process_gives_the_same_digest():
    program = (
        "import numpy as np\nfrom sklearn.tree import DecisionTreeClassifier\n"
        "from charpy_plugins.wrappers.digests import of_object\n"
        "x = np.arange(40.0).reshape(20, 2) % 7\n"
        "print(of_object([DecisionTreeClassifier(random_state=0).fit(x, x[:, 0] > 3), {'b', 'a', 'c'}]))\n"
    )
    other = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    data = np.arange(40.0).reshape(20, 2) % 7
    tree = DecisionTreeClassifier(random_state=0).fit(data, data[:, 0] > 3)
    assert digests.of_object([tree, {"c", "a", "b"}]) == other.strip()


def test_module_source_sees_structure_but_no_addresses():
    class Activated(torch.nn.Module):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def extra_repr(self) -> str:
            return f"{self.function}"

    assert digests.of_module_source(Activated(lambda x: x)) == digests.of_module_source(Activated(lambda x: x))
    small, large = torch.nn.AvgPool2d(2), torch.nn.AvgPool2d(3)
    assert digests.of_module_source(small) != digests.of_module_source(large)


def test_a_file_by_its_bytes(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1
    assert digests.of_file(tmp_path / "a") == expected


class _Bound:
    def __init__(self, factor):
        self.factor = factor

    def answer(self):
        return self.factor


class _Shy:
    """Refuses to be pickled."""

    def __reduce_ex__(self, protocol):
        raise TypeError("no")


def test_methods_by_their_object_and_what_cannot_be_pickled_by_its_type():
    assert digests.of_object(_Bound(2).answer) == digests.of_object(_Bound(2).answer)
    assert digests.of_object(_Bound(2).answer) != digests.of_object(_Bound(3).answer)
    assert digests.of_object(_Shy()) == digests.of_object(_Shy())
    assert digests.of_object(_Shy()) != digests.of_object(_Bound(2))


def test_arrays_of_objects_by_what_is_in_them():
    one, same, other = (np.array([{"a": value}, None], dtype=object) for value in (1, 1, 2))
    assert digests.of_object(one) == digests.of_object(same) != digests.of_object(other)


USED = """
import functools
import numpy as np
from sklearn.metrics import accuracy_score

templates, limit, asked = np.eye(3), 0.5, 0

def helper(batch):
    return deeper(batch) @ templates

def deeper(batch):
    return batch - limit

def model(batch):
    global asked
    asked += 1
    return helper(batch)

class Model:
    def __call__(self, batch):
        return helper(batch) + accuracy_score([1], [1])

made = Model()
part = functools.partial(model)
"""


@pytest.mark.parametrize("name", ["model", "made", "part"])
def test_what_a_callable_uses_by_name_is_its_own(tmp_path, monkeypatch, name):
    """A helper, a value that it reads, a threshold behind two calls; not the counter that it writes itself."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def digest(number, text):
        (tmp_path / f"used_{number}.py").write_text(text.replace("0.5, 0", f"0.5, {number}"), encoding="utf-8")
        module = importlib.import_module(f"used_{number}")
        for value in (module.helper, module.deeper, module.model, module.Model):
            value.__module__ = "used"  # as if it were one module that was changed
        found = getattr(module, name)
        return digests.of_object(found, digests.home_of(found))

    same = digest(0, USED)
    assert digest(1, USED) == same
    assert digest(2, USED.replace("np.eye(3)", "2 * np.eye(3)")) != same
    assert digest(3, USED.replace("0.5", "0.6")) != same
    assert digest(4, USED.replace("batch - limit", "batch + limit")) != same
    assert digest(5, USED + "\nunused = 1\n") == same


NETWORK = """
import os
import torch
from net import functions

limit, scale = 0.5, 2.0

def curve(batch):
    return batch.clamp(-1, 1)

class Base(torch.nn.Module):
    def forward(self, batch):
        return self.last([self.inner(row) for row in batch.flatten(1)])

class Network(Base):
    def inner(self, row):
        return curve(functions.root(row)) - limit

    @staticmethod
    def last(rows):
        return torch.stack(rows) * scale

    @property
    def shape(self):
        return (1, 2) if "SHAPED" in os.environ else (1, 3)
"""
HELPERS = "def root(row):\n    return row.sqrt()\n"


def test_what_a_network_uses_by_name_is_its_own(tmp_path, monkeypatch):
    """In a method of a base, a comprehension, a static method, a property, and in a module beside it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "__init__.py").touch()

    def digest(text=NETWORK, helpers=HELPERS):
        (tmp_path / "net" / "functions.py").write_text(helpers, encoding="utf-8")
        (tmp_path / "net" / "model.py").write_text(text, encoding="utf-8")
        for name in [name for name in sys.modules if name.partition(".")[0] == "net"]:
            del sys.modules[name]
        linecache.clearcache()
        importlib.invalidate_caches()
        return digests.of_module_source(importlib.import_module("net.model").Network())

    same = digest()
    assert digest() == same
    changes = {
        "0.5": "0.6",
        "2.0": "3.0",
        "clamp(-1, 1)": "clamp(-2, 2)",
        "batch.flatten(1)": "batch",
        "(1, 2)": "(2, 1)",
    }
    found = [digest(NETWORK.replace(*change)) for change in changes.items()]
    found.append(digest(helpers=HELPERS.replace("sqrt", "exp")))
    assert len({same, *found}) == len(found) + 1
    monkeypatch.setenv("SHAPED", "yes")  # what other packages hold is not looked at
    assert digest(NETWORK + "\nunused = 1\n") == same


def test_what_a_module_holds_beside_tensors_is_its_own():
    class Scaled(torch.nn.Module):
        def __init__(self, by):
            super().__init__()
            self.by = by

    def hooked(hook):
        module = Scaled(1.0)
        module.register_forward_hook(lambda *_: None).remove()
        if hook:
            module.register_forward_hook(hook)
        return torch.nn.Sequential(module)

    def double(module, given, answer):
        return 2 * answer

    def half(module, given, answer):
        return answer / 2

    made = [Scaled(1.0), Scaled(2.0), Scaled(torch.ones(2)), Scaled(torch.zeros(2)), Scaled([double]), Scaled([half])]
    made += [hooked(None), hooked(double), hooked(half)]
    assert len({digests.of_module_source(module) for module in made}) == len(made)
    assert digests.of_module_source(hooked(half)) == digests.of_module_source(hooked(half))
    assert digests.of_module_source(Scaled(2.0)) == digests.of_module_source(Scaled(2.0))


def test_what_a_class_takes_from_around_it_is_its_own():
    def network(by):
        class Scaled(torch.nn.Module):
            def forward(self, images):
                return super().forward(images) * by

        return Scaled()

    assert digests.of_module_source(network(1.0)) == digests.of_module_source(network(1.0))
    assert digests.of_module_source(network(1.0)) != digests.of_module_source(network(2.0))
