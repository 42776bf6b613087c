"""A stranger's package: installed by pip, used by name in a spec, kept apart when it fails or lies: rows 33, 34."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from charpy.analysis.summary import RunSummary
from charpy.errors import DuplicateNameError, IdentityError, PluginError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.interfaces.attack import Attack
from charpy.interfaces.executor import Executor
from charpy.outcome import Outcome
from charpy.plugins import Registry
from charpy.runfile import RunFile
from charpy.specfile import load_spec
from charpy.specs import RunSpec, parse
from charpy.threat import Access, Norm

SPEC = """
data: {kind: shades, params: {size: 16}}
models:
  - reference: brightness
    defenses: [{kind: bit_reduction, params: {bits: 5}}]
threats:
  - norm: l0
    levels: [2, 8]
    queries: 60
    battery:
      - {kind: corner_pixels, params: {colours: 2}}
metrics: [{kind: changed_share}, {kind: l0_pixels}]
"""


def summary_of(path):
    with RunFile.open(path) as run:
        return RunSummary.of(run).assessments[0]


def test_all_five_kinds_of_components_are_used_by_name_in_a_spec(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    evaluate(load_spec(tmp_path / "spec.yaml"), tmp_path / "run.charpy")
    found = summary_of(tmp_path / "run.charpy")
    assert found.status == "valid"
    assert found.clean.count == found.clean.total == 16
    last = found.threats[-1]
    assert last.broken > 0
    assert last.metrics["changed_share"] == pytest.approx(last.metrics["l0_pixels"] / 36)
    assert found.attacks[0].params == {"colours": 2}
    owners = {name.partition("/")[2]: owner for name, owner in found.plugins.items()}
    for kind in ("corner_pixels", "shades", "changed_share", "bit_reduction"):
        assert owners[kind] == "charpy-corner-attack 1.2.0"


# A plugin that lies (row 33)

THREAT = {"norm": "l0", "levels": [3], "queries": 40}


class Liar(Attack):
    """Returns images that it claims to be adversarial."""

    norms = frozenset({Norm.L0, Norm.LINF})
    access = Access.SCORES

    def claim(self, task):
        raise NotImplementedError

    def run(self, task):
        return self.claim(task)


class OutsideL0(Liar):
    """Changes one pixel too many."""

    def claim(self, task):
        images = task.images.clone()
        images.flatten(2)[:, :, : task.threat.th + 1] = 1 - images.flatten(2)[:, :, : task.threat.th + 1].round()
        return images


class EveryPixel(Liar):
    """Inverts the whole image, which changes the answer: a success that is not allowed."""

    def claim(self, task):
        return ((1 - task.images) * 255).round() / 255


class OutsideLinf(Liar):
    """Goes one step too far."""

    def claim(self, task):
        towards = 1 - 2 * task.labels.view(-1, 1, 1, 1).float()
        return task.images + (task.threat.th + 1) / 255 * towards


class OutsideTheBox(Liar):
    """Leaves [0, 1]."""

    def claim(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = 200.0 * (1 - 2 * task.labels.view(-1, 1).float())
        return images


class NotFinite(Liar):
    """Holds NaN, which no comparison refuses."""

    def claim(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = torch.nan
        return images


class OffGrid(Liar):
    """Lies between two 8-bit values."""

    def claim(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] = 0.5 / 255
        return images


class NotAdversarial(Liar):
    """Changes one pixel by one step, and the model still answers correctly."""

    def claim(self, task):
        images = task.images.clone()
        images[:, :, 0, 0] += 1 / 255
        return images


LIES = {
    OutsideL0: ("l0", "outside the l0 ball: 4 pixels"),
    EveryPixel: ("l0", "outside the l0 ball: 3"),  # 36 pixels, or 35 where one value is its own inverse
    OutsideLinf: ("linf", "outside the linf ball: 4 1/255 steps"),
    OutsideTheBox: ("l0", "outside the box"),
    NotFinite: ("l0", "NaN or infinity"),
    OffGrid: ("l0", "off the 8-bit grid"),
    NotAdversarial: ("l0", "classified correctly"),
}


def lie(lies, path, norm, **spec):
    registry = Registry()
    registry.add(SimpleNamespace(charpy_attacks=lambda: {"liar": lies}), "a liar", "liar-package", "6.6")
    threat = {**THREAT, "norm": norm, "battery": [{"kind": "liar"}]}
    document = {"data": {"kind": "shades"}, "models": [{"reference": "brightness"}], "threats": [threat], **spec}
    evaluate(parse(RunSpec, document), path, registry=registry)
    return summary_of(path)


@pytest.mark.parametrize("lies", LIES)
def test_row_33_a_false_claim_is_rejected_and_the_plugin_named(tmp_path, lies):
    norm, reason = LIES[lies]
    found = lie(lies, tmp_path / "run.charpy", norm)
    (threat,) = found.threats
    assert threat.broken == 0
    assert threat.held == 40
    assert found.status == "valid"
    assert sum(part.count for part in found.rejected) == 40
    for part in found.rejected:
        assert part.attack == "liar"
        assert part.norm == norm
        assert reason in part.reason
    assert found.attacks[0].rejected_claims == 40
    assert "liar-package 6.6" in found.plugins.values()
    with RunFile.open(tmp_path / "run.charpy") as run:
        assert not list(run.witnesses(0))


class Honest(Liar):
    """A true claim about an image that it never showed the oracle: th pixels in the corner that counts."""

    def claim(self, task):
        images = task.images.clone()
        corner = (1 - task.labels).float().view(-1, 1, 1)
        images.flatten(2)[:, :, : task.threat.th] = corner
        return images


def test_a_true_claim_is_believed_once_the_judge_has_seen_it(tmp_path):
    found = lie(
        Honest, tmp_path / "run.charpy", "l0", threats=[{**THREAT, "levels": [12], "battery": [{"kind": "liar"}]}]
    )
    assert found.threats[0].broken == 40
    assert not found.rejected
    assert found.attacks[0].queries_max == 0


class Clean(Liar):
    """Returns what it was given: no claim at all."""

    def claim(self, task):
        return task.images.clone()


class Vandal(Liar):
    """Writes into what it was given."""

    def claim(self, task):
        task.images.fill_(0)
        task.labels.fill_(0)


@pytest.mark.parametrize("quiet", [Clean, Vandal])
def test_what_claims_nothing_breaks_nothing(tmp_path, quiet):
    found = lie(quiet, tmp_path / "run.charpy", "l0")
    assert (found.threats[0].broken, found.threats[0].held) == (0, 40)
    assert not found.rejected


class WrongShape(Liar):
    """Returns one image too few."""

    def claim(self, task):
        return task.images[1:]


class WrongThing(Liar):
    """Returns text."""

    def claim(self, task):
        return "all of them"


class Raises(Liar):
    """Fails half-way."""

    def claim(self, task):
        task.oracle.labels(task.images[:1], torch.zeros(1, dtype=torch.int64))
        raise RuntimeError("no more ideas")


class Leaves(Liar):
    """Ends the process as if all were well."""

    def claim(self, task):
        raise SystemExit(0)


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (Raises, "no more ideas"),
        (Leaves, "SystemExit"),
        (WrongShape, "one image per sample"),
        (WrongThing, "one image per sample"),
    ],
)
def test_an_attack_that_fails_makes_its_samples_invalid_never_robust(tmp_path, broken, cause):
    found = lie(broken, tmp_path / "run.charpy", "l0")
    (threat,) = found.threats
    assert (threat.broken, threat.held, threat.invalid) == (0, 0, 40)
    assert found.status == "invalid"
    assert cause in found.status_reason


class Greedy(Liar):
    """Asks for more than its budget, and for gradients that its threat does not allow."""

    access = Access.LABELS

    def claim(self, task):
        rows = torch.arange(len(task.images)).repeat(100)
        answers = task.oracle.labels(task.images[rows], rows)
        assert (answers[:40] >= 0).all()
        assert (answers[-1000:] == -1).all()


def test_a_budget_is_not_overrun(tmp_path):
    found = lie(Greedy, tmp_path / "run.charpy", "l0")
    assert found.threats[0].held == 40, found.status_reason
    assert found.attacks[0].queries_max == 40
    assert found.attacks[0].rows == 40 * 40


# Names and versions (row 34)


def test_row_34_two_plugins_with_one_name_are_refused_before_anything_is_written(tmp_path):
    registry = Registry()
    for package in ("first-package", "second-package"):
        registry.add(SimpleNamespace(charpy_attacks=lambda: {"twin": Clean}), package, package, "1.0")
    document = {
        "data": {"kind": "shades"},
        "models": [{"reference": "brightness"}],
        "threats": [{**THREAT, "battery": [{"kind": "twin"}]}],
    }
    with pytest.raises(DuplicateNameError, match=r"first-package 1.0.*second-package 1.0"):
        evaluate(parse(RunSpec, document), tmp_path / "run.charpy", registry=registry)
    assert not (tmp_path / "run.charpy").exists()


def test_row_34_a_plugin_that_fails_to_import_hides_nothing(tmp_path):
    registry = Registry()
    lost = SimpleNamespace(
        charpy_models=lambda: {"a-lost-model": "module_that_is_nowhere:Model"},
        charpy_datasets=lambda: {"a-lost-set": "module_that_is_nowhere:Data"},
    )
    registry.add(lost, "lost", "lost-package", "0.1")
    (tmp_path / "net.py").write_text("def scores(images):\n    return images.flatten(1)[:, :2]\n")
    document = {
        "data": {"kind": "shades", "params": {"size": 4}},
        "models": [{"reference": "brightness"}],
        "threats": [{**THREAT, "battery": [{"kind": "corner_pixels"}]}],
    }
    evaluate(parse(RunSpec, document), tmp_path / "run.charpy", registry=registry)
    with pytest.raises(UnknownNameError):
        evaluate(
            parse(RunSpec, {**document, "models": [{"reference": "nothing-of-the-kind"}]}),
            tmp_path / "other.charpy",
            registry=registry,
        )
    with pytest.raises(PluginError, match="lost-package"):
        registry.load("models", "a-lost-model")


def test_a_plugin_of_another_version_cannot_resume_a_run(tmp_path):
    def registry_with(version):
        registry = Registry()
        registry.add(SimpleNamespace(charpy_attacks=lambda: {"quiet": Clean}), "quiet", "quiet-package", version)
        return registry

    document = {
        "data": {"kind": "shades"},
        "models": [{"reference": "brightness"}],
        "threats": [{**THREAT, "battery": [{"kind": "quiet"}]}],
    }
    spec = parse(RunSpec, document)
    evaluate(spec, tmp_path / "run.charpy", registry=registry_with("1.0"))
    evaluate(spec, tmp_path / "run.charpy", registry=registry_with("1.0"))
    with pytest.raises(IdentityError, match=r"quiet-package 1.0 -> quiet-package 1.1"):
        evaluate(spec, tmp_path / "run.charpy", registry=registry_with("1.1"))


# The other hooks, from a stranger


class Backwards(Executor):
    """Computes the units of a batch in reverse; what is found must not depend on it."""

    def map(self, compute, units):
        done = [(unit, compute(unit)) for unit in reversed(list(units))]
        yield from reversed(done)


def test_an_executor_and_the_events_of_a_stranger(tmp_path):
    from charpy.analysis.document import comparable
    from charpy.hookspecs import hookimpl

    heard = []

    class Stranger:
        def charpy_executors(self):
            return {"backwards": Backwards}

        def charpy_certifiers(self):
            return {}

        @hookimpl
        def charpy_run_started(self, spec, units):
            heard.append(("started", spec.seed, units))

        @hookimpl
        def charpy_outcomes(self, unit, outcomes):
            heard.append(("outcomes", unit["th"], sum(outcomes.values())))
            assert set(outcomes) == {outcome.value for outcome in Outcome}

        @hookimpl
        def charpy_run_finished(self, path):
            heard.append(("finished", Path(path).name, None))

    registry = Registry()
    registry.add(Stranger(), "stranger")
    document = {
        "data": {"kind": "shades"},
        "models": [{"reference": "brightness"}],
        "threats": [{"norm": "l0", "levels": [2, 6], "queries": 20, "battery": [{"kind": "corner_pixels"}]}],
        "shard": 16,
    }
    evaluate(parse(RunSpec, document), tmp_path / "inline.charpy", registry=registry)
    assert heard[0] == ("started", 0, 6)
    assert heard[-1] == ("finished", "inline.charpy", None)
    assert sum(count for what, th, count in heard if what == "outcomes" and th == 2) == 40
    evaluate(
        parse(RunSpec, {**document, "executor": {"kind": "backwards"}}), tmp_path / "back.charpy", registry=registry
    )
    found = [
        comparable(json.loads(summary_of(tmp_path / name).model_dump_json()))
        for name in ("inline.charpy", "back.charpy")
    ]
    for document in found:
        del document["spec"], document["plugins"]
    assert found[0] == found[1]
