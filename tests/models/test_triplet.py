"""Triplet networks: the mined triplets and their loss by brute force, class means, ranking, and a whole training."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch.nn import functional

from charpy.errors import SpecError, UnknownNameError
from charpy_models.architectures.triplet import MOMENTUM, TripletNet, triplet_loss
from charpy_models.card import Card
from charpy_models.classifier_training import training_loss
from charpy_models.ranking import rank
from charpy_models.trained import TrainedModel
from charpy_plugins.datasets.digits import Digits

LABELS = torch.tensor([0, 1, 0, 2, 1, 0, 1, 3, 0, 2])
SMALL = {"trunk": "digits_cnn:DigitsCNN", "trunk_params": {"widths": [2, 3], "hidden": 8}, "size": 6}
SPEC = """
recipe:
  like: digits-embedding
  epochs: 6
threads: 1
"""


def embeddings(seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return functional.normalize(torch.randn(10, 5, dtype=torch.float64, generator=generator), dim=1)


def by_hand(given: torch.Tensor, labels: torch.Tensor, margin: float, mining: str) -> float:
    """Anchor by anchor, from the papers' words."""
    d = [[float((a - b).square().sum()) for b in given] for a in given]
    losses = []
    for a in range(len(labels)):
        positives = [d[a][i] for i in range(len(labels)) if i != a and labels[i] == labels[a]]
        negatives = [d[a][i] for i in range(len(labels)) if labels[i] != labels[a]]
        if not positives or not negatives:
            continue
        if mining == "batch-hard":
            losses.append(max(0.0, max(positives) - min(negatives) + margin))
            continue
        for near in positives:
            beyond = [far for far in negatives if far > near]
            losses.append(max(0.0, near - (min(beyond) if beyond else max(negatives)) + margin))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("margin", [0.1, 0.7, 3.0])
@pytest.mark.parametrize("mining", ["batch-hard", "semi-hard"])
def test_the_loss_is_that_of_the_triplets_mined_by_hand(mining, margin):
    for seed in range(5):
        loss = triplet_loss(embeddings(seed), LABELS, margin, mining)
        assert loss.item() == pytest.approx(by_hand(embeddings(seed), LABELS, margin, mining), rel=1e-9)


@pytest.mark.parametrize("mining", ["batch-hard", "semi-hard"])
def test_its_gradient_is_that_of_the_formula(mining):
    given = embeddings().requires_grad_()
    assert torch.autograd.gradcheck(lambda e: triplet_loss(functional.normalize(e, dim=1), LABELS, 0.7, mining), given)


def test_the_two_ways_to_mine_differ():
    losses = [float(triplet_loss(embeddings(), LABELS, 0.2, mining)) for mining in ("batch-hard", "semi-hard")]
    assert losses[0] > losses[1] > 0


@pytest.mark.parametrize("mining", ["batch-hard", "semi-hard"])
@pytest.mark.parametrize("labels", [torch.zeros(4, dtype=torch.int64), torch.arange(4)])
def test_a_batch_without_triplets_has_no_loss_and_no_nan(mining, labels):
    given = embeddings()[:4].requires_grad_()
    loss = triplet_loss(given, labels, 0.2, mining)
    loss.backward()
    assert loss.item() == 0
    assert given.grad.count_nonzero() == 0


def test_classes_far_apart_have_no_loss():
    corners = torch.eye(4, dtype=torch.float64)[LABELS]
    assert all(float(triplet_loss(corners, LABELS, 1.9, mining)) == 0 for mining in ("batch-hard", "semi-hard"))
    assert float(triplet_loss(corners, LABELS, 2.1, "batch-hard")) == pytest.approx(0.1)


def test_embeddings_have_length_one_and_scores_are_cosines_with_the_class_means():
    network, images = TripletNet(**SMALL, num_classes=4), torch.rand(10, 1, 8, 8)
    assert training_loss(network) == network.loss
    embedded = network.train()(images)
    assert embedded.shape == (10, 6)
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(10))
    network.loss(embedded, LABELS)
    first = torch.stack([embedded[k == LABELS].mean(0) for k in range(4)]).detach()
    torch.testing.assert_close(network.means, MOMENTUM * first)
    scores = network.eval()(images)
    torch.testing.assert_close(scores, torch.cosine_similarity(embedded[:, None], first[None], dim=2))
    network.loss(embedded[:1], LABELS[:1])  # a class that is not in the batch keeps its mean
    torch.testing.assert_close(network.means[1:], MOMENTUM * first[1:])
    torch.testing.assert_close(network.means[0], MOMENTUM * ((1 - MOMENTUM) * first[0] + embedded[0].detach()))


def test_embeddings_of_half_precision_are_normalised_in_float32():
    network = TripletNet(**SMALL).train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embedded = network(torch.rand(5, 1, 8, 8))
    assert embedded.dtype == torch.float32
    torch.testing.assert_close(embedded.norm(dim=1), torch.ones(5))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trunk": "os:system"}, "no such trunk"),
        ({"trunk": "lenet:nn.Linear"}, "no such trunk"),
        ({"trunk": "lenet:Normalise"}, "no such trunk"),
        ({"trunk": "start:he_normal"}, "no such trunk"),
        ({"trunk": "LeNet"}, "no such trunk"),
        ({"margin": 0.0}, "margin 0.0"),
        ({"margin": 4.5}, "margin 4.5"),
        ({"size": 1}, "size 1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, words):
    with pytest.raises(SpecError, match=words):
        TripletNet(**{**SMALL, **changes})
    with pytest.raises(UnknownNameError, match="semi-hard"):
        TripletNet(mining="semihard")


def test_ranking_is_that_of_all_triplets_counted_one_by_one():
    given = embeddings(3)
    d = (given[:, None] - given).norm(dim=2)
    everyone = range(len(LABELS))
    triplets = [
        (a, p, n)
        for a, p, n in product(everyone, everyone, everyone)
        if a != p and LABELS[a] == LABELS[p] and LABELS[a] != LABELS[n]
    ]
    ordered = sum(bool(d[a, p] < d[a, n]) for a, p, n in triplets)
    d.fill_diagonal_(torch.inf)
    nearest = sum(int(LABELS[int(d[a].argmin())] == LABELS[a]) for a in everyone)
    assert 0 < ordered < len(triplets)
    assert rank(given, LABELS) == (nearest, 10, ordered, len(triplets))


def test_ranking_does_not_depend_on_the_chunks(monkeypatch):
    whole = rank(embeddings(1), LABELS)
    monkeypatch.setattr("charpy_models.ranking.CHUNK", 3)
    assert rank(embeddings(1), LABELS) == whole


@pytest.fixture(scope="module")
def fresh() -> float:
    """Share of triplets in order in the embedding of an untrained network."""
    torch.manual_seed(0)
    samples = Digits().read(range(596))
    found = rank(TripletNet(trunk="digits_cnn:DigitsCNN", size=32).embed(samples.images).detach(), samples.labels)
    return found.ordered / found.triplets


def test_a_training_orders_the_triplets_and_says_so(charpy, tmp_path, fresh):
    done = charpy(SPEC)
    assert done.code == 0, done.err
    folder = tmp_path / "charpy-it"
    card = Card.model_validate_json((folder / "it.json").read_text())
    model = TrainedModel(TrainedModel.Params(weights=str(folder / "it.safetensors")))
    samples = Digits().read(range(596))
    found = rank(model.module.embed(samples.images), samples.labels)
    assert (card.embedding.size, card.embedding.nearest.samples) == (32, 596)
    assert abs(found.nearest - card.embedding.nearest.correct) <= 1
    assert found.triplets == card.embedding.triplets
    assert found.ordered / found.triplets > max(0.97, fresh + 0.1)
    assert int((model.predict(samples.images).argmax(1) == samples.labels).sum()) == card.accuracy.correct
    assert card.accuracy.value > 0.9
    assert f"{card.embedding.nearest.value:.2%} recall at 1 in an embedding of 32" in done.out


def test_a_defence_that_replaces_the_loss_is_refused_and_one_that_attacks_is_not(charpy, tmp_path):
    quick = SPEC.replace("epochs: 6", "epochs: 1\n  defenses: [{}]")
    done = charpy(quick.replace("{}", "{kind: distillation}"))
    assert done.code == 2
    assert "needs its own loss" in done.err
    attacked = "{kind: adversarial_training, params: {method: fast, radius: 0.05, steps: 2}}"
    assert charpy(quick.replace("{}", attacked)).code == 0
    card = Card.model_validate_json((tmp_path / "charpy-it" / "it.json").read_text())
    assert card.embedding.nearest.value > 0.8


@pytest.mark.parametrize("changed", ["margin: 0.5", "mining: batch-hard", "size: 16"])
def test_every_parameter_has_an_effect(charpy, tmp_path, changed):
    quick = SPEC.replace("epochs: 6", "epochs: 1")
    params = "  architecture_params: {{trunk: 'digits_cnn:DigitsCNN', {}}}\nthreads"
    digests = []
    for name, given in (("plain", "num_classes: 10"), ("changed", changed)):
        assert charpy(quick.replace("threads", params.format(given)), "--out", name).code == 0
        digests.append(Card.model_validate_json((tmp_path / name / "it.json").read_text()).sha256)
    assert digests[0] != digests[1]
