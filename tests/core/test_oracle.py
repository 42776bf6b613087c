"""The oracle: what it counts, refuses and records."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from charpy.engine import QueryEngine, Way
from charpy.errors import AccessError, ModelError, PluginError, UnknownNameError
from charpy.interfaces.model import Model, Output
from charpy.judge import Claim, Judge
from charpy.ledger import rank_among_equals
from charpy.losses import margin
from charpy.oracle import Oracle
from charpy.pixels import pack
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Goal, Grid, Norm, ThreatModel


def engine_of(model: Model) -> QueryEngine:
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    return QueryEngine(model, model.output, way, way, num_classes=model.num_classes or 2)


def linear(output: Output = Output.LOGITS) -> LinearModel:
    return LinearModel(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1, output)


def oracle_of(
    model: LinearModel, images: torch.Tensor, *, labels: torch.Tensor | None = None, **threat: object
) -> Oracle:
    labels = torch.ones(len(images), dtype=torch.int64) if labels is None else labels
    fields = {"norm": Norm.L0, "radius": 1, "access": Access.GRADIENTS, "queries": 5, **threat}
    minimise = bool(fields.pop("minimise", False))
    return Oracle(engine_of(model), model, images, labels, None, ThreatModel(**fields), minimise=minimise)


def test_counts_every_row_and_stops_each_sample_at_its_own_budget():
    model = linear()
    oracle = oracle_of(model, torch.full((2, 1, 2, 2), 0.5))
    owner = torch.tensor([0, 1, 0, 0, 0, 0, 0])  # sample 0 asks for six rows, it has five
    scores = oracle.scores(torch.full((7, 1, 2, 2), 0.5), owner)
    assert oracle.queries.tolist() == [5, 1]
    assert model.rows == 6
    assert scores.isnan().any(1).tolist() == [False] * 6 + [True]
    assert oracle.active.tolist() == [False, True]
    assert oracle.remaining.tolist() == [0, 4]
    oracle.scores(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    assert model.rows == 6, "a sample out of budget costs the model nothing"


@settings(max_examples=50)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 9))
def test_no_order_of_owners_exceeds_the_budget(owners, budget):
    model = linear()
    oracle = oracle_of(model, torch.full((5, 1, 2, 2), 0.5), queries=budget)
    oracle.scores(torch.full((len(owners), 1, 2, 2), 0.5), torch.tensor(owners))
    counts = [min(owners.count(i), budget) for i in range(5)]
    assert oracle.queries.tolist() == counts
    assert model.rows == sum(counts)


def test_rank_among_equals_is_a_running_count():
    owner = torch.tensor([3, 1, 3, 3, 0, 1])
    assert rank_among_equals(owner).tolist() == [0, 0, 1, 2, 0, 1]
    assert rank_among_equals(torch.tensor([], dtype=torch.int64)).tolist() == []


def test_records_a_witness_whatever_the_attack_does_with_the_answer():
    image = torch.full((1, 1, 2, 2), 0.5)
    oracle = oracle_of(linear(), image)
    candidate = image.clone()
    candidate[0, 0, 0, 0] = 0.0
    oracle.scores(torch.cat([image, candidate, candidate]), torch.zeros(3, dtype=torch.int64))
    found = oracle.recorded()
    assert found.found.tolist() == [True]
    assert found.queries_to_success.tolist() == [2]
    assert found.images[0, 0].tolist() == [[0, 128], [128, 128]]
    assert not oracle.active.any()


@pytest.mark.parametrize(
    ("change", "radius", "norm"),
    [
        ({(0, 0): 0.0, (0, 1): 1.0}, 1, Norm.L0),
        ({(0, 0): 0.0}, 0.2, Norm.LINF),
    ],
)
def test_a_misclassified_candidate_outside_the_threat_model_is_no_witness(change, radius, norm):
    image = torch.full((1, 1, 2, 2), 0.5)
    oracle = oracle_of(linear(), image, norm=norm, radius=radius)
    candidate = image.clone()
    for (row, column), value in change.items():
        candidate[0, 0, row, column] = value
    answer = oracle.scores(candidate, torch.tensor([0]))
    assert answer[0].argmax() == 0, "the candidate is misclassified"
    assert not oracle.recorded().found.any()


@pytest.mark.parametrize("how", ["scores", "loss_and_gradient", "labels"])
def test_a_tie_is_decided_as_the_judge_decides_it(how):
    """Of equal scores the first class is predicted, by a model that gives scores as by one that gives its labels."""
    output = Output.LABELS if how == "labels" else Output.LOGITS
    model, image = LinearModel(torch.zeros(1, 2, 2), 0.0, output), torch.zeros(1, 1, 2, 2)
    judge, white = Judge(model, output, (1, 2, 2)), torch.ones(1, 1, 2, 2)
    for label, expected in ((1, True), (0, False)):
        oracle = oracle_of(model, image, labels=torch.tensor([label]), norm=Norm.LINF, radius=1.0)
        getattr(oracle, how)(white, torch.tensor([0]))
        assert oracle.recorded().found.tolist() == [expected]
        assert not oracle.refuted, "a tie contradicts nobody"
        claim = Claim(pack(image[0], Grid.EIGHT_BIT), pack(white[0], Grid.EIGHT_BIT), label)
        assert judge.decide([claim], oracle.threat)[0].confirmed is expected


@pytest.mark.parametrize("targets", [None, torch.tensor([0])])
@pytest.mark.parametrize(
    ("lead", "agrees", "found", "refuted"),
    [
        (0.05, True, True, False),  # less than the ways may differ: asked, and confirmed
        (0.0, True, True, False),
        (0.05, False, False, False),
        (0.0, False, False, False),
        (0.5, True, True, False),
        (0.5, False, False, True),  # surer than the engine can be wrong
    ],
)
def test_a_candidate_within_the_slack_is_kept_if_the_model_as_given_confirms_it(lead, agrees, found, refuted, targets):
    model = LinearModel(torch.zeros(1, 2, 2), -1.0 if agrees else 1.0)
    fast = Way("fast", lambda images: torch.tensor([[lead, 0.0]]).repeat(len(images), 1), 64, 1e-7, True, gap=0.05)
    bare = Way("as given", model.predict, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, fast, bare, num_classes=2)
    threat = ThreatModel(
        norm=Norm.LINF, radius=1.0, queries=5, goal=Goal.UNTARGETED if targets is None else Goal.TARGETED
    )
    oracle = Oracle(engine, model, torch.zeros(1, 1, 2, 2), torch.tensor([1]), targets, threat)
    assert 0.05 < engine.slack < 0.5
    oracle.scores(torch.ones(1, 1, 2, 2), torch.tensor([0]))
    assert oracle.recorded().found.tolist() == [found]
    assert oracle.refuted is refuted
    assert oracle.queries.tolist() == [1], "the question back is not charged"


def test_the_nearest_witness_is_kept_when_minimising():
    image = torch.full((1, 1, 2, 2), 0.5)
    oracle = oracle_of(linear(), image, norm=Norm.LINF, radius=1.0, minimise=True)
    rows = torch.tensor([2, 5, 1])[:, None, None, None].expand(3, 1, 2, 2) / 255
    far = image.clone()
    far[0, 0, 0, 0] = 0.0
    oracle.scores(torch.cat([rows, far]), torch.zeros(4, dtype=torch.int64))
    found = oracle.recorded()
    assert found.queries_to_success.tolist() == [1]
    assert oracle.active.all(), "a sample stays active while its distance can shrink"
    assert found.images[0, 0, 1].tolist() == [5, 5]


def test_the_model_is_only_asked_about_images_that_can_be_stored():
    seen = []
    model = linear()
    original = model.predict
    model.predict = lambda images: (seen.append(images.clone()), original(images))[1]
    oracle = oracle_of(model, torch.full((1, 1, 2, 2), 0.5))
    oracle.scores(torch.full((1, 1, 2, 2), 0.12345), torch.tensor([0]))
    assert torch.equal(seen[0] * 255, (seen[0] * 255).round())
    free = oracle_of(model, torch.full((1, 1, 2, 2), 0.5), grid=Grid.NONE)
    free.scores(torch.full((1, 1, 2, 2), 0.12345), torch.tensor([0]))
    assert float(seen[1][0, 0, 0, 0]) == pytest.approx(0.12345)


@pytest.mark.parametrize("method", ["scores", "fitness", "loss_and_gradient"])
def test_refuses_more_access_than_the_model_or_the_threat_allows(method):
    rows, owner = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    for model, access in ((linear(Output.LABELS), Access.GRADIENTS), (linear(), Access.LABELS)):
        oracle = oracle_of(model, rows, access=access)
        with pytest.raises(AccessError, match="at most LABELS"):
            getattr(oracle, method)(rows, owner)
        assert oracle.labels(rows, owner).tolist() == [1]


def test_nan_scores_make_the_sample_invalid_and_stop_it():
    model = linear()
    model.predict = lambda images: torch.where(images[:, 0, 0, :1] > 0.9, torch.nan, torch.tensor([[0.0, 1.0]]))
    oracle = oracle_of(model, torch.full((2, 1, 2, 2), 0.5))
    rows = torch.full((2, 1, 2, 2), 0.5)
    rows[1] = 1.0
    oracle.scores(rows, torch.tensor([0, 1]))
    assert oracle.recorded().invalid.tolist() == [False, True]
    assert oracle.active.tolist() == [True, False]
    assert not oracle.recorded().found.any()


def test_gradients_are_those_of_the_margin_and_cost_a_query_each():
    model = linear()
    images = torch.full((2, 1, 2, 2), 0.5)
    oracle = oracle_of(model, images, queries=1)
    loss, gradient, _ = oracle.loss_and_gradient(torch.cat([images, images]), torch.tensor([0, 1, 0, 1]))
    expected = 4 * 128 / 255 - 128 / 255 + 0.5 * 128 / 255 - 0.1
    assert loss[:2].tolist() == pytest.approx([expected, expected], abs=1e-5)
    assert torch.allclose(gradient[:2], model.weight.expand(2, -1, -1, -1))
    assert loss[2:].isinf().all()
    assert not gradient[2:].any()
    assert oracle.queries.tolist() == [1, 1]


def test_an_attack_may_bring_a_loss_of_its_own():
    model, images = linear(), torch.full((3, 1, 2, 2), 0.5)
    oracle = oracle_of(model, images, queries=1)
    wanted = torch.tensor([0, 1, 0, 1])
    owner = torch.tensor([0, 0, 1, 2])  # the second row of sample 0 is refused: the loss must not be asked about it
    seen = []

    def toward(scores, rows):
        seen.extend(rows.tolist())
        return -scores.gather(1, wanted[rows, None])[:, 0]

    loss, gradient, scores = oracle.loss_and_gradient(images[owner], owner, toward)
    assert seen == [0, 2, 3]
    assert gradient[3].allclose(-model.weight)
    assert not gradient[[0, 2]].any(), "the score of class 0 is constant"
    assert loss.isinf().tolist() == [False, True, False, False]
    assert scores.isnan().any(1).tolist() == [False, True, False, False]
    assert oracle.gradient_rows == 3


def test_an_unknown_loss_lists_the_known_ones():
    oracle = oracle_of(linear(), torch.full((1, 1, 2, 2), 0.5))
    with pytest.raises(UnknownNameError, match="cross_entropy"):
        oracle.loss_and_gradient(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), "cross_entropi")


def test_a_model_without_a_gradient_is_named():
    class Detached(LinearModel):
        def predict(self, images):
            return super().predict(images.detach())

    model = Detached(torch.ones(1, 2, 2))
    oracle = oracle_of(model, torch.full((1, 1, 2, 2), 0.5))
    with pytest.raises(ModelError, match="not differentiable") as caught:
        oracle.loss_and_gradient(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]))
    assert caught.value.found
    assert "SCORES" in caught.value.hint, "the next step: what such a model is to declare"


class Kinked(LinearModel):
    """The first value through a square root and a square: the same scores, a slope of 0 * inf where it is 0."""

    def predict(self, images):
        first = images[:, :, :1, :1].sqrt() ** 2
        top = torch.cat([first, images[:, :, :1, 1:]], 3)
        return super().predict(torch.cat([top, images[:, :, 1:]], 2))


def test_a_value_without_a_slope_does_not_take_that_of_the_others():
    smooth = LinearModel(linear().weight, 1.0)
    model, images = Kinked(smooth.weight, smooth.bias), torch.full((1, 1, 2, 2), 0.5)
    images[:, :, 0, 0] = 0.0
    oracle = oracle_of(model, images)
    expected = smooth.weight.clone()
    expected[0, 0, 0] = 0.0
    assert oracle.loss_and_gradient(images, torch.tensor([0])).gradient[0].allclose(expected)
    assert oracle.jacobian(images, torch.tensor([0]), torch.tensor([[1]])).gradients[0, 0].allclose(expected)
    assert oracle.recorded().vanished.tolist() == [2], "the report must still know"


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_an_infinite_slope_is_given_as_none(sign):
    """A square root at 0, pulled up or down."""

    class Steep(LinearModel):
        def predict(self, images):
            return super().predict(images.sqrt())

    model, images = Steep(torch.full((1, 2, 2), sign), 9.0), torch.full((1, 1, 2, 2), 51 / 255)
    images[:, :, 0, 0] = 0.0
    oracle, owner = oracle_of(model, images), torch.tensor([0])
    expected = torch.full((1, 2, 2), sign / (2 * 0.2**0.5))
    expected[0, 0, 0] = 0.0
    torch.testing.assert_close(oracle.loss_and_gradient(images, owner).gradient[0], expected)
    torch.testing.assert_close(oracle.jacobian(images, owner, torch.tensor([[1]])).gradients[0, 0], expected)


def test_a_gradient_that_reaches_the_parameters_alone_is_none():
    class Cut(LinearModel):
        def predict(self, images):
            return super().predict((images > 0.5).float())

    model, images = Cut(torch.ones(1, 2, 2).requires_grad_(True), -0.1), torch.ones(1, 1, 2, 2)
    oracle, owner = oracle_of(model, images), torch.tensor([0])
    assert not oracle.loss_and_gradient(images, owner).gradient.any()
    assert not oracle.jacobian(images, owner, torch.tensor([[0, 1]])).gradients.any()


def test_a_jacobian_costs_a_query_for_each_gradient():
    weight = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    model, images = LinearClassifier(weight), torch.full((2, 1, 2, 2), 100 / 255)
    oracle = oracle_of(model, images, labels=model.predict(images).argmax(1), queries=7)
    classes = torch.tensor([[0, 1, 3], [3, 2, 1]])
    owner = torch.tensor([0, 1])
    scores, gradients = oracle.jacobian(images, owner, classes)
    assert torch.allclose(scores, model.predict(images), atol=1e-6)
    assert torch.allclose(gradients, weight[classes], atol=1e-6)
    assert oracle.queries.tolist() == [3, 3]
    twice = oracle.jacobian(images[[0, 0]], torch.tensor([0, 0]), classes[[0, 0]])
    assert twice.scores.isnan().any(1).tolist() == [False, True], "7 - 3 = 4 queries are left: one row of 3"
    assert oracle.queries.tolist() == [6, 3]
    oracle.jacobian(images, owner, classes)
    assert oracle.queries.tolist() == [6, 6], "a row that the budget cannot pay whole is refused"
    assert oracle.gradient_rows == 12


def test_watches_the_margin_and_gradients_that_lead_nowhere():
    still = LinearClassifier(torch.zeros(3, 1, 2, 2), torch.tensor([1.0, 0.0, 0.0]))
    images = torch.full((2, 1, 2, 2), 0.5)
    oracle = oracle_of(still, images, labels=torch.tensor([0, 0]), queries=9)
    for _ in range(3):
        oracle.loss_and_gradient(images[:1], torch.tensor([0]))
    found = oracle.recorded()
    assert found.gradients.tolist() == [3, 0]
    assert found.vanished.tolist() == [3, 0]
    assert found.trace[0, :2].tolist() == [1.0, 1.0]
    assert found.trace[1].isnan().all()
    model = linear()
    oracle = oracle_of(model, images, queries=8)
    for brightness in (0.5, 0.4, 0.6, 0.3):
        oracle.scores(torch.full((1, 1, 2, 2), brightness), torch.tensor([0]))
    best = [float(margin(model.predict(torch.full((1, 1, 2, 2), b)), torch.tensor([1]))) for b in (128 / 255, 0.4)]
    trace = oracle.recorded().trace[0]
    assert trace[:2].tolist() == pytest.approx([best[0], best[1]], abs=1e-5)
    assert trace[2] < trace[1]
    assert oracle.recorded().vanished.tolist() == [0, 0]


def test_targeted_success_needs_the_target():
    weight = torch.tensor([[[4.0, 0.0], [0.0, 0.0]]])
    model = LinearModel(weight, -0.1)
    threat = ThreatModel(norm=Norm.L0, radius=1, goal=Goal.TARGETED, queries=9)
    image, label = torch.full((1, 1, 2, 2), 0.5), torch.tensor([1])
    wrong = image.clone()
    wrong[0, 0, 0, 0] = 0.0
    for target, expected in ((0, True), (1, False)):
        oracle = Oracle(engine_of(model), model, image, label, torch.tensor([target]), threat)
        oracle.scores(wrong, torch.tensor([0]))
        assert bool(oracle.recorded().found[0]) is expected


@pytest.mark.parametrize("shape", [(1, 3, 2, 2), (1, 1, 2, 3)])
def test_rows_of_another_shape_are_refused(shape):
    oracle = oracle_of(linear(), torch.full((1, 1, 2, 2), 0.5))
    with pytest.raises(PluginError, match="wrong shape"):
        oracle.scores(torch.zeros(shape), torch.tensor([0]))
    with pytest.raises(PluginError, match="wrong shape"):
        oracle.scores(torch.zeros(2, 1, 2, 2), torch.tensor([0]))


@pytest.mark.parametrize("bad", [float("nan"), 3e38, -3e38])
@pytest.mark.parametrize("grid", list(Grid))
def test_an_attacks_bad_candidate_is_not_the_models_fault(bad, grid):
    oracle = oracle_of(linear(), torch.full((1, 1, 2, 2), 0.5), grid=grid)
    assert oracle.scores(torch.full((1, 1, 2, 2), bad), torch.tensor([0])).isfinite().all()
    assert not oracle.recorded().invalid.any()
