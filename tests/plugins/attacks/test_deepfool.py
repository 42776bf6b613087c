"""DeepFool: the closed form of the linear case, the queries it spends, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.search.boundary import contenders, rivals
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.success.deepfool import Deepfool
from charpy_plugins.wrappers.torch_module import TorchModel

GENERATOR = torch.Generator().manual_seed(4)
IMAGES = torch.rand(16, 3, 4, 4, generator=GENERATOR) * 0.3 + 0.35  # far from the walls of the box
WEIGHT = torch.randn(6, 3, 4, 4, generator=GENERATOR)
REAL = {"grid": Grid.NONE, "radius": 1e3, "queries": 400}


def curved() -> TorchModel:
    """A small network whose boundaries are far from linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [torch.nn.Flatten(), torch.nn.Linear(48, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6)]
        with torch.no_grad():
            layers[1].weight.mul_(12)
    return TorchModel.from_module(torch.nn.Sequential(*layers), input_shape=(3, 4, 4), num_classes=6)


def size(norm, trial):
    moved = (trial.found.images - IMAGES).flatten(1)
    return moved.abs().amax(1) if norm is Norm.LINF else moved.norm(dim=1)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_on_a_linear_classifier_one_step_lands_just_behind_the_nearest_boundary(norm, attack_with):
    model = LinearClassifier(WEIGHT)
    params = Deepfool.Params(overshoot=0.5, line_search=0)
    trial = attack_with(Deepfool(params), model, IMAGES, norm=norm, **REAL)
    labels = model.predict(IMAGES).argmax(1)
    scores, rows = model.predict(IMAGES), torch.arange(16)
    gaps = scores[rows, labels][:, None] - scores
    normals = (WEIGHT[labels][:, None] - WEIGHT).flatten(2)
    sizes = normals.norm(dim=2) if norm is Norm.L2 else normals.abs().sum(2)
    nearest = (gaps / sizes).masked_fill(torch.eye(6, dtype=torch.bool)[labels], torch.inf).amin(1)  # algorithm 2
    near = size(Norm.LINF, trial) < 0.35  # no value has met a wall
    assert int(near.sum()) >= 8
    assert torch.allclose(size(norm, trial)[near], 1.5 * (nearest[near] + 1e-4), rtol=1e-3)
    assert trial.found.queries.tolist() == [6 + 1] * 16, "six gradients and one check"


def test_the_line_search_takes_the_overshoot_back(attack_with):
    model = LinearClassifier(WEIGHT)
    optimum = model.smallest(Norm.L2, IMAGES, model.predict(IMAGES).argmax(1))
    trial = attack_with(Deepfool(Deepfool.Params(overshoot=0.5)), model, IMAGES, norm=Norm.L2, **REAL)
    assert float((size(Norm.L2, trial) / optimum).max()) < 1.01
    assert trial.found.queries.tolist() == [6 + 1 + 6] * 16


def test_steps_bound_the_walk(attack_with):
    model = curved()
    few, many = (
        attack_with(Deepfool(Deepfool.Params(steps=steps, line_search=0)), model, IMAGES, norm=Norm.L2, **REAL)
        for steps in (1, 50)
    )
    assert few.found.queries.tolist() == [7] * 16
    assert sum(few.broken) < sum(many.broken) == 16


def test_candidates_are_the_best_clean_scores(attack_with):
    model = LinearClassifier(WEIGHT)
    trial = attack_with(Deepfool(Deepfool.Params(candidates=2, line_search=0)), model, IMAGES, norm=Norm.L2, **REAL)
    second = model.predict(IMAGES).topk(2).indices[:, 1]
    assert torch.equal(model.predict(trial.found.images).argmax(1), second)
    assert trial.found.queries.tolist() == [1 + 2 + 1] * 16, "a ranking, two gradients, a check"
    every = attack_with(Deepfool(Deepfool.Params(line_search=0)), model, IMAGES, norm=Norm.L2, **REAL)
    assert float(size(Norm.L2, every).mean()) < float(size(Norm.L2, trial).mean())


def test_a_small_budget_looks_at_fewer_classes_and_still_breaks(attack_with):
    trial = attack_with(Deepfool(), LinearClassifier(WEIGHT), IMAGES, norm=Norm.L2, **{**REAL, "queries": 7})
    assert all(trial.broken)
    assert int(trial.found.queries.max()) <= 7


def test_a_targeted_walk_costs_one_gradient_a_step(attack_with):
    model = LinearClassifier(WEIGHT)
    targets = (model.predict(IMAGES).argmax(1) + 2) % 6
    params = Deepfool.Params(line_search=0)
    trial = attack_with(Deepfool(params), model, IMAGES, norm=Norm.L2, targets=targets, **REAL)
    assert all(trial.broken)
    assert torch.equal(model.predict(trial.found.images).argmax(1), targets)
    assert bool((trial.found.queries % 2 == 0).all())
    assert int(trial.found.queries.max()) < 40


class Probe(Deepfool):
    """Hands its task to the test."""

    def run(self, task):
        """Keep the task."""
        self.rivals = rivals(task, 3)
        self.spent = task.oracle.queries.tolist()
        self.contenders = contenders(task, 10)
        self.after = task.oracle.queries.tolist()


def test_rivals_are_ranked_by_clean_score_and_contenders_of_all_classes_cost_nothing(attack_with):
    model, probe = LinearClassifier(WEIGHT), Probe()
    attack_with(probe, model, IMAGES, norm=Norm.L2, **REAL)
    order = model.predict(IMAGES).argsort(dim=1, descending=True)
    assert torch.equal(probe.rivals, order[:, 1:4])
    assert probe.spent == probe.after == [1] * 16
    assert torch.equal(probe.contenders[:, 0], order[:, 0])
    assert torch.equal(probe.contenders.sort(1).values, torch.arange(6).expand(16, 6))


class Steep(torch.nn.Module):
    """An exponential wall eight grid steps thick: a linear step climbs down an eighth of a grid step at a time."""

    def forward(self, images):
        wall = (2000 * (images.flatten(1).mean(1) - 122 / 255)).exp() - 1
        return torch.stack([wall, torch.zeros_like(wall)], 1)


@pytest.mark.parametrize("norm", [Norm.L2, Norm.LINF])
def test_on_the_grid_no_step_is_rounded_away(norm, attack_with):
    model = TorchModel.from_module(Steep(), input_shape=(3, 4, 4), num_classes=2)
    grey = torch.full((1, 3, 4, 4), 130 / 255)
    trial = attack_with(Deepfool(), model, grey, norm=norm, radius=50.0)
    assert trial.broken == [True]
    assert int(trial.found.images.min()) == 121, "the first grid point behind the wall"
