"""`assert_robust` on a model whose robustness is known exactly: what it says, and where its report lies."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

import pytest
import torch

from charpy.errors import DataError, SpecError, UnknownNameError
from charpy.testing import assert_robust
from charpy.testing.linear import LinearModel
from charpy.threat import Norm

LEVEL = 8
QUICK = {"queries": 200, "battery": "fast", "th": LEVEL}


@pytest.fixture
def images():
    """32 grey images of 4 x 4 pixels on the 8-bit grid, some near the boundary of `model`, some far."""
    values = torch.tensor([100, 125, 126, 130, 135, 138, 150, 200] * 4).float() / 255
    return values[:, None, None, None].expand(-1, 1, 4, 4).contiguous()


@pytest.fixture
def model():
    """Class 1 where the mean is above 127.5 / 255: a Linf step of th moves the mean by th / 255."""
    return LinearModel(torch.full((1, 4, 4), 1 / 16), -127.5 / 255)


@pytest.fixture
def labels(model, images):
    return model.predict(images).argmax(1)


def robust_share(images):
    """Of a mean that the whole image carries: further than th steps from the boundary, in closed form."""
    return float(((images.mean((1, 2, 3)) * 255 - 127.5).abs() > LEVEL).float().mean())


def test_it_passes_where_the_lower_bound_is_high_enough(model, images, labels, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    share = robust_share(images)
    assert share == 0.5
    result = assert_robust(model, images, labels, at_least=0.31, **QUICK)  # 16 of 32: the bound is 31.9 %
    (threat,) = result.assessment.threats
    assert threat.robust_accuracy.not_broken == share
    assert threat.norm == Norm.LINF
    with pytest.raises(AssertionError):
        assert_robust(model, images, labels, at_least=0.33, **QUICK)
    (kept,) = [path for path in tmp_path.glob("charpy-*") if path != result.path.parent]
    assert (kept / "report.html").is_file()
    folder = result.path.parent
    del result
    assert not folder.exists()


def test_its_message_has_the_verdict_the_witnesses_and_the_report(model, images, labels, tmp_path):
    with pytest.raises(AssertionError) as failed:
        assert_robust(model, images, labels, at_least=0.9, out=tmp_path / "out", **QUICK)
    text = str(failed.value)
    assert "linf th=8 robust_accuracy lower bound >= 0.9: lower bound 31.9 % of 16 of 32 is not at least 90 %" in text
    assert "16 witnesses: 16 of 32 correctly classified images are broken" in text
    assert "changing every value by at most 8/255 breaks 16 of them (50 %)" in text
    report = Path(re.search("^report: (.*)$", text, re.MULTILINE)[1])
    assert report == tmp_path / "out" / "report.html"
    assert "is not at least 90" in report.read_text(encoding="utf-8").replace("\u00a0", " ")
    (gate,) = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))["gates"]
    assert gate["passed"] is False


def test_what_is_proven_may_be_asked_for(model, images, labels):
    assert_robust(model, images, labels, at_least=0.31, figure="proven", certify=20, **QUICK)
    with pytest.raises(AssertionError, match="of 0 of 32 is not at least"):
        assert_robust(model, images, labels, at_least=0.31, figure="proven", **QUICK)


def test_no_valid_evidence_is_a_failure(images, labels):
    with pytest.raises(AssertionError, match="the run is invalid"):
        assert_robust(lambda batch: torch.full((len(batch), 2), torch.nan), images, labels, at_least=0.01, **QUICK)


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_least": 0},
        {"at_least": 1.5},
        {"at_least": float("nan")},
        {"at_least": "a half"},
        {"norm": "Linf"},
        {"figure": "robust"},
        {"figure": "adversarial_accuracy"},
        {"figure": "invalid"},
        {"th": 0},
    ],
)
def test_what_is_no_demand_is_refused(model, images, labels, wrong):
    with pytest.raises(SpecError, match="assert_robust"):
        assert_robust(model, images, labels, **{**QUICK, **wrong})


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"at_leest": 0.4}, "did you mean at_least"), ({"querys": 9}, "queries"), ({"levels": [1]}, "the level is `th`")],
)
def test_an_argument_that_is_none_names_the_nearest(model, images, labels, wrong, said):
    with pytest.raises(UnknownNameError, match=said) as refused:
        assert_robust(model, images, labels, **wrong)
    assert str(refused.value).startswith("assert_robust: unknown argument")


def test_a_refusal_leaves_no_folder(model, images, labels, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(DataError):
        assert_robust(model, images * 255, labels, **QUICK)
    assert not list(tmp_path.iterdir())


def test_lost_work_is_a_failure_whatever_the_figure(model, images, labels, monkeypatch, tmp_path):
    from charpy.bounds.certifier import NetworkCertifier

    def breaks(*args, **kwargs):
        raise RuntimeError("no memory")

    monkeypatch.setattr(NetworkCertifier, "certify", breaks)
    with pytest.raises(AssertionError, match=r"lost: crown, .* no memory"):
        assert_robust(model, images, labels, at_least=0.31, certify=20, out=tmp_path / "out", **QUICK)
