"""A threat in which each sample has its own level: whole runs against the exact optimum, and files that are refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from charpy.analysis.comparison.compare import compare
from charpy.analysis.outcomes import Evidence, outcomes_of
from charpy.analysis.summary import RunSummary
from charpy.arrays import ArrayDataset
from charpy.epsfile import EpsData, EpsFile, EpsLevels, EpsSettings, eps_bytes
from charpy.errors import IdentityError, SpecError
from charpy.evaluator import evaluate
from charpy.hookspecs import hookimpl
from charpy.interfaces.attack import Attack, Family
from charpy.outcome import Outcome
from charpy.own_levels import own_levels
from charpy.plugins import Registry
from charpy.reports.compare_view import section_views
from charpy.reports.html import HtmlReport
from charpy.reports.terminal import plain_table
from charpy.runfile import RunFile
from charpy.specfile import load_spec
from charpy.specs import OwnLevels, RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Access, Goal, Norm

GENERATOR = torch.Generator().manual_seed(11)
IMAGES = torch.randint(60, 196, (40, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
MEDIAN = float((IMAGES / 255 * WEIGHT).flatten(1).sum(1).median()) + 0.01  # no sample lies on the boundary
LABELS = ((IMAGES / 255 * WEIGHT).flatten(1).sum(1) > MEDIAN).long()
DATA = ArrayDataset(IMAGES.numpy(), LABELS.numpy())
IDS = DATA.read(range(40)).ids
GAPS = ((IMAGES / 255 * WEIGHT).flatten(1).sum(1) - MEDIAN).abs() / WEIGHT.abs().sum() * 255
OWN = torch.randint(0, 20, (40,), generator=GENERATOR)
OWN = torch.where((GAPS - OWN).abs() < 2, OWN + 4, OWN)
"""Of each sample; the exact optimum, in levels, is its gap: no value of these images is near the end of the box. An
attack that misses the optimum by one level still breaks every sample that can be broken."""


def table(**changes) -> dict:
    base = {"schema": "charpy/eps/1", "norm": "linf", "data": {"name": "x", "fingerprint": DATA.fingerprint()}}
    return {**base, "samples": dict(zip(IDS, OWN.tolist(), strict=True)), **changes}


def write(folder, content, name="eps.json"):
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder / name


def spec_of(path, battery=("fgm",), **fields) -> RunSpec:
    threat = {
        "norm": "linf", "levels": {"path": str(path)}, "queries": 200, "battery": [{"kind": kind} for kind in battery],
    }  # fmt: skip
    base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": [threat], "shard": 16}
    return parse(RunSpec, {**base, **fields})


def run(folder, spec):
    subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MEDIAN))
    evaluate(spec, folder / "run.charpy", subjects=[subject], dataset=DATA)
    return RunSummary.of(RunFile.open(folder / "run.charpy"))


@pytest.mark.parametrize("battery", [("fgm",), ("fab",), ("fgm", "fab")])
@pytest.mark.parametrize("carry", [True, False])
def test_each_sample_breaks_by_the_exact_optimum_within_its_own_level(tmp_path, battery, carry):
    summary = run(tmp_path, spec_of(write(tmp_path, table()), battery, carry=carry))
    (assessment,) = summary.assessments
    (threat,) = assessment.threats
    expected = int((GAPS < OWN).sum())  # no gap is a whole number
    assert 3 < expected < 37
    assert (threat.norm, threat.th, threat.broken, threat.held) == ("linf", 0, expected, 40 - expected)
    assert assessment.own_levels == {"linf": dict(zip(IDS, OWN.tolist(), strict=True))}
    assert not assessment.safe
    with RunFile.open(tmp_path / "run.charpy") as file:
        near = {sample for sample, _, distance in file.witness_distances(0, "linf") if distance <= OWN[sample]}
        asked = [(key.th, row.sample) for key, _, row in file.results(0) if key.step == 0]
    assert near == set(torch.nonzero(GAPS < OWN)[:, 0].tolist())
    if battery[0] == "fgm":
        assert sorted(asked) == sorted((int(th), sample) for sample, th in enumerate(OWN) if th > 0)
    assert any("level 0" in warning for warning in assessment.warnings) == bool((OWN == 0).any())


def test_certificates_are_asked_at_the_own_levels(tmp_path):
    spec = spec_of(write(tmp_path, table()), certify={"certifiers": [{"kind": "crown"}]})
    assessment = run(tmp_path, spec).assessments[0]
    (threat,) = assessment.threats
    zeros = int((OWN == 0).sum())
    assert threat.broken == int((GAPS < OWN).sum())
    assert (threat.proven, threat.held) == (40 - threat.broken - zeros, zeros)
    assert "proven within their own levels" in assessment.brackets[0].sentences[0]


def test_reports_say_that_each_image_has_its_own_level(tmp_path):
    summary = run(tmp_path, spec_of(write(tmp_path, table())))
    page = HtmlReport().render(summary).decode()
    assert "th = own" in page
    assert "each image at its own" in page
    assert "th = 0" not in page.replace("&nbsp;", " ").replace("\u00a0", " ")
    assert "There is no curve: each image has a level of its own." in page
    assert "moving each image within its own Linf ball breaks" in summary.assessments[0].verdict
    assert "own" in plain_table(summary.assessments[0])


def test_another_table_is_another_run_and_another_place_is_not(tmp_path):
    spec = spec_of(write(tmp_path, table()))
    run(tmp_path, spec)
    (tmp_path / "moved").mkdir()
    run(tmp_path, spec_of(write(tmp_path / "moved", table())))
    changed = dict(zip(IDS, (OWN + 1).tolist(), strict=True))
    with pytest.raises(IdentityError, match="levels"):
        run(tmp_path, spec_of(write(tmp_path, table(samples=changed), "other.json")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "this is no JSON"),
        ("[" * 100_000, "this is no JSON"),
        ("[]", "this is no file of levels"),
        (table(schema="charpy/eps/2"), "charpy/eps/1"),
        (table(norm="l2"), "levels are of another norm"),
        (table(data={"fingerprint": "x"}), "levels are of another data.fingerprint"),
        (table(samples={}), "has no level"),
        (table(samples=[1]), "maps no sample to a level"),
        (table(samples=dict.fromkeys(IDS, 1.5)), "has no such level"),
        (table(samples=dict.fromkeys(IDS, True)), "has no such level"),
        (table(samples=dict.fromkeys(IDS, -1)), "has no such level"),
        (table(samples=dict.fromkeys(IDS, 128)), r"0\.\.127, whole"),
    ],
)
def test_files_that_are_refused_before_anything_is_written(tmp_path, content, message):
    with pytest.raises(SpecError, match=message):
        run(tmp_path, spec_of(write(tmp_path, content)))
    assert not (tmp_path / "run.charpy").exists()


@pytest.mark.parametrize("path", ["nowhere.json", ".", "zero\0byte.json", "~nobody-of-this-name/eps.json"])
def test_a_file_that_is_not_there_is_refused_with_the_command_that_makes_one(tmp_path, path):
    with pytest.raises(SpecError, match="charpy distances"):
        run(tmp_path, spec_of(path if path[0] == "~" else tmp_path / path))


def test_a_targeted_verdict_says_that_one_class_was_tried(tmp_path):
    spec = spec_of(write(tmp_path, table()))
    threat = spec.threats[0].model_copy(update={"goal": Goal.TARGETED})
    summary = run(tmp_path, spec.model_copy(update={"threats": (threat,)}))
    assert "one wrong class was tried for each image" in summary.assessments[0].verdict


def test_a_path_in_a_spec_file_is_relative_to_it(tmp_path):
    (tmp_path / "spec.yaml").write_text(
        "data: {kind: digits}\nmodels: [{reference: digits-cnn}]\nthreats: [{norm: linf, levels: {path: eps.json}}]\n"
    )
    assert load_spec(tmp_path / "spec.yaml").threats[0].levels.path == str(tmp_path / "eps.json")


def test_a_contest_needs_levels_for_all(tmp_path):
    with pytest.raises(SpecError, match="levels that are given"):
        spec_of(tmp_path / "eps.json", contest=True)


def test_outcomes_follow_the_own_levels():
    """One sample each: broken just inside, held by a far witness, unattacked, own level 0, proven, clean error."""
    nobody = np.zeros(0, np.int64)
    evidence = Evidence(
        valid=np.ones(6, bool),
        correct=np.array([True] * 5 + [False]),
        witnesses=(np.array([0, 1]), np.array([9, 9]), np.array([5.0, 5.1])),
        invalid=(nobody, nobody),
        attacked=(np.array([0, 1, 4]), np.array([5, 5, 5])),
        proven=np.array([0, 0, 0, 0, 7, 0]),
        own=np.array([5, 5, 5, 0, 7, 5]),
    )
    expected = [Outcome.BROKEN, Outcome.HELD, Outcome.INVALID, Outcome.HELD, Outcome.PROVEN, Outcome.CLEAN_ERROR]
    for carry in (True, False):
        outcomes = outcomes_of("linf", (0,), evidence, carry=carry)
        assert [[o for o in Outcome if outcomes.mask(o)[i, 0]] for i in range(6)] == [[o] for o in expected]


class Stops(Attack):
    """Finds its own radius, were it not for its error."""

    norms, access, family = frozenset(Norm), Access.LABELS, Family.TARGET_SUCCESS

    def run(self, task):
        raise ValueError("stopped")


@pytest.mark.parametrize("levels", ["own", [3, 10]])
def test_an_attack_that_stops_at_the_largest_level_shows_nothing_of_smaller_ones(tmp_path, levels):
    class Extra:
        @hookimpl
        def charpy_attacks(self):
            return {"stops": Stops}

    plugins = Registry()
    plugins.add(Extra(), "extra")
    own = {"path": str(write(tmp_path, table()))}
    threat = {"norm": "linf", "levels": own if levels == "own" else levels, "battery": [{"kind": "stops"}]}
    base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": [threat]}
    subject = Subject("linear", "test", lambda: LinearModel(WEIGHT, -MEDIAN))
    path = tmp_path / "run.charpy"
    evaluate(parse(RunSpec, base), path, subjects=[subject], dataset=DATA, registry=plugins)
    with RunFile.open(path) as file:
        (assessment,) = RunSummary.of(file).assessments
    asked = int((OWN > 0).sum()) if levels == "own" else 40
    assert [(part.invalid, part.held) for part in assessment.threats] == [(asked, 40 - asked)] * len(assessment.threats)
    assert f"{asked} of 40 samples are invalid (attack stops failed: ValueError: stopped)" in assessment.verdict


def test_an_invalid_result_at_a_larger_level_than_its_own_makes_a_sample_invalid():
    evidence = Evidence(
        valid=np.ones(3, bool),
        correct=np.ones(3, bool),
        witnesses=(np.array([1]), np.array([4]), np.array([3.5])),
        invalid=(np.array([0, 1]), np.array([9, 9])),
        attacked=(np.array([0, 1, 2]), np.array([4, 4, 4])),
        own=np.array([4, 4, 4]),
    )
    outcomes = outcomes_of("linf", (0,), evidence)
    assert [int(outcomes.mask(o)[:, 0].argmax()) for o in (Outcome.INVALID, Outcome.BROKEN, Outcome.HELD)] == [0, 1, 2]


@pytest.mark.parametrize("more", [0, 5])
def test_attacks_are_held_against_each_other_at_the_same_own_levels_only(tmp_path, more):
    runs = []
    for title, battery, levels in [("a", ("fgm",), OWN), ("b", ("pgd",), OWN + more)]:
        (tmp_path / title).mkdir()
        samples = dict(zip(IDS, levels.tolist(), strict=True))
        runs.append(
            run(tmp_path / title, spec_of(write(tmp_path / title, table(samples=samples)), battery, name=title))
        )
    document = compare([summary.run for summary in runs])
    (attacks,) = next(section.tables for section in section_views(document) if section.name == "attacks")
    assert {row[1].text for row in attacks.rows} == {"own"}
    assert len(document.duels) == (0 if more else 1)


def test_the_lowest_figure_is_of_the_same_own_levels(tmp_path):
    """Two models, and a third that had smaller levels, so that less of it broke."""
    runs = []
    for title, bias, levels in [("a", 0.0, OWN), ("b", 0.3, OWN), ("c", 0.0, OWN.clamp_max(3))]:
        (tmp_path / title).mkdir()
        samples = dict(zip(IDS, levels.tolist(), strict=True))
        spec = spec_of(write(tmp_path / title, table(samples=samples)), models=[{"reference": title}], name=title)
        subject = Subject(title, "test", lambda bias=bias: LinearModel(WEIGHT, bias - MEDIAN))
        evaluate(spec, tmp_path / title / "run.charpy", subjects=[subject], dataset=DATA)
        runs.append(RunFile.open(tmp_path / title / "run.charpy"))
    cells = {cell.entry: cell for cell in compare(runs).dual}
    assert cells["c"].broken.value < min(cells["a"].broken.value, cells["b"].broken.value)
    assert cells["c"].mark == ""
    assert "lowest" in {cells["a"].mark, cells["b"].mark}


def test_a_file_that_is_too_large_for_levels_is_refused_before_it_is_parsed(tmp_path, monkeypatch):
    path = write(tmp_path, table())
    monkeypatch.setattr("charpy.own_levels.MOST_BYTES", path.stat().st_size)
    own_levels(Norm.LINF, OwnLevels(path=str(path)), DATA, IDS)
    monkeypatch.setattr("charpy.own_levels.MOST_BYTES", path.stat().st_size - 1)
    with pytest.raises(SpecError, match="the file is too large") as refused:
        own_levels(Norm.LINF, OwnLevels(path=str(path)), DATA, IDS)
    assert (refused.value.where, refused.value.expected) == (str(path), f"at most {path.stat().st_size - 1} bytes")


def test_a_file_that_charpy_writes_is_one_that_a_run_reads(tmp_path):
    levels = EpsLevels(samples=40, th=0, q1=1.0, median=2.0, q3=3.0, most=24)
    made = EpsFile(
        norm=Norm.LINF, rule="half", data=EpsData(name="x", fingerprint=DATA.fingerprint()),
        settings=EpsSettings(per_class=None, seed=0, against="sample"), classes={"0": levels}, all=levels,
        samples=dict(zip(IDS, OWN.tolist(), strict=True)),
    )  # fmt: skip
    (tmp_path / "eps.json").write_bytes(eps_bytes(made))
    assert own_levels(Norm.LINF, OwnLevels(path=str(tmp_path / "eps.json")), DATA, IDS) == tuple(OWN.tolist())
    with pytest.raises(ValidationError, match="greater than or equal"):
        EpsFile.model_validate({**json.loads(eps_bytes(made)), "samples": {"a": -1}})
