"""Whole runs: what is written, what resumes, what is refused, and what no figure may hide."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from charpy.analysis.document import comparable
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.engine import QueryEngine
from charpy.errors import DataError, IdentityError, ModelError, RunFileError, SpecError
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack, Family
from charpy.interfaces.model import Output
from charpy.outcome import Outcome
from charpy.plugins import Registry
from charpy.reports.json_report import JsonReport
from charpy.runfile import RunFile
from charpy.specs import AttackSpec, RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Norm

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randint(0, 256, (30, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
MEDIAN = float((IMAGES / 255 * WEIGHT).flatten(1).sum(1).median())
LABELS = ((IMAGES / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long()


def linear() -> LinearModel:
    return LinearModel(WEIGHT, -MEDIAN)


SEARCH = {"fitness": "margin", "patience": 40}
L0 = [{"kind": "few_pixel", "params": {**SEARCH, "optimiser": "de", "population": 10}}]
LINF = [{"kind": "threshold", "params": {**SEARCH, "population": 16}}]


def spec_of(**fields) -> RunSpec:
    threats = [
        {"norm": "l0", "levels": [1, 3], "queries": 300, "battery": L0},
        {"norm": "linf", "levels": [3, 10], "queries": 300, "battery": LINF},
    ]
    base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": threats, "shard": 8}
    return parse(RunSpec, {**base, **fields})


def run(path: Path, spec: RunSpec | None = None, *, model=linear, images=IMAGES, labels=LABELS, **options) -> Path:
    target = path / "run.charpy" if path.is_dir() else path
    data = options.pop("dataset", None) or ArrayDataset(images.numpy(), labels.numpy())
    evaluate(spec or spec_of(), target, subjects=[Subject("linear", "test", model)], dataset=data, **options)
    return target


def document(path: Path) -> dict:
    with RunFile.open(path) as file:
        return json.loads(JsonReport().render(RunSummary.of(file)))


def registry_with(**attacks) -> Registry:
    class Extra:
        @hookimpl
        def charpy_attacks(self):
            return attacks

    registry = Registry()
    registry.add(Extra(), "extra")
    return registry


def battery(kind: str, norm: str = "l0", levels=(1,), queries=50) -> list[dict]:
    return [{"norm": norm, "levels": list(levels), "battery": [{"kind": kind}], "queries": queries}]


def test_counts_add_up_and_every_broken_sample_has_a_witness_at_its_level(tmp_path):
    path = run(tmp_path)
    report = document(path)
    assert [(t["norm"], t["th"]) for t in report["threats"]] == [("l0", 1), ("l0", 3), ("linf", 3), ("linf", 10)]
    for threat in report["threats"]:
        assert sum(threat[o] for o in ("clean_error", "broken", "held", "proven", "invalid")) == threat["samples"] == 30
    with RunFile.open(path) as file:
        for threat in report["threats"]:
            near = {s for s, _, d in file.witness_distances(0, threat["norm"]) if d <= threat["th"]}
            assert len(near) == threat["broken"]
    broken = [t["broken"] for t in report["threats"]]
    assert broken[0] <= broken[1]
    assert broken[2] <= broken[3]
    assert broken[1] > 0


def test_the_linear_models_exact_optimum_bounds_the_run(tmp_path):
    model = linear()
    with torch.no_grad():
        exact = model.smallest_l0(IMAGES / 255).numpy()
    with RunFile.open(run(tmp_path)) as file:
        for sample, _, distance in file.witness_distances(0, "l0"):
            assert distance >= exact[sample]


def test_a_higher_level_only_attacks_what_still_stands_and_carry_false_attacks_all(tmp_path):
    with RunFile.open(run(tmp_path / "a.charpy")) as file:
        units = file.units(0)
        first = sum(u["broken"] for u in units if (u["norm"], u["th"]) == ("l0", 1))
        second = sum(u["attacked"] for u in units if (u["norm"], u["th"]) == ("l0", 3))
        assert first > 0
        assert second == 30 - first
    with RunFile.open(run(tmp_path / "b.charpy", spec_of(carry=False))) as file:
        assert sum(u["attacked"] for u in file.units(0) if (u["norm"], u["th"]) == ("l0", 3)) == 30


def test_the_same_seed_gives_the_same_report_at_any_batch_size_and_another_seed_other_witnesses(tmp_path):
    reports, images = [], []
    for name, fields in {"a": {"batch_size": 32}, "b": {"batch_size": 256}, "c": {"seed": 1}}.items():
        path = run(tmp_path / f"{name}.charpy", spec_of(**fields))
        report = comparable(document(path))
        report["spec"].pop("batch_size")
        reports.append(report)
        with RunFile.open(path) as file:
            images.append([(w.norm, w.sample, w.image) for w in file.witnesses(0)])
    assert reports[0] == reports[1]
    assert images[0] == images[1]
    assert images[0] != images[2]


def test_an_interrupted_run_goes_on_where_it_stood_and_ends_the_same(tmp_path):
    whole = run(tmp_path / "whole.charpy")

    class StopError(Exception):
        pass

    def interrupt_after(units):
        def listen(progress):
            if progress.done >= units:
                raise StopError

        return listen

    broken = tmp_path / "broken.charpy"
    for units in (1, 3, 6, 9):
        with pytest.raises(StopError):
            run(broken, listen=interrupt_after(units))
        with RunFile.open(broken) as file:
            assert not file.meta("finished")
    run(broken)
    calls = []
    run(broken, listen=calls.append)
    assert not calls, "a finished run computes nothing"
    with RunFile.open(whole) as a, RunFile.open(broken) as b:
        rows = [[(k, n, r) for k, n, r in file.results(0)] for file in (a, b)]
        assert sorted(rows[0], key=repr) == sorted(rows[1], key=repr)
        assert list(a.witnesses(0)) == list(b.witnesses(0))
    assert comparable(document(whole)) == comparable(document(broken))


def test_a_run_that_somebody_reads_when_it_ends_is_sealed_by_the_same_command(tmp_path, monkeypatch):
    path, write, readers = tmp_path / "run.charpy", RunFile.set_meta, contextlib.ExitStack()

    def read_at_the_end(self, **values):
        if "finished" in values:
            reader = readers.enter_context(contextlib.closing(sqlite3.connect(path, isolation_level=None)))
            reader.execute("BEGIN")
            reader.execute("SELECT COUNT(*) FROM units").fetchone()
            self._db.execute("PRAGMA busy_timeout = 100")  # 5 s otherwise
        write(self, **values)

    monkeypatch.setattr(RunFile, "set_meta", read_at_the_end)
    with readers:
        run(tmp_path)
        with RunFile.open(path) as file:
            assert (file.meta("finished"), file.protected) == (True, "rows")
            units = file.units(0)
    assert units
    calls = []
    run(tmp_path, listen=calls.append)
    assert not calls, "nothing is computed again"
    with RunFile.open(path) as file:
        assert (file.units(0), file.protected) == (units, "seal")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"spec": {"seed": 5}}, r"spec\.seed: 0 -> 5"),
        ({"model": lambda: LinearModel(WEIGHT, -MEDIAN - 0.01)}, r"model\.linear\.bias"),
        ({"images": 255 - IMAGES}, r"data\.fingerprint"),
    ],
)
def test_a_run_about_something_else_is_not_resumed(tmp_path, change, named):
    run(tmp_path)
    spec = spec_of(**change.pop("spec", {}))
    with pytest.raises(IdentityError, match=named):
        run(tmp_path, spec, **change)


def test_clean_errors_are_never_attacked_and_never_counted_as_broken(tmp_path):
    labels = LABELS.clone()
    labels[:7] = 1 - labels[:7]
    path = run(tmp_path, labels=labels)
    report = document(path)
    assert all(t["clean_error"] == 7 for t in report["threats"])
    with RunFile.open(path) as file:
        assert not {row.sample for _, _, row in file.results(0)} & set(range(7))


class NaN(LinearModel):
    """Answers NaN for images whose first pixel is bright."""

    def predict(self, images):
        scores = super().predict(images)
        return torch.where(images[:, 0, 0, :1] > 0.7, torch.nan, scores)


def test_row_22_nan_is_neither_robust_nor_broken_and_the_run_is_invalid(tmp_path):
    report = document(run(tmp_path, model=lambda: NaN(WEIGHT, -MEDIAN)))
    bright = int((IMAGES[:, 0, 0, 0] > 0.7 * 255).sum())
    assert bright > 0
    assert report["status"] == "invalid"
    for threat in report["threats"]:
        assert threat["invalid"] >= bright
        assert threat["robust_accuracy"]["not_broken"] <= (30 - bright) / 30
    assert "NaN" in report["status_reason"] or "no valid answer" in report["status_reason"]


def test_row_22_nan_that_only_an_attack_meets_makes_the_sample_invalid(tmp_path):
    dark = IMAGES.clone()
    dark[:, 0, 0, 0] = 10
    labels = ((dark / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long()
    path = run(tmp_path, model=lambda: NaN(WEIGHT, -MEDIAN), images=dark, labels=labels)
    with RunFile.open(path) as file:
        reasons = {row.reason for _, _, row in file.results(0) if row.outcome is Outcome.INVALID}
    assert reasons == {"the model answered NaN or infinity"}


class Raising(Attack):
    """Breaks down."""

    norms, access = frozenset(Norm), Access.LABELS

    def run(self, task):
        raise RuntimeError("out of ideas")


class Exiting(Raising):
    """Ends the process, or tries to."""

    def run(self, task):
        raise SystemExit(0)


class Misshapen(Raising):
    """Returns one image for all samples."""

    def run(self, task):
        return task.images[:1]


@pytest.mark.parametrize(
    ("attack", "reason"),
    [(Raising, "RuntimeError: out of ideas"), (Exiting, "SystemExit"), (Misshapen, "one image per sample")],
)
def test_an_attack_that_breaks_down_costs_its_samples_validity_not_the_run(tmp_path, attack, reason):
    spec = spec_of(threats=battery("bad"))
    path = run(tmp_path, spec, registry=registry_with(bad=attack))
    with RunFile.open(path) as file:
        rows = [row for _, _, row in file.results(0)]
    assert len(rows) == 30
    assert all(row.outcome is Outcome.INVALID and reason in row.reason and "bad" in row.reason for row in rows)
    assert document(path)["status"] == "invalid"


class Minimising(Attack):
    """Shows the oracle one witness of a known distance for every sample."""

    norms, access, family = frozenset({Norm.L0}), Access.LABELS, Family.TARGET_OPTIMALITY

    def run(self, task):
        order = (task.images * 0 + 1).flatten(2).cumsum(2).view_as(task.images)
        for pixels in (30, 20, 12):
            flipped = torch.where(order <= pixels, 1 - task.images, task.images)
            task.oracle.labels(flipped, torch.arange(len(task.images)))


def test_an_attack_that_finds_its_own_radius_runs_once_and_fills_every_level(tmp_path):
    registry = registry_with(minimising=Minimising)
    spec = spec_of(threats=battery("minimising", levels=(10, 15, 25, 30)))
    path = run(tmp_path, spec, registry=registry)
    with RunFile.open(path) as file:
        assert {unit["th"] for unit in file.units(0)} == {30}
        near = np.array([d for _, _, d in file.witness_distances(0, "l0")])
    report = document(path)
    assert [t["broken"] for t in report["threats"]] == [int((near <= th).sum()) for th in (10, 15, 25, 30)]
    assert report["threats"][0]["broken"] == 0 < report["threats"][-1]["broken"]


@pytest.mark.slow
def test_minimal_levels_are_searched_per_sample(tmp_path):
    spec = spec_of(threats=[{"norm": "l0", "levels": "minimal", "queries": 400}])
    path = run(tmp_path, spec)
    exact = linear().smallest_l0(IMAGES / 255).numpy()
    with RunFile.open(path) as file:
        found = {}
        for sample, _, distance in file.witness_distances(0, "l0"):
            found[sample] = min(distance, found.get(sample, np.inf))
        assert max(unit["th"] for unit in file.units(0)) <= 30, "an image of 30 pixels has no higher level"
    possible = [i for i in range(30) if exact[i] <= 25]
    assert all(i in found for i in possible)
    excess = [found[i] - exact[i] for i in possible]
    assert min(excess) >= 0
    assert np.median(excess) <= 1


class Stateful(LinearModel):
    """Changes with every call, as batch normalisation in train mode does."""

    def state_digest(self):
        return str(self.rows // 200)


def test_row_26_a_model_that_changes_itself_while_attacked_is_refused(tmp_path):
    with pytest.raises(ModelError, match="the model changed itself"):
        run(tmp_path, model=lambda: Stateful(WEIGHT, -MEDIAN))


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (DataError, {"labels": LABELS * 5}),
        (SpecError, {"spec": spec_of(threats=battery("few_pixel", levels=(31,)))}),
        (ModelError, {"spec": spec_of(threats=battery("threshold"))}),
        (DataError, {"spec": spec_of(data={"kind": "arrays", "samples": 31})}),
        (ModelError, {"model": lambda: LinearModel(WEIGHT, -MEDIAN, Output.LABELS)}),
        (DataError, {"spec": spec_of(metrics=[{"kind": "vif"}])}),
    ],
    ids=[
        "more classes",
        "more pixels than the image",
        "wrong norm",
        "too few samples",
        "no scores",
        "too small for vif",
    ],
)
def test_refused_before_anything_is_written(tmp_path, error, options):
    with pytest.raises(error):
        run(tmp_path, **options)
    assert not (tmp_path / "run.charpy").exists()


def test_targeted_runs_draw_a_wrong_class_per_sample(tmp_path):
    spec = spec_of(threats=[{"norm": "l0", "levels": [3], "goal": "targeted", "queries": 300}])
    with RunFile.open(run(tmp_path, spec)) as file:
        witnesses = list(file.witnesses(0))
    assert witnesses
    assert all(w.prediction == 1 - int(LABELS[w.sample]) for w in witnesses)


def test_metrics_are_measured_by_the_judge_on_the_0_to_255_scale(tmp_path):
    with RunFile.open(run(tmp_path)) as file:
        for witness in file.witnesses(0, "linf"):
            assert witness.metrics["linf"] == pytest.approx(witness.distance, abs=1e-4)
            assert witness.metrics["l0_pixels"] >= 1
            assert witness.metrics["l2"] <= witness.metrics["l1"] + 1e-3


def test_attacks_with_their_own_budget_and_name(tmp_path):
    steps = [
        AttackSpec(kind="few_pixel", name="short", queries=20).model_dump(mode="json"),
        AttackSpec(kind="few_pixel", name="long", params={"optimiser": "de", "fitness": "margin"}).model_dump(
            mode="json"
        ),
    ]
    spec = spec_of(threats=[{"norm": "l0", "levels": [1], "battery": steps, "queries": 300}])
    with RunFile.open(run(tmp_path, spec)) as file:
        units = file.units(0)
    assert {u["attack"] for u in units} == {"short", "long"}
    assert max(u["queries_max"] for u in units if u["attack"] == "short") <= 20
    short = {u["shard"]: u for u in units if u["attack"] == "short"}
    for unit in (u for u in units if u["attack"] == "long"):
        assert unit["attacked"] == short[unit["shard"]]["attacked"] - short[unit["shard"]]["broken"]


def test_a_listener_that_raises_costs_nothing_and_is_reported(tmp_path):
    heard = []

    class Deaf:
        @hookimpl
        def charpy_outcomes(self, unit):
            raise RuntimeError("no ears")

    class Listening:
        @hookimpl
        def charpy_run_started(self, spec, units):
            heard.append(("started", units))

        @hookimpl
        def charpy_outcomes(self, unit, outcomes):
            heard.append((unit["norm"], unit["th"], sum(outcomes.values())))

        @hookimpl
        def charpy_run_finished(self, path):
            heard.append(("finished", Path(path).name))

    registry = Registry()
    registry.add(Deaf(), "deaf")
    registry.add(Listening(), "listening")
    report = document(run(tmp_path, registry=registry))
    assert heard[0] == ("started", 16)
    assert heard[-1] == ("finished", "run.charpy")
    assert ("l0", 1, 8) in heard
    assert any("deaf" in warning and "no ears" in warning for warning in report["warnings"])


def test_a_resumed_run_tells_its_listeners_what_is_there_already(tmp_path):
    starts, counted = [], []

    class Tracker:
        @hookimpl
        def charpy_run_started(self, run_id, done, outcomes):
            starts.append((run_id, done, dict(outcomes)))

        @hookimpl
        def charpy_outcomes(self, outcomes):
            counted.append(dict(outcomes))
            if len(counted) == 3:
                raise KeyboardInterrupt

    registry = Registry()
    registry.add(Tracker(), "tracker")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, registry=registry)
    path = run(tmp_path, registry=registry)
    (first, begun, nothing), (second, done, there) = starts
    assert (begun, sum(nothing.values())) == (0, 0)
    assert (second, done) == (first, 3)
    assert there == {name: sum(counts[name] for counts in counted[:3]) for name in counted[0]}
    assert sum(there.values()) > 0
    with RunFile.open(path) as file:
        assert file.meta("run_id") == first
        assert len(file.units(0)) == len(counted)
    other = tmp_path / "other.charpy"
    run(other, registry=registry)
    assert starts[2][0] != first


def test_a_listener_that_raises_at_the_end_is_reported_too(tmp_path):
    class Late:
        @hookimpl
        def charpy_run_finished(self, path):
            raise RuntimeError("too late")

    registry = Registry()
    registry.add(Late(), "late")
    report = document(run(tmp_path, registry=registry))
    assert "plugin late: charpy_run_finished: RuntimeError: too late" in report["warnings"]


class Shortcut(LinearModel):
    """Offers a fast form that agrees on the probe and is wrong where an attack goes (a traced branch)."""

    def predict(self, images):
        time.sleep(1e-3)
        return super().predict(images)

    def forwards(self):
        return {"traced": lambda: self._traced}

    def _traced(self, images):
        scores = LinearModel.predict(self, images)
        corner = (images == 0).flatten(1).any(1)  # no image of the probe, disturbed or not, has a black pixel
        return torch.where(corner[:, None], scores.flip(1) * 3, scores)


def test_an_engine_that_disagrees_on_a_candidate_is_not_believed_and_costs_no_sample(tmp_path):
    images = IMAGES.clamp(min=3)
    labels = ((images / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long()
    spec = spec_of(threats=[{"norm": "l0", "levels": [2], "battery": "black-box", "queries": 400}])
    plain = document(run(tmp_path / "plain.charpy", spec, images=images, labels=labels))
    path = run(tmp_path / "fast.charpy", spec, images=images, labels=labels, model=lambda: Shortcut(WEIGHT, -MEDIAN))
    fast = document(path)
    assert fast["model"]["engine"] == "traced"
    assert fast["threats"][0]["broken"] == plain["threats"][0]["broken"] > 0
    assert any("disagreed" in warning for warning in fast["warnings"])
    with RunFile.open(path) as file:
        assert "as given" in {unit["detail"]["engine"] for unit in file.units(0)}


def test_two_attacks_of_one_kind_do_not_repeat_each_other(tmp_path):
    steps = [{"kind": "few_pixel", "params": {"population": 8}}] * 2
    spec = spec_of(threats=[{"norm": "l0", "levels": [1], "battery": steps, "queries": 60}], shard=30)
    with RunFile.open(run(tmp_path, spec)) as file:
        first, second = file.units(0)
    assert second["attacked"] == first["attacked"] - first["broken"]
    assert second["broken"] > 0


def test_a_labels_only_model_has_as_many_classes_as_the_data(tmp_path):
    """Sorted by class, the first images show one label only."""
    images = torch.cat([torch.zeros(70, 1, 2, 2), torch.ones(30, 1, 2, 2)]).to(torch.uint8) * 255
    labels = torch.cat([torch.zeros(70), torch.ones(30) * 3]).long()

    class Labels(LinearModel):
        num_classes = None

        def __init__(self):
            super().__init__(torch.ones(1, 2, 2), 0.0, Output.LABELS)

        def predict(self, images):
            return (images.flatten(1).mean(1) > 0.5).long() * 3

    spec = spec_of(threats=battery("raises"))
    path = run(tmp_path, spec, images=images, labels=labels, model=Labels, registry=registry_with(raises=Raising))
    assert document(path)["model"]["num_classes"] == 4
    targeted = spec_of(threats=[{**battery("raises")[0], "goal": "targeted"}])
    with pytest.raises(ModelError, match="targeted"):
        run(tmp_path / "t.charpy", targeted, images=images, labels=labels, model=Labels,
            registry=registry_with(raises=Raising))  # fmt: skip


class Greedy(Attack):
    """Declares labels, wants scores."""

    norms, access = frozenset(Norm), Access.LABELS

    def run(self, task):
        task.oracle.scores(task.images, torch.arange(len(task.images)))


class Endless(Greedy):
    """Never stops asking."""

    def run(self, task):
        while True:
            task.oracle.labels(task.images, torch.arange(len(task.images)))


class Tampering(Greedy):
    """Would like another budget, a larger ball and a smaller count."""

    def run(self, task):
        for name, value in (("threat", task.threat.model_copy(update={"queries": 10**6})), ("rows", 0)):
            with contextlib.suppress(AttributeError):
                setattr(task.oracle, name, value)
        for _ in range(200):
            task.oracle.labels(task.images, torch.arange(len(task.images)))


def test_an_attack_gets_the_access_that_it_declares(tmp_path):
    path = run(tmp_path, spec_of(threats=battery("greedy")), registry=registry_with(greedy=Greedy))
    with RunFile.open(path) as file:
        assert all("AccessError" in row.reason for _, _, row in file.results(0))


@pytest.mark.parametrize("attack", [Endless, Tampering])
def test_an_attack_that_never_stops_is_stopped_at_the_budget_and_its_samples_are_held(tmp_path, attack):
    path = run(tmp_path, spec_of(threats=battery("endless", queries=50)), registry=registry_with(endless=attack))
    with RunFile.open(path) as file:
        rows = [row for _, _, row in file.results(0)]
        assert {unit["rows"] for unit in file.units(0)} == {50 * 8, 50 * 6}
    assert {(row.outcome, row.queries) for row in rows} == {(Outcome.HELD, 50)}


def test_a_second_writer_is_refused_and_the_holder_named(tmp_path):
    def meddle(progress):
        with pytest.raises(RunFileError, match=f"process {os.getpid()}"):
            run(tmp_path)
        raise StopIteration

    with pytest.raises(StopIteration):
        run(tmp_path, listen=meddle)
    run(tmp_path)
    assert not (tmp_path / "run.charpy.lock").exists()


def test_a_dead_runs_journal_is_not_replayed_onto_a_new_run(tmp_path):
    path = tmp_path / "run.charpy"
    code = (
        "import os, sys; from pathlib import Path; from charpy.runfile import RunFile; from charpy.records import *;"
        "run = RunFile.create(Path(sys.argv[1]), {}, {});"
        "run.write_unit(UnitRecord(UnitKey(0, 'l0', 1, 0, 0), 'a', 'a', 1, 0.1, {}, []));"
        "os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert path.with_name("run.charpy-wal").stat().st_size > 0
    path.unlink()
    with RunFile.create(path, {}, {}) as file:
        assert file.finished() == set()


def test_data_that_is_refused_later_leaves_no_run_behind(tmp_path):
    class Late(ArrayDataset):
        def read(self, indices):
            piece = super().read(indices)
            images = piece.images.clone()
            images[[i for i, index in enumerate(indices) if index == 29]] = 2.0
            return piece._replace(images=images)

    spec = spec_of(data={"kind": "arrays", "seed": 0})
    data = Late(IMAGES.numpy().repeat(3, 0), LABELS.numpy().repeat(3, 0))
    data.read(range(5))
    with pytest.raises(DataError, match="range"):
        run(tmp_path, spec, dataset=data)
    assert not list(tmp_path.iterdir())


def test_a_targeted_run_says_nothing_of_other_classes(tmp_path):
    spec = spec_of(threats=[{"norm": "l0", "levels": [3], "goal": "targeted", "queries": 300}])
    report = document(run(tmp_path, spec))
    assert report["safe"][0]["basis"] == "no evidence"
    assert "into a class given for each" in report["verdict"]
    assert "safe" not in report["verdict"]


def test_a_randomised_model_is_named_in_the_warnings(tmp_path):
    class Random(LinearModel):
        def predict(self, images):
            return super().predict(images) + torch.randn(len(images), 2) * 3

    report = document(run(tmp_path, model=lambda: Random(WEIGHT, -MEDIAN)))
    assert any("other answers each time" in warning for warning in report["warnings"])


@pytest.mark.slow
def test_the_shipped_digits_model_gives_the_same_report_at_batch_32_and_256(tmp_path, monkeypatch):
    """With the engines of the first run in all of them: which is the fastest may differ on a busy machine."""
    measure = QueryEngine.measure
    reports, images, engines = [], [], []

    def measured(*given, **named):
        kept = dict(zip(("keep", "keep_gradient"), engines[0], strict=True)) if engines else {}
        return measure(*given, **{**named, **kept})

    monkeypatch.setattr("charpy.ready.QueryEngine.measure", measured)
    for name, fields in {"a": {"batch_size": 32}, "b": {"batch_size": 256}, "c": {"seed": 1}}.items():
        threats = [{"norm": norm, "levels": [1, 10], "queries": 300} for norm in ("l0", "linf")]
        data = {"kind": "digits", "samples": 20}
        spec = parse(RunSpec, {"data": data, "models": [{"reference": "digits-cnn"}], "threats": threats, **fields})
        path = tmp_path / f"{name}.charpy"
        evaluate(spec, path)
        report = comparable(document(path))
        report["spec"].pop("batch_size")
        reports.append(report)
        with RunFile.open(path) as file:
            images.append([(w.norm, w.sample, w.image) for w in file.witnesses(0)])
            engines += [(part["engine"], part["gradient_engine"]) for part in file.meta("models")]
    assert engines[0] == engines[1]
    assert reports[0] == reports[1]
    assert images[0] == images[1] != images[2]
