"""Digests: equal values give equal digests, in another process too; a changed value, type or name another one."""

from __future__ import annotations

import functools
import importlib
import linecache
import random
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


KEPT = {}


class Used(torch.nn.Module):
    """Changes what it holds, what its class holds, and what its module holds, by being used."""

    total = 0

    def __init__(self):
        super().__init__()
        self.calls, self.seen, self.log, self.scale = 0, {}, [], 2.0

    @functools.cached_property
    def mask(self):
        return torch.ones(4)

    def forward(self, images):
        self.calls += 1
        self.seen[len(images)] = images
        self.note(images)
        Used.total += 1
        KEPT[len(images)] = images
        return images.flatten(1) * self.mask * self.scale

    def note(self, images):
        self.log.append(float(images.sum()))

    @torch.autocast("cpu")
    def guarded(self, images):
        return self(images)


def observed():
    found = {}

    def hook(module, given, answer):
        found["last"] = answer

    module = torch.nn.Sequential(Used())
    module.register_forward_hook(hook)
    return module


def normed():
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.utils.spectral_norm(torch.nn.Linear(4, 3)))


@pytest.mark.parametrize("make", [Used, observed, normed, lambda: torch.compile(Used(), backend="eager")])
def test_use_does_not_change_what_a_module_is(make):
    torch.manual_seed(0)
    module = make()
    before = digests.of_module_source(module)
    module.eval()(torch.rand(2, 1, 2, 2))
    if make is Used:
        module.guarded(torch.rand(2, 1, 2, 2))
    assert digests.of_module_source(module) == before
    torch.manual_seed(0)
    assert digests.of_module_source(make()) == before


def test_a_module_held_in_a_list_is_known_by_itself_and_one_that_points_back_ends():
    def listed(value):
        layer = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(layer.weight, value)
        torch.nn.init.zeros_(layer.bias)
        for _ in range(2):  # the number of a hook is another each time
            layer.register_forward_hook(print).remove()
        layer.register_forward_hook(print)
        module = torch.nn.Sequential(Used())
        module[0].others, module[0].back = [layer], [module]
        return module

    assert digests.of_module_source(listed(1.0)) == digests.of_module_source(listed(1.0))
    assert digests.of_module_source(listed(1.0)) != digests.of_module_source(listed(2.0))


def test_generators_and_sets_of_objects_whatever_their_state_and_order():
    def holding(draws):
        module, numbers, noise = Used(), random.Random(0), torch.Generator()
        for _ in range(draws):
            numbers.random(), torch.rand(1, generator=noise)
        module.held = [numbers, noise, np.random.PCG64(draws), {Thing(a=value) for value in range(20)}, iter([draws])]
        return module

    assert digests.of_module_source(holding(0)) == digests.of_module_source(holding(3))


class _Raising:
    def __getattr__(self, name):
        raise RuntimeError(name)


class _RaisingNumber(int):
    def __repr__(self):
        raise ValueError("no")


class _RaisingMapping(dict):
    def items(self):
        raise KeyError("no")


class _RaisingKind(type):
    def __getattr__(cls, name):
        raise RuntimeError(name)


class _Reduced:
    def __reduce_ex__(self, protocol):
        return (str, (), None, 5, 6)


class _Kind(metaclass=_RaisingKind):
    pass


class _Mute(torch.nn.Module):
    __module__ = None

    def extra_repr(self):
        raise RuntimeError("no")

    def early(self):
        return later  # noqa: F821 - never there


HELD = {
    "raising": _Raising(),
    "number": _RaisingNumber(3),
    "mapping": _RaisingMapping(a=1),
    "kind": _Kind,
    "of the kind": _Kind(),
    "reduced": _Reduced(),
    "among others": {1: _Raising()},
    "mute": _Mute(),
    "conjugate": torch.ones(2, dtype=torch.complex64).conj(),
    "sparse": torch.eye(2).to_sparse(),
    "without values": torch.ones(2, device="meta"),
}


@pytest.mark.parametrize("name", HELD)
def test_nothing_that_a_module_holds_keeps_it_from_being_known(name):
    held = HELD[name] if name != "mute" else [HELD[name]]
    module, same, other = Used(), Used(), Used()
    module.held, same.held, other.held = held, held, None
    assert digests.of_module_source(module) == digests.of_module_source(same) != digests.of_module_source(other)


def test_a_cell_that_is_not_filled_yet():
    class Early(torch.nn.Module):
        def answer(self):
            return later

    assert digests.of_module_source(Early()) == digests.of_module_source(Early())
    later = 1
    assert later


@pytest.mark.filterwarnings("ignore:.torch.jit.trace:DeprecationWarning")
def test_what_torch_traced_is_known_by_what_it_computes():
    class Times(torch.nn.Module):
        def forward(self, images):
            return images * 2

    class Plus(torch.nn.Module):
        def forward(self, images):
            return images + 2

    Plus.__qualname__, Plus.__name__ = Times.__qualname__, Times.__name__
    for trace in (lambda module: torch.jit.trace(module, torch.ones(1, 2)), torch.fx.symbolic_trace):
        assert digests.of_module_source(trace(Times())) == digests.of_module_source(trace(Times()))
        assert digests.of_module_source(trace(Times())) != digests.of_module_source(trace(Plus()))


FACTORY = """
import functools
import torch

scale, power = 2.0, 3.0

def deep(batch):
    return batch + 1

def activation(batch):
    return deep(batch)

def wrapped(function):
    @functools.wraps(function)
    def around(*args):
        return 4 * function(*args)
    return around

@functools.lru_cache
def table(size):
    return torch.ones(size) * 5

class Network(torch.nn.Module):
    by = scale

    def __init__(self):
        super().__init__()
        self.activation, self._hidden = activation, 6.0
        self.pick = (lambda x: x * 7) if power else (lambda x: x * 8)

    @wrapped
    def forward(self, batch, exponent=power):
        return self.activation(batch * self.by) ** exponent + table(4) * self._hidden
"""


def test_what_a_network_takes_on_other_ways_is_its_own():
    """Values of the class, defaults, decorators, cached helpers, private names, helpers of what it holds; from text
    that nobody can read again, too.
    """

    def digest(text, readable=True):
        name = f"<text {hash(text)}>" if readable else "<string>"
        if readable:
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        space = {"__name__": "made_here"}
        exec(compile(text, name, "exec"), space)
        return digests.of_module_source(space["Network"]())

    changes = ["2.0", "3.0", "+ 1", "4 *", "* 5", "6.0", "x * 7"]
    for readable in (True, False):
        same = digest(FACTORY, readable)
        assert digest(FACTORY + "\n\nunused = 1\n", readable) == same
        found = [digest(FACTORY.replace(change, f"{change[:-1]}9"), readable) for change in changes if change != "4 *"]
        found.append(digest(FACTORY.replace("4 *", "9 *"), readable))
        assert len({same, *found}) == len(found) + 1


def test_a_method_set_from_outside_is_its_own():
    def patched(by):
        class Answering(torch.nn.Module):
            pass

        Answering.forward = by
        return Answering()

    def one(self, images):
        return images

    def two(self, images):
        return images * 2

    assert digests.of_module_source(patched(one)) == digests.of_module_source(patched(one))
    assert digests.of_module_source(patched(one)) != digests.of_module_source(patched(two))
