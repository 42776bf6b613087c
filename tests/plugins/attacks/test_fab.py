"""FAB and FAB-T: known optima, one iteration by hand, the queries they spend, and an effect of every parameter."""

from __future__ import annotations

import pytest
import torch

from charpy.geometry import norm_of
from charpy.search.hyperplane import onto_hyperplane
from charpy.testing.linear import LinearClassifier
from charpy.threat import Grid, Norm
from charpy_plugins.attacks.success.fab import Fab
from charpy_plugins.attacks.success.fab_t import FabT
from charpy_plugins.wrappers.torch_module import TorchModel

GENERATOR = torch.Generator().manual_seed(6)
IMAGES = (torch.rand(12, 3, 4, 4, generator=GENERATOR) * 1.2 - 0.1).clamp(0, 1)  # some values at the walls
WEIGHT = torch.randn(5, 3, 4, 4, generator=GENERATOR)
NORMS = (Norm.L1, Norm.L2, Norm.LINF)
REAL = {"grid": Grid.NONE, "radius": 100.0, "queries": 5000}


class Recorder(LinearClassifier):
    """Keeps what it was asked."""

    def __init__(self, weight):
        super().__init__(weight)
        self.asked = []

    def predict(self, images):
        self.asked.append(images.detach().clone())
        return super().predict(images)


def curved() -> TorchModel:
    """A small network whose boundaries are far from linear."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        layers = [torch.nn.Flatten(), torch.nn.Linear(48, 32), torch.nn.Tanh(), torch.nn.Linear(32, 5)]
        with torch.no_grad():
            layers[1].weight.mul_(12)
    return TorchModel.from_module(torch.nn.Sequential(*layers), input_shape=(3, 4, 4), num_classes=5)


def sizes(norm, trial):
    return torch.where(trial.found.found, norm_of(norm, trial.found.images - IMAGES), torch.inf)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", [Fab, FabT])
def test_the_optimum_of_a_linear_classifier_even_where_the_box_binds(kind, norm, attack_with):
    model = LinearClassifier(WEIGHT)
    labels = model.predict(IMAGES).argmax(1)
    optimum = model.smallest(norm, IMAGES, labels)
    trial = attack_with(kind(kind.Params(steps=30)), model, IMAGES, norm=norm, **REAL)
    assert all(trial.broken)
    ratio = sizes(norm, trial) / optimum
    assert float(ratio.min()) > 1 - 1e-4
    assert float(ratio.max()) < (1.02 if kind is FabT else 1.05)  # Fab picks the class by the distance without the box


def test_one_iteration_extrapolates_beyond_the_projection_and_steps_back(attack_with):
    model = Recorder(WEIGHT[:2])
    labels = model.predict(IMAGES).argmax(1)
    model.asked.clear()
    params = FabT.Params(steps=2, eta=1.2, beta=0.7, final_steps=0)
    attack_with(FabT(params), model, IMAGES, norm=Norm.L2, labels=labels, **REAL)
    _, first, checked, second, *_ = model.asked  # the ranking, then gradient and check of each iteration
    scores, row = (IMAGES[:, None] * WEIGHT[:2]).flatten(2).sum(2), torch.arange(12)
    need = scores[row, labels] - scores[row, 1 - labels]
    change = onto_hyperplane(Norm.L2, IMAGES, WEIGHT[1 - labels] - WEIGHT[labels], need)
    assert torch.equal(first, IMAGES)
    assert torch.allclose(checked, (IMAGES + 1.2 * change).clamp(0, 1), atol=1e-5)
    assert torch.allclose(second, IMAGES + 0.7 * (checked - IMAGES), atol=1e-5)


def test_queries_of_an_iteration(attack_with):
    model = LinearClassifier(WEIGHT)
    fields = {"norm": Norm.LINF, **REAL}
    trial = attack_with(Fab(Fab.Params(steps=7, final_steps=0)), model, IMAGES, **fields)
    assert trial.found.queries.tolist() == [7 * (5 + 1)] * 12
    trial = attack_with(Fab(Fab.Params(steps=7, final_steps=0, classes=3)), model, IMAGES, **fields)
    assert trial.found.queries.tolist() == [1 + 7 * (3 + 1)] * 12
    trial = attack_with(FabT(FabT.Params(steps=7, final_steps=3, targets=2)), model, IMAGES, **fields)
    assert trial.found.queries.tolist() == [1 + 2 * 7 * (1 + 1) + 3] * 12


@pytest.mark.parametrize("kind", [Fab, FabT])
@pytest.mark.parametrize(
    "changed",
    [{"steps": 60}, {"restarts": 3}, {"alpha_max": 0.5}, {"eta": 1.5}, {"beta": 0.5}, {"final_steps": 8}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_shared_parameter_matters(kind, changed, attack_with):
    model = curved()
    base = {"steps": 20, "final_steps": 0}
    plain, other = (
        attack_with(kind(kind.Params(**params)), model, IMAGES, norm=Norm.L2, **REAL)
        for params in (base, {**base, **changed})
    )
    assert not torch.equal(plain.found.images, other.found.images)
    if changed.keys() & {"restarts", "steps", "final_steps"}:
        assert bool((sizes(Norm.L2, other) <= sizes(Norm.L2, plain) * (1 + 1e-6)).all()), "more of it never hurts"
        assert float(sizes(Norm.L2, other).sum()) < float(sizes(Norm.L2, plain).sum())


def test_more_targets_and_more_classes_find_nearer_witnesses(attack_with):
    model = LinearClassifier(WEIGHT * torch.tensor([1, 3, 1, 3, 0.3])[:, None, None, None])  # near is not the next best
    fields = {"norm": Norm.L2, **REAL}
    one, all_ = (attack_with(FabT(FabT.Params(steps=15, targets=n)), model, IMAGES, **fields) for n in (1, 4))
    two, every = (attack_with(Fab(Fab.Params(steps=15, classes=n)), model, IMAGES, **fields) for n in (2, 5))
    assert torch.allclose(sizes(Norm.L2, one), sizes(Norm.L2, two), rtol=1e-3), "the same class"
    assert float(sizes(Norm.L2, all_).mean()) < float(sizes(Norm.L2, one).mean())
    assert float(sizes(Norm.L2, every).mean()) < float(sizes(Norm.L2, two).mean())


@pytest.mark.parametrize("kind", [Fab, FabT])
def test_restarts_are_random_and_the_first_run_is_not(kind, attack_with):
    model = curved()

    def images(seed, restarts):
        params = kind.Params(steps=5, restarts=restarts)
        return attack_with(kind(params), model, IMAGES, norm=Norm.LINF, seed=seed, **REAL).found.images

    assert torch.equal(images(0, 1), images(1, 1))
    assert torch.equal(images(0, 4), images(0, 4))
    assert not torch.equal(images(0, 4), images(1, 4))


@pytest.mark.parametrize("kind", [Fab, FabT])
def test_the_budget_leaves_room_for_the_final_search(kind, attack_with):
    model = LinearClassifier(WEIGHT)
    trial = attack_with(kind(), model, IMAGES, norm=Norm.L2, **{**REAL, "queries": 60})
    assert all(trial.broken)
    assert int(trial.found.queries.max()) <= 60
    spent = {Fab: 9 * 6 + 3, FabT: 1 + 2 * 28 + 3}  # whole iterations while one more and three trials fit
    assert set(trial.found.queries.tolist()) == {spent[kind]}


def test_on_the_grid_a_linf_check_uses_up_the_level_that_it_pays_for(attack_with):
    model = Recorder(WEIGHT[:2])
    pixels = IMAGES.mul(255).round().div(255)
    labels = model.predict(pixels).argmax(1)
    model.asked.clear()
    params = FabT.Params(steps=1, final_steps=0)
    attack_with(FabT(params), model, pixels, norm=Norm.LINF, labels=labels, radius=1.0, queries=5000)
    scores, row = (pixels[:, None] * WEIGHT[:2]).flatten(2).sum(2), torch.arange(12)
    need = scores[row, labels] - scores[row, 1 - labels]
    change = 1.05 * 255 * onto_hyperplane(Norm.LINF, pixels, WEIGHT[1 - labels] - WEIGHT[labels], need)
    change = (pixels * 255 + change).clamp(0, 255) - pixels * 255
    asked = (model.asked[2] - pixels) * 255
    assert torch.allclose(asked, change.sign() * (change.abs() - 1e-3).ceil(), atol=1e-3)
