"""The torch wrapper: the bare module's answers, gradients of the images only, a private copy, other forwards."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from charpy.engine import QueryEngine
from charpy.errors import CharpyError, ModelError, SpecError, UnknownNameError
from charpy.interfaces.model import Output
from charpy.plugins import Registry
from charpy.preflight import preflight
from charpy.specs import parse
from charpy.threat import Access
from charpy_plugins.wrappers import architectures
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.torch_module import TorchModel


def bare(module: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    return copy.deepcopy(module).eval()(images).detach()


def test_answers_are_the_bare_modules_in_eval_mode(small_cnn, images):
    module = small_cnn()
    model = TorchModel.from_module(module)
    assert torch.equal(model.predict(images), bare(module, images))
    assert torch.equal(model.predict(images), model.predict(images))
    assert model.access is Access.GRADIENTS


def test_the_callers_module_is_never_changed(small_cnn, images):
    module = small_cnn()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = TorchModel.from_module(module)
    preflight(model, images)
    model.forwards()["torch channels-last"]()(images)
    assert module.training
    assert all(value.requires_grad for value in module.parameters())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        module.head.weight.zero_()
    assert not torch.equal(model.predict(images), bare(module, images))


def test_only_the_images_get_a_gradient(small_cnn, images):
    module = small_cnn()
    model = TorchModel.from_module(module)
    given = images.clone().requires_grad_(True)
    model.predict(given)[:, 1].sum().backward()
    reference = copy.deepcopy(module).eval()
    expected = images.clone().requires_grad_(True)
    reference(expected)[:, 1].sum().backward()
    torch.testing.assert_close(given.grad, expected.grad)
    assert all(value.grad is None and not value.requires_grad for value in model.module.parameters())


def test_predict_leaves_the_grad_mode_to_its_caller(small_cnn, images):
    model = TorchModel.from_module(small_cnn())
    with torch.no_grad():
        assert not model.predict(images.requires_grad_(True)).requires_grad
    assert model.predict(images).requires_grad
    with torch.inference_mode():
        model.predict(images)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_converted_and_noted(small_cnn, images, dtype):
    module = small_cnn().eval()
    model = TorchModel.from_module(module.to(dtype))
    answer = model.predict(images)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, module(images.to(dtype)).detach().float())
    assert len(model.notes) == 2
    given = images.clone().requires_grad_(True)
    model.predict(given).sum().backward()
    assert given.grad is not None
    assert given.grad.abs().sum() > 0


def test_float32_needs_no_note(small_cnn, images):
    model = TorchModel.from_module(small_cnn())
    model.predict(images)
    assert model.notes == []


def test_a_module_that_changes_its_input_gets_copies_and_keeps_its_gradient(images):
    class Centred(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x -= 0.5
            return x.flatten(1)[:, :3] * 2

    model = TorchModel.from_module(Centred())
    before = images.clone()
    for _ in range(3):
        torch.testing.assert_close(model.predict(images), (before - 0.5).flatten(1)[:, :3] * 2)
    assert torch.equal(images, before)
    assert any("in place" in note for note in model.notes)
    given = images.clone().requires_grad_(True)
    model.predict(given).sum().backward()
    assert float(given.grad.sum()) == 2 * 3 * len(images)
    assert preflight(model, images).access is Access.GRADIENTS


def test_an_answer_that_is_no_tensor_is_refused_with_its_shapes(images):
    class Pair(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(ModelError, match=r"tuple of 2: Tensor \(7, 1, 6, 6\)"):
        TorchModel.from_module(Pair()).predict(images)


def test_labels(small_cnn, images):
    class Argmax(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_cnn()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x).argmax(1).int()

    model = TorchModel.from_module(Argmax(), output=Output.LABELS)
    assert model.access is Access.LABELS
    assert model.predict(images).dtype == torch.int64
    assert preflight(model, images).access is Access.LABELS
    assert torch.equal(model.forwards()["onnxruntime"]()(images), model.predict(images))


def test_a_module_that_cannot_be_copied_is_an_error(images):
    module = torch.nn.Linear(2, 2)
    module.kept = module.weight * 2
    with pytest.raises(ModelError, match="cannot be copied"):
        TorchModel.from_module(module)


# state and identity


def test_state_digest_sees_parameters_buffers_and_train_mode(small_cnn, images):
    model = TorchModel.from_module(small_cnn())
    first = model.state_digest()
    assert model.state_digest() == first == TorchModel.from_module(small_cnn()).state_digest()
    model.module.norm.running_mean[0] += 1e-3
    second = model.state_digest()
    with torch.no_grad():
        model.module.head.bias[0] += 1e-3
    third = model.state_digest()
    model.module.drop.train()
    assert len({first, second, third, model.state_digest()}) == 4


def test_batch_norm_that_updates_itself_is_refused_by_preflight(small_cnn, images):
    class Stubborn(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_cnn()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner.train()(x)

    with pytest.raises(ModelError, match="changes itself"):
        preflight(TorchModel.from_module(Stubborn()), images)


def test_fingerprint_tells_weights_structure_and_source_apart(small_cnn):
    class A(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    class B(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return -x

    def of(module: torch.nn.Module) -> dict[str, str]:
        return dict(TorchModel.from_module(module).fingerprint())

    assert of(small_cnn()) == of(small_cnn())
    assert of(small_cnn())["torch"] == torch.__version__
    changed = small_cnn()
    changed.norm.running_var[0] += 1
    assert of(changed)["weights"] != of(small_cnn())["weights"]
    assert of(A())["source"] != of(B())["source"]
    line = torch.nn.Linear(2, 2)
    assert of(torch.nn.Sequential(line, torch.nn.ReLU())) != of(torch.nn.Sequential(line, torch.nn.Sigmoid()))
    given = TorchModel.from_module(small_cnn(), fingerprint={"weights": "abc"}).fingerprint()
    assert given["weights"] == "abc"


# other forwards


def test_forwards_agree_with_predict_at_every_batch_size(small_cnn):
    images = torch.rand(33, 3, 6, 6)
    model = TorchModel.from_module(small_cnn(3), input_shape=(3, 6, 6))
    builders = model.forwards()
    assert list(builders) == ["onnxruntime", "torch channels-last"]
    for build in builders.values():
        forward = build()
        for size in (1, 5, 33):
            answer = forward(images[:size])
            torch.testing.assert_close(answer, model.predict(images[:size]), atol=1e-5, rtol=1e-5)
            assert not answer.requires_grad
            answer += 1  # may be changed in place


def test_forwards_know_the_shape_from_the_first_prediction(small_cnn, images):
    model = TorchModel.from_module(small_cnn())
    with pytest.raises(ModelError, match="input shape"):
        model.forwards()["onnxruntime"]()
    model.predict(images)
    torch.testing.assert_close(model.forwards()["onnxruntime"]()(images), model.predict(images), atol=1e-5, rtol=1e-5)


def test_forwards_of_a_half_precision_module_give_float32(small_cnn, images):
    model = TorchModel.from_module(small_cnn().to(torch.bfloat16), input_shape=(1, 6, 6))
    answer = model.forwards()["torch channels-last"]()(images)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, model.predict(images), atol=0.05, rtol=0.05)


def test_the_query_engine_can_use_them(small_cnn, images):
    model = TorchModel.from_module(small_cnn(), input_shape=(1, 6, 6))
    engine = QueryEngine.measure(model, Output.LOGITS, images)
    assert engine.notes == [] or all("not used" not in note for note in engine.notes)
    torch.testing.assert_close(engine.answers(images), model.predict(images), atol=1e-4, rtol=1e-4)


# from files


@pytest.fixture
def module_file(tmp_path, monkeypatch) -> Path:
    """A module `arch_for_test` in the working directory."""
    (tmp_path / "arch_for_test.py").write_text(
        "import torch\n"
        "def build():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))\n"
        "class Odd(torch.nn.Module):\n    def __init__(self, width):\n        super().__init__()\n"
        "def number():\n    return 3\n"
    )
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.modules.pop("arch_for_test", None)


def test_weights_at_architecture(module_file, images):
    path_before = list(sys.path)
    weights = {"1.weight": torch.rand(4, 36), "1.bias": torch.rand(4)}
    save_file(weights, "w.safetensors")
    accepted = TorchModel.accepts("w.safetensors@arch_for_test:build")
    model = TorchModel(parse(TorchModel.Params, accepted))
    torch.testing.assert_close(model.predict(images), images.flatten(1) @ weights["1.weight"].T + weights["1.bias"])
    assert sys.path == path_before
    fingerprint = model.fingerprint()
    assert fingerprint["architecture"] == "arch_for_test:build"
    torch.save(weights, "w.pt")
    other = TorchModel(TorchModel.Params(weights="w.pt", architecture="arch_for_test:build"))
    assert torch.equal(other.predict(images), model.predict(images))
    assert other.fingerprint()["weights"] != fingerprint["weights"]


def test_a_declared_input_shape_makes_an_export_possible(module_file, images):
    save_file({"1.weight": torch.rand(4, 36), "1.bias": torch.rand(4)}, "w.safetensors")
    params = {"weights": "w.safetensors", "architecture": "arch_for_test:build"}
    model = TorchModel(parse(TorchModel.Params, {**params, "input_shape": [1, 6, 6]}))
    model.export(module_file / "w.onnx")
    torch.testing.assert_close(OnnxModel.wrap("w.onnx").predict(images), model.predict(images), atol=1e-5, rtol=1e-5)
    with pytest.raises(ModelError, match="input shape"):
        TorchModel(parse(TorchModel.Params, params)).export(module_file / "v.onnx")


def test_weights_at_the_kind_of_a_zoo_model(module_file, images, monkeypatch):
    class Zoo(TorchModel):
        input_shape = (1, 6, 6)
        num_classes = 4

        @classmethod
        def architecture(cls) -> torch.nn.Module:
            return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 4))

    class Plugin:
        def charpy_models(self) -> dict[str, type]:
            return {"my-zoo": Zoo, "torch": TorchModel}

    registry = Registry(found=[])
    registry.add(Plugin(), "mine")
    monkeypatch.setattr("charpy.plugins.registry", lambda: registry)
    save_file({"1.weight": torch.eye(36)[:4].clone(), "1.bias": torch.zeros(4)}, "w.safetensors")
    before = torch.get_rng_state()
    model = TorchModel(TorchModel.Params(weights="w.safetensors", architecture="my-zoo"))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(model.predict(images), images.flatten(1)[:, :4])
    assert (model.input_shape, model.num_classes) == ((1, 6, 6), 4)
    with pytest.raises(ModelError, match="no architecture of its own"):
        TorchModel(TorchModel.Params(weights="w.safetensors", architecture="torch"))


@pytest.mark.parametrize(
    ("architecture", "error", "says"),
    [
        ("arch_for_test:bild", UnknownNameError, "build"),
        ("no_such_module_at_all:build", ModelError, "cannot be imported"),
        ("arch_for_test:Odd", ModelError, "cannot be built"),
        ("arch_for_test:number", ModelError, "no module"),
        ("no-such-zoo-kind", UnknownNameError, "unknown model"),
    ],
)
def test_architectures_that_cannot_be_built(module_file, architecture, error, says):
    save_file({"1.weight": torch.rand(4, 36)}, "w.safetensors")
    with pytest.raises(error, match=says):
        TorchModel(TorchModel.Params(weights="w.safetensors", architecture=architecture))


@pytest.mark.parametrize(
    "weights",
    [
        {"1.weight": torch.zeros(4, 36)},
        {"1.weight": torch.zeros(5, 36), "1.bias": torch.zeros(5)},
        {"x": torch.ones(1)},
    ],
    ids=["missing", "another shape", "another name"],
)
def test_weights_that_do_not_fit_are_refused(module_file, weights):
    save_file(weights, "w.safetensors")
    with pytest.raises(ModelError, match="do not fit architecture"):
        TorchModel(TorchModel.Params(weights="w.safetensors", architecture="arch_for_test:build"))


def test_references(tmp_path):
    assert TorchModel.accepts("digits-cnn") is None
    assert TorchModel.accepts("a.module:thing") is None
    assert TorchModel.accepts("model.onnx") is None
    assert TorchModel.accepts("folder/a@b/w.pth@m:f") == {"weights": "folder/a@b/w.pth", "architecture": "m:f"}
    odd = tmp_path / "weights.unusual"
    odd.write_bytes(b"x")
    assert TorchModel.accepts(f"{odd}@m:f") is not None


def test_wrap_takes_modules_only_and_subclasses_take_none():
    class Zoo(TorchModel):
        pass

    assert isinstance(TorchModel.wrap(torch.nn.Flatten()), TorchModel)
    assert TorchModel.wrap(lambda x: x) is None
    assert Zoo.wrap(torch.nn.Flatten()) is None
    assert Zoo.accepts("w.pt@m:f") is None


@pytest.mark.parametrize(("device", "error"), [("toaster", SpecError), ("cuda:99", CharpyError)])
def test_devices_that_are_not_there(device, error):
    with pytest.raises(error, match=device):
        TorchModel.from_module(torch.nn.Flatten(), device=device)


def test_the_graph_is_the_modules_and_labels_have_none(small_cnn, images):
    model = TorchModel.from_module(small_cnn(), input_shape=(1, 6, 6))
    torch.testing.assert_close(model.graph()(images), model.predict(images), atol=1e-5, rtol=1e-5)
    assert TorchModel.from_module(small_cnn()).graph() is None  # no image seen yet, so no shape known
    labels = TorchModel.from_module(small_cnn(), output=Output.LABELS, input_shape=(1, 6, 6))
    assert labels.graph() is None


def test_complex_answers_are_left_as_they_are_to_be_refused(images):
    class Complex(torch.nn.Module):
        def forward(self, batch):
            return torch.complex(batch, batch).flatten(1)

    assert TorchModel.from_module(Complex()).predict(images).is_complex()


def test_a_module_that_stands_in_a_file_is_copied_before_it_is_filled(module_file, images):
    with (module_file / "arch_for_test.py").open("a") as file:
        file.write("network = build()\ndef refused():\n    from charpy.errors import DataError\n")
        file.write("    raise DataError('an error that says enough')\n")
    save_file({"1.weight": torch.rand(4, 36), "1.bias": torch.rand(4)}, "w.safetensors")
    model = TorchModel(TorchModel.Params(weights="w.safetensors", architecture="arch_for_test:network"))
    theirs = sys.modules["arch_for_test"].network
    assert not torch.equal(theirs[1].weight, model.module[1].weight)
    with pytest.raises(CharpyError, match=r"^an error that says enough$"):
        TorchModel(TorchModel.Params(weights="w.safetensors", architecture="arch_for_test:refused"))


def test_a_kind_without_an_architecture_is_no_architecture():
    with pytest.raises(ModelError, match="model kind 'onnx' has no architecture of its own") as refused:
        architectures.build("onnx")
    assert "package.module:callable" in refused.value.hint
