"""`--gate` and `gates`: the exit code, what is said, and that a gate may be added to a run that is there."""

from __future__ import annotations

import json

import pytest

SPEC = """
data: {kind: shades}
models: [{reference: "models:scores"}]
threats: [{norm: l0, levels: [1, 3], queries: 20, battery: corner_pixels}]
"""

MODELS = """
import torch

def scores(images):
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1)

def nan_under_attack(images):
    answer = scores(images)
    mean = images.flatten(1).mean(1)
    answer[(mean > 0.43) & (mean < 0.57)] = torch.nan
    return answer
"""


@pytest.fixture
def again(charpy, finished, quick, tmp_path):
    """The command that made `finished` once more, on a copy of its run file, with more options."""

    def run(*options):
        import shutil

        (tmp_path / "again").mkdir(exist_ok=True)
        shutil.copy(finished / "run.charpy", tmp_path / "again")
        return charpy("assess", "digits-cnn", "--data", "digits", "--out", "again", *quick, *options)

    return run


def gates_of(folder):
    return json.loads((folder / "report.json").read_text(encoding="utf-8"))["gates"]


def test_a_gate_added_to_a_finished_run_is_judged_and_computes_nothing(again, tmp_path, finished):
    done = again("--gate", "clean_accuracy >= 0.5", "--gate", "invalid lower bound <= 0")
    assert done.code == 0, done.err
    assert "gate passed: clean_accuracy lower bound >= 0.5: " in done.out
    assert [gate["passed"] for gate in gates_of(tmp_path / "again")] == [True, True]
    assert (tmp_path / "again" / "run.charpy").read_bytes() == (finished / "run.charpy").read_bytes()
    page = (tmp_path / "again" / "report.html").read_text(encoding="utf-8")
    assert page.count("invalid lower bound &lt;= 0") == 1
    assert 'href="#m1-gates"' in page


def test_a_gate_that_fails_is_1(again, tmp_path):
    done = again("--gate", "clean_accuracy >= 0.99", "--gate", "clean_accuracy >= 0.1")
    assert done.code == 1
    assert "gate FAILED: clean_accuracy lower bound >= 0.99: lower bound" in done.out
    assert [gate["passed"] for gate in gates_of(tmp_path / "again")] == [False, True]


def test_without_a_gate_there_is_no_section(again, tmp_path):
    assert again().code == 0
    assert "-gates" not in (tmp_path / "again" / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        ("linf th=5 robust_accuracy >= 0.1", "those of linf are 1, 3"),
        ("linf th=3 robust_acuracy >= 0.1", "did you mean 'robust_accuracy'?"),
        ("clean_accuracy >= 0.1 of digits-cn", "did you mean 'digits-cnn'?"),
    ],
)
def test_what_cannot_be_judged_is_refused_before_anything_is_computed(charpy, tmp_path, gate, said):
    done = charpy("assess", "digits-cnn", "--data", "digits", "--levels", "1,3", "--out", "out", "--gate", gate)
    assert done.code == 2
    assert said in done.err
    assert done.err.startswith("charpy: --gate: ")
    assert ": :" not in done.err
    assert "found {" not in done.err  # the whole spec says nothing
    assert not (tmp_path / "out").exists()


def test_report_judges_the_gates_of_the_run_and_more(charpy, finished, tmp_path):
    done = charpy("report", finished, "--out", "out", "--gate", "l0 th=2 robust_accuracy >= 0.1")
    assert done.code == 1
    assert "the run has no level 2 of l0; it has 1, 3" in done.out
    assert charpy("report", finished, "--out", "out", "--gate", "clean_accuracy >= 0.1").code == 0
    for gate, said in (("clean >= 1", "is no norm and no figure"), ("clean_accuracy >= 0.1 of x", "unknown model")):
        done = charpy("report", finished, "--out", "out", "--gate", gate)
        assert done.code == 2
        assert said in done.err


def test_gates_of_a_spec_stay_with_the_run_and_are_no_part_of_its_identity(charpy, tmp_path):
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    spec = tmp_path / "spec.yaml"
    spec.write_text(SPEC + "gates: ['l0 th=3 robust_accuracy >= 0.99']\n", encoding="utf-8")
    assert charpy("run", "spec.yaml", "--out", "out").code == 1
    assert charpy("report", "out").code == 1
    spec.write_text(SPEC + "gates: ['l0 th=3 robust_accuracy >= 0.01 even if weak']\n", encoding="utf-8")
    done = charpy("run", "spec.yaml", "--out", "out")
    assert done.code == 0, done.out + done.err
    assert charpy("run", "spec.yaml", "--out", "out", "--gate", "clean_accuracy >= 0.999").code == 1


def test_no_evidence_wins_over_a_gate_that_fails(charpy, tmp_path):
    (tmp_path / "models.py").write_text(MODELS, encoding="utf-8")
    options = ["--data", "shades", "--norms", "l0", "--levels", "1", "--battery", "corner_pixels", "--queries", "100"]
    done = charpy(
        "assess", "models:nan_under_attack", *options, "--out", "out", "--gate", "l0 th=1 robust_accuracy >= 0.1"
    )
    assert done.code == 3
    assert "gate FAILED" in done.out
    assert "the run is invalid" in done.out


def test_formats_may_be_chosen_when_a_run_is_made(again, tmp_path):
    assert again("--format", "json").code == 0
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"run.charpy", "report.json"}
    done = again("--format", "htm")
    assert done.code == 2
    assert "did you mean html?" in done.err
