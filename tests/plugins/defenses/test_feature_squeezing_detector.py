"""The joint detector: its score in closed form, what it needs of a model, and that it tells attacks from images."""

from __future__ import annotations

import pytest
import torch

from charpy.analysis.detection import detection
from charpy.errors import ModelError, SpecError
from charpy.interfaces.defense import Detector
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy_plugins.defenses.feature_squeezing_detector import FeatureSqueezingDetector
from charpy_plugins.filters.median import median
from charpy_plugins.filters.non_local_means import non_local_means


def detector(*squeezers):
    return FeatureSqueezingDetector(FeatureSqueezingDetector.Params(squeezers=squeezers or None))


def drawn(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def balanced(*shape):
    """Weights that add up to 0: what counts is how the values of an image differ."""
    weight = 9 * torch.randn(shape, generator=torch.Generator().manual_seed(2))
    return weight - weight.mean((1, 2, 3), keepdim=True)


def test_it_is_found_by_its_name_and_is_no_wrapper():
    assert registry().load("defenses", "feature_squeezing_detector") is FeatureSqueezingDetector
    assert issubclass(FeatureSqueezingDetector, Detector)


def test_of_two_classes_the_score_is_twice_the_change_of_the_sigmoid():
    weight, images = torch.randn(1, 6, 5, generator=torch.Generator().manual_seed(1)), drawn(40, 1, 6, 5)
    found = detector("bit_depth_1").flag(LinearModel(weight), images)
    value = (images * weight).flatten(1).sum(1)
    squeezed = ((images > 0.5).float() * weight).flatten(1).sum(1)
    torch.testing.assert_close(found, 2 * (value.sigmoid() - squeezed.sigmoid()).abs())


def test_the_joint_score_is_the_largest_and_the_published_sets_are_the_default():
    grey, colour = drawn(20, 1, 7, 8), 0.4 + 0.02 * drawn(20, 3, 7, 8)  # so little noise that every squeezer matters
    for images, names in (
        (grey, ("bit_depth_1", "median_filter_2_2")),
        (colour, ("bit_depth_5", "median_filter_2_2", "non_local_means_13_3_2")),
    ):
        model = LinearClassifier(balanced(4, *images.shape[1:]))
        each = torch.stack([detector(name).flag(model, images) for name in names])
        assert torch.equal(detector().flag(model, images), each.amax(0))
        assert each.amax(1).min() > 0.1
        assert len(each.argmax(0).unique()) > 1
    expected = (model.predict(colour).softmax(1) - model.predict(median(colour, 2, 2)).softmax(1)).abs().sum(1)
    torch.testing.assert_close(detector("median_filter_2_2").flag(model, colour), expected)
    smooth = non_local_means(colour, 13, 3, 2 / 255)
    expected = (model.predict(colour).softmax(1) - model.predict(smooth).softmax(1)).abs().sum(1)
    torch.testing.assert_close(detector("non_local_means_13_3_2").flag(model, colour), expected)


def test_an_image_that_squeezing_leaves_alone_scores_nothing():
    constant = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).expand(2, 1, 6, 6)
    model = LinearClassifier(torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(detector().flag(model, constant), torch.zeros(2))


def test_a_score_depends_on_its_image_alone_and_lies_within_two():
    images = drawn(300, 1, 6, 6)
    model = LinearClassifier(20 * torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(4)))
    whole = detector().flag(model, images)
    alone = torch.cat([detector().flag(model, images[place : place + 1]) for place in range(250, 270)])
    torch.testing.assert_close(alone, whole[250:270])
    assert float(whole.max()) <= 2 + 1e-6
    assert float(whole.max()) > 1.9
    assert detector().flag(model, images[:0]).shape == (0,)
    assert not detector().flag(model, images.clone().requires_grad_(True)).requires_grad


def test_probabilities_do_and_labels_do_not():
    weight, images = torch.randn(3, 1, 6, 6, generator=torch.Generator().manual_seed(5)), drawn(10, 1, 6, 6)
    logits, probabilities = LinearClassifier(weight), LinearClassifier(weight, output=Output.PROBABILITIES)
    torch.testing.assert_close(detector().flag(probabilities, images), detector().flag(logits, images))
    with pytest.raises(ModelError, match="labels only"):
        detector().flag(LinearClassifier(weight, output=Output.LABELS), images)


def test_an_answer_that_is_none_is_most_suspicious():
    class Broken(LinearClassifier):
        def predict(self, images):
            return super().predict(images).masked_fill(images.flatten(1).amax(1)[:, None] > 0.9, torch.nan)

    images = torch.full((2, 1, 6, 6), 0.2)
    images[1, 0, 0, 0] = 0.95
    found = detector("bit_depth_8").flag(Broken(torch.ones(3, 1, 6, 6)), images)
    assert found[0] < 0.1
    assert found[1] == 2


def test_a_squeezer_that_is_none_is_refused():
    with pytest.raises(SpecError, match="is no squeezer"):
        registry().create("defenses", "feature_squeezing_detector", {"squeezers": ["median"]})
    with pytest.raises(SpecError, match="squeezers"):
        registry().create("defenses", "feature_squeezing_detector", {"squeezers": []})


@pytest.mark.data
def test_it_flags_static_attacks_on_mnist(data_dir):
    """Fast gradient images of radius 0.3 on a LeNet: the paper flags all that succeed."""
    data = registry().create("datasets", "mnist", {"data_dir": str(data_dir)})
    samples, model = data.read(range(600)), registry().create("models", "mnist-lenet")
    leaf = samples.images[400:].clone().requires_grad_(True)
    loss = torch.nn.functional.cross_entropy(model.predict(leaf), samples.labels[400:])
    static = (leaf + 0.3 * torch.autograd.grad(loss, leaf)[0].sign()).detach().clamp(0, 1)
    fooled = model.predict(static).argmax(1) != samples.labels[400:]
    clean, suspicious = detector().flag(model, samples.images[:400]), detector().flag(model, static)
    found = detection(clean[:200].numpy(), clean[200:].numpy(), suspicious[fooled].numpy(), suspicious[~fooled].numpy())
    assert found.successful.total > 20
    assert found.successful.value >= 0.95
    assert found.false_positives.low <= 0.05
    assert found.area.value > 0.95
