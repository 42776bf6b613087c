"""Memory that runs out while rows are answered: the batch is halved, every row is answered once, and it is noted."""

from __future__ import annotations

import pytest
import torch

from charpy.engine import QueryEngine
from charpy.errors import ServiceError
from charpy.interfaces.model import Output
from charpy.judge import Judge
from charpy.memory import out_of_memory
from charpy.testing.linear import LinearModel

PROBE = torch.rand(64, 1, 2, 2, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.tensor([[[4.0, -1.0], [0.5, 0.0]]])


class Fitting(LinearModel):
    """Answers at most `fits` rows at once."""

    def __init__(self, fits, error=torch.OutOfMemoryError):
        super().__init__(WEIGHT, -0.1)
        self.fits, self.error = fits, error
        self.asked = []

    def predict(self, images):
        self.asked.append(len(images))
        if len(images) > self.fits:
            raise self.error("CUDA out of memory")
        return super().predict(images)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr("charpy.engine._MEASURE_SECONDS", 0.01)


@pytest.mark.parametrize("fits", [1, 5, 16])
def test_an_engine_starts_with_batches_that_fit(fits):
    model = Fitting(fits)
    engine = QueryEngine.measure(model, Output.LOGITS, PROBE)
    most = 1 << (fits.bit_length() - 1)  # halves of a power of two
    assert engine.most == most
    assert f"memory ran out at {2 * most} rows: batches of {most}" in engine.notes
    model.asked.clear()
    assert torch.equal(engine.answers(PROBE), LinearModel(WEIGHT, -0.1).predict(PROBE))
    assert max(model.asked) == most, "no batch runs into it again"


@pytest.mark.parametrize("error", [RuntimeError, ValueError])
def test_what_is_said_of_memory_counts_and_not_the_type_of_the_error(error):
    assert out_of_memory(error("CUDA out of memory"))
    assert QueryEngine.measure(Fitting(4, error), Output.LOGITS, PROBE).most == 4


def test_a_model_that_takes_no_row_at_all_is_an_error():
    with pytest.raises(torch.OutOfMemoryError):
        QueryEngine.measure(Fitting(0), Output.LOGITS, PROBE)


def test_another_error_is_no_matter_of_memory():
    class Refusing(Fitting):
        def predict(self, images):
            raise ValueError("another shape was expected")

    with pytest.raises(ValueError, match="another shape was expected"):
        QueryEngine.measure(Refusing(1), Output.LOGITS, PROBE)


def test_memory_that_runs_out_later_halves_the_work_and_leaves_no_row_out():
    model = Fitting(10**6)
    engine = QueryEngine.measure(model, Output.LOGITS, PROBE)
    seen = []

    def work(rows, places):
        model.predict(rows)
        seen.extend(places.tolist())

    model.fits = 10
    engine.in_halves(work, PROBE, torch.arange(64))
    assert seen == list(range(64))
    assert engine.most == 8
    assert [note for note in engine.notes if note.startswith("memory")] == [
        "memory ran out at 64 rows: batches of 32",
        "memory ran out at 32 rows: batches of 16",
        "memory ran out at 16 rows: batches of 8",
    ]
    model.fits = 0
    with pytest.raises(torch.OutOfMemoryError):
        engine.in_halves(work, PROBE, torch.arange(64))


def test_the_judge_asks_row_by_row_where_a_batch_fails_and_only_what_fails_has_no_answer():
    class Picky(LinearModel):
        def predict(self, images):
            if bool((images[:, 0, 0, 0] > 0.9).any()):
                raise SystemExit(0)
            return super().predict(images)

    bad = PROBE[:, 0, 0, 0] > 0.9
    assert 0 < int(bad.sum()) < 20
    labels, valid = Judge(Picky(WEIGHT, -0.1), Output.LOGITS, (1, 2, 2)).classify(PROBE)
    assert torch.equal(valid, ~bad)
    assert torch.equal(labels[valid], LinearModel(WEIGHT, -0.1).predict(PROBE).argmax(1)[valid])


def test_a_server_that_is_gone_is_no_answer_of_the_model():
    class Gone(LinearModel):
        def predict(self, images):
            raise ServiceError("the server does not answer")

    with pytest.raises(ServiceError):
        Judge(Gone(WEIGHT, -0.1), Output.LOGITS, (1, 2, 2)).classify(PROBE)
