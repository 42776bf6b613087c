"""Each indicator of attack failure, on real runs: one that must fire it and one that must not."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch

from charpy.analysis.document import Assessment, IndicatorPart
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack
from charpy.plugins import Registry
from charpy.plugins import registry as installed
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject, wrap_object
from charpy.threat import Access, Norm

COUNT, CLASSES, TH = 24, 4, 8
GENERATOR = torch.Generator().manual_seed(5)
IMAGES = torch.randint(40, 216, (COUNT, 1, 6, 6), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(CLASSES, 36, generator=GENERATOR)
BIAS = -(IMAGES.flatten(1) / 255).mean(0) @ WEIGHT.T
PGD = {"kind": "pgd", "params": {"steps": 30, "restarts": 1}}
SQUARE = {"kind": "square"}


class Classifier(torch.nn.Module):
    """Linear scores of `seen(images)`, then `after`."""

    def __init__(
        self,
        seen: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
        after: Callable[[torch.Tensor], torch.Tensor] = lambda scores: scores,
    ) -> None:
        super().__init__()
        self.seen, self.after = seen, after

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.after(self.seen(images).flatten(1) @ WEIGHT.T + BIAS)


def plain() -> Classifier:
    return Classifier()


def saturated() -> Classifier:
    """Probabilities that are exactly 0 and 1 in float32."""
    return Classifier(after=lambda scores: (1e4 * scores).softmax(1))


def staircase() -> Classifier:
    """Rounds what it sees to 32 steps, so that its gradient is zero wherever there is one."""
    return Classifier(seen=lambda x: torch.round(x * 32) / 32)


def blind() -> Classifier:
    """Gives every image the same scores."""
    return Classifier(seen=lambda x: 0 * x)


def wavering() -> Classifier:
    """Adds noise to its scores, other noise each time."""
    return Classifier(after=lambda scores: scores + 0.01 * torch.rand_like(scores))


def neighbourly() -> Classifier:
    """Subtracts the mean of the batch."""
    return Classifier(seen=lambda x: x - 0.02 * x.mean(0, keepdim=True))


LABELS = plain()(IMAGES / 255).argmax(1)
OWN = {module: module()(IMAGES / 255).argmax(1) for module in (staircase, blind)}


class Paced(Attack):
    """Asks 40 times about the image itself, and in one of the calls about an adversarial one for half the samples."""

    norms = frozenset(Norm)
    access = Access.SCORES
    when = 0

    def run(self, task):
        owner = torch.arange(len(task.images))
        other = WEIGHT[(task.labels + 1) % CLASSES] - WEIGHT[task.labels]
        away = (task.images + 0.1 * other.view_as(task.images).sign()).clamp(0, 1)
        for call in range(40):
            shown = away if call == self.when else task.images
            task.oracle.scores(shown[owner % 2 == 0], owner[owner % 2 == 0])
            task.oracle.scores(task.images[owner % 2 == 1], owner[owner % 2 == 1])


class Early(Paced):
    """Finds at once."""

    when = 1


class Late(Paced):
    """Finds at the end."""

    when = 38


class Idle(Attack):
    """Asks about the image itself and finds nothing."""

    norms = frozenset(Norm)
    access = Access.GRADIENTS

    def run(self, task):
        for _ in range(20):
            task.oracle.loss_and_gradient(task.images, torch.arange(len(task.images)))


def registry() -> Registry:
    class Extra:
        @hookimpl
        def charpy_attacks(self):
            return {"early": Early, "late": Late, "idle": Idle}

    plugins = Registry()
    plugins.add(Extra(), "extra")
    return plugins


@pytest.fixture(scope="module")
def assessed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Assessment]:
    """Runs a battery on a model; the same run is made once."""
    folder, known = tmp_path_factory.mktemp("runs"), {}

    def run(module: Callable[[], torch.nn.Module], *battery: dict, levels: object = (TH,), **rest) -> Assessment:
        key = json.dumps([module.__name__, battery, levels, rest], default=str)
        if key not in known:
            known[key] = path = folder / f"{len(known)}.charpy"
            run_file(path, module, battery, levels=levels, **rest)
        with RunFile.open(known[key]) as file:
            return RunSummary.of(file).assessments[0]

    return run


def run_file(
    path: Path,
    module: Callable[[], torch.nn.Module],
    battery: Sequence[dict],
    *,
    levels: object = (TH,),
    queries: int = 300,
    count: int = COUNT,
) -> None:
    """Assesses `module` on what it classifies correctly, by definition: its own labels."""
    threat = {"norm": "linf", "levels": levels if isinstance(levels, str) else list(levels), "queries": queries}
    fields = {
        "data": {"kind": "arrays"},
        "models": [{"name": "model", "reference": "model"}],
        "threats": [{**threat, "battery": list(battery)}],
        "batch_size": 64,
    }
    labels = OWN.get(module, LABELS)
    subject = Subject("model", "torch", lambda: wrap_object(module(), installed()))
    data = ArrayDataset(IMAGES[:count].numpy(), labels[:count].numpy())
    evaluate(parse(RunSpec, fields), path, subjects=[subject], dataset=data, registry=registry())


def one(assessment: Assessment, kind: str, attack: str | None = None) -> IndicatorPart:
    parts = [p for p in assessment.indicators if p.kind == kind and (attack is None or p.attack == attack)]
    assert len(parts) == 1, [part.finding for part in parts]
    return parts[0]


def fired(assessment: Assessment) -> set[str]:
    return {part.kind for part in assessment.indicators if part.fired}


def test_a_working_attack_on_a_plain_model_fires_nothing(assessed) -> None:
    found = assessed(plain, PGD, SQUARE, levels=(2, TH), queries=200)
    assert found.threats[0].held > 5, "nothing is shown by a run in which nothing held"
    assert fired(found) == set()
    assert {threat.grade for threat in found.threats} == {"supported"}
    assert "evidence" not in found.verdict
    assert one(found, "unbounded_fails").value == 1.0
    assert one(found, "planted", "pgd").value == 1.0
    gradients = [part for part in found.indicators if part.kind == "zero_gradients" and part.value is not None]
    assert {part.value for part in gradients} == {0.0}
    assert {part.advice for part in found.indicators} == {""}


def test_saturated_scores_fire_zero_gradients(assessed) -> None:
    found = assessed(saturated, PGD)
    part = one(found, "zero_gradients")
    assert part.fired
    assert part.value == 1.0
    assert part.advice
    assert found.threats[0].grade == "weak"
    assert part.finding in found.threats[0].grade_reasons
    assert "this is weak evidence: " in found.verdict


@pytest.mark.parametrize(
    ("params", "fires"),
    [({"steps": 2}, True), ({"steps": 60, "step": 0.02}, True), ({"steps": 60}, False)],
)
def test_an_attack_that_is_stopped_on_its_way_fires_loss_still_rising(assessed, params, fires) -> None:
    found = assessed(plain, {"kind": "pgd", "params": {"restarts": 1, **params}}, levels=(3,))
    part = one(found, "loss_still_rising")
    assert found.threats[0].held
    assert part.value is not None
    assert part.fired is fires
    assert found.threats[0].grade == ("weak" if fires else "supported")


@pytest.mark.parametrize(("kind", "fires"), [("late", True), ("early", False)])
def test_an_attack_that_finds_at_the_end_of_its_rows_fires_more_still_helps(assessed, kind, fires) -> None:
    found = assessed(plain, {"kind": kind}, levels=(30,))
    threat = found.threats[0]
    assert threat.broken > 5
    assert threat.held > 5
    part = one(found, "more_still_helps")
    assert part.fired is fires
    assert part.value == pytest.approx(threat.broken / COUNT if fires else 0.0, abs=1e-4)


@pytest.mark.parametrize(("module", "fires"), [(staircase, True), (plain, False)])
def test_a_black_box_attack_that_beats_gradients_fires(assessed, module, fires) -> None:
    found = assessed(module, PGD, SQUARE)
    part = one(found, "black_box_better")
    assert part.attack == "square"
    assert part.fired is fires
    square = next(attack for attack in found.attacks if attack.name == "square")
    assert part.value == square.broken
    if fires:
        assert "gradients may be masked" in part.advice
        assert found.threats[0].grade == "weak"


def test_a_black_box_attack_that_came_first_is_compared_with_nothing(assessed) -> None:
    found = assessed(staircase, SQUARE, PGD)
    assert "black_box_better" not in {part.kind for part in found.indicators}


@pytest.mark.parametrize(("module", "fires"), [(staircase, True), (plain, False)])
def test_a_transfer_that_beats_direct_attacks_fires(assessed, module, fires, tmp_path) -> None:
    run_file(tmp_path / "source.charpy", plain, [PGD])
    transfer = {"kind": "transfer", "params": {"source": str(tmp_path / "source.charpy")}}
    found = assessed(module, PGD, transfer)
    assert one(found, "transfer_better").fired is fires
    assert {part.attack for part in found.indicators if part.kind == "loss_still_rising"} == {"pgd"}


def test_a_model_that_ignores_its_input_fires_unbounded_fails_and_has_nothing_planted(assessed) -> None:
    found = assessed(blind, PGD)
    part = one(found, "unbounded_fails")
    assert part.fired
    assert part.value == 0.0
    assert "0 of 8" in part.finding
    planted = one(found, "planted_battery")
    assert (planted.value, planted.fired) == (None, False)
    assert "nothing could be planted" in planted.finding
    assert found.threats[0].grade == "weak"


@pytest.mark.parametrize(("module", "kind", "fires"), [(plain, "idle", True), (plain, "pgd", False)])
def test_an_attack_that_misses_planted_examples_fires(assessed, module, kind, fires) -> None:
    found = assessed(module, {"kind": kind})
    assert one(found, "planted").fired is fires
    assert one(found, "planted_battery").fired is fires
    assert found.drills[0].planted == 8
    assert found.drills[0].found == (0 if fires else 8)


def test_gradients_that_lead_nowhere_miss_what_is_planted_and_random_search_finds_it(assessed) -> None:
    found = assessed(staircase, PGD, SQUARE)
    assert one(found, "planted", "pgd").fired
    assert not one(found, "planted", "square").fired
    assert not one(found, "planted_battery").fired


def test_a_randomised_model_makes_every_figure_weak(assessed) -> None:
    found = assessed(wavering, PGD, levels=(60,))
    assert one(found, "randomised").fired
    assert not one(found, "batch_dependent").fired
    assert found.threats[0].held == 0
    assert found.threats[0].grade == "weak"
    assert "other answers each time" in found.verdict


def test_a_batch_dependent_model_leaves_no_figure(assessed) -> None:
    found = assessed(neighbourly, PGD, levels=(1,))
    assert one(found, "batch_dependent").fired
    assert not one(found, "randomised").fired
    assert {threat.grade for threat in found.threats} == {"invalid"}
    assert found.verdict.startswith("No verdict: the model's answer to an image depends on")
    assert not any(part.safe for part in found.safe)


def test_nothing_held_is_supported_whatever_fires(assessed) -> None:
    found = assessed(staircase, PGD, SQUARE, levels=(90,))
    assert "black_box_better" in fired(found)
    assert found.threats[0].held == 0
    assert found.threats[0].grade == "supported"


def test_one_gradient_attack_without_a_fault_is_enough(assessed) -> None:
    found = assessed(plain, {"kind": "idle"}, PGD, levels=(2,))
    assert one(found, "planted", "idle").fired
    assert not one(found, "planted_battery").fired
    assert found.threats[0].held
    assert found.threats[0].grade == "supported", found.threats[0].grade_reasons
    alone = assessed(plain, {"kind": "idle"}, SQUARE, levels=(2,))
    assert alone.threats[0].grade == "weak", "a black-box attack does not make up for gradients that fail"


def test_an_attack_that_finds_its_own_radius_is_about_every_level(assessed) -> None:
    found = assessed(plain, {"kind": "fmn", "params": {"steps": 60}}, levels=(2, 4, TH))
    parts = [part for part in found.indicators if part.attack == "fmn"]
    assert {part.th for part in parts} == {None}
    assert found.threats[0].held
    assert {threat.grade for threat in found.threats} == {"supported"}


@pytest.mark.slow
def test_a_search_for_smallest_levels_has_one_indicator_for_all(assessed) -> None:
    found = assessed(staircase, PGD, SQUARE, levels="minimal", queries=40, count=6)
    assert {part.th for part in found.indicators} == {None}
    assert one(found, "black_box_better").fired
    assert {threat.grade for threat in found.threats if threat.held} == {"weak"}
