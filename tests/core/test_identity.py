"""What a run is about: what a parameter says of itself, whatever its name, in each place of a spec."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.identity import identity_of, stands_in, without_locations
from charpy.interfaces.attack import Attack, Family
from charpy.interfaces.component import Params, locations, param
from charpy.interfaces.defense import Defense
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Model
from charpy.plugins import Registry, registry
from charpy.specs import ModelSpec, RunSpec, parse
from charpy.threat import Access, Norm


class Placed(Params):
    """One parameter of each sort; no name says which is which."""

    shelf: str = param("a", description="where it lies", identity=False)
    path: str = param("a", description="which way it turns", source="ours")
    shelves: tuple[str, ...] = param((), description="where more of it lies", unit="1", identity=False)


class Data(ArrayDataset):
    """Two grey images."""

    Params = Placed

    def __init__(self, params=None):
        super().__init__(np.zeros((2, 1, 2, 2), np.uint8), np.zeros(2, np.int64))


class Found(Model):
    """A model."""

    Params = Placed

    @classmethod
    def accepts(cls, reference):
        return {"shelf": reference} if reference.endswith(".found") else None

    def predict(self, images):
        return images.flatten(1)[:, :2]

    def fingerprint(self):
        return {}


class Wrapped(Defense):
    """A defence."""

    Params = Placed

    def wrap(self, model):
        return model


class Far(Metric):
    """A metric."""

    Params = Placed

    def __call__(self, images, perturbed):
        return torch.zeros(len(images))


class Own(Attack):
    """An attack that is all its own."""

    Params = Placed
    norms, access, family = frozenset({Norm.LINF}), Access.LABELS, Family.TARGET_DISTORTION

    def run(self, task):
        return None


class Taken(Own):
    """An attack that takes something from elsewhere."""

    class Params(Placed):
        """And from a model."""

        inner: ModelSpec | None = param(None, description="a model")

    def fingerprint(self):
        return {"taken": "1"}


PLUGIN = SimpleNamespace(
    charpy_datasets=lambda: {"data": Data},
    charpy_models=lambda: {"found": Found},
    charpy_defenses=lambda: {"wrapped": Wrapped},
    charpy_metrics=lambda: {"far": Far},
    charpy_attacks=lambda: {"own": Own, "taken": Taken},
)
GIVEN = {"shelf": "b", "path": "b", "shelves": ["b", "c"]}
EVERYWHERE = {
    "data": {"kind": "data", "params": GIVEN},
    "models": [
        {"kind": "found", "params": GIVEN, "defenses": [{"kind": "wrapped", "params": GIVEN}]},
        {"reference": "b.found", "params": GIVEN},
    ],
    "metrics": [{"kind": "far", "params": GIVEN}],
    "threats": [
        {
            "norm": "linf",
            "battery": [
                {"kind": "own", "params": GIVEN},
                {"kind": "taken", "params": {**GIVEN, "inner": {"kind": "found", "params": GIVEN}}},
            ],
        }
    ],
}


@pytest.fixture
def plugins():
    found = Registry([])
    found.add(PLUGIN, "placed")
    return found


def identity(spec, plugins):
    return identity_of(parse(RunSpec, spec), Data(), {}, plugins)


def test_a_parameter_says_of_itself_that_it_is_a_location():
    assert locations(Placed) == {"shelf", "shelves"}
    assert locations(Taken.Params) == {"shelf", "shelves"}
    fields = Placed.model_json_schema()["properties"]
    assert [fields[name].get("identity") for name in ("shelf", "path", "shelves")] == [False, None, False]
    assert (fields["path"]["source"], fields["shelves"]["unit"]) == ("ours", "1")


def test_locations_are_left_out_in_every_place_of_a_spec_and_nothing_else_is(plugins):
    known = {key.removeprefix("spec.") for key in identity(EVERYWHERE, plugins) if ".params." in key}
    assert known == {
        "data.params.path",
        "models.0.params.path",
        "models.0.defenses.0.params.path",
        "models.1.params.path",
        "metrics.0.params.path",
        *(f"threats.0.battery.0.params.{name}" for name in ("path", "shelf", "shelves.0", "shelves.1")),
        "threats.0.battery.1.params.path",
        *(f"threats.0.battery.1.params.inner.{name}" for name in ("kind", "params.path")),
    }  # an attack without a fingerprint has nothing that stands for what lies elsewhere


def test_a_run_moves_and_stays_the_same(plugins):
    def moved(value):
        if isinstance(value, dict):
            return {key: "z" if key == "shelf" else moved(item) for key, item in value.items()}
        return [moved(item) for item in value] if isinstance(value, list) else value

    battery = [{"kind": "own"}, EVERYWHERE["threats"][0]["battery"][1]]
    spec = {**EVERYWHERE, "threats": [{"norm": "linf", "battery": battery}]}
    assert identity(moved(spec), plugins) == identity(spec, plugins)


@pytest.mark.parametrize("where", ["data", "metrics"])
def test_another_parameter_is_another_run(plugins, where):
    part = {"kind": {"data": "data", "metrics": "far"}[where], "params": {**GIVEN, "path": "c"}}
    changed = {**EVERYWHERE, where: part if where == "data" else [part]}
    assert identity(changed, plugins) != identity(EVERYWHERE, plugins)


def test_an_object_of_pythons_own_needs_no_kind(plugins):
    spec = {"data": {"kind": "arrays"}, "models": [{"reference": "Net"}], "threats": [{"norm": "linf"}]}
    known = identity(spec, plugins)
    assert (known["spec.data.params"], known["spec.models.0.params"]) == ("{}", "{}")


def test_a_model_moves_with_what_is_its_own(plugins):
    for spec in ({"kind": "found", "params": GIVEN}, {"reference": "b.found", "params": GIVEN}):
        assert without_locations(parse(ModelSpec, spec), plugins) == {"path": "b"}
    unknown = parse(ModelSpec, {"kind": "gone", "params": GIVEN})
    assert without_locations(unknown, plugins) == GIVEN


@pytest.mark.parametrize(
    ("key", "inside"),
    [
        ("models.0.params.path", True),
        ("models.0.params.path.3", True),
        ("models.0.params.paths", False),
        ("models.0.params", False),
        ("xmodels.0.params.path", False),
        ("models.10.params.path", False),
    ],
)
def test_a_key_stands_in_a_place(key, inside):
    assert stands_in(key, {"models.0.params.path", "data.params.path"}) is inside


def test_what_charpys_own_components_say():
    """Where they lie, and how a server is asked: by the pages that promise a run can go on elsewhere."""
    known = {(hook, kind): locations(registry().load(hook, kind).Params) for hook, kind in OWN}
    assert known == OWN


OWN = {
    ("datasets", "npz"): {"path"},
    ("datasets", "folder"): {"path"},
    ("datasets", "mnist"): {"data_dir", "download"},
    ("datasets", "fashion-mnist"): {"data_dir", "download"},
    ("datasets", "cifar10"): {"data_dir", "download"},
    ("datasets", "digits"): frozenset(),
    ("models", "onnx"): {"path"},
    ("models", "torch"): {"weights"},
    ("models", "trained"): {"weights"},
    ("models", "open_inference"): {
        *("timeout_seconds", "retries", "backoff_seconds", "ready_seconds", "requests_per_second", "rows_per_second"),
        *("auth_env", "auth_header", "ca_file", "answer_mib"),
    },
    ("models", "hybrid"): frozenset(),
    ("generators", "trained"): {"weights"},
    ("attacks", "transfer"): {"source"},
    ("metrics", "lpips"): frozenset(),  # nothing stands for its weights
}
