"""The material of the other tests is what it says: a study that can be written, and texts that do harm."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from charpy_plugins.study.studyfile import read_study, write_study


def test_a_study_by_hand_is_a_whole_study(studies, tmp_path):
    study = studies.build()
    write_study(study, tmp_path / "digits.study")
    assert read_study(tmp_path / "digits.study").document == study.document
    assert len(study.document.stimuli) == 90
    assert all(len(study.document.of(name)) == 30 for name in studies.CONDITIONS)


def test_conditions_change_as_many_pixels_as_they_say(studies):
    study = studies.build(originals=12)
    pictures = {
        (one.condition, one.original): np.asarray(Image.open(io.BytesIO(study.images[one.id, 1]))).astype(int)
        for one in study.document.stimuli
    }
    for (condition, original), shown in pictures.items():
        gap = np.abs(shown - pictures["benign", original])
        assert np.count_nonzero(gap) == (0 if condition == "benign" else studies.LEVEL)
        if condition == "imperceptible":
            assert gap.max() == 15


def test_the_payloads_are_as_many_as_promised(hostile):
    for name, count in (("XSS", 30), ("SQL", 10), ("CSV", 10)):
        assert len(set(getattr(hostile, name))) == count
    live = [text for text in hostile.XSS if hostile.MARK in text or hostile.ELSEWHERE in text or "{{" in text]
    assert live == list(hostile.XSS)
