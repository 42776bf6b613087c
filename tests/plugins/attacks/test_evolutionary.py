"""few_pixel and threshold: the paper's encoding, known optima, budgets, and an effect of every parameter."""

from __future__ import annotations

import itertools

import pytest
import torch

from charpy.errors import SpecError
from charpy.interfaces.attack import Task
from charpy.interfaces.model import Output
from charpy.oracle import Oracle
from charpy.pixels import distances, inside, quantise
from charpy.random import Random, sample_keys
from charpy.specs import parse
from charpy.testing.linear import LinearModel
from charpy.threat import Grid, Norm, ThreatModel
from charpy_plugins.attacks.score.few_pixel import FewPixel, FewPixelEncoding
from charpy_plugins.attacks.score.threshold import Rounding, Threshold, ThresholdEncoding

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randint(0, 256, (12, 3, 6, 5), generator=GENERATOR).float() / 255
WEIGHT = torch.randn(3, 6, 5, generator=GENERATOR)
ENGINES = [("cma-es", "lockstep"), ("de", "lockstep"), ("cma-es", "pycma"), ("de", "scipy")]


def linear(margin: float = 0.0, output: Output = Output.LOGITS) -> LinearModel:
    """A linear model whose median image lies on the boundary."""
    values = (IMAGES * WEIGHT).flatten(1).sum(1)
    return LinearModel(WEIGHT, float(-values.median()) + margin, output)


def task_of(images: torch.Tensor, norm: Norm, th: int, grid: Grid = Grid.EIGHT_BIT) -> Task:
    threat = ThreatModel.at_level(norm, th, grid=grid)
    random = Random(0, sample_keys([str(i) for i in range(len(images))]))
    return Task(images, torch.zeros(len(images), dtype=torch.int64), None, threat, None, random)


# --- the encoding of the paper -------------------------------------------------------------------------------------


def test_few_pixel_genes_are_row_column_colours_with_modulo_places_and_truncation():
    encoding = FewPixelEncoding(task_of(IMAGES, Norm.L0, 2), 15.75)
    genes = torch.tensor([[[5.9, 1.2, 7.9, 0.0, 255.0, 6.0, 5.0, 1.0, 2.0, 3.0]]])  # the second pixel wraps to (0, 0)
    image = encoding.decode(genes, torch.tensor([4]))[0]
    expected = quantise(IMAGES[4])
    expected[:, 5, 1] = torch.tensor([7, 0, 255])
    expected[:, 0, 0] = torch.tensor([1, 2, 3])
    assert torch.equal(image, expected)


def test_few_pixel_has_the_papers_dimension_bounds_and_start():
    encoding = FewPixelEncoding(task_of(IMAGES, Norm.L0, 3), 15.75)
    assert encoding.box.lower.shape[1] == (2 + 3) * 3
    assert encoding.box.upper[0].tolist() == [6.0, 5.0, 255.0, 255.0, 255.0] * 3
    assert not encoding.box.lower.any()
    assert encoding.sigma0 == 63 / 4
    start = encoding.decode(encoding.start[:, None], torch.arange(12))
    assert torch.equal(start, quantise(IMAGES)), "CMA-ES begins at the clean image"
    assert encoding.start[0].view(3, 5)[:, :2].tolist() == [[0, 0], [0, 1], [0, 2]], "the first pixels in raster order"


def test_a_pixel_named_twice_takes_the_later_colour():
    encoding = FewPixelEncoding(task_of(IMAGES, Norm.L0, 2), 1.0)
    genes = torch.tensor([[[1.0, 1.0, 9.0, 9.0, 9.0, 1.0, 1.0, 200.0, 100.0, 50.0]]])
    assert encoding.decode(genes, torch.tensor([0]))[0, :, 1, 1].tolist() == [200, 100, 50]


@pytest.mark.parametrize("rounding", list(Rounding))
def test_threshold_stays_in_its_box_and_reaches_its_corners(rounding):
    task = task_of(IMAGES, Norm.LINF, 7)
    encoding = ThresholdEncoding(task, None, rounding)
    assert encoding.sigma0 == 7 / 4
    for bound in (encoding.box.lower, encoding.box.upper):
        corner = encoding.decode(bound[:, None], torch.arange(12))
        assert inside(task.threat, quantise(IMAGES), corner).all()
        gap = (corner.int() - quantise(IMAGES).int()).abs()
        room = torch.where(
            bound.view_as(gap) == encoding.box.lower.view_as(gap), quantise(IMAGES), 255 - quantise(IMAGES)
        )
        assert torch.equal(gap, room.int().clamp_max(7))


def test_clipped_colours_reach_their_bounds(attack_with):
    """On a linear model every best colour is a corner of the colour cube."""

    class Recording(LinearModel):
        def predict(self, images):
            asked.append(images.clone())
            return super().predict(images)

    def extremes(repair):
        asked.clear()
        params = FewPixel.Params(optimiser="de", fitness="margin", population=10, recombination=0.5, repair=repair)
        attack_with(FewPixel(params), Recording(WEIGHT, 1000.0), IMAGES[:1].repeat(12, 1, 1, 1), th=1, queries=300)
        rows = torch.cat(asked[-20:])
        changed = (rows != IMAGES[:1]).any(1, keepdim=True).expand_as(rows)
        return float(((rows == 0) | (rows == 1))[changed].float().mean())

    asked: list[torch.Tensor] = []
    assert extremes("clip") > 0.5
    assert extremes("redraw") < 0.2


def test_truncation_is_lopsided_and_rounding_is_not():
    """What the released code loses: a gene just below v + th truncates to v + th - 1, one just above v - th stays."""
    task = task_of(torch.full((1, 1, 1, 1), 100 / 255), Norm.LINF, 1)
    genes = torch.tensor([[[99.01], [100.99]]])
    cut = ThresholdEncoding(task, None, Rounding.TRUNCATE).decode(genes, torch.tensor([0])).flatten().tolist()
    near = ThresholdEncoding(task, None, Rounding.NEAREST).decode(genes, torch.tensor([0])).flatten().tolist()
    assert (cut, near) == ([99, 100], [99, 101])


def test_off_the_grid_threshold_moves_by_real_values():
    task = task_of(IMAGES, Norm.LINF, 3, Grid.NONE)
    encoding = ThresholdEncoding(task, None, Rounding.NEAREST)
    candidates = encoding.decode(encoding.start[:, None] + 0.25, torch.arange(12))
    assert candidates.dtype == torch.float32
    assert torch.allclose(candidates, IMAGES + 0.25 / 255)


def test_off_the_grid_few_pixel_leaves_the_other_pixels_as_they_are(attack_with):
    images = IMAGES * 0.999 + 0.0003
    task = task_of(images, Norm.L0, 2, Grid.NONE)
    encoding = FewPixelEncoding(task, 15.75)
    genes = torch.tensor([[[1.0, 2.0, 9.0, 8.0, 7.0, 3.0, 4.0, 1.0, 2.0, 3.0]]]).expand(12, 1, -1)
    assert (distances(Norm.L0, images, encoding.decode(genes, torch.arange(12))) == 2).all()
    attack = FewPixel(FewPixel.Params(optimiser="de", fitness="margin", population=10))
    model = linear()
    on, off = (attack_with(attack, model, x, th=5, grid=g) for x, g in ((IMAGES, Grid.EIGHT_BIT), (images, Grid.NONE)))
    assert abs(sum(on.broken) - sum(off.broken)) <= 1
    assert sum(on.broken) > 6


# --- strength: optima that are known -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")  # cma warns when matplotlib is not installed
@pytest.mark.parametrize(("optimiser", "engine"), ENGINES)
@pytest.mark.parametrize("th", [1, 3])
def test_few_pixel_breaks_exactly_what_a_linear_model_allows(attack_with, optimiser, engine, th):
    """Every pixel's best corner is known: a sample is breakable with th pixels iff its th largest gains suffice."""
    model = linear()
    gains = model.pixel_gains(IMAGES).sort(dim=1, descending=True).values[:, :th].sum(1)
    need = model.predict(IMAGES)[:, 1].abs()
    params = FewPixel.Params(optimiser=optimiser, engine=engine, fitness="margin", patience=20, generations=300)
    trial = attack_with(FewPixel(params), model, IMAGES, th=th, queries=6000)
    clearly, hopeless = gains > 1.15 * need, gains < need
    assert not trial.found.found[hopeless].any(), "a witness beyond the optimum cannot exist"
    assert trial.found.found[clearly].float().mean() >= 0.99
    assert clearly.sum() >= 3
    assert hopeless.sum() >= (2 if th == 1 else 0)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("optimiser", "engine"), ENGINES[:1] + ENGINES[2:3])
def test_threshold_breaks_what_a_linear_model_allows(attack_with, optimiser, engine):
    """The most that th can do is th/255 in every value, in the direction of the weights."""
    th, model = 40, linear()
    sign = (model.predict(IMAGES)[:, 1] > 0).float().mul(2).sub(1)[:, None, None, None]
    corner = (IMAGES - sign * WEIGHT.sign() * th / 255).clamp(0, 1)
    possible = model.predict(corner).argmax(1) != model.predict(IMAGES).argmax(1)
    half = model.predict(IMAGES - (IMAGES - corner) / 2).argmax(1) != model.predict(IMAGES).argmax(1)
    params = Threshold.Params(optimiser=optimiser, engine=engine, fitness="margin")
    trial = attack_with(Threshold(params), model, IMAGES, norm=Norm.LINF, th=th, queries=3000)
    assert not trial.found.found[~possible].any()
    assert trial.found.found[half].all(), "everything that half the radius can break"
    assert half.sum() >= 3


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("optimiser", "engine"), ENGINES)
@pytest.mark.parametrize("kind", [FewPixel, Threshold])
def test_every_witness_is_inside_and_every_budget_is_kept_to_the_row(attack_with, optimiser, engine, kind):
    norm = Norm.L0 if kind is FewPixel else Norm.LINF
    model = linear(0.5)
    attack = kind(kind.Params(optimiser=optimiser, engine=engine, population=10))
    trial = attack_with(attack, model, IMAGES, norm=norm, th=5, queries=137)
    assert trial.found.queries.max() <= 137
    assert trial.rows == int(trial.found.queries.sum()), "the model sees what is counted, no more"
    held = ~trial.found.found
    if engine == "lockstep":
        assert (trial.found.queries[held] == 137).all(), "an unbroken sample gets its whole budget"
    images = trial.found.images[trial.found.found]
    originals = quantise(IMAGES)[trial.found.found]
    assert (distances(norm, originals, images) <= 5).all()
    assert len(images) > 0
    with torch.no_grad():
        wrong = model.predict(images.float() / 255).argmax(1)
    assert (wrong != model.predict(IMAGES).argmax(1)[trial.found.found]).all()


def test_targeted_search_reaches_the_target_class(attack_with):
    class Three(LinearModel):
        num_classes = 3

        def predict(self, images):
            self.rows += len(images)
            return images.flatten(2).mean(2) * 30

    model = Three(WEIGHT)
    labels = model.predict(IMAGES).argmax(1)
    for step in (1, 2):
        targets = (labels + step) % 3
        trial = attack_with(
            FewPixel(FewPixel.Params(fitness="margin")),
            model,
            IMAGES,
            th=8,
            queries=3000,
            targets=targets,
            labels=labels,
        )
        assert all(trial.broken)
        assert torch.equal(model.predict(trial.found.images.float() / 255).argmax(1), targets)


# --- randomness ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimiser", ["cma-es", "de"])
@pytest.mark.parametrize("kind", [FewPixel, Threshold])
def test_results_depend_on_seed_and_sample_and_nothing_else(attack_with, optimiser, kind):
    norm, th = (Norm.L0, 2) if kind is FewPixel else (Norm.LINF, 30)
    model = linear(1.0)
    attack = kind(kind.Params(optimiser=optimiser, population=8))
    names = tuple(f"id {i}" for i in range(12))

    def run(order, seed=0):
        picked = torch.tensor(order)
        trial = attack_with(
            attack, model, IMAGES[picked], norm=norm, th=th, seed=seed, ids=tuple(names[i] for i in order), queries=400
        )
        return {i: (trial.found.queries[n].item(), trial.found.images[n]) for n, i in enumerate(order)}

    together, reversed_, alone = run(list(range(12))), run(list(range(11, -1, -1))), run([3])
    for i in range(12):
        assert together[i][0] == reversed_[i][0]
        assert torch.equal(together[i][1], reversed_[i][1])
    assert together[3][0] == alone[3][0]
    assert torch.equal(together[3][1], alone[3][1])
    other = run(list(range(12)), seed=1)
    assert any(not torch.equal(together[i][1], other[i][1]) for i in range(12))


# --- parameters ----------------------------------------------------------------------------------------------------

CHANGES = {
    FewPixel: {
        "optimiser": "de", "fitness": "margin", "population": 31, "generations": 3, "patience": 2, "sigma0": 2.0,
        "engine": "pycma", "recombination": 0.5, "repair": "clip",
    },
    Threshold: {
        "optimiser": "de", "fitness": "margin", "population": 31, "generations": 3, "patience": 1, "sigma0": 30.0,
        "rounding": "truncate", "engine": "pycma", "recombination": 0.5, "repair": "clip",
    },
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "field"), [(k, f) for k, changes in CHANGES.items() for f in changes])
def test_every_parameter_has_an_effect(attack_with, kind, field):
    """Seen in the rows that the model is asked, on samples that cannot be broken."""
    assert set(kind.Params.model_fields) == set(CHANGES[kind]), "a parameter without a test"
    norm, th = (Norm.L0, 2) if kind is FewPixel else (Norm.LINF, 20)

    class Recording(LinearModel):
        def predict(self, images):
            asked.append(images.clone())
            return super().predict(images)

    def rows(params):
        asked.clear()
        model = Recording(WEIGHT * torch.tensor(1.0), 1000.0)  # never breaks, but its margin has a slope
        attack_with(kind(parse(kind.Params, params)), model, IMAGES[:2], norm=norm, th=th, queries=300)
        return torch.cat(asked)

    asked: list[torch.Tensor] = []
    base = {"fitness": "confidence"} if field == "fitness" else {"fitness": "margin"}
    if field in ("recombination", "repair"):
        base = {**base, "optimiser": "de", "population": 20}
    before, after = rows(base), rows({**base, field: CHANGES[kind][field]})
    assert before.shape != after.shape or not torch.equal(before, after)


def test_engine_and_optimiser_must_agree():
    for optimiser, engine in itertools.product(("cma-es", "de"), ("pycma", "scipy")):
        fits = (optimiser, engine) in ENGINES
        if fits:
            parse(FewPixel.Params, {"optimiser": optimiser, "engine": engine})
        else:
            with pytest.raises(SpecError, match="canonical"):
                parse(FewPixel.Params, {"optimiser": optimiser, "engine": engine})


@pytest.mark.parametrize(
    "bad", [{"population": 3}, {"generations": 0}, {"sigma0": -1.0}, {"patience": 0}, {"popsize": 9}]
)
def test_parameters_out_of_bounds_are_refused(bad):
    with pytest.raises(SpecError):
        parse(FewPixel.Params, bad)


def test_scores_are_enough_and_probabilities_give_the_same_fitness():
    images = IMAGES[:1]
    for kind in ("margin", "confidence"):
        values = []
        for output in (Output.LOGITS, Output.PROBABILITIES):
            from charpy.engine import QueryEngine, Way

            model = linear(output=output)
            way = Way("as given", model.predict, 64, 1e-6, invariant=True)
            threat = ThreatModel.at_level(Norm.L0, 1)
            label = linear().predict(images).argmax(1)
            oracle = Oracle(QueryEngine(model, output, way, way), model, images, label, None, threat)
            values.append(float(oracle.fitness(images, torch.tensor([0]), kind)))
        assert values[0] == pytest.approx(values[1], rel=1e-3)
