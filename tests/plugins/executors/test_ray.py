"""Units on a local Ray cluster: the results of this process, also when workers die, hang, or are not what they say."""

from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import pytest

from charpy.errors import CharpyError, IdentityError, SpecError
from charpy.evaluator import evaluate
from charpy.interfaces.executor import Lost
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.specs import ModelSpec, RunSpec, parse
from charpy.subjects import subject_of

ray = pytest.importorskip("ray", reason="needs ray: pip install charpy[cluster]")

SPEC = {
    "data": {"kind": "digits", "samples": 60},
    "models": [{"reference": "digits-cnn"}],
    "threats": [
        {"norm": "l0", "levels": [1, 3], "battery": [{"kind": "few_pixel", "queries": 60}]},
        {"norm": "linf", "levels": [20], "battery": [{"kind": "square", "queries": 60}]},
    ],
    "shard": 8,
}


@pytest.fixture(scope="module")
def cluster():
    """Two places for workers, for all tests of this file."""
    environment = {"env_vars": {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}}
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env=environment)
    yield
    ray.shutdown()


@pytest.fixture
def executor(cluster):
    made = registry().create("executors", "ray", {"workers": 2})
    yield made
    made.close()


def found(path: Path):
    """What a run says, without what was measured."""
    with RunFile.open(path) as run:
        results = [(key, attack, row) for key, attack, row in run.results(0)]
        return results, [(row.sample, row.norm, row.th, row.image, row.metrics) for row in run.witnesses(0)]


class Doing:
    """Computes what a unit says: a number is squared, a word is done."""

    def __init__(self, notes: Path) -> None:
        self.notes = notes

    def __call__(self, unit):
        if unit == "raise":
            raise ValueError("no such unit")
        if unit == "exit":
            os._exit(0)
        if unit == "hang":
            time.sleep(600)
        if isinstance(unit, tuple):  # dies the first time only
            mark = self.notes / f"{unit[0]}"
            if not mark.exists():
                mark.touch()
                os._exit(1)
            return unit[0] ** 2
        time.sleep(0.01)
        return unit**2


def test_the_results_are_those_of_this_process(cluster, tmp_path):
    evaluate(parse(RunSpec, SPEC), tmp_path / "here.charpy")
    there = {**SPEC, "executor": {"kind": "ray", "params": {"workers": 2}}}
    evaluate(parse(RunSpec, there), tmp_path / "there.charpy")
    assert found(tmp_path / "there.charpy") == found(tmp_path / "here.charpy")
    assert len(found(tmp_path / "here.charpy")[0]) > 100


@pytest.mark.slow
def test_a_run_begun_elsewhere_goes_on_here(cluster, tmp_path):
    there = parse(RunSpec, {**SPEC, "executor": {"kind": "ray", "params": {"workers": 1}}})
    evaluate(there, tmp_path / "run.charpy")
    before = (tmp_path / "run.charpy").read_bytes()
    evaluate(parse(RunSpec, SPEC), tmp_path / "run.charpy")  # finished: accepted, and nothing to do
    assert (tmp_path / "run.charpy").read_bytes() == before


@pytest.mark.slow
def test_results_come_in_the_order_of_the_units(executor, tmp_path):
    assert list(executor.map(Doing(tmp_path), range(50))) == [(n, n * n) for n in range(50)]
    assert list(executor.map(Doing(tmp_path), [])) == []


@pytest.mark.slow
def test_a_dead_workers_unit_is_tried_again_and_no_other_is_lost(executor, tmp_path):
    units = [1, 2, (3,), 4, 5, (6,), 7]
    assert [result for _, result in executor.map(Doing(tmp_path), units)] == [1, 4, 9, 16, 25, 36, 49]


@pytest.mark.slow
def test_a_unit_that_ends_two_workers_is_lost_with_the_reason(executor, tmp_path):
    results = dict(executor.map(Doing(tmp_path), [1, 2, "exit", 3, 4, 5]))
    lost = results.pop("exit")
    assert isinstance(lost, Lost)
    assert "twice" in lost.why
    assert results == {1: 1, 2: 4, 3: 9, 4: 16, 5: 25}


@pytest.mark.slow
def test_a_unit_that_takes_too_long_is_lost_and_the_others_are_not(executor, tmp_path):
    executor.unit_seconds = 1.5
    results = dict(executor.map(Doing(tmp_path), [1, "hang", 2, 3]))
    assert "longer than 1.5 s" in results.pop("hang").why
    assert results == {1: 1, 2: 4, 3: 9}


@pytest.mark.slow
def test_what_a_unit_raises_is_raised(executor, tmp_path):
    with pytest.raises(ValueError, match="no such unit"):
        list(executor.map(Doing(tmp_path), [1, "raise", 2]))


@pytest.mark.slow
def test_a_waiting_driver_gives_signs_of_life(executor, tmp_path):
    signs = []
    executor.alive = lambda: signs.append(time.monotonic())
    list(executor.map(Doing(tmp_path), range(5)))
    assert signs


def test_python_objects_cannot_be_computed_elsewhere(cluster, tmp_path):
    spec = parse(RunSpec, {**SPEC, "executor": {"kind": "ray", "params": {"workers": 1}}})
    subject = subject_of(ModelSpec(reference="digits-cnn"), registry())
    with pytest.raises(SpecError, match="Python objects"):
        evaluate(spec, tmp_path / "run.charpy", subjects=[subject])


def test_a_worker_with_another_model_is_refused(monkeypatch, tmp_path):
    from charpy import station
    from charpy.walk import Walk

    seen = []
    monkeypatch.setattr(Walk, "all", lambda walk: seen.append(pickle.dumps(walk.station)))
    evaluate(parse(RunSpec, SPEC), tmp_path / "run.charpy")
    station._elsewhere.cache_clear()
    monkeypatch.setattr(station, "_same", lambda *_: {"data digits": "another"})
    with pytest.raises(IdentityError, match="a worker has something else"):
        pickle.loads(seen[0])
    station._elsewhere.cache_clear()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense"])
def test_a_cluster_that_is_not_there_is_named(address):
    assert not ray.is_initialized() or ray.shutdown() is None
    executor = registry().create("executors", "ray", {"address": address})
    with pytest.raises(CharpyError, match="cluster cannot be reached"):
        list(executor.map(abs, [1]))
