"""Proofs in whole runs: the bracket, planted unsound certifiers, failures, budgets, resume, and the search."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch

from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.certifier import Arithmetic, Certifier
from charpy.plugins import Registry
from charpy.reports.html import HtmlReport
from charpy.reports.json_report import JsonReport
from charpy.runfile import RunFile
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearClassifier
from charpy.threat import Norm

GENERATOR = torch.Generator().manual_seed(6)
WEIGHT = torch.randn(3, 1, 4, 4, generator=GENERATOR)
IMAGES = torch.randint(0, 256, (24, 1, 4, 4), generator=GENERATOR, dtype=torch.uint8)
MODEL = LinearClassifier(WEIGHT)
LABELS = MODEL.predict(IMAGES / 255).argmax(1)
SMALLEST = {
    norm: MODEL.smallest(norm, IMAGES / 255, LABELS) * (1 if norm is Norm.L0 else 255) for norm in (Norm.L0, Norm.LINF)
}
EXACT = [{"kind": "few_pixels"}, {"kind": "crown"}]


class Gullible(Certifier):
    """Proves everything."""

    norms = frozenset(Norm)
    arithmetic = Arithmetic.REAL

    def supports(self, model, threat):
        return ""

    def certify(self, model, images, labels, threat):
        return torch.ones(len(images), dtype=torch.bool)


class Careless(Gullible):
    """Proves what a few random images do not break."""

    def certify(self, model, images, labels, threat):
        return torch.arange(len(images)) % 2 == 0


class OfTheVote(Gullible):
    """Says that its proofs are of something else."""

    of = "the smoothed model"


class Raising(Gullible):
    """Fails."""

    def certify(self, model, images, labels, threat):
        raise RuntimeError("no proof today")


class Misshapen(Gullible):
    """Answers for one sample only."""

    def certify(self, model, images, labels, threat):
        return torch.ones(1)


class Slow(Gullible):
    """Takes a tenth of a second, and proves nothing."""

    def certify(self, model, images, labels, threat):
        time.sleep(0.1)
        return torch.zeros(len(images), dtype=torch.bool)


class Choosy(Gullible):
    """Supports nothing."""

    def supports(self, model, threat):
        return "only round images"


def registry() -> Registry:
    class Extra:
        @hookimpl
        def charpy_certifiers(self):
            kinds = (Gullible, Careless, OfTheVote, Raising, Misshapen, Slow, Choosy)
            return {kind.__name__.lower(): kind for kind in kinds}

    found = Registry()
    found.add(Extra(), "extra")
    return found


def run(path: Path, certifiers, *, levels=(1, 3), norms=("l0", "linf"), seconds=None, battery="fast"):
    levels = levels if isinstance(levels, str) else list(levels)
    threats = [{"norm": norm, "levels": levels, "battery": battery, "queries": 200} for norm in norms]
    fields = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": threats}
    spec = parse(RunSpec, {**fields, "certify": {"certifiers": certifiers, "seconds": seconds}})
    data, target = ArrayDataset(IMAGES.numpy(), LABELS.numpy()), path / "run.charpy"
    subject = Subject("linear", "test", lambda: LinearClassifier(WEIGHT))
    evaluate(spec, target, subjects=[subject], dataset=data, registry=registry())
    return target


def assessed(path: Path):
    with RunFile.open(path) as file:
        return RunSummary.of(file).assessments[0]


def test_the_bracket_closes_on_a_linear_model(tmp_path):
    found = assessed(run(tmp_path, EXACT))
    assert found.status == "valid"
    for threat in found.threats:
        smallest = SMALLEST[Norm(threat.norm)]
        assert threat.proven == int((smallest > threat.th + 1e-3).sum())
        assert threat.broken + threat.proven == 24
        assert threat.held == 0
    for part in found.brackets:
        for row in part.samples:
            assert row.broken is None or row.proven < row.broken
    said = found.brackets[0].sentences[0]
    first = found.threats[0]
    assert said.startswith(f"{first.proven} of 24 images ")
    assert said.endswith(f"{first.broken} {'is' if first.broken == 1 else 'are'} broken; 0 are undecided")


@pytest.mark.parametrize("kind", ["gullible", "careless"])
def test_an_unsound_certifier_is_caught(kind, tmp_path):
    path = run(tmp_path, [{"kind": kind}], levels=(1, 3, 10))
    found = assessed(path)
    assert found.status == "unsound"
    assert "contradicted by a witness" in found.status_reason
    assert "unsound" in found.verdict


def test_a_proof_of_something_else_contradicts_nothing_and_is_labelled(tmp_path):
    found = assessed(run(tmp_path, [{"kind": "ofthevote"}]))
    assert found.status == "valid"
    assert {part.detail["of"] for part in found.proofs} == {"the smoothed model"}
    assert all(threat.broken + threat.proven == 24 for threat in found.threats)


@pytest.mark.parametrize(("kind", "reason"), [("raising", "no proof today"), ("misshapen", "not bool")])
def test_a_certifier_that_fails_proves_nothing_and_is_named(kind, reason, tmp_path):
    found = assessed(run(tmp_path, [{"kind": kind}, *EXACT]))
    assert found.status == "valid"
    assert sum(threat.proven for threat in found.threats) > 0, "the others go on"
    failed = [part for part in found.proofs if part.certifier == kind]
    assert failed
    assert all(reason in part.reason and part.proven == 0 for part in failed)


def test_a_certifier_that_does_not_support_the_model_is_not_asked(tmp_path):
    found = assessed(run(tmp_path, [{"kind": "choosy"}]))
    assert [(part.th, part.asked, part.reason) for part in found.proofs] == [(0, 0, "only round images")] * 2
    assert found.brackets == ()


def test_the_time_of_a_norm_ends_its_proofs(tmp_path):
    started = time.monotonic()
    found = assessed(run(tmp_path, [{"kind": "slow"}], norms=("linf",), seconds=0.15))
    assert sum(part.asked for part in found.proofs) < 24
    assert time.monotonic() - started < 30
    assert sum(threat.proven for threat in found.threats) == 0


@pytest.mark.slow
def test_the_search_finds_the_largest_proven_level_of_each_sample(tmp_path):
    found = assessed(run(tmp_path, EXACT, levels="minimal"))
    for part in found.brackets:
        smallest = SMALLEST[Norm(part.norm)]
        last = 16 if part.norm == "l0" else 127
        for row, exact in zip(part.samples, smallest.tolist(), strict=True):
            largest = min(last, int(exact) - 1 if part.norm == "l0" else int(exact - 1e-3))
            assert row.proven == largest, (part.norm, row, exact)


def test_the_same_command_again_asks_nothing_and_changes_nothing(forged, tmp_path):
    path = run(tmp_path, EXACT)
    with RunFile.open(path) as file:
        before = JsonReport().render(RunSummary.of(file))
    with forged(path) as file:
        file.execute("UPDATE meta SET value = 'false' WHERE key = 'finished'")
    run(tmp_path, EXACT)
    with RunFile.open(path) as file:
        after = JsonReport().render(RunSummary.of(file))
    first, second = (json.loads(text)["proofs"] for text in (before, after))
    assert first == second, "seconds, too: nothing was asked again"


def test_the_page_says_what_is_proven(tmp_path):
    path = run(tmp_path, EXACT)
    with RunFile.open(path) as file:
        page = HtmlReport().write(RunSummary.of(file), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "What is proven" in page
    assert "1-pixel-safe" in page
    assert "few_pixels" in page


def test_nothing_is_certified_unless_it_is_asked_for(tmp_path):
    found = assessed(run(tmp_path, []))
    assert (found.proofs, found.brackets) == ((), ())
