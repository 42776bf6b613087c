"""The query engine only takes a way that is the model."""

from __future__ import annotations

import time

import pytest
import torch

from charpy.batches import FIXED_BATCH, fixed_batch
from charpy.engine import QueryEngine, as_scores
from charpy.interfaces.model import Output
from charpy.testing.linear import LinearModel

PROBE = torch.rand(8, 1, 2, 2, generator=torch.Generator().manual_seed(0))


class Offering(LinearModel):
    """A slow linear model that offers other ways to compute itself."""

    def __init__(self, ways, output=Output.LOGITS):
        super().__init__(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1, output)
        self.ways = ways

    def predict(self, images):
        time.sleep(0.002)
        return super().predict(images)

    def forwards(self):
        return self.ways


def fast(images):
    return LinearModel(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1).predict(images)


def test_takes_a_faster_way_that_agrees():
    engine = QueryEngine.measure(Offering({"fast": lambda: fast}), Output.LOGITS, PROBE)
    assert engine.chosen.name == "fast"
    assert engine.chosen.seconds_per_row < engine.bare.seconds_per_row
    assert torch.allclose(engine.answers(PROBE), fast(PROBE))


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        (lambda: lambda images: fast(images) + 0.01, "disagrees with the model"),
        (lambda: lambda images: fast(images)[:, :1], "another shape"),
        (lambda: lambda images: fast(images) * torch.nan, "disagrees"),
        (lambda: (_ for _ in ()).throw(RuntimeError("no such operator")), "no such operator"),
    ],
)
def test_a_way_that_disagrees_or_fails_is_left_out_and_said(way, reason):
    engine = QueryEngine.measure(Offering({"other": way}), Output.LOGITS, PROBE)
    assert engine.chosen.name == "as given"
    assert any("other not used" in note and reason in note for note in engine.notes)


def test_a_slower_way_is_not_taken():
    def slow(images):
        time.sleep(0.1)
        return fast(images)

    assert QueryEngine.measure(Offering({"slow": lambda: slow}), Output.LOGITS, PROBE).chosen.name == "as given"


def test_a_resumed_run_keeps_its_way_however_fast_another_is_today():
    ways = {"fast": lambda: fast}
    assert QueryEngine.measure(Offering(ways), Output.LOGITS, PROBE, keep="as given").chosen.name == "as given"
    assert QueryEngine.measure(Offering(ways), Output.LOGITS, PROBE, keep="gone").chosen.name == "fast"


def test_a_way_whose_bits_depend_on_the_batch_keeps_one_batch_size():
    def wobbling(images):
        return fast(images) + torch.arange(len(images))[:, None] * 1e-7

    engine = QueryEngine.measure(Offering({"wobbling": lambda: wobbling}), Output.LOGITS, PROBE, batch_size=7)
    assert engine.chosen.name == "wobbling"
    assert engine.chosen.batch == FIXED_BATCH
    assert any("place in the batch" in note for note in engine.notes)
    assert engine.slack > 0, "a witness must be misclassified by more than the two ways differ"
    steady = QueryEngine.measure(Offering({"fast": lambda: fast}), Output.LOGITS, PROBE, batch_size=7)
    assert steady.chosen.batch == 7


@pytest.mark.parametrize(
    ("shape", "rows"),
    [((1, 28, 28), 64), ((3, 128, 128), 64), ((3, 224, 224), 32), ((3, 299, 299), 16), ((3, 4000, 4000), 1)],
)
def test_batches_of_large_images_are_smaller(shape, rows):
    assert fixed_batch(torch.zeros(1).expand(2, *shape)) == rows


def test_a_slow_model_is_not_tuned(monkeypatch):
    """What tuning could gain would cost more: a batch of the fixed size, and no way is tried in others."""
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)
    asked = []

    class Slow(Offering):
        def predict(self, images):
            asked.append(len(images))
            time.sleep(0.03 if len(images) > 1 else 0)
            return fast(images)

    engine = QueryEngine.measure(Slow({}), Output.LOGITS, PROBE, batch_size=7)
    assert engine.chosen.batch == FIXED_BATCH
    assert engine.notes == [], "how fast it is today is no fact about the model"
    assert max(asked) == FIXED_BATCH
    assert sum(asked) <= 5 * FIXED_BATCH


def test_a_labels_way_must_agree_on_every_label():
    labels = lambda images: fast(images).argmax(1)  # noqa: E731
    good = QueryEngine.measure(Offering({"good": lambda: labels}, Output.LABELS), Output.LABELS, PROBE)
    bad = QueryEngine.measure(Offering({"bad": lambda: lambda i: 1 - labels(i)}, Output.LABELS), Output.LABELS, PROBE)
    assert (good.chosen.name, bad.chosen.name) == ("good", "as given")


class Sloped(Offering):
    """Offers other ways to compute its gradients."""

    def differentiable(self):
        return self.ways

    def forwards(self):
        return {}


def test_gradients_take_a_faster_way_with_the_same_gradient():
    engine = QueryEngine.measure(Sloped({"fast": lambda: fast}), Output.LOGITS, PROBE, gradients=True)
    assert engine.gradient.name == "fast"
    assert engine.bare_gradient.name == engine.chosen.name == "as given"
    assert engine.gradient.seconds_per_row < engine.bare_gradient.seconds_per_row
    slow = engine.bare_seconds(10, 4)
    assert slow == pytest.approx(6 * engine.bare.seconds_per_row + 4 * engine.bare_gradient.seconds_per_row)
    assert engine.without_shortcut().gradient.name == "as given"
    kept = {"gradients": True, "keep_gradient": "as given"}
    assert QueryEngine.measure(Sloped({"fast": lambda: fast}), Output.LOGITS, PROBE, **kept).gradient.name == "as given"
    assert QueryEngine.measure(Sloped({"fast": lambda: fast}), Output.LOGITS, PROBE).gradient is None


def test_a_way_with_another_gradient_is_left_out_and_said():
    def other(images):
        return fast(images).detach() + 0 * images.flatten(1).sum(1, keepdim=True)

    engine = QueryEngine.measure(Sloped({"other": lambda: other}), Output.LOGITS, PROBE, gradients=True)
    assert engine.gradient.name == "as given"
    assert any("other not used: has another gradient" in note for note in engine.notes)


def test_probabilities_become_their_logarithm():
    scores = torch.tensor([[2.0, -1.0], [0.0, 0.0]])
    assert torch.allclose(as_scores(scores.softmax(1), Output.PROBABILITIES).softmax(1), scores.softmax(1))
    assert as_scores(torch.tensor([[1.0, 0.0]]), Output.PROBABILITIES).isfinite().all()


def test_the_callers_images_and_thread_count_stay_as_they_are():
    model = Offering({})
    model.predict = lambda images: fast(images.mul_(2)).clone()
    engine = QueryEngine.measure(model, Output.LOGITS, PROBE.clone())
    kept, threads = PROBE.clone(), torch.get_num_threads()
    engine.answers(kept)
    assert torch.equal(kept, PROBE)
    assert torch.get_num_threads() == threads
