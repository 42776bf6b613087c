"""The judge trusts stored bytes and its own model, nothing else."""

from __future__ import annotations

import zlib

import pytest
import torch

from charpy.errors import DataError, PluginError, ServiceError
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Output
from charpy.judge import BATCH, Claim, Judge, Verdict
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


ONE_PIXEL = ThreatModel(norm=Norm.L0, radius=1)


def claims(*images: torch.Tensor, grid: Grid = Grid.EIGHT_BIT, original: torch.Tensor = ORIGINAL) -> list[Claim]:
    return [Claim(pack(original, grid), pack(image, grid), 1) for image in images]


class Watched(LinearModel):
    """Remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(MODEL.weight, MODEL.bias)
        self.asked: list[torch.Tensor] = []

    def predict(self, images):
        self.asked.append(images.clone())
        return super().predict(images)


def test_each_of_many_claims_gets_the_verdict_it_gets_alone():
    """More than fit in a batch, of which the model never sees more; with other originals, labels and targets."""
    generator = torch.Generator().manual_seed(0)
    originals = torch.randint(0, 256, (150, *SHAPE), generator=generator).to(torch.uint8)
    images = originals.clone()
    images[:, 0, 0, 0] = torch.randint(0, 256, (150,), generator=generator).to(torch.uint8)
    images[::7, 0, 1, 1] = 255
    many = [
        Claim(pack(original, Grid.EIGHT_BIT), pack(image, Grid.EIGHT_BIT), i % 2, (None, 0, 1)[i % 3])
        for i, (original, image) in enumerate(zip(originals, images, strict=True))
    ]
    model = Watched()
    verdicts = Judge(model, Output.LOGITS, SHAPE).decide(many, ONE_PIXEL)
    assert max(len(rows) for rows in model.asked) <= BATCH
    assert verdicts == [Judge(MODEL, Output.LOGITS, SHAPE).decide([claim], ONE_PIXEL)[0] for claim in many]
    assert len({verdict.reason for verdict in verdicts}) == 4, "confirmed, and all three ways not to be a witness"
    assert [verdict.distance for verdict in verdicts] == (images != originals).flatten(1).sum(1).tolist()
    assert [verdict.prediction for verdict in verdicts] == MODEL.predict(images / 255).argmax(1).tolist()


def test_nothing_claimed_nothing_decided():
    model = Watched()
    assert Judge(model, Output.LOGITS, SHAPE).decide([], ONE_PIXEL) == []
    assert not model.asked


@pytest.mark.parametrize("failure", [ValueError("no"), SystemExit(0), torch.nan, torch.inf, -torch.inf])
def test_what_the_model_has_no_answer_to_costs_the_others_nothing(failure):
    class Picky(LinearModel):
        def predict(self, images):
            bad = images[:, 0, 1, 1] == 0
            if isinstance(failure, float):
                return torch.where(bad[:, None] & torch.tensor([True, False]), failure, super().predict(images))
            if bool(bad.any()):
                raise failure
            return super().predict(images)

    judge = Judge(Picky(MODEL.weight, MODEL.bias), Output.LOGITS, SHAPE)
    good, bad, right = changed(p00=0), changed(p11=0), changed(p00=255)
    verdicts = judge.decide(claims(good, bad, right, bad, good), ONE_PIXEL)
    labels, valid = judge.classify(torch.stack([good, bad]))
    assert (labels.dtype, valid.dtype) == (torch.int64, torch.bool)
    no_answer = "the model fails, or answers NaN or infinity"
    assert [verdict.reason for verdict in verdicts] == ["", no_answer, "classified correctly", no_answer, ""]
    assert [verdict.valid for verdict in verdicts] == [True, False, True, False, True]


def test_a_model_that_gives_labels_has_an_answer_to_everything():
    class Short(LinearModel):
        def predict(self, images):
            return super().predict(images).to(torch.int16)

    judge = Judge(Short(MODEL.weight, MODEL.bias, Output.LABELS), Output.LABELS, SHAPE)
    labels, valid = judge.classify(torch.stack([changed(p00=0), ORIGINAL]))
    assert (labels.dtype, valid.dtype) == (torch.int64, torch.bool)
    verdicts = judge.decide(claims(changed(p00=0), ORIGINAL), ONE_PIXEL)
    assert [(verdict.valid, verdict.prediction) for verdict in verdicts] == [(True, 0), (True, 1)]


def test_a_server_that_is_gone_is_no_answer_to_an_image():
    class Gone(LinearModel):
        def predict(self, images):
            raise ServiceError("the server is gone")

    with pytest.raises(ServiceError, match="gone"):
        Judge(Gone(MODEL.weight), Output.LOGITS, SHAPE).decide(claims(ORIGINAL), ONE_PIXEL)


def test_the_model_is_never_shown_nan_or_infinity():
    half = torch.full(SHAPE, 0.5)
    broken, beyond, fooled = half.clone(), half.clone(), half.clone()
    broken[0, 1, 1], beyond[0, 0, 1], fooled[0, 0, 0] = torch.nan, torch.inf, 0.0
    model, threat = Watched(), ThreatModel(norm=Norm.LINF, radius=1.0, grid=Grid.NONE)
    many = claims(fooled, broken, half, beyond, grid=Grid.NONE, original=half)
    verdicts = Judge(model, Output.LOGITS, SHAPE).decide(many, threat)
    assert torch.cat(model.asked).isfinite().all()
    reasons = ["", "holds NaN or infinity", "classified correctly", "holds NaN or infinity"]
    assert [verdict.reason for verdict in verdicts] == reasons


@pytest.mark.parametrize(("norm", "distance"), [(Norm.L1, 76.5), (Norm.L2, 255 * 0.05**0.5), (Norm.LINF, 51.0)])
def test_off_the_grid_the_distance_of_an_image_outside_the_ball_is_told_in_steps(norm, distance):
    """Values moved by 0.1 and 0.2, 25.5 and 51 steps of 1/255: sum, root of the sum of squares, largest."""
    image = torch.full(SHAPE, 0.5, dtype=torch.float64)
    image[0, 0, 0], image[0, 1, 1] = 0.4, 0.7
    threat = ThreatModel(norm=norm, radius=0.1, grid=Grid.NONE)
    verdict = judge(image.float(), threat, original=torch.full(SHAPE, 0.5))
    assert verdict.reason == f"outside the {norm} ball: {distance:g} 1/255 steps"
    assert verdict.distance == pytest.approx(distance, rel=1e-6)


def test_the_ends_of_the_box_are_inside_it():
    black_and_white = torch.tensor([[[0.0, 1.0], [0.0, 1.0]]])
    threat = ThreatModel(norm=Norm.LINF, radius=0.25, grid=Grid.NONE)
    assert judge(black_and_white, threat, original=torch.full(SHAPE, 0.5)).reason.startswith("outside the linf ball")


class Darker(Metric):
    """How much darker the image is than its original: the order of the two matters."""

    unit = "1"
    range = (-1.0, 1.0)

    def __call__(self, images, perturbed):
        return (images - perturbed).flatten(1).mean(1)


class Brightest(Metric):
    """The brightest value of the perturbed image."""

    unit = "image values"
    range = (0.0, 1.0)

    def __call__(self, images, perturbed):
        return perturbed.flatten(1).amax(1)


def test_every_metric_is_computed_on_every_image_confirmed_or_not():
    judge = Judge(MODEL, Output.LOGITS, SHAPE, {"darker": Darker(), "brightest": Brightest()})
    verdicts = judge.decide(claims(changed(p00=0), changed(p11=255)), ONE_PIXEL)
    assert [verdict.confirmed for verdict in verdicts] == [True, False]
    assert verdicts[0].metrics == pytest.approx({"darker": 128 / 255 / 4, "brightest": 128 / 255})
    assert verdicts[1].metrics == pytest.approx({"darker": -127 / 255 / 4, "brightest": 1.0})
    assert Judge(MODEL, Output.LOGITS, SHAPE).decide(claims(ORIGINAL), ONE_PIXEL)[0].metrics == {}


def test_a_metric_that_fails_is_named():
    class Failing(Darker):
        def __call__(self, images, perturbed):
            raise ZeroDivisionError

    with pytest.raises(PluginError, match="metric odd"):
        Judge(MODEL, Output.LOGITS, SHAPE, {"odd": Failing()}).decide(claims(ORIGINAL), ONE_PIXEL)


def test_labels_and_validity_of_images_are_told_in_their_order():
    images = torch.stack([torch.full(SHAPE, value) for value in (0.9, 0.02, 0.5)])
    labels, valid = Judge(MODEL, Output.LOGITS, SHAPE).classify(images)
    assert labels.tolist() == [1, 0, 1]
    assert labels.dtype == torch.int64
    assert valid.tolist() == [True, True, True]
    assert Verdict("", 0.0, 0, {}).valid
