"""Plugins that lie, and what becomes of each: rows 33 and 37 of the hostile inputs.

`LIES` is the table: who lies, about what, and how it comes out. What the report says of false claims in every detail
stands in tests/core/test_third_party.py.
"""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from charpy.analysis.summary import RunSummary
from charpy.errors import CharpyError
from charpy.evaluator import evaluate
from charpy.interfaces.attack import Attack, Family
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.interfaces.dataset import Dataset, Samples
from charpy.interfaces.defense import Defense
from charpy.interfaces.executor import Executor
from charpy.interfaces.metric import Metric
from charpy.interfaces.model import Model, Output
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.threat import Access, Norm

SAMPLES = 8


class Lying(Attack):
    """Says that its images are adversarial."""

    norms = frozenset({Norm.L0, Norm.LINF})
    access = Access.SCORES


class OutsideItsBall(Lying):
    """Changes more pixels than it may."""

    def run(self, task):
        return ((1 - task.images) * 255).round() / 255


class OutsideTheBox(Lying):
    """One pixel far beyond white."""

    def run(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = 99.0 * (1 - 2 * task.labels.view(-1, 1).float())
        return images


class NotANumber(Lying):
    """One pixel is NaN."""

    def run(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = torch.nan
        return images


class BetweenTwoValues(Lying):
    """One pixel that no PNG can hold."""

    def run(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = 0.5 / 255
        return images


class NotAdversarial(Lying):
    """One pixel by one step: the model is right as before."""

    def run(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] += 1 / 255
        return images


class OfAnotherShape(Lying):
    """One image for all."""

    def run(self, task):
        return task.images[:1]


class WantsGradients(Lying):
    """Declares labels, asks for gradients."""

    access = Access.LABELS

    def run(self, task):
        task.oracle.loss_and_gradient(task.images, torch.arange(len(task.images)))


class NeverStops(Lying):
    """Declares nothing of the sort, and asks for ever."""

    def run(self, task):
        while True:
            task.oracle.scores(task.images, torch.arange(len(task.images)))


class ForgesTheLedger(Lying):
    """Writes its success into the oracle's own books."""

    def run(self, task):
        ledger = task.oracle._ledger
        ledger.success[:] = 1
        ledger._best[:] = 255 - ledger._best
        ledger._distance[:] = 0


class ForgesTheQuestion(Lying):
    """Turns its images and labels into others, so that right is wrong."""

    def run(self, task):
        task.labels.copy_(1 - task.labels)
        task.images.fill_(0.5)
        task.oracle.scores(task.images, torch.arange(len(task.images)))


class OfAnotherFamily(Lying):
    """Declares that it finds the smallest radius, and takes the largest."""

    family = Family.TARGET_OPTIMALITY

    def run(self, task):
        images = task.images.clone()
        dark = (1 - task.labels).float().view(-1, 1, 1)
        images.flatten(2)[:, :, : task.threat.th] = dark
        task.oracle.scores(images, torch.arange(len(images)))


class ProvesAll(Certifier):
    """Proves whatever it is asked."""

    norms = frozenset({Norm.L0})
    arithmetic = Arithmetic.FLOAT_SOUND

    def supports(self, model, threat):
        return ""

    def certify(self, model, images, labels, threat):
        return torch.ones(len(images), dtype=torch.bool)


class ProvesMore(ProvesAll):
    """Proves more samples than there are."""

    def certify(self, model, images, labels, threat):
        return torch.ones(len(images) + 1, dtype=torch.bool)


class ProvesALittle(ProvesAll):
    """Gives probabilities for proofs."""

    def certify(self, model, images, labels, threat):
        return torch.full((len(images),), 0.99)


class Leaves(ProvesAll):
    """Ends the process when it is asked what it supports."""

    def supports(self, model, threat):
        raise SystemExit(0)


class LeavesLater(ProvesAll):
    """Ends the process when it is asked for a proof."""

    def certify(self, model, images, labels, threat):
        raise SystemExit(0)


class Brighter(Metric):
    """Gives one number for all pairs."""

    unit, range = "1", (0.0, 1.0)

    def __call__(self, images, perturbed):
        return (images - perturbed).abs().mean()


class BelowNothing(Brighter):
    """A distance below zero."""

    def __call__(self, images, perturbed):
        return -1 - (images - perturbed).abs().flatten(1).mean(1)


class Exits(Brighter):
    """Ends the process instead of measuring."""

    def __call__(self, images, perturbed):
        raise SystemExit(0)


class Wrapped(Model):
    """A model inside another."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.access, self.num_classes = inner, inner.access, inner.num_classes

    def predict(self, images):
        return self.inner.predict(images)

    def fingerprint(self):
        return {"model": "always the same"}


class MoreClasses(Defense):
    """A defended model that forgets what it declares."""

    def wrap(self, model):
        wrapped = Wrapped(model)
        wrapped.predict = lambda images: torch.cat([model.predict(images)] * 2, 1)
        return wrapped


class NoGradient(Defense):
    """Declares that gradients pass it exactly; none does."""

    def wrap(self, model):
        wrapped = Wrapped(model)
        wrapped.predict = lambda images: model.predict(images.detach())
        return wrapped


class Scores(Wrapped):
    """Declares probabilities, gives logits."""

    output = Output.PROBABILITIES

    def __init__(self, params=None):
        super().__init__(Registry().create("models", "brightness"))


class Data(Dataset):
    """Shades, with a lie."""

    name, class_names, shape = "data", ("dark", "bright"), (1, 6, 6)

    def __init__(self, params=None):
        super().__init__(params)
        self.inner = Registry().create("datasets", "shades", {"size": SAMPLES})

    def __len__(self):
        return SAMPLES

    def read(self, indices):
        return self.lie(*self.inner.read(indices))

    def fingerprint(self):
        return "always the same"


class OtherImages(Data):
    """Images of another size than declared."""

    def lie(self, images, labels, ids):
        return Samples(images[..., :5], labels, ids)


class FewerImages(Data):
    """Fewer samples than asked for."""

    def lie(self, images, labels, ids):
        return Samples(images[1:], labels, ids)


class OffTheGrid(Data):
    """Declares the 8-bit grid, and lies beside it."""

    def lie(self, images, labels, ids):
        return Samples(images * 0.999, labels, ids)


class OneId(Data):
    """One id for all."""

    def lie(self, images, labels, ids):
        return Samples(images, labels, ids[:1] * len(ids))


class Forgets(Executor):
    """Computes nothing, and says that it is done."""

    def map(self, compute, units):
        return iter(())


LIES = {
    # an attack about success, norm, box, grid, shape, access, budget, counts, labels, family
    OutsideItsBall: ("attacks", "outside the l0 ball"),
    OutsideTheBox: ("attacks", "outside the box"),
    NotANumber: ("attacks", "NaN or infinity"),
    BetweenTwoValues: ("attacks", "off the 8-bit grid"),
    NotAdversarial: ("attacks", "classified correctly"),
    OfAnotherShape: ("attacks", "one image per sample"),
    WantsGradients: ("attacks", "the attack asked for GRADIENTS"),
    NeverStops: ("attacks", "held"),
    ForgesTheLedger: ("attacks", "a candidate was not confirmed: outside the l0 ball"),
    ForgesTheQuestion: ("attacks", "held"),
    OfAnotherFamily: ("attacks", "at its own level only"),
    # a certifier about its proofs
    ProvesAll: ("certifiers", "unsound"),
    ProvesMore: ("certifiers", "not bool"),
    ProvesALittle: ("certifiers", "not bool"),
    Leaves: ("certifiers", "SystemExit"),
    LeavesLater: ("certifiers", "SystemExit"),
    # a metric about its form and its range
    Exits: ("metrics", "SystemExit"),
    Brighter: ("metrics", "the metric's answer has the wrong form"),
    BelowNothing: ("metrics", "outside the range that it declares"),
    # a defence about classes and gradients, a model about its output
    MoreClasses: ("defenses", "number of classes"),
    NoGradient: ("defenses", "no gradients"),
    Scores: ("models", "declares probabilities but gives none"),
    # a dataset about shape, length, grid and ids; an executor about its work
    OtherImages: ("datasets", "wrong shape"),
    FewerImages: ("datasets", "differ in number"),
    OffTheGrid: ("datasets", "8-bit grid"),
    OneId: ("datasets", "names two samples"),
    Forgets: ("executors", "no attack ran on it"),
}


def run_with(liar, path):
    """The assessment of a run in which `liar` takes part, or the text of what it was refused with."""
    hook = LIES[liar][0]
    registry = Registry()
    registry.add(SimpleNamespace(**{f"charpy_{hook}": lambda: {"liar": liar}}), "a liar", "liar-package", "6.6")
    lies, battery = [{"kind": "liar"}], [{"kind": "corner_pixels"}]
    document = {
        "data": {"kind": "liar"} if hook == "datasets" else {"kind": "shades", "params": {"size": SAMPLES}},
        "models": [
            {"kind": "liar", "name": "liar"}
            if hook == "models"
            else {"reference": "brightness", "defenses": lies if hook == "defenses" else []}
        ],
        "threats": [
            {"norm": "l0", "levels": [3, 12], "queries": 30, "battery": lies if hook == "attacks" else battery}
        ],
        "metrics": lies if hook == "metrics" else [],
        "certify": {"certifiers": lies if hook == "certifiers" else []},
        "executor": {"kind": "liar" if hook == "executors" else "inline"},
    }
    try:
        evaluate(parse(RunSpec, document), path, registry=registry)
    except CharpyError as error:
        return f"exit code {error.exit_code}: {error}"
    with RunFile.open(path) as run:
        return RunSummary.of(run).assessments[0]


def reasons(path) -> str:
    with RunFile.open(path) as run:
        return " | ".join(row.reason for _, _, row in run.results(0))


@pytest.mark.parametrize("liar", LIES, ids=lambda liar: liar.__name__)
def test_a_lie_is_caught(liar, tmp_path):
    """No lie becomes a figure that is `supported`, and each is named."""
    hook, caught = LIES[liar]
    path = tmp_path / "run.charpy"
    found = run_with(liar, path)
    if isinstance(found, str):
        assert caught in found
        assert not found.startswith("exit code 0")
        assert hook not in ("attacks", "certifiers", "executors"), "one that lies mid-way must not cost the whole run"
        return
    first, last = found.threats
    assert "liar-package 6.6" in found.plugins.values()
    if hook == "attacks":
        assert first.broken == 0
        assert last.broken == (SAMPLES if liar is OfAnotherFamily else 0)
    if liar in (OutsideItsBall, OutsideTheBox, NotANumber, BetweenTwoValues, NotAdversarial):
        assert sum(part.count for part in found.rejected if caught in part.reason) == 2 * SAMPLES
        assert {part.attack for part in found.rejected} == {"liar"}
    elif liar in (OfAnotherShape, WantsGradients, Forgets):
        assert found.status == "invalid"
        assert caught in found.status_reason
    elif liar in (NeverStops, ForgesTheQuestion):
        assert (first.held, last.held) == (SAMPLES, SAMPLES)
        assert max(part.queries_max for part in found.attacks) <= 30
        assert {threat.grade for threat in found.threats} == {"weak"}
    elif liar is ForgesTheLedger:
        assert caught in reasons(path)
    elif liar is ProvesAll:
        assert found.status == "unsound"
        assert last.broken > 0
    elif hook == "certifiers":
        assert not any(threat.proven for threat in found.threats)
        assert any(caught in part.reason for part in found.proofs)
    elif liar is NoGradient:
        assert found.model.access == "SCORES"
        assert any(caught in note for note in found.model.notes)
    else:
        assert liar is OfAnotherFamily


def test_there_are_twenty_at_least():
    assert len(LIES) >= 20
