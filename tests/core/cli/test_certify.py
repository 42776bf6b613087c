"""`charpy certify` and `charpy assess --certify`: the bracket on the terminal and in the report, and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from charpy.analysis.document import Assessment

SMALL = ("digits-cnn", "--data", "digits", "--samples", "4", "--levels", "1", "--queries", "500")


def document(folder: str) -> Assessment:
    return Assessment.model_validate_json((Path(folder) / "report.json").read_text(encoding="utf-8"))


@pytest.mark.slow
@pytest.mark.parametrize("command", ["certify", "assess"])
def test_every_sample_is_proven_or_broken_and_both_are_said(command, charpy):
    done = charpy(command, *SMALL, "--battery", "standard", "--out", "out")
    assert done.code == 0
    found = document("out")
    for threat in found.threats:
        assert threat.held == 0
        assert threat.proven > 0
    said = " ".join(done.out.split())
    for part in found.brackets:
        assert part.sentences[0] in said
    assert {part.certifier for part in found.proofs} == {"few_pixels", "crown"}


def test_no_time_no_proofs(charpy):
    assert charpy("assess", *SMALL, "--battery", "fast", "--certify", "0", "--out", "out").code == 0
    assert document("out").proofs == ()


def test_certifiers_are_chosen_by_name_and_gates_judge_what_they_prove(charpy):
    options = ("--certifiers", "crown", "--norms", "linf", "--out", "out")
    assert charpy("certify", *SMALL, *options).code == 0
    assert charpy("certify", *SMALL, *options, "--gate", "linf th=1 proven >= 0.05").code == 0
    assert charpy("certify", *SMALL, *options, "--gate", "linf th=1 proven >= 0.999").code == 1
    assert {part.certifier for part in document("out").proofs} == {"crown"}


def test_an_unknown_certifier_is_refused_with_the_nearest_name(charpy):
    done = charpy("certify", *SMALL, "--certifiers", "crwn", "--out", "out")
    assert done.code == 2
    assert "crown" in done.err


def test_negative_seconds_are_refused(charpy):
    done = charpy("certify", *SMALL, "--seconds", "-1", "--out", "out")
    assert done.code == 2
    assert "seconds" in done.err


def test_a_threat_without_a_ball_is_refused(charpy, tmp_path):
    done = charpy("certify", "digits-cnn", "--data", "digits", "--norms", "l0,unrestricted", "--out", "out")
    assert done.code == 2
    assert "nothing can be proven without a ball" in done.err
    assert "charpy assess --norms unrestricted" in done.err
    assert not (tmp_path / "out").exists()
