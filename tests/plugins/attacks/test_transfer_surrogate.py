"""transfer from a surrogate: what is crafted on it, what the target is shown, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.engine import QueryEngine, Way
from charpy.errors import ModelError, PluginError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.interfaces.attack import Task
from charpy.interfaces.model import Output
from charpy.judge import Claim, Judge
from charpy.oracle import Oracle
from charpy.pixels import pack
from charpy.plugins import registry
from charpy.random import Random, sample_keys
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Grid, Norm, ThreatModel


def spec_of(norm: str, **params) -> RunSpec:
    battery = [{"kind": "transfer", "params": params}]
    threat = {"norm": norm, "levels": [25], "battery": battery, "queries": 60}
    return parse(RunSpec, {"data": {"kind": "arrays"}, "models": [{"reference": "means"}], "threats": [threat]})


@pytest.fixture(scope="module")
def digits():
    """`(images, labels, model)`: digits, and the classifier by the nearest class mean, which gives labels only."""
    dataset = registry().create("datasets", "digits")
    every = dataset.read(range(len(dataset)))
    means = torch.stack([every.images[every.labels == k].mean(0) for k in range(10)])
    images, labels = every.images[:48], every.labels[:48]
    model = _NearestMean(means)
    right = model.predict(images) == labels
    return images[right], labels[right], model


class _NearestMean(LinearModel):
    """Labels of the nearest class mean."""

    num_classes = 10

    def __init__(self, means):
        super().__init__(means[0], 0.0, Output.LABELS)
        self.means = means

    def predict(self, images):
        self.rows += len(images)
        return (images[:, None] - self.means).flatten(2).square().sum(2).argmin(1)

    def fingerprint(self):
        return {"means": str(float(self.means.sum()))}


def on_digits(**params):
    return registry().create("attacks", "transfer", {"surrogate": {"reference": "digits-cnn"}, **params})


class Watched(Oracle):
    """An oracle that remembers what it was asked."""

    def labels(self, candidates, owner):
        self.asked = [*getattr(self, "asked", []), (candidates.clone(), owner.clone())]
        return super().labels(candidates, owner)


def shown(digits, attack, radius=0.15, queries=50, seed=0, rows=None, **fields):
    """What the target was shown, and its oracle; no sample of it is ever done."""
    images, labels, model = digits
    ids = [f"digit {i}" for i in range(len(images))]
    rows = list(range(len(images))) if rows is None else rows
    images, labels, ids = images[rows], labels[rows], [ids[i] for i in rows]
    threat = ThreatModel(norm=Norm.LINF, radius=radius, access=Access.LABELS, queries=queries, **fields)
    way = Way("as given", model.predict, 16, 1e-6, invariant=True)
    oracle = Watched(QueryEngine(model, model.output, way, way, num_classes=10), model, images, labels, None, threat)
    attack.run(Task(images, labels, None, threat, oracle, Random(seed, sample_keys(ids))))
    return getattr(oracle, "asked", []), oracle


def test_what_is_shown_breaks_the_surrogate_inside_the_ball(digits):
    images, labels, _ = digits
    asked, oracle = shown(digits, on_digits(shown=3))
    surrogate = registry().create("models", "digits-cnn")
    judge = Judge(surrogate, Output.LOGITS, (1, 8, 8))
    threat = oracle.threat
    claims = [
        Claim(pack(images[i], Grid.EIGHT_BIT), pack(image, Grid.EIGHT_BIT), int(labels[i]))
        for candidates, owner in asked
        for image, i in zip(candidates, owner.tolist(), strict=True)
    ]
    assert len(claims) > len(images) // 2
    assert all(verdict.confirmed for verdict in judge.decide(claims, threat))
    assert int(oracle.queries.max()) <= 3
    found = oracle.recorded().found
    assert int(found.sum()) > 0


def test_the_surest_image_comes_first(digits):
    several = {"kind": "mi_fgsm", "params": {"step_size": 0.2}}  # every one of its steps shows an image in the ball
    asked, _ = shown(digits, on_digits(shown=4, attack=several), radius=0.1)
    surrogate = registry().create("models", "digits-cnn")
    labels = digits[1]
    margins: dict[int, list[float]] = {}
    for candidates, owner in asked:
        scores = surrogate.predict(candidates.float() / 255).detach()
        for row, i in zip(scores, owner.tolist(), strict=True):
            own = int(labels[i])
            others = row[torch.arange(10) != own].max()
            margins.setdefault(i, []).append(float(row[own] - others))
    assert any(len(found) > 1 for found in margins.values())
    assert all(found == sorted(found) for found in margins.values())


def test_a_sample_does_not_depend_on_the_others(digits):
    _, whole = shown(digits, on_digits())
    _, part = shown(digits, on_digits(), rows=[9, 2, 30])
    assert part.queries.tolist() == whole.queries[[9, 2, 30]].tolist()
    assert torch.equal(part.recorded().images, whole.recorded().images[[9, 2, 30]])


def test_every_parameter_of_the_surrogate_has_an_effect(digits):
    def first(seed=0, **params):
        asked, oracle = shown(digits, on_digits(**params), seed=seed)
        return torch.cat([candidates for candidates, _ in asked]), oracle

    base, _ = first()
    assert torch.equal(base, first()[0])
    assert not _same(base, first(seed=1)[0]), "input diversity draws"
    assert not _same(base, first(attack={"kind": "mi_fgsm", "params": {"steps": 3}})[0])
    assert not _same(base, first(surrogate_queries=8)[0])
    several = {"kind": "mi_fgsm", "params": {"step_size": 0.2}}
    assert int(first(attack=several)[1].queries.max()) > 1
    assert int(first(attack=several, shown=1)[1].queries.max()) == 1


def _same(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and bool(torch.equal(first, second))


@pytest.mark.parametrize("queries", [1, 2])
def test_the_budget_is_the_targets(queries, digits):
    _, oracle = shown(digits, on_digits(), radius=0.05, queries=queries)
    assert int(oracle.queries.max()) <= queries
    assert int(oracle.queries.max()) > 0


def test_the_identity_holds_the_surrogate(digits, tmp_path):
    images, labels, model = digits
    dataset = ArrayDataset((images * 255).round().to(torch.uint8).numpy(), labels.numpy())
    subjects = [Subject("linear", "test", lambda: model)]
    spec = spec_of("linf", surrogate={"reference": "digits-cnn"})
    path = tmp_path / "run.charpy"
    evaluate(spec, path, subjects=subjects, dataset=dataset)
    with RunFile.open(path) as run:
        known = run.identity
        fingerprint = dict(registry().create("models", "digits-cnn").fingerprint())
        for key, value in fingerprint.items():
            assert known[f"attack.threats.0.battery.0.surrogate.{key}"] == value
        assert sum(unit["broken"] for unit in run.units(0)) > 0
        assert json.loads(known["spec.threats.0.battery.0.params.surrogate.reference"]) == "digits-cnn"


@pytest.mark.parametrize(
    ("norm", "params", "error", "match"),
    [
        ("l0", {}, ModelError, "'mi_fgsm' does not attack l0"),
        ("linf", {"attack": {"kind": "standard"}}, PluginError, "is a battery"),
        ("linf", {"surrogate": {"reference": "digits-cn"}}, UnknownNameError, "did you mean digits-cnn"),
        ("linf", {"attack": {"kind": "mi_fgms"}}, UnknownNameError, "did you mean mi_fgsm"),
        ("linf", {"surrogate": {"reference": "mnist-lenet"}}, ModelError, "28"),
    ],
)
def test_a_surrogate_that_cannot_serve_is_refused_before_anything_is_written(
    norm, params, error, match, digits, tmp_path
):
    images, labels, model = digits
    dataset = ArrayDataset((images * 255).round().to(torch.uint8).numpy(), labels.numpy())
    spec = spec_of(norm, **{"surrogate": {"reference": "digits-cnn"}, **params})
    path = tmp_path / "run.charpy"
    with pytest.raises(error, match=match):
        evaluate(spec, path, subjects=[Subject("l", "test", lambda: model)], dataset=dataset)
    assert not path.exists()
