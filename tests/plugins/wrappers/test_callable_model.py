"""The callable wrapper: numpy or torch, what it returns found out, copies only, modules keep their gradients."""

from __future__ import annotations

import functools
import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from charpy.errors import DataError, ModelError, UnknownNameError
from charpy.interfaces.model import Output
from charpy.preflight import preflight
from charpy.specs import parse
from charpy.threat import Access
from charpy_plugins.wrappers.callable_model import CallableModel, _annotated
from charpy_plugins.wrappers.references import load_reference, produced
from charpy_plugins.wrappers.torch_module import TorchModel

WEIGHTS = np.random.default_rng(4).normal(size=(36, 3)).astype(np.float32)


def numpy_scores(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1) @ WEIGHTS


def torch_scores(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1) @ torch.from_numpy(WEIGHTS)


@pytest.fixture
def scores(images) -> torch.Tensor:
    return images.flatten(1) @ torch.from_numpy(WEIGHTS)


# what it takes


@pytest.mark.parametrize(
    "function",
    [
        numpy_scores,
        torch_scores,
        lambda x: x.reshape(len(x), -1) @ WEIGHTS,
        lambda x: x.flatten(1) @ torch.from_numpy(WEIGHTS),
        functools.partial(lambda w, x: np.dot(x.reshape(len(x), -1), w), WEIGHTS),
        lambda x: (np.asarray(x).reshape(len(x), -1) @ WEIGHTS).tolist(),
        lambda x: x.reshape(len(x), -1).astype(np.float64) @ WEIGHTS,
    ],
    ids=["numpy", "torch", "numpy unsaid", "torch unsaid", "partial", "list", "float64"],
)
def test_numpy_and_torch_are_told_apart(function, images, scores):
    model = CallableModel.from_callable(function)
    answer = model.predict(images)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, scores, atol=1e-5, rtol=1e-5)
    assert (model.output, model.access, model.num_classes) == (Output.LOGITS, Access.SCORES, 3)


@pytest.mark.parametrize(("array", "kind"), [("numpy", np.ndarray), ("torch", torch.Tensor)])
def test_the_array_can_be_declared(array, kind, images):
    seen = []

    def model(x):
        seen.append(type(x))
        return np.zeros((len(x), 2), np.float32)

    CallableModel.from_callable(model, array=array).predict(images)
    assert seen == [kind]


def test_an_annotation_decides_without_a_trial(images):
    seen = []

    def model(x: torch.Tensor):
        seen.append(type(x))
        return torch.zeros(len(x), 2)

    def other(x: NDArray[np.float32]):
        seen.append(type(x))
        return np.zeros((len(x), 2))

    CallableModel.from_callable(model).predict(images)
    CallableModel.from_callable(other).predict(images)
    assert seen == [torch.Tensor, np.ndarray]


def test_a_callable_that_takes_neither_is_an_error_with_both_reasons(images):
    def model(x):
        raise ValueError(f"no {type(x).__name__}")

    with pytest.raises(ModelError, match=r"no ndarray[\s\S]*no Tensor"):
        CallableModel.from_callable(model).predict(images)


def test_layout_and_scale(images):
    colour = torch.rand(4, 3, 5, 6)

    def model(x: np.ndarray):
        assert x.shape == (4, 5, 6, 3)
        assert x.flags["C_CONTIGUOUS"]
        return x.reshape(4, -1)

    answer = CallableModel.from_callable(model, layout="nhwc", scale=255).predict(colour)
    torch.testing.assert_close(answer, colour.permute(0, 2, 3, 1).flatten(1) * 255)


def test_what_the_callable_does_to_its_images_stays_with_it(images):
    def ruin(x: np.ndarray):
        x[:] = 7
        return np.zeros((len(x), 2))

    def ruin_torch(x: torch.Tensor):
        x.fill_(7)
        return torch.zeros(len(x), 2)

    before = images.clone()
    for function in (ruin, ruin_torch):
        preflight(CallableModel.from_callable(function), images)
        assert torch.equal(images, before)


def test_there_are_no_gradients(images):
    model = CallableModel.from_callable(torch_scores)
    assert not model.predict(images.clone().requires_grad_(True)).requires_grad
    assert preflight(model, images).access is Access.SCORES


# what it returns


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_whole_numbers_are_labels(images, scores, kind):
    model = CallableModel.from_callable(lambda x: numpy_scores(np.asarray(x)).argmax(1).astype(kind))
    answer = model.predict(images)
    assert answer.dtype == torch.int64
    assert torch.equal(answer, scores.argmax(1))
    assert (model.output, model.access) == (Output.LABELS, Access.LABELS)
    assert preflight(model, images).access is Access.LABELS


def test_probabilities_are_found_by_preflight_or_declared(images):
    def model(x: torch.Tensor) -> torch.Tensor:
        return torch_scores(x).softmax(1)

    assert preflight(CallableModel.from_callable(model), images).output is Output.PROBABILITIES
    declared = CallableModel.from_callable(model, output=Output.PROBABILITIES)
    assert preflight(declared, images).notes == ()


@pytest.mark.parametrize("kind", [np.float16, torch.bfloat16])
def test_half_precision_is_converted_and_noted(images, kind):
    def model(x):
        answer = numpy_scores(np.asarray(x))
        return answer.astype(kind) if isinstance(kind, type) else torch.from_numpy(answer).to(kind)

    wrapped = CallableModel.from_callable(model)
    assert wrapped.predict(images).dtype == torch.float32
    assert any("converted to float32" in note for note in wrapped.notes)


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: (np.zeros((len(x), 2)), 1), "tuple of 2"),
        (lambda x: None, "NoneType"),
        (lambda x: {"scores": 1}, "dict"),
        (lambda x: np.array(["cat"] * len(x)), "<U3"),
        (lambda x: np.array([object()] * len(x)), "object"),
        (lambda x: np.zeros((len(x), 2, 2)), r"\(7, 2, 2\)"),
        (lambda x: 3.0, "float"),
        (lambda x: np.zeros(len(x)), r"\(7,\)"),
        (lambda x: np.zeros((len(x) + 1, 2)), r"\(8, 2\)"),
    ],
)
def test_wrong_forms_are_refused_with_the_shapes(images, function, found):
    with pytest.raises(ModelError, match=found):
        preflight(CallableModel.from_callable(function), images)


def test_labels_first_and_scores_later_are_refused(images):
    def model(x: np.ndarray):
        return numpy_scores(x) if len(x) == 1 else numpy_scores(x).argmax(1)

    with pytest.raises(ModelError, match="wrong form"):
        preflight(CallableModel.from_callable(model), images)


def test_a_declared_output_is_kept(images):
    model = CallableModel.from_callable(numpy_scores, output=Output.LABELS, num_classes=3)
    with pytest.raises(ModelError, match="wrong form"):
        model.predict(images)


# references


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A working directory with modules that nothing else can import."""
    (tmp_path / "mine_for_test.py").write_text(
        "import torch\n"
        "def scores(images):\n    return images.reshape(len(images), -1)[:, :3]\n"
        "class Judge:\n    def __call__(self, images):\n        return scores(images) * 2\n"
        "judge = Judge()\n"
        "def make():\n    return scores\n"
        "def build(width=3) -> torch.nn.Module:\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, width))\n"
        "net = build()\n"
        "class Net(torch.nn.Module):\n    def forward(self, x):\n        return x.flatten(1)[:, :3]\n"
        "class Broken:\n    def __init__(self):\n        raise OSError('no weights')\n"
        "number = 3\n"
        "def odd(factor=2):\n    return factor\n"
    )
    (tmp_path / "pkg_for_test").mkdir()
    (tmp_path / "pkg_for_test" / "__init__.py").write_text("")
    (tmp_path / "pkg_for_test" / "inner.py").write_text("from pkg_for_test import other\nscores = other.scores\n")
    (tmp_path / "pkg_for_test" / "other.py").write_text("def scores(x):\n    return x.reshape(len(x), -1)[:, :3]\n")
    (tmp_path / "exits_for_test.py").write_text("raise SystemExit(0)\n")
    (tmp_path / "raises_for_test.py").write_text("raise RuntimeError('half written')\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0].endswith("_for_test")]:
        del sys.modules[name]


def opened(reference: str, **params) -> CallableModel:
    accepted = CallableModel.accepts(reference)
    assert accepted is not None
    return CallableModel(parse(CallableModel.Params, {**accepted, **params}))


@pytest.mark.parametrize(
    ("reference", "factor"),
    [
        ("mine_for_test:scores", 1),
        ("mine_for_test:judge", 2),
        ("mine_for_test:Judge", 2),
        ("mine_for_test:make", 1),
        ("pkg_for_test.inner:scores", 1),
        ("pkg_for_test.inner:other.scores", 1),
    ],
)
def test_references_in_the_working_directory(folder, images, reference, factor):
    before = list(sys.path)
    model = opened(reference)
    assert sys.path == before
    torch.testing.assert_close(model.predict(images), images.flatten(1)[:, :3] * factor)
    assert model.access is Access.SCORES


@pytest.mark.parametrize(
    "reference",
    ["mine_for_test:net", "mine_for_test:build", "mine_for_test:Net"],
    ids=["instance", "function", "class"],
)
def test_torch_modules_keep_their_gradients(folder, images, reference):
    model = opened(reference)
    assert model.access is Access.GRADIENTS
    given = images.clone().requires_grad_(True)
    model.predict(given)[:, 0].sum().backward()
    assert given.grad.abs().sum() > 0
    assert preflight(model, images).access is Access.GRADIENTS
    assert set(model.forwards()) == {"onnxruntime", "torch channels-last"}
    assert model.state_digest() == opened(reference).state_digest() != "" or reference.endswith("build")


def test_torch_modules_with_another_layout_and_scale(folder, images):
    model = opened("mine_for_test:net", layout="nhwc", scale=255)
    net = sys.modules["mine_for_test"].net
    torch.testing.assert_close(
        model.predict(images), net(images.permute(0, 2, 3, 1) * 255).detach(), rtol=1e-4, atol=1e-3
    )
    assert model.forwards() == {}
    assert model.access is Access.GRADIENTS


def test_torch_modules_can_be_exported_where_they_take_images(folder, images):
    model = opened("mine_for_test:net", input_shape=[1, 6, 6])
    assert model.input_shape == (1, 6, 6)
    assert model.export(folder / "net.onnx")["exporter"] == "torchscript"
    assert (folder / "net.onnx").is_file()
    for other in (opened("mine_for_test:net"), opened("mine_for_test:net", scale=255), opened("mine_for_test:scores")):
        with pytest.raises(ModelError):
            other.export(folder / "other.onnx")
    assert not (folder / "other.onnx").exists()


def test_a_declared_input_shape_is_checked_by_preflight(folder, images):
    for reference in ("mine_for_test:scores", "mine_for_test:net"):
        with pytest.raises(ModelError, match=r"\(3, 6, 6\)"):
            preflight(opened(reference, input_shape=[3, 6, 6]), images)


def test_factory_can_be_declared(folder, images):
    assert opened("mine_for_test:make", factory=True).predict(images).shape == (7, 3)
    with pytest.raises(ModelError):
        opened("mine_for_test:make", factory=False).predict(images)
    with pytest.raises(ModelError, match="not a callable"):
        opened("mine_for_test:odd", factory=True)


@pytest.mark.parametrize(
    ("reference", "error", "says"),
    [
        ("mine_for_test:score", UnknownNameError, "scores"),
        ("mine_for_test:number", ModelError, "not a callable"),
        ("mine_for_test:Broken", ModelError, "no weights"),
        ("no_such_module_for_test:f", ModelError, "cannot be imported"),
        ("raises_for_test:f", ModelError, "half written"),
        ("exits_for_test:f", ModelError, "SystemExit"),
    ],
)
def test_references_that_lead_nowhere(folder, reference, error, says):
    with pytest.raises(error, match=says):
        opened(reference)


@pytest.mark.parametrize(
    "text", ["digits-cnn", "model.onnx", "a/b:c", "w.pt@m:f", "C:\\m.onnx", "m:", ":f", "m:f()", "1m:f"]
)
def test_other_references_are_left_to_others(text):
    assert CallableModel.accepts(text) is None


def test_wrap_leaves_modules_classes_and_models_to_others():
    assert CallableModel.wrap(torch.nn.Flatten()) is None
    assert CallableModel.wrap(torch.nn.Flatten) is None
    assert CallableModel.wrap(TorchModel.from_module(torch.nn.Flatten())) is None
    assert CallableModel.wrap("text") is None
    assert isinstance(CallableModel.wrap(numpy_scores), CallableModel)


# identity


def test_fingerprint_knows_source_and_bound_values():
    def of(function, **options):
        return dict(CallableModel.from_callable(function, **options).fingerprint())

    def scaled(factor):
        return lambda x: numpy_scores(x) * factor

    assert of(scaled(np.ones(2))) == of(scaled(np.ones(2)))
    assert of(scaled(np.ones(2)))["source"] != of(scaled(np.zeros(2)))["source"]
    assert of(functools.partial(numpy_scores, 1))["source"] != of(functools.partial(numpy_scores, 2))["source"]
    assert of(numpy_scores)["source"] != of(torch_scores)["source"]
    assert of(numpy_scores, scale=255) != of(numpy_scores)


def test_an_error_of_charpys_own_is_told_as_it_is(images):
    def refuses(batch):
        raise DataError("an error that says enough", where="there")

    with pytest.raises(DataError, match=r"^there: an error that says enough$"):
        CallableModel.from_callable(refuses).predict(images)


def test_what_a_callable_of_one_kind_raises_comes_through(images):
    def fails(batch: np.ndarray) -> np.ndarray:
        raise ZeroDivisionError("its own words")

    with pytest.raises(ZeroDivisionError, match="its own words"):
        CallableModel.from_callable(fails).predict(images)


def test_a_callable_without_a_signature_is_tried():
    with pytest.raises(ValueError, match="no signature"):
        inspect.signature(min)
    assert _annotated(min) is None


@pytest.mark.parametrize(
    ("reference", "says"),
    [("no reference", "not a Python reference"), ("a.b:", "not a Python reference"), (":c", "not a Python reference")],
)
def test_what_is_no_reference_is_said(reference, says):
    with pytest.raises(ModelError, match=says) as refused:
        load_reference(reference)
    assert (refused.value.found, refused.value.expected) == (repr(reference), "package.module:object")


def test_a_factory_that_refuses_is_told_as_it_is():
    def refuses():
        raise DataError("an error that says enough")

    with pytest.raises(DataError, match=r"^an error that says enough$"):
        produced(refuses, "a:refuses", None)
    assert produced(min, "builtins:min", None) is min  # nothing tells that it is a factory
