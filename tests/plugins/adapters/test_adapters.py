"""Attacks of foolbox, torchattacks and ART behind the oracle: as strong as alone, counted, stopped, judged."""

from __future__ import annotations

import importlib
import os
import random
import re
import sys
import threading
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from charpy.errors import PluginError, SpecError, UnknownNameError
from charpy.foreign import Question, Turn, in_turns
from charpy.foreign_attack import ForeignAttack, peer
from charpy.interfaces.attack import Family, Task
from charpy.judge import Claim, Judge
from charpy.pixels import pack
from charpy.plugins import registry
from charpy.testing import AttackContract
from charpy.testing.bench import trial
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Goal, Grid, Norm
from charpy_plugins.adapters.foolbox import Foolbox
from charpy_plugins.adapters.torchattacks import Torchattacks

COUNT = 6
IMPORTS = {"foolbox": "foolbox", "torchattacks": "torchattacks", "art": "art.attacks.evasion"}


@pytest.fixture(scope="module", autouse=True)
def _dependencies():
    """Small packages that a peer needs may lie in `deps` of the peers' folder."""
    with pytest.MonkeyPatch.context() as patch:
        if folder := os.environ.get("CHARPY_PEERS"):
            patch.setattr(sys, "path", [*sys.path, os.path.join(folder, "deps")])
        yield


def needed(library: str):
    """The library, or a skip that says why it is not there."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(IMPORTS[library])
        except ImportError as cause:
            pytest.skip(f"{library} cannot be imported: {cause}")


def made(library, name, **more):
    return registry().create("attacks", library, {"attack": name, **more})


def problem():
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(5, 3, 5, 5, generator=generator)
    labels = torch.arange(COUNT) % 5
    images = (0.5 + 0.1 * torch.randn(COUNT, 3, 5, 5, generator=generator) + 0.1 * weight[labels]).clamp(0.1, 0.9)
    return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1)), images.mul(255).round().div(255), labels


def run(attack, *, norm=Norm.LINF, radius=0.1, queries=100, model=None, **more):
    model_, images, labels = problem()
    return trial(attack, model or model_, images, labels, norm=norm, radius=radius, queries=queries, **more)


class Module(torch.nn.Module):
    """The linear model as a torch module, counting its rows."""

    def __init__(self, model):
        super().__init__()
        self.model, self.anchor = model, torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, images):
        return self.model.predict(images)


STRONG = [
    ("foolbox", "LinfPGD", {"steps": 30}),
    ("foolbox", "LinfBasicIterativeAttack", {"steps": 30, "rel_stepsize": 0.1}),
    ("torchattacks", "BIM", {"steps": 30, "alpha": 0.01}),
    ("torchattacks", "PGD", {"steps": 30, "alpha": 0.01, "random_start": False}),
    ("art", "BasicIterativeMethod", {"max_iter": 30, "eps_step": 0.01}),
]


def alone(library, name, options, model, images, labels, radius):
    """What the library finds on its own, in one call, misclassified by the model inside the ball."""
    kind, module = getattr(needed(library), "attacks", None), Module(model).eval()
    if library == "foolbox":
        wrapped = needed(library).PyTorchModel(module, bounds=(0, 1), device="cpu")
        found = getattr(kind, name)(**options).run(wrapped, images, labels, epsilon=radius)
    elif library == "torchattacks":
        found = getattr(needed(library), name)(module, eps=radius, **options)(images, labels)
    else:
        from art.estimators.classification import PyTorchClassifier

        classifier = PyTorchClassifier(module, torch.nn.CrossEntropyLoss(), (3, 5, 5), 5, clip_values=(0, 1))
        attack = getattr(needed(library), name)(classifier, eps=radius, **options, verbose=False)
        found = torch.from_numpy(attack.generate(x=images.numpy(), y=np.eye(5)[labels.numpy()]))
    inside = (found - images).flatten(1).abs().amax(1) <= radius + 1e-6
    return (model.predict(found).argmax(1) != labels) & inside


@pytest.mark.parametrize(("library", "name", "options"), STRONG)
@pytest.mark.filterwarnings("ignore")
def test_it_finds_what_the_library_finds_alone_at_the_same_budget(library, name, options):
    needed(library)
    model, images, labels = problem()
    optimum = model.smallest(Norm.LINF, images, labels)
    radius = float(optimum.median()) * 1.03
    torch.manual_seed(0)
    expected = alone(library, name, options, model, images, labels, radius)
    rows = model.rows
    done = run(made(library, name, options=options), radius=radius, queries=31, grid=Grid.NONE)
    assert 0 < int(expected.sum()) < COUNT
    assert bool((done.found.found >= expected).all()), (done.found.found, expected)
    assert not bool(done.found.found[optimum > radius + 1e-6].any())
    assert done.oracle.rows <= rows


@pytest.mark.parametrize("queries", [1, 2, 7, 23])
@pytest.mark.parametrize(
    ("library", "name", "norm"),
    [
        ("foolbox", "LinfPGD", Norm.LINF),
        ("foolbox", "BoundaryAttack", Norm.L2),
        ("foolbox", "DDNAttack", Norm.L2),
        ("torchattacks", "PGD", Norm.LINF),
        ("torchattacks", "Square", Norm.LINF),
        ("torchattacks", "DeepFool", Norm.L2),
        ("art", "ProjectedGradientDescentPyTorch", Norm.LINF),
        ("art", "SquareAttack", Norm.LINF),
    ],
)
def test_the_budget_is_exact(library, name, norm, queries):
    """Each row of the model is charged to its sample, and what is left is spent to the last row."""
    needed(library)
    done = run(made(library, name), norm=norm, radius=0.02, queries=queries)
    assert done.found.queries.tolist() == [queries] * COUNT or int(done.found.queries.max()) < queries
    assert int(done.found.queries.max()) <= queries
    assert done.rows <= done.oracle.rows == int(done.found.queries.sum())
    if name != "DeepFool":  # which takes several slopes of one row, each a query
        assert done.rows == done.oracle.rows


def test_a_further_slope_of_a_row_is_another_query():
    needed("torchattacks")
    done = run(made("torchattacks", "DeepFool"), norm=Norm.L2, radius=8.0, queries=500)
    assert all(done.found.found.tolist())
    assert done.oracle.gradient_rows > done.rows


def test_a_librarys_lie_is_caught_by_the_judge():
    """Peer defect 1: the projection of foolbox's L2FMN does nothing; what it returns is far outside the ball."""
    needed("foolbox")
    model, images, labels = problem()
    radius = float(model.smallest(Norm.L2, images, labels).min()) * 0.5
    attack = made(
        "foolbox", "L2FMNAttack", options={"steps": 10, "min_stepsize": 5.0, "max_stepsize": 5.0}, claims=True
    )
    done = run(attack, norm=Norm.L2, radius=radius)
    assert done.task.notes["returned_outside"] >= 1
    moved = (done.returned != images).flatten(1).any(1).nonzero()[:, 0].tolist()
    claims = [
        Claim(pack(images[i], Grid.EIGHT_BIT), pack(done.returned[i], Grid.EIGHT_BIT), int(labels[i])) for i in moved
    ]
    verdicts = Judge(model, model.output, (3, 5, 5)).decide(claims, done.task.threat)
    assert len(verdicts) >= 1
    assert all("outside the l2 ball" in verdict.reason for verdict in verdicts)
    assert not any(done.found.found.tolist())
    quiet = made("foolbox", "L2FMNAttack", options={"steps": 10, "min_stepsize": 5.0, "max_stepsize": 5.0})
    assert torch.equal(run(quiet, norm=Norm.L2, radius=radius).returned, images)


class Moody(ForeignAttack):
    """A library of one attack, which fails where an image is dark."""

    package, module, extra = "pytest", "tests", ""
    source = "ours"
    known: ClassVar = {"Moody": peer("linf"), "Hopeless": peer("linf"), "Labels": peer("linf", access="labels")}

    class Params(ForeignAttack.Params):
        """Which."""

        attack: str = "Moody"

    dark: float = -1.0

    def imported(self):
        return Moody

    def perturbed(self, cls, one):
        image = one.image
        if self.params.attack == "Hopeless" or float(image.mean()) < self.dark:
            raise ValueError("no starting point")
        leaf = image.clone().requires_grad_(True)
        for _ in range(3):
            scores = one.module(leaf)
            loss = torch.nn.functional.cross_entropy(scores, one.label)
            if scores.requires_grad:
                (slope,) = torch.autograd.grad(loss, leaf)
            else:
                slope = torch.randn(image.shape)
            with torch.no_grad():
                leaf = (image + one.task.threat.radius * (slope.sign() + 0 * torch.rand(1))).clamp(0, 1)
            leaf.requires_grad_(True)
        return leaf


def test_a_run_that_fails_costs_its_own_sample():
    _, images, _ = problem()
    whole, moody = Moody(), Moody()
    moody.dark = float(images.flatten(1).mean(1).median()) + 1e-4
    dark = images.flatten(1).mean(1) < moody.dark
    assert 0 < int(dark.sum()) < COUNT
    expected, done = run(whole), run(moody)
    assert done.found.queries[dark].tolist() == [0] * int(dark.sum())
    assert done.task.notes == {"failed_runs": float(dark.sum())}
    assert torch.equal(done.found.found[~dark], expected.found.found[~dark])
    assert torch.equal(done.found.images[~dark], expected.found.images[~dark])


def test_a_library_that_fails_on_every_sample_is_named():
    with pytest.raises(PluginError, match=r"fails on every sample[\s\S]*no starting point"):
        run(Moody(Moody.Params(attack="Hopeless")))


def test_rows_travel_together_and_runs_leave_no_thread():
    sizes = []

    class Spy(LinearClassifier):
        def predict(self, images):
            sizes.append(len(images))
            return super().predict(images)

    model, _, _ = problem()
    before = threading.active_count()
    run(Moody(), radius=0.001, model=Spy(model.weight, model.bias))
    assert sizes == [COUNT] * 4  # three steps, and the success probe
    assert threading.active_count() == before


def test_labels_come_as_ones_and_zeros_and_nothing_more_is_given():
    attack = Moody(Moody.Params(attack="Labels"))
    seen = []

    def peek(cls, one):
        seen.append(one.module(one.image.clone().requires_grad_(True)))
        return one.image

    attack.perturbed = peek
    done = run(attack)
    assert done.oracle.threat.access is Access.LABELS
    assert all(not part.requires_grad and sorted(part.flatten().tolist()) == [0, 0, 0, 0, 1] for part in seen)


def test_an_interrupted_round_ends_every_run():
    """The driver fails while runs rest: they are told, and nothing global is left changed."""
    _, images, labels = problem()
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002
    done = run(Moody(), queries=1)

    class Broken:
        active = torch.ones(COUNT, dtype=torch.bool)

        def attached(self, rows, owner):
            raise RuntimeError("the model is gone")

    task = Task(images, labels, None, done.task.threat, Broken(), done.task.random)
    before = threading.active_count()
    with pytest.raises(RuntimeError, match="the model is gone"):
        in_turns(task, lambda module, image, *rest: module(image.requires_grad_(True)), Access.GRADIENTS, 5)
    assert threading.active_count() == before
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states[1:]  # noqa: NPY002
    assert Question(images, slopes=False).rows is images
    assert not Turn(0, 0).ended


def test_unknown_attacks_options_and_missing_libraries_say_what_to_do(monkeypatch):
    with pytest.raises(UnknownNameError, match="did you mean LinfPGD"):
        made("foolbox", "LinfPDG")
    needed("foolbox")
    with pytest.raises(UnknownNameError, match="did you mean steps"):
        made("foolbox", "LinfPGD", options={"step": 3}).prepare(Norm.LINF, Goal.UNTARGETED, [])
    with pytest.raises(SpecError):
        made("foolbox", "LinfPGD", options={"steps": [1]})
    for library, hint in (
        ("foolbox", r"charpy\[attacks\]"),
        ("art", r"charpy\[attacks\]"),
        ("torchattacks", "no-deps"),
    ):
        component = registry().load("attacks", library)
        monkeypatch.setattr(component, "module", "no_such_module_of_anybody")
        with pytest.raises(PluginError, match=hint):
            component().prepare(Norm.LINF, Goal.UNTARGETED, [])


def test_what_is_known_of_an_attack_is_what_it_declares():
    attack = made("foolbox", "HopSkipJumpAttack")
    assert (attack.norms, attack.access) == ({Norm.L2, Norm.LINF}, Access.LABELS)
    assert attack.family is Family.TARGET_OPTIMALITY
    assert made("torchattacks", "OnePixel").norms == {Norm.L0}
    assert made("art", "DeepFool").goals == {Goal.UNTARGETED}
    assert made("foolbox", "LinfPGD").fingerprint() != made("foolbox", "LinfPGD", options={"steps": 3}).fingerprint()


@pytest.mark.parametrize("library", IMPORTS)
def test_every_known_name_is_a_class_of_the_library(library):
    module = needed(library)
    module = module.attacks if library == "foolbox" else module
    missing = [name for name in registry().load("attacks", library).known if not hasattr(module, name)]
    assert not missing


class Pgd(AttackContract):
    effects: ClassVar = {"options": {"steps": 3}}
    factor, queries, usual, randomised = 1.3, 60, 10, True


class FoolboxPgd(Pgd):
    component = Foolbox
    params: ClassVar = {"attack": "LinfPGD", "options": {"steps": 40}}


class TorchattacksPgd(Pgd):
    component = Torchattacks
    params: ClassVar = {"attack": "PGD", "options": {"steps": 40, "alpha": 0.01}}


@pytest.mark.slow
@pytest.mark.parametrize("contract", [FoolboxPgd, TorchattacksPgd])
def test_they_keep_the_contract_of_attacks(contract):
    needed(contract.component.package)
    assert contract.breaches() == {}


def test_the_page_lists_every_class_that_is_known():
    page = (Path(__file__).resolve().parents[3] / "docs" / "other-libraries.md").read_text(encoding="utf-8")
    told = {}
    for library, norms, access, family, classes in re.findall(r"^\| `(\w+)` \|" + r" ([^|]+) \|" * 4 + "$", page, re.M):
        for name, untargeted in re.findall(r"`(\w+)`( \(u\))?", classes):
            assert (library, name) not in told
            told[library, name] = peer(norms.replace(",", ""), family, access, targeted=not untargeted)
    known = {(kind, name): what for kind in IMPORTS for name, what in registry().load("attacks", kind).known.items()}
    assert told == known
