"""What every built-in attack must do: find the known optimum, keep the budget, and treat each sample alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from charpy.interfaces.attack import Attack, Family
from charpy.interfaces.dataset import Samples
from charpy.losses import margin
from charpy.plugins import registry
from charpy.testing.linear import LinearClassifier
from charpy.threat import BALLS, Access, Goal, Grid, Norm

KINDS = sorted(
    entry.kind
    for entry in registry().entries("attacks")
    if entry.package == "charpy" and isinstance(entry.load(), type) and issubclass(entry.load(), Attack)
)
ELSEWHERE = {"transfer", "embedding_pgd", "foolbox", "torchattacks", "art"}  # need another model, run file or library
PARAMS = {
    "ssim_cw": {"ssim_weight": 1.0},  # at the default weight the nearest image is not what it looks for
    "few_pixel": {"population": 40, "fitness": "margin"},
    "threshold": {"fitness": "margin"},
    "rotation_translation_gradient": {"steps": 50},
    "foreground_pgd": {"stroke": 0.001},  # everything is foreground
}
"""Where the published defaults are made for a larger budget than these tests have."""

OWN_BOUNDS = {"rotation_translation", "rotation_translation_gradient", "stadv", "color_shift", "class_combination"}
"""Bounded by parameters of their own: of an Lp ball they reach a few images only. Their own tests hold them to more."""

ANYWHERE = 75.0
"""A radius beyond the images."""

REACH = {
    "fgm": 1.6,  # one step: the gradient of the cross-entropy is no exact direction to the nearest class
    "spgd2": 4.0,  # smooth steps, on noise that no smooth direction changes much
    "bim": 1.3,  # whole steps of 1/255, few more than the radius has
    "mi_fgsm": 1.3,
    "foreground_pgd": 1.2,  # what was a stroke stays one: no value becomes 0
    "universal": 2.5,
    "threshold": 3.0,
    "few_pixel": 2.0,
    "square": 1.6,
    "sparse_rs": 1.5,
    "simba": 3.0,
    "nes": 1.6,
    "spsa": 1.6,
    "one_pixel": 1.0,
}
"""Multiple of the largest optimum at which a target-distortion attack must break every sample; 1.1 if not given."""

JACOBIAN = {"deepfool", "fab"}

RATIO = {Family.TARGET_OPTIMALITY: 1.05, Family.TARGET_SUCCESS: 1.25}
SMOOTH_RATIO = 1.15
"""`scw` keeps to perturbations like the image, which is noise here: the slow directions take more steps than it has."""

LABEL_RATIO = 2.0
"""An attack that sees labels only pays for every direction with queries."""

GATES = [
    (kind, norm)
    for kind in KINDS
    if kind not in ELSEWHERE
    for norm in ((Norm.L2, Norm.UNRESTRICTED) if kind in OWN_BOUNDS else BALLS)
    if norm in registry().load("attacks", kind).norms
]
LONG = {"boundary", "cw", "ead", "rays", "scw", "ssim_cw"}
"""Attacks that need many small steps: what asks for their full strength is run with the slow tests."""

QUERIES = 5000
COUNT = 6


def made(kind: str) -> Attack:
    """As it is in a run: one that takes anything from the run's samples has it."""
    attack: Attack = registry().create("attacks", kind, PARAMS.get(kind, {}))
    _, images, labels = problem(Norm.L2)
    attack.prepare(Norm.L2, Goal.UNTARGETED, [Samples(images, labels, tuple(map(str, range(COUNT))))])
    return attack


def problem(norm: Norm, *, easy: bool = False) -> tuple[LinearClassifier, torch.Tensor, torch.Tensor]:
    """A linear classifier of 5 classes on 3 x 5 x 5 images, and samples some way from its boundaries.

    `easy`: the classes differ so much in one place that one pixel decides.
    """
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(5, 3, 5, 5, generator=generator)
    labels = torch.arange(COUNT) % 5
    noise = torch.randn(COUNT, 3, 5, 5, generator=generator) * 0.1
    images = (0.5 + noise + 0.1 * weight[labels]).clamp(0.1, 0.9).mul(255).round().div(255)
    if easy:
        weight[:, :, 2, 3] *= 12
    model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1))  # so that grey lies on every boundary
    return model, images, model.predict(images).argmax(1)


@pytest.mark.parametrize("kind", KINDS)
def test_declares_what_it_is(kind):
    attack = registry().load("attacks", kind)
    assert attack.norms
    assert attack.source, "who published it"
    assert attack.summary().endswith(".")
    for name, field in attack.Params.model_fields.items():
        assert field.description, name
        assert (field.json_schema_extra or {}).get("source"), f"{name}: its source, or 'ours'"


def in_full(gates: list[tuple[str, Norm]]) -> list[Any]:
    return [pytest.param(*gate, marks=[pytest.mark.slow] * (gate[0] in LONG)) for gate in gates]


@pytest.mark.parametrize(("kind", "norm"), in_full([gate for gate in GATES if gate[0] not in OWN_BOUNDS]))
def test_finds_what_is_there(kind, norm, attack_with):
    attack = made(kind)
    model, images, labels = problem(norm, easy=kind == "one_pixel")
    optimum = model.smallest(norm, images, labels)
    assert optimum.isfinite().all()
    if attack.family is Family.TARGET_DISTORTION:
        radius = float(optimum.max()) * REACH.get(kind, 1.1)
        radius = float(int(radius + 0.999)) if norm is Norm.L0 else radius
        trial = attack_with(attack, model, images, norm=norm, radius=radius, queries=QUERIES, grid=Grid.NONE)
        # One perturbation for samples of every class cannot break them all.
        assert sum(trial.broken) >= (COUNT // 2 if kind == "universal" else COUNT), trial.broken
        return
    radius = {Norm.L0: 25.0, Norm.LINF: 1.0, Norm.L2: 75**0.5, Norm.L1: 75.0}[norm]
    trial = attack_with(attack, model, images, norm=norm, radius=radius, queries=QUERIES, grid=Grid.NONE)
    assert all(trial.broken), trial.broken
    moved = trial.found.images - images
    size = {
        Norm.L0: (moved != 0).any(1).flatten(1).sum(1).float(),
        Norm.LINF: moved.flatten(1).abs().amax(1),
        Norm.L2: moved.flatten(1).norm(dim=1),
        Norm.L1: moved.flatten(1).abs().sum(1),
    }[norm]
    ratio = float(size.mean() / optimum.mean())
    limit = LABEL_RATIO if attack.access is Access.LABELS else RATIO[attack.family]
    limit = SMOOTH_RATIO if kind == "scw" else limit
    assert 1 - 1e-3 <= ratio <= limit, ratio


@pytest.mark.parametrize("queries", [1, 2, 7, 37])
@pytest.mark.parametrize(("kind", "norm"), GATES)
def test_spends_no_row_beyond_the_budget(kind, norm, queries, attack_with):
    model, images, labels = problem(norm)
    trial = attack_with(made(kind), model, images, norm=norm, radius=1.0, labels=labels, queries=queries)
    assert int(trial.found.queries.max()) <= queries
    assert trial.oracle.rows == int(trial.found.queries.sum())
    if kind in JACOBIAN:  # a row whose J gradients are asked costs J queries, and the model one forward pass
        assert trial.rows <= trial.oracle.rows
    else:
        assert trial.rows == trial.oracle.rows


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "norm"), [gate for gate in GATES if gate[0] != "universal"])
def test_a_sample_does_not_depend_on_the_others_or_on_the_batch(kind, norm, attack_with):
    model, images, labels = problem(norm)
    radius = ANYWHERE if kind in OWN_BOUNDS else float(model.smallest(norm, images, labels).median())
    names = tuple(f"image {i}" for i in range(COUNT))
    fields = {"norm": norm, "radius": float(int(radius + 0.5)) if norm is Norm.L0 else radius, "queries": 300}
    whole = attack_with(made(kind), model, images, ids=names, labels=labels, **fields).found
    keep = [4, 1]
    part = attack_with(
        made(kind), model, images[keep], ids=tuple(names[i] for i in keep), labels=labels[keep], batch=3, **fields
    ).found
    assert part.queries.tolist() == whole.queries[keep].tolist()
    assert part.queries_to_success.tolist() == whole.queries_to_success[keep].tolist()
    assert torch.equal(part.images, whole.images[keep])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "norm"), in_full([(k, n) for k, n in GATES if Goal.TARGETED in registry().load("attacks", k).goals])
)
def test_a_targeted_witness_is_of_the_target(kind, norm, attack_with):
    attack = made(kind)
    model, images, labels = problem(norm, easy=kind == "one_pixel")
    targets = (labels + 1) % 5
    radius = ANYWHERE if kind in OWN_BOUNDS else {Norm.L0: 12.0, Norm.LINF: 0.25, Norm.L2: 2.5, Norm.L1: 16.0}[norm]
    trial = attack_with(attack, model, images, norm=norm, radius=radius, labels=labels, targets=targets, queries=3000)
    found = trial.found.found
    assert bool(found.any()), "none of the targets was reached"
    scores = model.predict(trial.found.images[found].float() / 255)
    assert bool((margin(scores, labels[found], targets[found]) < 0).all())


@pytest.mark.parametrize(("kind", "norm"), GATES)
def test_copes_with_a_model_that_never_moves(kind, norm, attack_with):
    model, images, labels = problem(norm)
    still = LinearClassifier(torch.zeros_like(model.weight), torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0]))
    trial = attack_with(made(kind), still, images, norm=norm, radius=1.0, labels=torch.full_like(labels, 2), queries=60)
    assert not any(trial.broken)
    assert not bool(trial.found.invalid.any())


@pytest.mark.parametrize("scale", [1e-4, 1e3, 1e30])
@pytest.mark.parametrize(
    ("kind", "norm"), [(k, n) for k, n in GATES if made(k).access is Access.GRADIENTS and k not in OWN_BOUNDS]
)
def test_the_scale_of_the_scores_does_not_matter(kind, norm, scale, attack_with):
    """A multiple of the scores has the same classes: where an attack breaks one model, it breaks the other."""
    if kind == "universal" and scale < 1:
        pytest.skip("its clip is in log-odds, by which even odds already count as lost")
    model, images, labels = problem(norm)
    scaled = LinearClassifier(scale * model.weight, scale * model.bias)
    optimum = model.smallest(norm, images, labels)
    radius = float((2.5 * optimum.max()).ceil() if norm is Norm.L0 else 2.5 * optimum.max())
    found = attack_with(made(kind), scaled, images, norm=norm, radius=radius, labels=labels, queries=300)
    assert sum(found.broken) >= (COUNT // 2 if kind == "universal" else COUNT), found.broken


@pytest.mark.parametrize("grid", Grid)
@pytest.mark.parametrize(("kind", "norm"), [gate for gate in GATES if gate[0] not in OWN_BOUNDS])
def test_a_sample_on_the_boundary_itself_is_broken(kind, norm, grid, attack_with):
    """Its margin is 0: two classes tie and the first, its label, is taken, so that any step past the tie breaks it."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randint(-3, 4, (3, 1, 4, 4), generator=generator).float()
    images = torch.full((1, 1, 4, 4), 128 / 255)
    ties = LinearClassifier(weight).predict(images)[0]
    model = LinearClassifier(weight, torch.stack([-ties[0], -ties[1], -ties[2] - 9]))
    assert bool(model.predict(images)[0, 0] == model.predict(images)[0, 1])
    radius = {Norm.L0: 6.0, Norm.LINF: 0.2, Norm.L2: 1.0, Norm.L1: 6.0}[norm]
    fields = {"norm": norm, "radius": radius, "queries": 200, "grid": grid}
    trial = attack_with(made(kind), model, images, labels=torch.zeros(1, dtype=torch.int64), **fields)
    assert all(trial.broken), trial.broken


@pytest.mark.parametrize(("kind", "norm"), GATES)
def test_without_samples_there_is_nothing_to_do(kind, norm, attack_with):
    model, images, labels = problem(norm)
    trial = attack_with(made(kind), model, images[:0], norm=norm, radius=1.0, labels=labels[:0], queries=50)
    assert trial.rows == 0


@pytest.mark.parametrize("kind", [kind for kind, norm in GATES if norm is Norm.L0])
def test_less_than_a_pixel_changes_nothing(kind, attack_with):
    model, images, labels = problem(Norm.L0)
    trial = attack_with(made(kind), model, images, norm=Norm.L0, radius=0.5, labels=labels, queries=50)
    assert not any(trial.broken)
