"""The oracle, row by row: every answer is that of its own sample, whatever the batches, the budget and the engine."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch

from charpy.engine import QueryEngine, Way
from charpy.errors import AccessError
from charpy.interfaces.model import Output
from charpy.ledger import rank_among_equals
from charpy.losses import LOSSES
from charpy.oracle import Oracle
from charpy.testing.linear import LinearClassifier, LinearModel
from charpy.threat import Access, Goal, Grid, Norm, ThreatModel

WEIGHT = torch.randn(4, 1, 3, 3, generator=torch.Generator().manual_seed(5))
POINTS = torch.randint(0, 256, (9, 1, 3, 3), generator=torch.Generator().manual_seed(6)) / 255
OWNER = torch.tensor([1, 0, 2, 1, 1, 0, 2, 0, 1])
BIAS, EYE = torch.zeros(4), torch.eye(9, 4)
LABELS = LinearClassifier(WEIGHT).predict(POINTS[:3]).argmax(1)
TARGETS = (LABELS + 1) % 4
CLASSES = torch.tensor([[0, 3], [1, 2], [2, 0], [3, 1], [0, 1], [1, 0], [2, 3], [3, 2], [0, 2]])


def linear(output: Output = Output.LOGITS) -> LinearModel:
    return LinearModel(torch.tensor([[[4.0, -1.0], [0.5, 0.0]]]), -0.1, output)


def oracle_of(model: LinearModel, images: torch.Tensor, **threat: object) -> Oracle:
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=2)
    fields = {"norm": Norm.L0, "radius": 1, "access": Access.GRADIENTS, "queries": 5, **threat}
    return Oracle(engine, model, images, torch.ones(len(images), dtype=torch.int64), None, ThreatModel(**fields))


def in_batches(
    size: int, *, model=None, plant=None, targets=None, tick=None, minimise=False, most: int = 2**31, **threat: object
):
    """Three samples of four classes behind a model whose batches hold `size` rows."""
    model = model or LinearClassifier(WEIGHT, BIAS)
    way = Way("as given", model.predict, size, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=4, most=most)
    fields = {"norm": Norm.LINF, "radius": 0.0, "access": Access.GRADIENTS, "queries": 100, **threat}
    return Oracle(
        engine, model, POINTS[:3], LABELS, targets, ThreatModel(**fields), plant=plant, tick=tick, minimise=minimise
    )


@pytest.mark.parametrize("queries", [2, 3, 100])
@pytest.mark.parametrize("targets", [None, TARGETS])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_losses_and_gradients_are_those_of_each_rows_own_sample_in_batches_of_any_size(loss, targets, queries):
    """Against torch's own, row by row; rows over the budget have neither."""
    fields = {"queries": queries, "goal": Goal.UNTARGETED if targets is None else Goal.TARGETED}
    model = LinearClassifier(WEIGHT)
    allowed = rank_among_equals(OWNER) < queries
    found = in_batches(2, targets=targets, **fields).loss_and_gradient(POINTS, OWNER, loss)
    for row in range(len(OWNER)):
        if not allowed[row]:
            assert float(found.loss[row]) == torch.inf
            assert not found.gradient[row].any()
            assert found.scores[row].isnan().all()
            continue
        leaf, of = POINTS[row : row + 1].clone().requires_grad_(True), OWNER[row : row + 1]
        scores = model.predict(leaf)
        value = LOSSES[loss](scores, LABELS[of], None if targets is None else targets[of])
        torch.testing.assert_close(found.loss[row : row + 1], value.detach())
        torch.testing.assert_close(found.gradient[row : row + 1], torch.autograd.grad(value.sum(), leaf)[0])
        torch.testing.assert_close(found.scores[row : row + 1], scores.detach())
    for size in (1, 4, 100):
        oracle = in_batches(size, targets=targets, **fields)
        for one, other in zip(found, oracle.loss_and_gradient(POINTS, OWNER, loss), strict=True):
            torch.testing.assert_close(one, other, equal_nan=True)
        assert oracle.gradient_rows == oracle.rows == int(allowed.sum())


@pytest.mark.parametrize("queries", [4, 100])
@pytest.mark.parametrize("size", [1, 2, 100])
def test_a_jacobian_is_the_models_weights_in_batches_of_any_size(size, queries):
    allowed = rank_among_equals(OWNER) < queries // 2
    scores, gradients = in_batches(size, queries=queries).jacobian(POINTS, OWNER, CLASSES)
    torch.testing.assert_close(gradients[allowed], WEIGHT[CLASSES[allowed]])
    torch.testing.assert_close(scores[allowed], LinearClassifier(WEIGHT).predict(POINTS[allowed]))
    assert not gradients[~allowed].any()
    assert scores[~allowed].isnan().all()


def test_where_nothing_is_left_everything_is_refused_in_the_form_of_an_answer():
    model = LinearClassifier(WEIGHT, BIAS)
    predict = model.predict = Mock(wraps=model.predict)
    oracle = in_batches(4, queries=3, model=model)
    oracle.scores(POINTS, OWNER)
    assert oracle.remaining.tolist() == [0, 0, 1]
    predict.side_effect = AssertionError("a model is not asked about no rows")
    rows, owner, classes = POINTS[:2], torch.tensor([0, 1]), CLASSES[:2]
    spent = oracle.rows
    assert oracle.scores(rows, owner).isnan().tolist() == [[True] * 4] * 2
    assert oracle.labels(rows, owner).tolist() == [-1, -1]
    assert oracle.fitness(rows, owner).tolist() == [torch.inf] * 2
    loss, gradient, scores = oracle.loss_and_gradient(rows, owner)
    assert loss.tolist() == [torch.inf] * 2
    assert gradient.equal(torch.zeros(2, 1, 3, 3))
    assert scores.isnan().tolist() == [[True] * 4] * 2
    scores, gradients = oracle.jacobian(rows, owner, classes)
    assert gradients.equal(torch.zeros(2, 2, 1, 3, 3))
    assert scores.isnan().tolist() == [[True] * 4] * 2
    attached = oracle.attached(rows, owner)
    assert attached.scores.isnan().tolist() == [[True] * 4] * 2
    assert not attached.slope(torch.ones(2, 4)).any()
    assert (oracle.rows, oracle.gradient_rows) == (spent, 0)


def test_labels_are_refused_row_by_row():
    for output in (Output.LOGITS, Output.LABELS):
        oracle = oracle_of(linear(output), torch.full((2, 1, 2, 2), 0.5), queries=1, access=Access.LABELS)
        answers = oracle.labels(torch.full((4, 1, 2, 2), 0.5), torch.tensor([0, 0, 1, 0]))
        assert answers.tolist() == [1, -1, 1, -1]
        assert answers.dtype == torch.int64
        assert oracle.labels(torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])).tolist() == [-1, -1]


def test_fitness_is_the_loss_without_a_gradient():
    expected = in_batches(4).loss_and_gradient(POINTS, OWNER, "cross_entropy").loss
    oracle = in_batches(4, access=Access.SCORES, queries=3)
    found = oracle.fitness(POINTS, OWNER, "cross_entropy")
    assert found.isinf().tolist() == (rank_among_equals(OWNER) >= 3).tolist()
    torch.testing.assert_close(found[found.isfinite()], expected[found.isfinite()])
    assert oracle.gradient_rows == 0
    own = in_batches(4).fitness(POINTS, OWNER, lambda scores, rows: scores[:, 0] + rows)
    torch.testing.assert_close(own, LinearClassifier(WEIGHT).predict(POINTS)[:, 0] + torch.arange(9))
    torch.testing.assert_close(
        in_batches(4).fitness(POINTS, OWNER), in_batches(4).loss_and_gradient(POINTS, OWNER).loss
    )


def test_what_it_tells_of_the_model_and_of_itself():
    model = LinearClassifier(WEIGHT)
    forward, backward = (Way(name, model.predict, size, 1e-6, True) for name, size in (("as given", 7), ("slopes", 3)))
    engine = QueryEngine(model, model.output, forward, forward, gradient=backward, num_classes=4)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, queries=9)
    oracle = Oracle(engine, model, POINTS[:3], LABELS, None, threat)
    assert (oracle.batch, oracle.gradient_batch, oracle.num_classes, oracle.threat) == (7, 3, 4, threat)
    oracle.queries.add_(5)
    oracle.recorded().queries.add_(5)
    assert oracle.queries.tolist() == [0, 0, 0], "nobody spends by writing into what was told"
    assert (oracle.rows, oracle.gradient_rows, oracle.refuted) == (0, 0, False)
    assert in_batches(5).gradient_batch == 5


@pytest.mark.parametrize("how", ["loss_and_gradient", "jacobian", "attached"])
def test_gradients_are_asked_for_in_batches_that_fit(how):
    """No more rows at once than the batch for gradients, or than memory was found to hold."""
    for size, most, largest in ((4, 2**31, 4), (100, 3, 3)):
        model, seen = LinearClassifier(WEIGHT), []
        plain = model.predict
        model.predict = lambda images, seen=seen, plain=plain: (seen.append(len(images)), plain(images))[1]
        forward = Way("as given", model.predict, size, 1e-6, invariant=True)
        engine = QueryEngine(model, model.output, forward, forward, num_classes=4, most=most)
        threat = ThreatModel(norm=Norm.LINF, radius=0.0, queries=100, access=Access.GRADIENTS)
        oracle = Oracle(engine, model, POINTS[:3], LABELS, None, threat)
        getattr(oracle, how)(POINTS, OWNER, *([CLASSES] if how == "jacobian" else []))
        assert max(seen) == largest
        assert sum(seen) == len(POINTS)


@pytest.mark.parametrize("how", ["loss_and_gradient", "jacobian"])
def test_memory_that_runs_out_halves_the_batch_and_changes_no_answer(how):
    model = LinearClassifier(WEIGHT)

    def forward(images):
        if len(images) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return model.predict(images)

    way = Way("as given", forward, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=4)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, queries=100, access=Access.GRADIENTS)
    oracle = Oracle(engine, model, POINTS[:3], LABELS, None, threat)
    rest = [CLASSES] if how == "jacobian" else []
    for one, other in zip(
        getattr(oracle, how)(POINTS, OWNER, *rest), getattr(in_batches(64), how)(POINTS, OWNER, *rest), strict=True
    ):
        torch.testing.assert_close(one, other)
    assert oracle.rows == (18 if how == "jacobian" else 9)


def with_pixel(image: torch.Tensor, value: float) -> torch.Tensor:
    """A row whose first pixel is `value`."""
    row = image.clone()
    row[..., 0, 0] = value
    return row


def test_in_a_rehearsal_rows_are_charged_and_nothing_else_happens():
    image, owner = torch.full((1, 1, 2, 2), 0.5), torch.tensor([0])
    oracle = oracle_of(linear(), image)
    broken = with_pixel(image, 0.0)
    loss, gradient, _ = oracle.loss_and_gradient(broken, owner, rehearsal=True)
    assert float(loss) < 0
    assert gradient.any()
    assert oracle.queries.tolist() == [1]
    assert oracle.recorded().found.tolist() == [False]
    assert oracle.recorded().trace.isnan().all()
    assert oracle.active.tolist() == [True]
    oracle.loss_and_gradient(broken, owner)
    assert oracle.recorded().found.tolist() == [True]
    assert oracle.recorded().queries_to_success.tolist() == [2]


def test_an_answer_that_is_no_number_settles_its_sample_also_in_a_rehearsal():
    model = linear()
    model.predict = lambda images: (images * model.weight).flatten(1).sum(1)[:, None] * torch.tensor([0.0, torch.nan])
    oracle = oracle_of(model, torch.full((2, 1, 2, 2), 0.5))
    oracle.loss_and_gradient(torch.full((1, 1, 2, 2), 0.5), torch.tensor([1]), rehearsal=True)
    assert oracle.recorded().invalid.tolist() == [False, True]


def test_who_watches_is_told_the_share_of_budgets_that_is_settled_and_the_rows():
    told = []
    model, images = linear(), torch.full((2, 1, 2, 2), 0.5)
    threat = ThreatModel(norm=Norm.L0, radius=1, access=Access.GRADIENTS, queries=4)
    labels = torch.ones(2, dtype=torch.int64)
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way)
    oracle = Oracle(engine, model, images, labels, None, threat, tick=lambda *args: told.append(args))
    oracle.scores(images[:1], torch.tensor([0]))
    oracle.loss_and_gradient(images, torch.tensor([0, 1]))
    oracle.scores(with_pixel(images[:1], 0.0), torch.tensor([1]))
    assert told == [(0.125, 1), (0.375, 3), (0.75, 4)], "the second sample is broken: all of its budget is settled"


def test_a_plant_changes_every_answer_and_every_gradient():
    """Its rows, owners and answers belong together; what the plant makes of them is what counts."""

    def plant(rows, owner, answers):
        images = rows.float() / 255 if rows.dtype == torch.uint8 else rows
        torch.testing.assert_close(answers, LinearClassifier(WEIGHT).predict(images))
        return answers * (owner[:, None] + 2)

    plain, planted = LinearClassifier(WEIGHT).predict(POINTS), (OWNER[:, None] + 2.0)
    torch.testing.assert_close(in_batches(4, plant=plant).scores(POINTS, OWNER), plain * planted)
    found = in_batches(4, plant=plant, queries=3).scores(POINTS, OWNER)
    refused = rank_among_equals(OWNER) >= 3
    torch.testing.assert_close(found[~refused], (plain * planted)[~refused])
    assert found[refused].isnan().all()
    _, gradient, scores = in_batches(4, plant=plant).loss_and_gradient(POINTS, OWNER, lambda scores, _: scores[:, 1])
    torch.testing.assert_close(scores, plain * planted)
    torch.testing.assert_close(gradient, WEIGHT[1] * planted[:, :, None, None])
    _, gradients = in_batches(4, plant=plant).jacobian(POINTS, OWNER, CLASSES)
    torch.testing.assert_close(gradients, WEIGHT[CLASSES] * planted[:, :, None, None, None])


def test_a_candidate_of_a_faster_engine_is_held_against_the_planted_model():
    """Planted for the second sample, and where a row is bright."""
    model, images = linear(), torch.full((3, 1, 2, 2), 0.5)
    bare = Way("as given", model.predict, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, Way("fast", model.predict, 64, 1e-7, True, gap=1.0), bare, num_classes=2)
    threat = ThreatModel(norm=Norm.LINF, radius=0.5, queries=9)

    def plant(rows, owner, answers):
        bright = (rows.flatten(1).float().amax(1) > 128) & (owner == 1)
        return torch.where(bright[:, None], answers.flip(1), answers)

    oracle = Oracle(engine, model, images, torch.ones(3, dtype=torch.int64), None, threat, plant=plant)
    bright = with_pixel(images, 1.0)
    oracle.scores(torch.cat([images, bright]), torch.tensor([0, 1, 2, 0, 1, 2]))
    assert oracle.recorded().found.tolist() == [False, True, False]
    assert oracle.recorded().queries_to_success.tolist() == [-1, 2, -1]
    assert not oracle.refuted


def test_a_refuted_engine_answers_nothing_any_more():
    model = LinearModel(torch.zeros(1, 2, 2), 1.0)
    fast = Way("fast", lambda images: torch.tensor([[9.0, 0.0]]).repeat(len(images), 1), 64, 1e-7, True, gap=0.05)
    engine = QueryEngine(model, model.output, fast, Way("as given", model.predict, 64, 1e-6, True), num_classes=2)
    threat = ThreatModel(norm=Norm.LINF, radius=1.0, queries=5)
    oracle = Oracle(engine, model, torch.zeros(2, 1, 2, 2), torch.tensor([1, 1]), None, threat)
    rows, owner = torch.ones(2, 1, 2, 2), torch.tensor([0, 1])
    oracle.scores(rows[:1], owner[:1])
    assert oracle.refuted
    assert oracle.active.tolist() == [False, False]
    assert oracle.remaining.tolist() == [0, 0]
    assert oracle.scores(rows, owner).isnan().all()
    assert oracle.queries.tolist() == [1, 0]


def test_every_candidate_of_a_batch_is_kept_for_its_own_sample():
    """Some misclassified, some not, some outside the ball: the model as given sees those inside it only."""
    shown = []
    model = linear()
    bare = Way("as given", lambda images: (shown.append(len(images)), model.predict(images))[1], 64, 1e-6, True)
    engine = QueryEngine(model, model.output, Way("fast", model.predict, 64, 1e-7, True, gap=1e-6), bare, num_classes=2)
    images, labels = torch.full((4, 1, 2, 2), 64 / 255), torch.ones(4, dtype=torch.int64)
    oracle = Oracle(engine, model, images, labels, None, ThreatModel(norm=Norm.L0, radius=1, queries=9))
    owner = torch.tensor([3, 0, 2, 1, 3])
    rows = images[owner].clone()
    rows[0, 0, 0, 0] = 0.0  # a witness of sample 3
    rows[2, 0, 0, 0], rows[2, 0, 1, 1] = 0.0, 0.0  # two pixels
    rows[3, 0, 0, 0] = 0.05  # a witness of sample 1
    oracle.scores(rows, owner)
    found = oracle.recorded()
    assert shown == [2]
    assert found.found.tolist() == [False, True, False, True]
    assert found.queries_to_success.tolist() == [-1, 1, -1, 1]
    assert [int(image[0, 0, 0]) for image in found.images] == [64, 13, 64, 0]


def test_a_further_slope_is_paid_row_by_row():
    """Two rows of one sample with one query left: the first of them gets its second slope."""
    oracle = in_batches(2, queries=3)
    rows, owner = POINTS[:3], torch.tensor([0, 0, 1])
    attached = oracle.attached(rows, owner)
    weights = torch.eye(4)[[1, 1, 2]]
    assert attached.slope(weights).flatten(1).any(1).tolist() == [True, True, True]
    again = attached.slope(weights)
    assert again.flatten(1).any(1).tolist() == [True, False, True]
    torch.testing.assert_close(again[0], WEIGHT[1])
    assert oracle.queries.tolist() == [3, 2, 0]
    assert oracle.gradient_rows == 5


def test_a_question_without_gradients_is_not_one_with():
    oracle = in_batches(4)
    oracle.attached(POINTS[:2], OWNER[:2])
    oracle.scores(POINTS[:3], OWNER[:3])
    assert (oracle.gradient_rows, oracle.rows) == (2, 5)
    found = oracle.attached(POINTS[:2], OWNER[:2]).scores
    torch.testing.assert_close(found, LinearClassifier(WEIGHT).predict(POINTS[:2]))


def test_witnesses_are_also_found_by_slopes():
    """In a batch from which a row was refused; J slopes are J queries before the next row's first."""
    image = torch.full((2, 1, 2, 2), 0.5)
    broken = image.clone()
    broken[:, 0, 0, 0] = 0.0
    owner, rows = torch.tensor([0, 0, 1, 0]), torch.stack([image[0], broken[0], broken[1], broken[0]])
    for how, queries, numbers in (("loss_and_gradient", 2, [2, 1]), ("jacobian", 4, [3, 1]), ("attached", 2, [2, 1])):
        oracle = oracle_of(linear(), image, queries=queries)
        getattr(oracle, how)(rows, owner, *([torch.tensor([[0, 1]] * 4)] if how == "jacobian" else []))
        assert oracle.recorded().queries_to_success.tolist() == numbers
        assert oracle.queries.tolist() == [queries, queries // 2]


def test_a_refusal_says_who_allows_what_and_what_to_do():
    oracle = oracle_of(linear(), torch.full((1, 1, 2, 2), 0.5), access=Access.SCORES)
    with pytest.raises(AccessError) as caught:
        oracle.jacobian(torch.full((1, 1, 2, 2), 0.5), torch.tensor([0]), torch.tensor([[0]]))
    assert "GRADIENTS" in caught.value.what
    assert caught.value.found == "threat model: SCORES, model: GRADIENTS"
    assert caught.value.expected == "at most SCORES"
    assert caught.value.hint


def test_off_the_grid_originals_are_kept_as_they_are():
    image = torch.full((1, 1, 2, 2), 0.1234)
    free, on_grid = (oracle_of(linear(), image, grid=grid).recorded().images for grid in (Grid.NONE, Grid.EIGHT_BIT))
    assert torch.equal(free, image)
    assert torch.equal(on_grid, torch.full((1, 1, 2, 2), 31, dtype=torch.uint8))


def test_rows_of_all_calls_are_summed_up():
    oracle = in_batches(4)
    for calls in (1, 2):
        oracle.loss_and_gradient(POINTS[:2], OWNER[:2])
        oracle.jacobian(POINTS[:1], OWNER[:1], CLASSES[:1])
        oracle.attached(POINTS[:3], OWNER[:3]).slope(torch.ones(3, 4))
        oracle.scores(POINTS[:5], OWNER[:5])
        assert oracle.gradient_rows == 7 * calls
        assert oracle.rows == 12 * calls


def everything(queries: int) -> list[torch.Tensor]:
    """All that an oracle answers and records."""
    found: list[torch.Tensor] = []
    for grid in Grid:
        oracle = in_batches(2, queries=queries, grid=grid, radius=0.1, minimise=True)
        attached = oracle.attached(POINTS, OWNER)
        first = attached.slope(EYE)
        found += [*oracle.loss_and_gradient(POINTS, OWNER, "dlr"), *oracle.jacobian(POINTS, OWNER, CLASSES)]
        found += [attached.scores, first, attached.slope(EYE), oracle.fitness(POINTS, OWNER)]
        found += [oracle.scores(POINTS, OWNER), oracle.labels(POINTS, OWNER), oracle.queries, oracle.active]
        found += [oracle.remaining, *vars(oracle.recorded()).values()]
    return found


@pytest.mark.parametrize("queries", [3, 7, 100])
def test_answers_lie_where_the_questions_do_whatever_the_default_device(queries):
    """A user may have set torch's default device; tensors made without a word on it would lie there."""
    expected = everything(queries)
    with torch.device("meta"):
        found = everything(queries)
    for one, other in zip(found, expected, strict=True):
        assert one.device == other.device
        torch.testing.assert_close(one, other, equal_nan=True)


def test_labels_are_held_against_each_samples_own():
    model = LinearModel(linear().weight, -0.1, Output.LABELS)
    images = torch.full((3, 1, 2, 2), 0.5)
    way = Way("as given", model.predict, 64, 1e-6, invariant=True)
    engine = QueryEngine(model, model.output, way, way, num_classes=0)
    threat = ThreatModel(norm=Norm.L0, radius=1, queries=9, access=Access.LABELS)
    oracle = Oracle(engine, model, images, torch.tensor([1, 0, 1]), None, threat)
    rows = torch.cat([images[:1], images[:1], with_pixel(images[:1], 0.0)])
    oracle.labels(rows, torch.tensor([0, 1, 2]))
    assert oracle.recorded().found.tolist() == [False, True, True]
    toward = ThreatModel(norm=Norm.L0, radius=1, queries=9, access=Access.LABELS, goal=Goal.TARGETED)
    oracle = Oracle(engine, model, images, torch.tensor([1, 1, 1]), torch.tensor([0, 1, 0]), toward)
    oracle.labels(rows, torch.tensor([0, 1, 2]))
    assert oracle.recorded().found.tolist() == [False, True, True]


def test_a_model_that_gives_probabilities_is_seen_through_their_logarithms():
    """Differences of logarithms are those of the logits."""
    images, owner = torch.full((2, 1, 2, 2), 0.5), torch.tensor([0, 1])
    logits, odds = (oracle_of(linear(output), images) for output in (Output.LOGITS, Output.PROBABILITIES))
    expected = logits.loss_and_gradient(images, owner)
    found = odds.loss_and_gradient(images, owner)
    torch.testing.assert_close(found.loss, expected.loss)
    torch.testing.assert_close(found.gradient, expected.gradient)
    torch.testing.assert_close(found.scores, expected.scores.log_softmax(1))


def test_an_oracle_that_looks_on_sees_every_answered_row():
    seen = []

    class Looking(Oracle):
        def _saw(self, rows, owner, answers, keep):
            seen.append((rows.clone(), owner.clone(), answers.clone(), keep))

    model = LinearClassifier(WEIGHT, BIAS)
    way = Way("as given", model.predict, 4, 1e-6, invariant=True)
    threat = ThreatModel(norm=Norm.LINF, radius=0.0, access=Access.GRADIENTS, queries=3)
    engine = QueryEngine(model, model.output, way, way, num_classes=4)
    oracle = Looking(engine, model, POINTS[:3], LABELS, None, threat)
    oracle.scores(POINTS[:4], OWNER[:4])
    oracle.loss_and_gradient(POINTS, OWNER, rehearsal=True)
    (rows, owner, answers, keep), (again, _, _, kept) = seen
    torch.testing.assert_close(rows.float() / 255, POINTS[:4])
    assert torch.equal(owner, OWNER[:4])
    torch.testing.assert_close(answers, model.predict(POINTS[:4]))
    assert (keep, kept) == (True, False)
    assert len(again) == 5, "of the nine rows those that the budget has left"
