"""`charpy study build`: which images become stimuli, that each is what it is said to be, that nobody is lost unseen."""

from __future__ import annotations


def test_the_shared_study(study):
    document = study.document
    assert [condition.name for condition in document.conditions] == ["benign", "imperceptible", "perceptible"]
    assert all(len(document.of(condition.name)) == 30 for condition in document.conditions)
