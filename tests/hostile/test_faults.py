"""Faults 6, 7, 9 and 10: two starts in one second, a clock that jumps, memory that runs out, one bad sample."""

from __future__ import annotations

import datetime
import json
import os
import time

import numpy as np
import pytest
import torch

import charpy
from charpy.analysis.document import comparable
from charpy.cli.execute import output_folder
from charpy.errors import ModelError
from charpy.memory import out_of_memory
from charpy.runfile import RunFile

LABELS = np.arange(12) % 2
IMAGES = (np.random.default_rng(0).integers(0, 50, (12, 1, 6, 6)) + 77 + 51 * LABELS[:, None, None, None]).astype(
    np.uint8
)
QUICK = {"norms": ("linf",), "levels": (51,), "queries": 20, "name": "n"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.02)


def scores(images):
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1) * 40


class Small(torch.nn.Module):
    """A network that more than `fits` images at a time are too much for."""

    fits = 5

    def forward(self, images):
        if len(images) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return scores(images)


def results(found):
    """Everything that is known of every sample, and what was noted of the engine."""
    with RunFile.open(found.path) as run:
        rows = [tuple(row) for row in run.results(0)]
        images = [(row.sample, row.distance, row.image) for row in run.witnesses(0)]
        return rows, images, run.meta("models")[0]["engine_notes"]


@pytest.mark.parametrize("battery", ["pgd", "square", "deepfool"])
@pytest.mark.parametrize("fits", [5, 1])
def test_f9_memory_that_runs_out_halves_the_batch_and_changes_nothing(monkeypatch, battery, fits):
    """With and without gradients, and for gradients of several classes; the halving is recorded."""
    monkeypatch.setattr(Small, "fits", 10**6)
    rows, images, _ = results(charpy.assess(Small(), IMAGES, LABELS, battery=battery, **QUICK))
    monkeypatch.setattr(Small, "fits", fits)
    found = charpy.assess(Small(), IMAGES, LABELS, battery=battery, **QUICK)
    again, same, notes = results(found)
    assert images
    assert (again, same) == (rows, images)
    assert any("memory ran out" in note for note in notes)
    assert found.assessment.status == "valid"


def test_f9_memory_that_runs_out_later_is_recorded_too(monkeypatch):
    """The first batches fit; while attacks run, they no longer do."""
    monkeypatch.setattr(Small, "fits", 10**6)

    def less(now):
        if now.done or now.share:
            Small.fits = 3

    found = charpy.assess(Small(), IMAGES, LABELS, battery="square", listen=less, **QUICK)
    assert any("memory ran out" in note for note in results(found)[2])
    assert found.assessment.status == "valid"


def test_f9_what_does_not_fit_one_by_one_is_refused(monkeypatch):
    monkeypatch.setattr(Small, "fits", 0)
    with pytest.raises(ModelError, match="out of memory"):
        charpy.assess(Small(), IMAGES, LABELS, battery="square", **QUICK)


@pytest.mark.parametrize(
    ("cause", "is_memory"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("onnxruntime::BFCArena: Failed to allocate memory for requested buffer of size 9"), True),
        (RuntimeError("shape mismatch"), False),
        (KeyboardInterrupt("out of memory"), False),
        (None, False),
    ],
)
def test_f9_only_memory_is_memory(cause, is_memory):
    assert out_of_memory(cause) is is_memory


def test_f6_two_starts_in_one_second_are_two_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("charpy.environment.now", lambda: "2026-01-01T00:00:00+00:00")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    ids = set()
    for number in range(20):
        with RunFile.create(tmp_path / f"{number}.charpy", {}, {}) as run:
            ids.add(run.meta("run_id"))
    assert len(ids) == 20


def test_f7_a_clock_that_jumps_changes_no_result(monkeypatch):
    """Every look at the clock is a day earlier than the one before; timers are monotonic, and order is by sequence."""
    kept = charpy.assess(Small(), IMAGES[:5], LABELS[:5], battery="square", **QUICK)
    looked = [10.0**9]

    class Backwards(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            looked[0] -= 86_400
            return datetime.datetime.fromtimestamp(looked[0], tz)

    monkeypatch.setattr("charpy.environment.datetime", Backwards)
    monkeypatch.setattr(time, "time", lambda: looked.__setitem__(0, looked[0] - 86_400) or looked[0])
    found = charpy.assess(Small(), IMAGES[:5], LABELS[:5], battery="square", **QUICK)
    documents = [json.loads(each.assessment.model_dump_json()) for each in (kept, found)]
    assert comparable(documents[0]) == comparable(documents[1])
    assert all(part.seconds >= 0 for part in found.assessment.attacks)
    environment = found.assessment.environment
    assert environment["finished"] < environment["started"]


def test_f10_nan_from_one_sample_marks_that_one_alone():
    """At any place of the batch, and whatever else is in it."""
    for row in (0, 7, 11):
        bad = torch.from_numpy(IMAGES[row] / np.float32(255))

        class One(torch.nn.Module):
            def forward(self, images, bad=bad):
                near = (images - bad).abs().flatten(1).amax(1) < 1e-6
                return torch.where(near[:, None], torch.nan, scores(images))

        found = charpy.assess(One(), IMAGES, LABELS, battery="square", **QUICK).assessment
        assert (found.invalid.count, found.clean.count) == (1, 11)
        assert found.threats[0].invalid == 1
        assert found.threats[0].broken + found.threats[0].held == 11


def test_a_model_that_changes_the_working_directory_loses_nothing(tmp_path, monkeypatch):
    """The run file was named by a path from where the run began; it is finished and sealed there."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)

    class Wanders(torch.nn.Module):
        def forward(self, images):
            os.chdir(tmp_path / "elsewhere")
            return scores(images)

    found = charpy.assess(Wanders(), IMAGES, LABELS, battery="square", out="out", **QUICK)
    assert found.assessment.status == "valid"
    with RunFile.open(tmp_path / "out" / "run.charpy") as run:
        assert run.protected == "seal"


def test_an_output_folder_that_is_deleted_meanwhile_hides_no_error(tmp_path):
    def lost():
        with output_folder(tmp_path / "out"):
            (tmp_path / "out").rmdir()
            raise ModelError("the model")

    with pytest.raises(ModelError, match="the model"):
        lost()
