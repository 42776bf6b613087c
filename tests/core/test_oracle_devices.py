"""The oracle on a device that is not the default one: what it makes lies where the samples lie."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.interfaces.model import Output
from charpy.oracle import Oracle
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Grid, Norm, ThreatModel

WEIGHT = torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(5))
POINTS = torch.randint(0, 256, (5, 1, 3, 3), generator=torch.Generator().manual_seed(6)) / 255
OWNER, CLASSES = torch.tensor([1, 0, 1, 1, 0]), torch.tensor([[0, 2]] * 5)
WEIGHTS = torch.ones(5, 3)
NOWHERE = torch.device("meta")  # has no values: what is made there by mistake fails beside what has some

QUESTIONS = {
    "scores": lambda oracle: oracle.scores(POINTS, OWNER),
    "labels": lambda oracle: oracle.labels(POINTS, OWNER),
    "fitness": lambda oracle: oracle.fitness(POINTS, OWNER),
    "loss_and_gradient": lambda oracle: oracle.loss_and_gradient(POINTS, OWNER, "dlr"),
    "jacobian": lambda oracle: oracle.jacobian(POINTS, OWNER, CLASSES),
    "attached": lambda oracle: (oracle.attached(POINTS, OWNER).scores, oracle.attached(POINTS, OWNER).slope(WEIGHTS)),
}


def tensors(found):
    return [found] if isinstance(found, torch.Tensor) else list(found)


@pytest.mark.parametrize("queries", [100, 3, 1, 0], ids=["enough", "some refused", "most refused", "all refused"])
@pytest.mark.parametrize("norm", [Norm.L0, Norm.L2, Norm.LINF])
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("question", sorted(QUESTIONS))
def test_answers_and_records_do_not_go_to_the_default_device(question, grid, norm, queries):
    model = LinearClassifier(WEIGHT)
    found = {}
    for default in ("cpu", NOWHERE):
        way = Way("as given", model.predict, 2, 1e-6, invariant=True)
        engine = QueryEngine(model, model.output, way, way, num_classes=3)
        threat = ThreatModel(norm=norm, radius=0.9, grid=grid, access=Access.GRADIENTS, queries=max(1, queries))
        with torch.device(default):
            oracle = Oracle(engine, model, POINTS[:2], model.predict(POINTS[:2]).argmax(1), None, threat)
            if not queries:
                oracle.scores(POINTS[:2], torch.arange(2, device="cpu"))
            answers = tensors(QUESTIONS[question](oracle))
            recorded = vars(oracle.recorded()).values()
        found[str(default)] = [*answers, *recorded]
    for expected, here in zip(*found.values(), strict=True):
        assert here.device.type == "cpu"
        torch.testing.assert_close(here, expected, equal_nan=True)


@pytest.mark.parametrize("queries", [100, 1])
def test_labels_do_not_go_to_the_default_device(queries):
    model = LinearModel(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1, Output.LABELS)
    images, owner = torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 0, 1, 0])
    way = Way("as given", model.predict, 2, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=0)
    threat = ThreatModel(norm=Norm.L0, radius=1, access=Access.LABELS, queries=queries)
    with torch.device(NOWHERE):
        oracle = Oracle(engine, model, images[:2], torch.ones(2, dtype=torch.int64, device="cpu"), None, threat)
        assert oracle.labels(images, owner).tolist() == ([1, 1, 1, 1] if queries > 1 else [1, -1, 1, -1])
        assert oracle.labels(images[:1], owner[:1]).tolist() == ([1] if queries > 1 else [-1])
