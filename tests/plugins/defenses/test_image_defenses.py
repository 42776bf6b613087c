"""What every defence that changes the image must do: stay in the box, depend on the image alone, chain, keep access."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from charpy.engine import QueryEngine
from charpy.errors import SpecError
from charpy.interfaces.defense import Defense, GradientPath
from charpy.interfaces.model import Output
from charpy.oracle import Oracle
from charpy.plugins import registry
from charpy.preflight import preflight
from charpy.specs import ModelSpec, parse
from charpy.subjects import subject_of
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Norm, ThreatModel
from charpy.transforms import Draw, RandomTransformation, Transformation, TransformedModel
from charpy_plugins.wrappers.callable_model import CallableModel

SETTINGS = [
    ("bilateral_filter", {}),
    ("feature_squeezing", {}),
    ("feature_squeezing", {"squeezers": ["non_local_means_5_3_30", "bit_depth_3", "median_filter_3_3"]}),
    ("jpeg", {}),
    ("jpeg", {"quality": 20, "subsampling": "4:4:4"}),
    ("random_resize", {"draws": 3}),
    ("random_resize", {"draws": 2, "interpolation": "bilinear", "ratio": 0.7}),
    ("spatial_smoothing", {}),
    ("spatial_smoothing", {"method": "gaussian"}),
    ("tvm", {"draws": 2}),
    ("tvm", {"draws": 2, "variation": "pixels"}),
]
NAMES = [f"{kind} {params}" for kind, params in SETTINGS]
EVERY = pytest.mark.parametrize(("kind", "params"), SETTINGS, ids=NAMES)

OTHERS = {
    "bilateral_filter": {"window": 3, "sigma_space": 0.5, "sigma_colour": 0.5},
    "feature_squeezing": {"squeezers": ["bit_depth_1"]},
    "jpeg": {"quality": 10, "subsampling": "4:4:4"},
    "random_resize": {"draws": 4, "seed": 1, "ratio": 0.5, "interpolation": "bilinear", "fill": 0.5},
    "spatial_smoothing": {"window": 3},
    "thermometer": {"levels": 4},
    "tvm": {"draws": 2, "seed": 1, "drop": 0.2, "weight": 0.2, "variation": "pixels", "steps": 3},
}


def made(kind, params=None):
    return registry().create("defenses", kind, params or {})


def changed(defense, images, number=0):
    if isinstance(defense, Transformation):
        return defense.transform(images)
    assert isinstance(defense, RandomTransformation)
    return defense.transform(images, Draw(defense.params.seed, number, images.device))


@pytest.fixture
def images():
    return torch.rand(10, 3, 12, 10, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)


@pytest.fixture
def linear():
    return LinearClassifier(torch.randn(4, 3, 12, 10, generator=torch.Generator().manual_seed(1)))


def test_every_built_in_defence_that_changes_images_is_in_the_table():
    found = {
        entry.kind
        for entry, component in registry().usable("defenses")
        if issubclass(component, Transformation | RandomTransformation)
    }
    assert found == {kind for kind, _ in SETTINGS} | {"thermometer"}  # which has tests of its own


@EVERY
def test_images_stay_images(kind, params, images):
    extreme = torch.cat([images, torch.zeros(1, 3, 12, 10), torch.ones(1, 3, 12, 10), images.round()])
    found = changed(made(kind, params), extreme)
    assert found.shape == extreme.shape
    assert found.dtype == torch.float32
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert not torch.equal(found[:10], images)
    assert torch.equal(
        images, torch.rand(10, 3, 12, 10, generator=torch.Generator().manual_seed(0)).mul(255).round() / 255
    )


@EVERY
@pytest.mark.parametrize("grey", [0.0, 119 / 255, 1.0])
def test_a_constant_image_has_nothing_to_lose(kind, params, grey):
    if kind == "random_resize":
        params = {**params, "fill": grey}
    constant = torch.full((2, 3, 12, 10), grey)
    found = changed(made(kind, params), constant)
    step = 0.5 / 7 if "bit_depth_3" in str(params) else 0.5 / 31 if kind == "feature_squeezing" else 0.0
    step = 3 / 255 if "quality" in params else step
    assert torch.allclose(found, constant, atol=step + 2e-6)
    assert float(found.max() - found.min()) <= 2e-6


@EVERY
def test_an_answer_depends_on_the_image_alone(kind, params, images, linear):
    model = made(kind, params).wrap(linear)
    torch.manual_seed(1)
    whole, state = model.predict(images), torch.get_rng_state()
    torch.testing.assert_close(model.predict(images.flip(0)).flip(0), whole)
    torch.testing.assert_close(torch.cat([model.predict(image[None]) for image in images]), whole)
    torch.manual_seed(2)
    assert torch.equal(made(kind, params).wrap(linear).predict(images), whole)
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    found = preflight(model, images)
    assert found.deterministic
    assert found.batch_invariant
    assert found.access is Access.GRADIENTS


@EVERY
def test_gradients_reach_the_image(kind, params, images, linear):
    model = made(kind, params).wrap(linear)
    leaf = images.clone().requires_grad_(True)
    slope = torch.autograd.grad(model.predict(leaf)[:, 2].sum(), leaf)[0]
    assert slope.isfinite().all()
    assert slope.flatten(1).abs().amax(1).gt(0).all()
    with torch.no_grad():
        downhill = (images - 0.05 * slope.sign()).clamp(0, 1)
        fell = model.predict(downhill)[:, 2] < model.predict(images)[:, 2]
    assert fell.float().mean() >= 0.9


@pytest.mark.parametrize(
    ("kind", "params"),
    [("bilateral_filter", {}), ("spatial_smoothing", {"method": "gaussian"}), ("random_resize", {"draws": 2}),
     ("random_resize", {"draws": 1, "interpolation": "bilinear"}), ("spatial_smoothing", {"window": 3})],
)  # fmt: skip
def test_exact_gradients_are_difference_quotients(kind, params):
    defense = made(kind, params)
    assert defense.gradient in {GradientPath.EXACT, GradientPath.EOT}
    weight = torch.randn(2, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model = defense.wrap(LinearClassifier(weight))
    images = torch.rand(1, 1, 6, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert torch.autograd.gradcheck(model.predict, images.requires_grad_(True))


@pytest.mark.parametrize(("kind", "params"), [("jpeg", {}), ("tvm", {"draws": 3})])
def test_bpda_passes_the_gradient_as_if_nothing_stood_there(kind, params, images, linear):
    model = made(kind, params).wrap(linear)
    assert model.defense.gradient is GradientPath.BPDA
    leaf = images.clone().requires_grad_(True)
    slope = torch.autograd.grad(model.predict(leaf)[:, 0].sum(), leaf)[0]
    torch.testing.assert_close(slope, linear.weight[0].expand_as(images))


def test_squeezing_passes_gradients_through_its_median_only(images, linear):
    squeezed = made("feature_squeezing", {"squeezers": ["bit_depth_2", "median_filter_2_2"]}).wrap(linear)
    median = made("spatial_smoothing", {"window": 2}).wrap(linear)
    reduced = made("feature_squeezing", {"squeezers": ["bit_depth_2"]}).transform(images)
    leaf, inner = images.clone().requires_grad_(True), reduced.clone().requires_grad_(True)
    found = torch.autograd.grad(squeezed.predict(leaf)[:, 1].sum(), leaf)[0]
    expected = torch.autograd.grad(median.predict(inner)[:, 1].sum(), inner)[0]
    torch.testing.assert_close(found, expected)
    assert torch.equal(squeezed.predict(images), median.predict(reduced))
    only = made("feature_squeezing", {"squeezers": ["non_local_means_5_3_30", "bit_depth_1"]}).wrap(linear)
    found = torch.autograd.grad(only.predict(leaf)[:, 1].sum(), leaf)[0]
    torch.testing.assert_close(found, linear.weight[1].expand_as(images))


def test_the_order_of_squeezers_counts(images):
    forth = made("feature_squeezing", {"squeezers": ["bit_depth_2", "median_filter_3_3"]}).transform(images)
    back = made("feature_squeezing", {"squeezers": ["non_local_means_5_3_60", "bit_depth_2"]}).transform(images)
    there = made("feature_squeezing", {"squeezers": ["bit_depth_2", "non_local_means_5_3_60"]}).transform(images)
    assert not torch.equal(back, there)
    assert len(back.unique()) <= 4 < len(there.unique())
    assert len(forth.unique()) <= 4


@pytest.mark.parametrize(
    ("kind", "name", "value"), [(kind, name, value) for kind, all_ in OTHERS.items() for name, value in all_.items()]
)
def test_every_parameter_has_an_effect(kind, name, value, images, linear):
    settings = {"spatial_smoothing": {"sigma": {"method": "gaussian"}}}.get(kind, {}).get(name, {})
    start = {"tvm": {"draws": 1}, "random_resize": {"draws": 3}}.get(kind, {})
    base = torch.randn(4, 48, 12, 10, generator=torch.Generator().manual_seed(1))
    linear = LinearClassifier(base) if kind == "thermometer" else linear
    one = made(kind, start | settings).wrap(linear)
    if kind == "thermometer":
        other = made(kind, {name: value}).wrap(LinearClassifier(base[:, :12]))
    else:
        other = made(kind, start | settings | {name: value}).wrap(linear)
    assert not torch.equal(one.predict(images), other.predict(images))
    assert one.fingerprint() != other.fingerprint()


def test_the_width_of_a_gaussian_and_its_kind_matter(images):
    narrow, wide = (made("spatial_smoothing", {"method": "gaussian", "sigma": sigma}) for sigma in (0.5, 2.0))
    assert wide.transform(images).var() < narrow.transform(images).var()
    assert not torch.equal(made("spatial_smoothing").transform(images), narrow.transform(images))


def test_a_spec_wraps_the_first_defence_innermost(images):
    spec = {
        "reference": "digits-cnn",
        "defenses": [{"kind": "feature_squeezing", "params": {"squeezers": ["bit_depth_1"]}}, {"kind": "jpeg"}],
    }
    model = subject_of(parse(ModelSpec, spec), registry()).open()
    bare = registry().create("models", "digits-cnn")
    digits = registry().create("datasets", "digits").read(range(20)).images
    expected = bare.predict(
        made("feature_squeezing", {"squeezers": ["bit_depth_1"]}).transform(made("jpeg").transform(digits))
    )
    assert torch.equal(model.predict(digits), expected)
    assert isinstance(model, TransformedModel)
    assert isinstance(model.base, TransformedModel)


@EVERY
def test_labels_alone_suffice(kind, params, images, linear):
    base = CallableModel.from_callable(lambda rows: (rows.mean(axis=(1, 2, 3)) > 0.5).astype("int64"), array="numpy")
    model = made(kind, params).wrap(base)
    assert set(model.predict(images).tolist()) <= {0, 1}
    assert preflight(model, images).access is Access.LABELS
    probabilities = made(kind, params).wrap(LinearClassifier(linear.weight, output=Output.PROBABILITIES))
    torch.testing.assert_close(probabilities.predict(images).sum(1), torch.ones(10))


@pytest.fixture(scope="module")
def onnx_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("onnx") / "digits.onnx"
    registry().create("models", "digits-cnn").export(path)
    return registry().create("models", "onnx", {"path": str(path)})


@pytest.mark.parametrize("kind", ["feature_squeezing", "jpeg", "random_resize", "tvm"])
def test_an_onnx_file_is_defended_and_gives_scores(kind, onnx_model):
    digits = registry().create("datasets", "digits").read(range(30))
    model = made(kind).wrap(onnx_model)
    assert model.access is onnx_model.access
    oracle = Oracle(
        QueryEngine.measure(model, Output.LOGITS, digits.images),
        model, digits.images, digits.labels, None, ThreatModel(norm=Norm.LINF, radius=0.1),
    )  # fmt: skip
    scores = oracle.scores(digits.images, torch.arange(30))
    torch.testing.assert_close(scores, model.predict(digits.images), atol=1e-4, rtol=1e-4)
    assert (scores.argmax(1) == digits.labels).float().mean() > 0.5


@pytest.mark.parametrize(
    ("kind", "params", "named"),
    [("jpeg", {"quality": 0}, "quality"), ("tvm", {"drop": 1}, "drop"), ("tvm", {"weight": 0}, "weight"),
     ("spatial_smoothing", {"window": 0}, "window"), ("spatial_smoothing", {"method": "mean"}, "method"),
     ("feature_squeezing", {"squeezers": []}, "squeezers"), ("bilateral_filter", {"sigma_space": 0}, "sigma_space"),
     ("feature_squeezing", {"squeezers": ["median_3"]}, "is no squeezer"), ("random_resize", {"ratio": 0}, "ratio"),
     ("thermometer", {"levels": 1}, "levels"), ("random_resize", {"draws": 0}, "draws")],
)  # fmt: skip
def test_parameters_are_bounded(kind, params, named):
    with pytest.raises(SpecError, match=named):
        made(kind, params)


def test_the_page_lists_every_defence_with_its_path_of_gradients():
    page = (Path(__file__).parents[3] / "docs" / "defenses.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| .+? \| (exact|BPDA|EOT)", page, re.MULTILINE))
    built_in = {entry.kind: part for entry, part in registry().usable("defenses") if entry.package == "charpy"}
    assert rows == {
        kind: "exact" if part.gradient is GradientPath.EXACT else part.gradient.name
        for kind, part in built_in.items()
        if issubclass(part, Defense)
    }
