"""Combinations with other images of the data: brute force, the ball, the boundary on the way, and whole runs."""

from __future__ import annotations

import pickle

import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.errors import DataError
from charpy.evaluator import evaluate
from charpy.interfaces.dataset import Samples
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearClassifier
from charpy.threat import Goal, Grid, Norm
from charpy_plugins.attacks.success.class_combination import ClassCombination

GENERATOR = torch.Generator().manual_seed(9)
ALL = torch.rand(40, 1, 5, 4, generator=GENERATOR).mul(255).round().div(255)
ALL[torch.rand(40, 1, 5, 4, generator=GENERATOR) < 0.5] = 0  # much of it black, as digits are
WEIGHT = torch.randn(3, 1, 5, 4, generator=GENERATOR)
MODEL = LinearClassifier(WEIGHT, -(ALL[:, None] * WEIGHT).flatten(2).sum(2).mean(0))
PREDICTED = MODEL.predict(ALL).argmax(1)
TRUE = torch.where(torch.arange(40) % 4 == 0, (PREDICTED + 1) % 3, PREDICTED)  # every fourth is misclassified
RIGHT = (TRUE == PREDICTED).nonzero()[:, 0]
IMAGES, LABELS = ALL[RIGHT], TRUE[RIGHT]
UNRESTRICTED = {"norm": Norm.UNRESTRICTED, "radius": 1.0}
EVERY = {"others": 40}


def prepared(**params):
    attack = ClassCombination(ClassCombination.Params(**{**EVERY, **params}))
    goal = Goal.UNTARGETED
    attack.prepare(Norm.LINF, goal, [Samples(ALL[:7], TRUE[:7], ()), Samples(ALL[7:], TRUE[7:], ())])
    return attack


def wrong(images, labels):
    return MODEL.predict(images).argmax(1) != labels


@pytest.mark.parametrize("middle", [0.0, 0.5])
@pytest.mark.parametrize("th", [20, 60])
def test_the_sign_form_breaks_what_brute_force_breaks_inside_the_ball(th, middle, attack_with):
    attack = prepared(halvings=0, middle=middle)
    trial = attack_with(attack, MODEL, IMAGES, norm=Norm.LINF, th=th, labels=LABELS)
    expected, far = [], []
    for image, label in zip(IMAGES, LABELS, strict=True):
        combined = (image + th / 255 * torch.sign(ALL[label != TRUE] - middle)).clamp(0, 1)
        hit = wrong(combined, label)
        expected.append(bool(hit.any()))
        far.append({tuple(one.mul(255).round().flatten().tolist()) for one in combined[hit]})
    assert sum(expected) > 0
    assert trial.broken == expected
    moved = trial.found.images.int() - IMAGES.mul(255).round().int()
    assert int(moved.abs().max()) <= th
    for row in trial.found.found.nonzero()[:, 0].tolist():
        assert tuple(trial.found.images[row].flatten().tolist()) in far[row]
    assert trial.found.queries.tolist() == [int((label != TRUE).sum()) for label in LABELS]


def test_without_a_ball_epsilon_bounds_the_sign_form(attack_with):
    for epsilon in (0.1, 0.4):
        trial = attack_with(prepared(epsilon=epsilon), MODEL, IMAGES, labels=LABELS, grid=Grid.NONE, **UNRESTRICTED)
        assert any(trial.broken)
        assert float((trial.found.images - IMAGES).abs().max()) <= epsilon + 1e-6


def test_interpolation_breaks_the_classes_that_have_a_misclassified_image(attack_with):
    only = (TRUE != 2) | (PREDICTED == 2)  # class 2 has none
    attack = ClassCombination(ClassCombination.Params(form="interpolation", **EVERY))
    attack.prepare(Norm.L2, Goal.UNTARGETED, [Samples(ALL[only], TRUE[only], ())])
    trial = attack_with(attack, MODEL, IMAGES, labels=LABELS, **UNRESTRICTED)
    assert trial.broken == (LABELS != 2).tolist()
    missed = [int((wrong(ALL[only], TRUE[only]) & (TRUE[only] == label)).sum()) for label in LABELS]
    known = [int((TRUE[only] == label).sum()) for label in LABELS]
    assert trial.found.queries.tolist() == [all_ + 8 * some for all_, some in zip(known, missed, strict=True)]


def crossings():
    """`(N,)` the L2 distance of the nearest boundary on the way to a misclassified image of the class, exactly.

    The margin to each other class is linear on the way.
    """
    scores, nearest = MODEL.predict(IMAGES), torch.full((len(IMAGES),), torch.inf)
    for row, label in enumerate(LABELS):
        for other in ((label == TRUE) & wrong(ALL, TRUE)).nonzero()[:, 0]:
            end = MODEL.predict(ALL[other][None])[0]
            for rival in {0, 1, 2} - {int(label)}:
                here, there = scores[row, label] - scores[row, rival], end[label] - end[rival]
                if there < 0:
                    part = here / (here - there)
                    nearest[row] = min(nearest[row], part * (ALL[other] - IMAGES[row]).norm())
    return nearest


def test_it_ends_at_the_boundary_and_a_ball_that_it_lies_outside_of_does_not_count(attack_with):
    nearest = crossings()
    assert nearest.isfinite().all()
    attack = prepared(form="interpolation", halvings=16)
    for radius in (float(nearest.median()), 100.0):
        trial = attack_with(attack, MODEL, IMAGES, labels=LABELS, norm=Norm.L2, radius=radius, grid=Grid.NONE)
        near = (nearest < radius - 1e-3).tolist()
        assert [a or b for a, b in zip(trial.broken, near, strict=True)] == trial.broken
        assert not any(broken for broken, far in zip(trial.broken, nearest > radius, strict=True) if far)
        found = (trial.found.images - IMAGES).flatten(1).norm(dim=1)[trial.found.found]
        assert torch.allclose(found, nearest[trial.found.found], atol=1e-3)


def test_towards_a_target_only_its_class_is_added(attack_with):
    asked = []

    class Watched(LinearClassifier):
        def predict(self, images):
            asked.append(images)
            return super().predict(images) * 0 + torch.tensor([9.0, 0, 0])

    target = torch.tensor([2])
    attack_with(
        prepared(middle=0.0, epsilon=0.2), Watched(WEIGHT), IMAGES[:1], labels=torch.tensor([0]), targets=target,
        grid=Grid.NONE, **UNRESTRICTED,
    )  # fmt: skip
    expected = (IMAGES[0] + 0.2 * ALL[TRUE == 2].sign()).clamp(0, 1)
    order = [sorted(images.flatten(1).tolist()) for images in (torch.cat(asked), expected)]
    assert torch.allclose(torch.tensor(order[0]), torch.tensor(order[1]), atol=1e-6)


def test_others_bounds_what_is_known_and_what_is_tried(attack_with):
    for form in ("sign", "interpolation"):
        trial = attack_with(prepared(form=form, others=3, halvings=0), MODEL, IMAGES, labels=LABELS, **UNRESTRICTED)
        assert trial.found.queries.tolist() == [3] * len(IMAGES)


def test_a_budget_is_kept_and_the_seed_decides_the_order(attack_with):
    runs = [
        attack_with(
            prepared(), MODEL, IMAGES, labels=LABELS, norm=Norm.LINF, th=60, queries=4, seed=seed
        ).found
        for seed in (0, 0, 1)
    ]  # fmt: skip
    assert int(runs[0].queries.max()) == 4
    assert torch.equal(runs[0].images, runs[1].images)
    assert not torch.equal(runs[0].images, runs[2].images)


def test_unprepared_it_knows_the_images_of_its_task_and_a_copy_knows_what_it_was_prepared_with(attack_with):
    def broken(attack):
        return attack_with(attack, MODEL, IMAGES, labels=LABELS, **UNRESTRICTED).found

    attack = prepared(form="interpolation")
    assert bool(broken(attack).found.all())
    assert torch.equal(broken(pickle.loads(pickle.dumps(attack))).images, broken(attack).images)
    assert not bool(broken(ClassCombination(attack.params)).found.any()), "no image of the task is misclassified"


@pytest.mark.parametrize(
    ("form", "labels", "expected"), [("sign", [1, 1], "two classes"), ("interpolation", [0, 1], "two samples")]
)
def test_a_run_without_other_images_is_refused(form, labels, expected):
    attack = ClassCombination(ClassCombination.Params(form=form))
    with pytest.raises(DataError, match=expected):
        attack.prepare(Norm.LINF, Goal.UNTARGETED, [Samples(ALL[:2], torch.tensor(labels), ("a", "b"))])


@pytest.mark.parametrize("form", ["sign", "interpolation"])
def test_in_a_run_every_sample_is_known_whatever_the_shards(form, tmp_path):
    data = ArrayDataset(ALL.mul(255).round().byte().numpy(), TRUE.numpy())
    found = []
    for shard in (3, 40):
        threat = {
            "norm": "unrestricted",
            "queries": 400,
            "battery": [{"kind": "class_combination", "params": {"form": form, "epsilon": 0.1, **EVERY}}],
        }
        base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": [threat], "shard": shard}
        path = tmp_path / f"{form}{shard}.charpy"
        subject = Subject("linear", "test", lambda: MODEL)
        evaluate(parse(RunSpec, base), path, subjects=[subject], dataset=data)
        with RunFile.open(path) as run:
            found.append({row.sample: row.image for row in run.witnesses(0)})
    assert found[0] == found[1]
    assert len(found[0]) > 0
    if form == "interpolation":
        assert sorted(found[0]) == RIGHT.tolist()
