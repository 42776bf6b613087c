"""Hybrids: features, then a head that is not differentiable; the answers are scikit-learn's own."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Perceptron
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from charpy.errors import ModelError, UnsafeFileError
from charpy.interfaces.model import Output
from charpy.preflight import preflight
from charpy.specs import parse
from charpy.threat import Access
from charpy_plugins.wrappers.hybrid import Hybrid
from charpy_plugins.wrappers.torch_module import TorchModel

DIGITS = load_digits()
IMAGES = torch.from_numpy(DIGITS.images[:, None] / 16).float()
LABELS = DIGITS.target
TRAIN, TEST = slice(0, 400), slice(400, 700)


class Features(torch.nn.Module):
    """A fixed convolution, ReLU and average: 4 maps of 4x4."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv = torch.nn.Conv2d(1, 4, 3, padding=1)
        with torch.no_grad():
            for value in self.conv.parameters():
                value.copy_(torch.randn(value.shape, generator=generator))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(torch.relu(self.conv(images)), 2)


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    with torch.no_grad():
        return Features()(IMAGES).flatten(1).numpy()


@pytest.mark.parametrize(
    ("head", "output"),
    [
        (DecisionTreeClassifier(max_depth=6, random_state=0), Output.PROBABILITIES),
        (KNeighborsClassifier(3), Output.PROBABILITIES),
        (RandomForestClassifier(10, random_state=0), Output.PROBABILITIES),
        (LogisticRegression(max_iter=2000), Output.PROBABILITIES),
        (LinearSVC(), Output.LOGITS),
        (Perceptron(), Output.LOGITS),
        (make_pipeline(StandardScaler(), LinearSVC()), Output.LOGITS),
        (SVC(), Output.LABELS),
        (SVC(break_ties=True), Output.LOGITS),
        (make_pipeline(StandardScaler(), SVC()), Output.LABELS),
        (GridSearchCV(SVC(), {"C": [1.0]}, cv=2), Output.LABELS),
    ],
    ids=[
        "tree",
        "knn",
        "forest",
        "logistic",
        "linear svc",
        "perceptron",
        "pipeline",
        "svc",
        "ties",
        "svc pipe",
        "grid",
    ],
)
def test_torch_features_and_a_head_answer_like_scikit_learn(features, head, output):
    head.fit(features[TRAIN], LABELS[TRAIN])
    model = Hybrid.compose(Features(), head)
    assert model.output is output
    answer = model.predict(IMAGES[TEST])
    labels = answer if output is Output.LABELS else answer.argmax(1)
    assert np.array_equal(labels.numpy(), head.predict(features[TEST]))
    if output is Output.PROBABILITIES:
        np.testing.assert_allclose(answer.numpy(), head.predict_proba(features[TEST]), atol=1e-5)
    if output is Output.LOGITS:
        np.testing.assert_allclose(answer.numpy(), head.decision_function(features[TEST]), rtol=1e-4, atol=1e-4)
    found = preflight(model, IMAGES[TEST], torch.from_numpy(LABELS[TEST]))
    assert found.num_classes == 10
    assert found.output is output
    assert found.access is (Access.LABELS if output is Output.LABELS else Access.SCORES)
    assert found.deterministic
    assert found.batch_invariant


def test_it_never_gives_gradients(features):
    head = KNeighborsClassifier(1).fit(features[TRAIN], LABELS[TRAIN])
    model = Hybrid.compose(Features(), head)
    assert model.access < Access.GRADIENTS
    assert not model.predict(IMAGES[:3].clone().requires_grad_(True)).requires_grad
    assert model.forwards() == {}


def test_raw_pixels_and_wrap():
    head = KNeighborsClassifier(1).fit(IMAGES[TRAIN].flatten(1).numpy(), LABELS[TRAIN])
    for model in (Hybrid.compose("pixels", head), Hybrid.wrap(head)):
        assert model is not None
        found = model.predict(IMAGES[TEST]).argmax(1)
        assert np.array_equal(found.numpy(), head.predict(IMAGES[TEST].flatten(1).numpy()))
        # 1-nearest-neighbour, by brute force
        gaps = torch.cdist(IMAGES[TEST].flatten(1), IMAGES[TRAIN].flatten(1))
        assert np.mean(found.numpy() == LABELS[TRAIN][gaps.argmin(1)]) > 0.99
    assert Hybrid.wrap(KNeighborsClassifier) is None
    assert Hybrid.wrap(lambda x: x) is None
    assert Hybrid.wrap(DecisionTreeClassifier()) is None


def test_onnx_features(save_graph):
    weights = np.random.default_rng(0).normal(size=(64, 5)).astype(np.float32)
    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("MatMul", ["f", "w"], ["y"])]
    path = save_graph(nodes, [1, 1, 8, 8], [("y", TensorProto.FLOAT, [1, 5])], {"w": weights})
    projected = (IMAGES.flatten(1).numpy() * 2 - 1) @ weights
    head = DecisionTreeClassifier(max_depth=5, random_state=0).fit(projected[TRAIN], LABELS[TRAIN])
    sys.modules["head_for_test"] = type(sys)("head_for_test")
    sys.modules["head_for_test"].tree = head
    try:
        params = {"features": str(path), "features_params": {"range": [-1, 1]}, "head": "head_for_test:tree"}
        model = Hybrid(parse(Hybrid.Params, params))
    finally:
        del sys.modules["head_for_test"]
    np.testing.assert_allclose(model.features(IMAGES[TEST]).numpy(), projected[TEST], atol=1e-4)
    found = model.predict(IMAGES[TEST]).argmax(1).numpy()
    assert np.mean(found == head.predict(projected[TEST])) > 0.99  # rounding may cross a threshold
    assert model.input_shape == (1, 8, 8)
    assert {"features.onnx", "features.range", "head", "head type", "scikit-learn"} <= set(model.fingerprint())


def test_callable_features_of_any_shape_and_rules():
    def quarters(images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), 2, 4, 2, 4).mean((2, 4))  # (N, 2, 2): no answer of a classifier

    def brightest(features: np.ndarray) -> np.ndarray:
        assert features.shape[1:] == (4,)
        return features.argmax(1)

    model = Hybrid.compose(quarters, brightest)
    expected = torch.nn.functional.avg_pool2d(IMAGES, 4).flatten(1).argmax(1)
    assert torch.equal(model.predict(IMAGES), expected)
    assert (model.output, model.access) == (Output.LABELS, Access.LABELS)
    scored = Hybrid.compose(quarters, lambda features: features * 3)
    torch.testing.assert_close(scored.predict(IMAGES), 3 * torch.nn.functional.avg_pool2d(IMAGES, 4).flatten(1))
    assert (scored.output, scored.access, scored.num_classes) == (Output.LOGITS, Access.SCORES, 4)


@pytest.mark.parametrize(
    "rule",
    [
        lambda f: (f, f),
        lambda f: f.sum(1),
        lambda f: f[:-1],
        lambda f: np.array(["a"] * len(f)),
        lambda f: None,
    ],
)
def test_rules_of_a_wrong_form_are_refused(rule):
    with pytest.raises(ModelError, match="wrong form"):
        Hybrid.compose("pixels", rule).predict(IMAGES[:5])


def test_two_classes_and_classes_that_were_never_seen(features):
    two = LABELS[TRAIN] < 2
    binary = LinearSVC().fit(features[TRAIN][two], LABELS[TRAIN][two])
    answer = Hybrid.compose(Features(), binary).predict(IMAGES[TEST])
    assert answer.shape == (300, 2)
    assert np.array_equal(answer.argmax(1).numpy(), binary.predict(features[TEST]))
    odd = LABELS[TRAIN] % 2 == 1
    for head in (KNeighborsClassifier(3), LinearSVC()):
        head.fit(features[TRAIN][odd], LABELS[TRAIN][odd])
        model = Hybrid.compose(Features(), head)
        assert model.num_classes == 10
        answer = model.predict(IMAGES[TEST])
        assert answer.shape == (300, 10)
        assert np.array_equal(answer.argmax(1).numpy(), head.predict(features[TEST]))


def test_scores_that_contradict_the_prediction_are_refused(features):
    class Contrary(DecisionTreeClassifier):
        def predict(self, X, check_input=True):  # noqa: N803 - scikit-learn's name
            return 9 - super().predict(X)

    head = Contrary(max_depth=3).fit(features[TRAIN], LABELS[TRAIN])
    with pytest.raises(ModelError, match="output: labels"):
        Hybrid.compose(Features(), head).predict(IMAGES[TEST])
    model = Hybrid.compose(Features(), head, output=Output.LABELS)
    assert np.array_equal(model.predict(IMAGES[TEST]).numpy(), head.predict(features[TEST]))


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (KNeighborsClassifier(1).fit(np.eye(3), ["a", "b", "c"]), "no labels"),
        (KNeighborsClassifier(1).fit(np.eye(3), [-1, 0, 1]), "no labels"),
        (torch.nn.Linear(3, 3), "not a head"),
        (DecisionTreeClassifier, "not a head"),
        (3, "not a head"),
    ],
)
def test_heads_that_cannot_be(head, says):
    with pytest.raises(ModelError, match=says):
        Hybrid.compose("pixels", head)


def test_a_regressor_is_refused_on_its_first_answer():
    head = DecisionTreeRegressor(max_depth=3).fit(IMAGES[TRAIN].flatten(1).numpy(), LABELS[TRAIN])
    with pytest.raises(ModelError, match="predicts no labels"):
        Hybrid.compose("pixels", head).predict(IMAGES[:5])


def test_an_output_that_the_head_has_not_is_refused(features):
    head = LinearSVC().fit(features[TRAIN], LABELS[TRAIN])
    with pytest.raises(ModelError, match="no probabilities"):
        Hybrid.compose(Features(), head, output=Output.PROBABILITIES)


# a head is never unpickled


class Runs:
    def __reduce__(self):
        return Path("ran").touch, ()


@pytest.mark.parametrize("name", ["head.pkl", "head.joblib", "head.skops", "head"])
def test_a_head_in_a_file_is_refused_and_never_opened(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps(Runs()))
    for make in (
        lambda: Hybrid(Hybrid.Params(head=name)),
        lambda: Hybrid.compose("pixels", name),
        lambda: Hybrid.compose("pixels", tmp_path / name),
    ):
        with pytest.raises(UnsafeFileError, match=r"package\.module:object"):
            make()
    assert not (tmp_path / "ran").exists()


# identity


def test_fingerprint_tells_heads_apart_and_knows_them_again(features):
    def of(depth: int, rows: int, seed: int = 0) -> dict[str, str]:
        head = DecisionTreeClassifier(max_depth=depth, random_state=seed).fit(features[:rows], LABELS[:rows])
        return dict(Hybrid.compose(Features(), head).fingerprint())

    assert of(3, 400) == of(3, 400)
    assert of(3, 400)["head"] != of(3, 300)["head"]
    assert of(3, 400)["head"] != of(4, 400)["head"]
    assert of(3, 400)["features.weights"] == of(4, 400)["features.weights"]


def test_using_a_head_does_not_change_its_identity(features):
    head = RandomForestClassifier(5, random_state=np.random.RandomState(1)).fit(features[TRAIN], LABELS[TRAIN])
    model = Hybrid.compose(Features(), head)
    before = model.fingerprint()
    model.predict(IMAGES[:50])
    assert Hybrid.compose(Features(), head).fingerprint() == before


def test_a_head_and_features_by_reference(features, tmp_path, monkeypatch):
    head = "import numpy as np\n\ndef rule(features):\n    return (features.mean(1) > 0.2).astype(np.int64)\n"
    (tmp_path / "head_for_test.py").write_text(head)
    monkeypatch.chdir(tmp_path)
    model = Hybrid.compose("pixels", "head_for_test:rule")
    assert torch.equal(model.predict(IMAGES[:50]), (IMAGES[:50].flatten(1).mean(1) > 0.2).long())
    sys.modules.pop("head_for_test", None)


def test_features_of_a_model_are_its_answers():
    inner = TorchModel.from_module(Features())
    head = LogisticRegression(max_iter=2000).fit(inner.predict(IMAGES[TRAIN]).flatten(1).numpy(), LABELS[TRAIN])
    expected = head.predict(inner.predict(IMAGES[TEST]).flatten(1).numpy())
    found = Hybrid.compose(inner, head).predict(IMAGES[TEST])
    assert found.argmax(1).tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("features", "says", "found"),
    [("no such thing", "unknown features", "'no such thing'"), (3, "no way to get features from this object", "int")],
)
def test_what_gives_no_features_is_refused(features, says, found):
    with pytest.raises(ModelError, match=says) as refused:
        Hybrid.compose(features, lambda values: values)
    assert refused.value.found == found
