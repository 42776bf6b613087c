"""Distances in a network's embedding: those of its own layers, a metric's rules, gradients, refusals, identity."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from charpy.errors import CharpyError, DataError, ModelError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.identity import identity_of
from charpy.plugins import registry
from charpy.specs import ComponentSpec, DataSpec, ModelSpec, RunSpec
from charpy.subjects import open_dataset
from charpy_plugins.metrics.embedding import Embedding

GENERATOR = torch.Generator().manual_seed(5)
IMAGES, OTHERS, THIRD = torch.rand(3, 6, 1, 8, 8, generator=GENERATOR)


def metric(model: str = "digits-embedding", layer: str | None = None) -> Embedding:
    return Embedding(Embedding.Params(model=model, layer=layer))


def network(kind: str) -> nn.Module:
    module: nn.Module = registry().create("models", kind, {}).module
    return module


def smooth() -> nn.Module:
    """A network in float64 without kinks."""
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 5), nn.Tanh(), nn.Linear(5, 3)).double()


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """`FILE@architecture` of a `smooth` one."""
    torch.manual_seed(0)
    path = tmp_path / "smooth.safetensors"
    safetensors.torch.save_file(smooth().state_dict(), path)
    return f"{path}@{__name__}:smooth"


def test_it_is_the_distance_of_the_embeddings_of_a_triplet_network():
    module = network("digits-embedding")
    expected = (module.embed(OTHERS) - module.embed(IMAGES)).square().sum(1).sqrt()
    torch.testing.assert_close(metric()(IMAGES, OTHERS), expected)
    assert bool((expected > 0.05).all())
    assert bool((expected <= 2).all())


def test_of_a_classifier_it_is_that_of_what_the_last_linear_layer_is_given():
    module = network("digits-cnn")
    hidden = [module.classifier[:3](module.features(module.normalise(x))) for x in (IMAGES, OTHERS)]
    expected = (hidden[1] - hidden[0]).square().sum(1).sqrt()
    torch.testing.assert_close(metric("digits-cnn")(IMAGES, OTHERS), expected)
    torch.testing.assert_close(metric("digits-cnn", "classifier.2")(IMAGES, OTHERS), expected)


def test_the_layer_that_is_named_is_taken():
    module = network("digits-cnn")
    maps = [module.features[:2](module.normalise(x)).flatten(1) for x in (IMAGES, OTHERS)]
    expected = (maps[1] - maps[0]).square().sum(1).sqrt()
    torch.testing.assert_close(metric("digits-cnn", "features.1")(IMAGES, OTHERS), expected)


def test_identity_symmetry_triangle():
    apart = metric()
    assert apart(IMAGES, IMAGES).tolist() == [0.0] * 6
    torch.testing.assert_close(apart(IMAGES, OTHERS), apart(OTHERS, IMAGES))
    assert bool((apart(IMAGES, THIRD) <= apart(IMAGES, OTHERS) + apart(OTHERS, THIRD) + 1e-6).all())


def test_its_gradient_is_that_of_the_formula(weights):
    apart = metric(weights)
    one, other = torch.rand(2, 4, 1, 3, 3, dtype=torch.float64, generator=GENERATOR)
    assert torch.autograd.gradcheck(apart, (one.requires_grad_(), other.requires_grad_()))


def test_between_equals_the_subgradient_is_zero(weights):
    one = torch.rand(4, 1, 3, 3, requires_grad=True)
    metric(weights)(one.detach(), one).sum().backward()
    assert one.grad.count_nonzero() == 0
    assert bool(one.grad.isfinite().all())


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 8, 8), (1, 8, 9)])
def test_images_of_another_shape_are_refused(shape):
    images = torch.rand(2, *shape)
    with pytest.raises(DataError, match=r"digits-embedding.*\n.*\n.*\(1, 8, 8\)"):
        metric()(images, images)


def test_images_that_a_network_without_a_shape_cannot_take_are_refused(weights):
    with pytest.raises(DataError, match=r"smooth.safetensors[\s\S]*next: .*charpy train"):
        metric(weights)(IMAGES, OTHERS)


@pytest.mark.parametrize(
    ("model", "layer", "error", "words"),
    [
        ("digits-embeding", None, UnknownNameError, "digits-embedding"),
        ("digits-cnn", "clasifier.2", UnknownNameError, "classifier.2"),
        ("mnist-nin", None, ModelError, "features.0"),
    ],
)
def test_what_has_no_embedding_is_refused(model, layer, error, words):
    with pytest.raises(error, match=words):
        metric(model, layer)(torch.rand(1, 1, 28, 28), torch.rand(1, 1, 28, 28))


def test_an_answer_that_is_no_module_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ours_here.py").write_text("def answer(images):\n    return images.reshape(len(images), -1)[:, :3]\n")
    with pytest.raises(ModelError, match="torch module"):
        metric("ours_here:answer")(IMAGES, OTHERS)


def test_a_run_with_another_shape_is_refused_before_it_begins(tmp_path):
    spec = RunSpec(
        data=DataSpec(kind="digits", samples=4),
        models=(ModelSpec(reference="digits-cnn"),),
        metrics=(ComponentSpec(kind="embedding"),),
    )
    with pytest.raises(CharpyError, match="mnist-embedding"):
        evaluate(spec, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_network_is_part_of_a_runs_identity(weights):
    def identity(model: str) -> dict[str, str]:
        spec = RunSpec(
            data=DataSpec(kind="digits"),
            models=(ModelSpec(reference="digits-cnn"),),
            metrics=(ComponentSpec(kind="embedding", params={"model": model}),),
        )
        return identity_of(spec, open_dataset(spec.data, registry()), {}, registry())

    first = identity(weights)["metric.embedding.embedding.weights"]
    assert first == identity(weights)["metric.embedding.embedding.weights"]
    state = {name: value + 1 for name, value in smooth().state_dict().items()}
    safetensors.torch.save_file(state, weights.partition("@")[0])
    assert first != identity(weights)["metric.embedding.embedding.weights"]
