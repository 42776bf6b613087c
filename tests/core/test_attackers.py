"""Defended models attacked statically, adaptively and as a black box; randomised ones under other draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats

from charpy.analysis.intervals import mean_interval
from charpy.analysis.summary import RunSummary
from charpy.errors import ModelError, SpecError
from charpy.evaluator import evaluate
from charpy.interfaces.defense import Defense
from charpy.interfaces.model import Model
from charpy.pixels import as_images, unpack
from charpy.plugins import registry
from charpy.reports.html import HtmlReport
from charpy.reports.terminal import attackers_table, plain_table
from charpy.runfile import RunFile
from charpy.specs import Attackers, ModelSpec, RunSpec, parse
from charpy.subjects import Subject, chosen_samples, open_dataset, subject_of
from charpy.threat import Access, Grid
from charpy.transforms import Transformation

ALL = ["static", "adaptive", "black-box"]
BITS = {"kind": "feature_squeezing", "params": {"squeezers": ["bit_depth_2"]}}
RESIZE = {"kind": "random_resize", "params": {"draws": 2}}
BATTERY = [{"kind": "pgd"}, {"kind": "square"}]


def spec_of(defense: dict, attackers: list[str], **more) -> RunSpec:
    return parse(
        RunSpec,
        {
            "data": {"kind": "digits", "samples": 24},
            "models": [{"reference": "digits-cnn", "defenses": [defense], "attackers": attackers}],
            "threats": [{"norm": "linf", "levels": [5, 20], "queries": 60, "battery": BATTERY}],
            **more,
        },
    )


@pytest.fixture(scope="module")
def squeezed(tmp_path_factory):
    """A run against 1-bit images, by all attackers; certifiers are asked."""
    path = tmp_path_factory.mktemp("squeezed") / "run.charpy"
    spec = spec_of(BITS, ALL, certify={"certifiers": [{"kind": "crown"}]})
    evaluate(spec, path)
    with RunFile.open(path) as run:
        yield spec, run, RunSummary.of(run)


def test_each_attacker_is_a_row_of_the_same_model(squeezed):
    spec, _, summary = squeezed
    assert [model.title for model in spec.models] == [f"digits-cnn ({name})" for name in ALL]
    assert parse(RunSpec, spec.model_dump(mode="json")) == spec, "read again from the run file, nothing is split again"
    parts = summary.assessments
    assert [part.model.attackers for part in parts] == ALL
    assert len({str(part.model.fingerprint) for part in parts}) == 1
    assert len({part.clean.count for part in parts}) == 1, "the defended model is judged, whoever attacks"


def test_a_witness_fools_the_defended_model_whoever_found_it(squeezed):
    spec, run, _ = squeezed
    labels = {row.sample: row.label for row in run.samples(0)}
    defended = subject_of(spec.models[0], registry()).open()
    found = [(model, row) for model in range(3) for row in run.witnesses(model)]
    assert {model for model, _ in found} == {0, 1, 2}
    images = torch.stack([as_images(unpack(row.image, (1, 8, 8), Grid.EIGHT_BIT)) for _, row in found])
    answers = defended.predict(images).argmax(1).tolist()
    assert all(answer != labels[row.sample] for answer, (_, row) in zip(answers, found, strict=True))


def test_what_each_attacker_may_use(squeezed):
    _, _, summary = squeezed
    static, adaptive, black_box = summary.assessments
    access = {part.name: registry().load("attacks", part.kind).access for part in adaptive.attacks}
    assert access == {"pgd": Access.GRADIENTS, "square": Access.SCORES}
    assert {part.name for part in static.attacks} == {"pgd", "square"}
    assert {part.name for part in black_box.attacks} == {"square"}
    assert black_box.model.access == "SCORES"
    assert {part.model.name for part in summary.assessments if part.proofs} == {"digits-cnn (adaptive)"}


def test_the_lowest_is_what_none_of_them_broke(squeezed):
    _, run, summary = squeezed
    correct = {row.sample for row in run.samples(0) if row.prediction == row.label}
    assert [(part.norm, part.th) for part in summary.attackers] == [("linf", 5), ("linf", 20)]
    for part in summary.attackers:
        broken = [{row.sample for row in run.witnesses(model) if row.distance <= part.th + 1e-6} for model in range(3)]
        stands = {name: len(correct - of) for name, of in zip(ALL, broken, strict=True)}
        assert {name: share.count for name, share in part.not_broken.items()} == stands
        assert part.lowest.count == len(correct - set().union(*broken))
        assert part.lowest.total == 24
    assert "lowest" in str(attackers_table(summary.attackers).columns)


def test_what_holds_against_a_static_attacker_is_weak_evidence(squeezed):
    _, _, summary = squeezed
    static = summary.assessments[0]
    held = [threat for threat in static.threats if threat.held]
    assert held
    assert all(threat.grade == "weak" for threat in held)
    assert any("overlooked the defences" in reason for reason in held[0].grade_reasons)


def test_the_page_shows_them_side_by_side(squeezed):
    _, _, summary = squeezed
    page = HtmlReport().render(summary).decode()
    assert "Defended models by what their attackers see" in page


def test_a_defence_that_hides_gradients_is_found_out(squeezed):
    """Four levels a pixel: little of what was found without them transfers; who knows of them breaks more."""
    _, _, summary = squeezed
    last = summary.attackers[-1]
    assert last.lowest.count <= min(share.count for share in last.not_broken.values())
    assert last.lowest.count < last.not_broken["static"].count


def test_a_static_attacker_needs_a_defence_to_overlook():
    with pytest.raises(SpecError, match="static"):
        parse(RunSpec, {"data": {"kind": "digits"}, "models": [{"reference": "digits-cnn", "attackers": ["static"]}]})


def test_one_attacker_keeps_the_name():
    spec = ModelSpec(reference="digits-cnn", defenses=({"kind": "jpeg"},), attackers=("black-box",))
    assert spec.by_attacker() == (spec,)
    assert spec.title == "digits-cnn"


def test_a_model_that_takes_other_images_inside_cannot_be_attacked_statically(tmp_path):
    class Other:
        input_shape = (15, 8, 8)

    subject = subject_of(spec_of(BITS, ["static"]).models[0], registry())
    subject = type(subject)(**{**vars(subject), "undefended": Other})
    with pytest.raises(ModelError, match="static"):
        subject.facing(object(), (1, 8, 8))


@pytest.fixture(scope="module")
def resized(tmp_path_factory):
    path = tmp_path_factory.mktemp("resized") / "run.charpy"
    spec = spec_of(RESIZE, ["adaptive"])
    evaluate(spec, path)
    with RunFile.open(path) as run:
        yield spec, run, path


def test_other_draws_are_those_of_other_seeds(resized):
    spec, run, _ = resized
    rows = run.meta("redraws")
    assert {row["draw"] for row in rows} == set(range(1, 11))
    witnesses = list(run.witnesses(0))
    assert witnesses
    images = torch.stack([as_images(unpack(row.image, (1, 8, 8), Grid.EIGHT_BIT)) for row in witnesses])
    labels = {row.sample: row.label for row in run.samples(0)}
    shared, data = registry(), open_dataset(spec.data, registry())
    clean = data.read(chosen_samples(data, spec.data))
    for draw in (1, 7):
        model = shared.create("models", "digits-cnn", {})
        model = shared.create("defenses", "random_resize", {"draws": 2, "seed": draw}).wrap(model)
        right = set((model.predict(clean.images).argmax(1) == clean.labels).nonzero()[:, 0].tolist())
        answers = model.predict(images).argmax(1).tolist()
        for th in (0, 5, 20):
            gone = {
                row.sample
                for row, answer in zip(witnesses, answers, strict=True)
                if answer != labels[row.sample] and row.distance <= th
            }
            (stored,) = [row["robust"] for row in rows if (row["draw"], row["th"]) == (draw, th)]
            assert stored == len(right - gone), (draw, th)


def test_means_over_draws_have_students_interval(resized):
    _, run, _ = resized
    part = RunSummary.of(run).assessments[0]
    values = [row["robust"] / 24 for row in run.meta("redraws") if row["th"] == 20]
    shown = next(p for p in part.redraws if p.th == 20)
    assert shown.draws == 10
    assert shown.mean == pytest.approx(np.mean(values))
    assert shown.interval == mean_interval(values)
    assert "other draws" in plain_table(part)
    assert "Other draws" in HtmlReport().render(RunSummary.of(run)).decode()


def test_mean_interval_of_one_value_and_at_the_ends():
    assert mean_interval([0.25]) == (0.25, 0.25)
    values = [0.4, 0.5, 0.45, 0.6]
    assert mean_interval(values) == pytest.approx(stats.t.interval(0.95, 3, np.mean(values), stats.sem(values)))
    assert mean_interval([1.0, 1.0, 0.9])[1] == 1.0


def test_other_draws_are_made_once(resized):
    spec, run, path = resized
    before = run.meta("redraws")
    evaluate(spec, path)
    with RunFile.open(path) as again:
        assert again.meta("redraws") == before


def test_a_model_without_randomised_defences_has_no_other_draws(squeezed):
    _, run, summary = squeezed
    assert run.meta("redraws", []) == []
    assert all(part.redraws == () for part in summary.assessments)


class OnClean(Transformation):
    """Answers to the images of the data alone; to others it does what it is told."""

    def __init__(self, images: torch.Tensor, otherwise: str) -> None:
        super().__init__()
        self.known = {image.numpy().tobytes() for image in as_images(images)}
        self.otherwise = otherwise

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        strange = torch.tensor([image.numpy().tobytes() not in self.known for image in images.detach()])
        if self.otherwise == "raise" and bool(strange.any()):
            raise ValueError("no such image")
        return torch.where(strange[:, None, None, None], torch.nan, images)


def attacked_statically(path, defense: Defense):
    """A run of digits-cnn behind `defense` against an attacker that overlooks it."""
    spec = spec_of(BITS, ["static"])
    undefended = subject_of(parse(ModelSpec, {"reference": "digits-cnn"}), registry()).open
    subject = Subject(
        "digits-cnn", "zoo", lambda: defense.wrap(undefended()), ("on_clean",), Attackers.STATIC, undefended
    )
    evaluate(spec, path, subjects=[subject])
    return RunFile.open(path)


@pytest.mark.parametrize("otherwise", ["nan", "raise"])
def test_a_defended_model_without_an_answer_does_not_hold(tmp_path, otherwise):
    digits = registry().create("datasets", "digits")
    images = digits.read(range(len(digits))).images
    with attacked_statically(tmp_path / "run.charpy", OnClean(images, otherwise)) as run:
        part = RunSummary.of(run).assessments[0].threats[-1]
    assert (part.broken, part.invalid > 0) == (0, True)
    assert part.grade == "invalid"


class Stateful(Model):
    """A model with a state of its own beside that of the model inside."""

    access = Access.GRADIENTS

    def __init__(self, base: Model) -> None:
        super().__init__()
        self.base = base

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return self.base.predict(images)

    def fingerprint(self) -> dict[str, str]:
        return dict(self.base.fingerprint())

    def state_digest(self) -> str:
        return "own" + self.base.state_digest()


def test_a_defence_may_have_a_state_that_a_static_attacker_does_not_see(tmp_path):
    class Denoiser(Defense):
        def wrap(self, model: Model) -> Model:
            return Stateful(model)

    with attacked_statically(tmp_path / "run.charpy", Denoiser()) as run:
        assert run.meta("finished")


def test_a_defence_that_draws_does_not_draw_the_same_twice():
    def opened(*defenses: dict):
        return subject_of(parse(ModelSpec, {"reference": "digits-cnn", "defenses": defenses}), registry()).open()

    with pytest.raises(ModelError, match="would draw the same") as caught:
        opened(RESIZE, BITS, RESIZE)
    assert "seed" in caught.value.hint
    opened(RESIZE, {"kind": "random_resize", "params": {"draws": 2, "seed": 1}})
    opened(RESIZE, {"kind": "tvm", "params": {"steps": 1}})
    opened(BITS, BITS)
