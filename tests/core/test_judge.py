"""The judge trusts stored bytes and its own model, nothing else."""

from __future__ import annotations

import zlib

import pytest
import torch

from charpy.errors import DataError
from charpy.interfaces.model import Output
from charpy.judge import Claim, Judge
from charpy.pixels import pack
from charpy.testing.linear import LinearModel
from charpy.threat import Grid, Norm, ThreatModel

SHAPE = (1, 2, 2)
MODEL = LinearModel(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1)
ORIGINAL = torch.full(SHAPE, 128, dtype=torch.uint8)


def judge(image: torch.Tensor, threat: ThreatModel, *, target: int | None = None, original: torch.Tensor = ORIGINAL):
    grid = threat.grid
    claim = Claim(pack(original, grid), pack(image, grid), 1, target)
    return Judge(MODEL, Output.LOGITS, SHAPE).decide([claim], threat)[0]


def changed(**pixels: int) -> torch.Tensor:
    image = ORIGINAL.clone()
    for place, value in pixels.items():
        image[0, int(place[1]), int(place[2])] = value
    return image


def test_confirms_a_witness_with_its_exact_distance():
    verdict = judge(changed(p00=0), ThreatModel(norm=Norm.L0, radius=1))
    assert verdict.confirmed
    assert (verdict.distance, verdict.prediction) == (1.0, 0)
    assert judge(changed(p00=0), ThreatModel(norm=Norm.LINF, radius=128 / 255)).distance == 128


@pytest.mark.parametrize(
    ("image", "threat", "reason"),
    [
        (changed(p00=0, p11=0), ThreatModel(norm=Norm.L0, radius=1), "outside the l0 ball: 2 pixels"),
        (changed(p00=0), ThreatModel(norm=Norm.LINF, radius=127 / 255), "outside the linf ball: 128 1/255 steps"),
        (changed(p11=0), ThreatModel(norm=Norm.L0, radius=1), "classified correctly"),
        (ORIGINAL, ThreatModel(norm=Norm.L0, radius=1), "classified correctly"),
    ],
)
def test_refuses_what_is_no_witness(image, threat, reason):
    verdict = judge(image, threat)
    assert not verdict.confirmed
    assert verdict.reason == reason


@pytest.mark.parametrize(
    ("value", "reason"),
    [(float("nan"), "holds NaN or infinity"), (1.0001, "outside the box [0, 1]"), (-1e-6, "outside the box [0, 1]")],
)
def test_off_the_grid_the_box_and_finiteness_have_no_slack(value, reason):
    image = torch.full(SHAPE, 0.5)
    image[0, 0, 0] = value
    threat = ThreatModel(norm=Norm.LINF, radius=1.0, grid=Grid.NONE)
    assert judge(image, threat, original=torch.full(SHAPE, 0.5)).reason == reason


def test_a_targeted_claim_needs_the_target():
    threat = ThreatModel(norm=Norm.L0, radius=1)
    assert judge(changed(p00=0), threat, target=0).confirmed
    assert judge(changed(p11=0), threat, target=0).reason == "not classified as the target"


def test_a_model_that_answers_nan_confirms_nothing():
    class Broken(LinearModel):
        def predict(self, images):
            return torch.full((len(images), 2), torch.nan)

    claim = Claim(pack(ORIGINAL, Grid.EIGHT_BIT), pack(changed(p00=0), Grid.EIGHT_BIT), 1)
    verdict = Judge(Broken(MODEL.weight), Output.LOGITS, SHAPE).decide([claim], ThreatModel(norm=Norm.L0, radius=1))[0]
    assert verdict.reason == "the model fails, or answers NaN or infinity"


@pytest.mark.parametrize("data", [b"", zlib.compress(bytes(5)), zlib.compress(bytes(3)), b"no zlib at all"])
def test_damaged_bytes_are_refused(data):
    with pytest.raises(DataError):
        Judge(MODEL, Output.LOGITS, SHAPE).decide(
            [Claim(pack(ORIGINAL, Grid.EIGHT_BIT), data, 1)], ThreatModel(norm=Norm.L0, radius=1)
        )


def test_probabilities_and_labels_are_judged_alike():
    for output in (Output.PROBABILITIES, Output.LABELS):
        model = LinearModel(MODEL.weight, MODEL.bias, output)
        claim = Claim(pack(ORIGINAL, Grid.EIGHT_BIT), pack(changed(p00=0), Grid.EIGHT_BIT), 1)
        assert Judge(model, output, SHAPE).decide([claim], ThreatModel(norm=Norm.L0, radius=1))[0].confirmed
