from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from charpy.checks import Duplicates, check_samples
from charpy.errors import SpecError
from charpy.pixels import quantise
from charpy.specs import parse
from charpy.threat import Grid
from charpy_plugins.datasets.digits import Digits, split_rows


def of(split: str) -> Digits:
    return Digits(Digits.Params.model_validate({"split": split}))


def rows(data: Digits) -> list[int]:
    return [int(name.removeprefix("digits/")) for name in data.read(range(len(data))).ids]


def test_every_value_is_the_grid_point_nearest_to_v_over_16() -> None:
    found = of("all").read(range(1797))
    source = load_digits()
    expected = torch.from_numpy(source.images / 16)[:, None]
    assert (found.images.double() - expected).abs().max() <= 0.5 / 255 + 1e-6
    assert found.labels.tolist() == source.target.tolist()
    steps = quantise(found.images).numpy()
    assert len(np.unique(steps)) == 17
    assert [int(steps[source.images[:, None] == v][0]) for v in (0, 1, 8, 15, 16)] == [0, 16, 128, 239, 255]


def test_the_splits_share_no_row_and_make_up_the_whole() -> None:
    train, test = rows(of("train")), rows(of("test"))
    assert sorted(train + test) == list(range(1797)) == rows(of("all"))
    assert (len(train), len(test)) == (1201, 596)
    assert test == sorted(test)


def test_the_test_split_is_the_default_and_holds_a_third_of_every_class() -> None:
    data = Digits()
    assert data.params.split == "test"
    counts = np.bincount(data.read(range(len(data))).labels.numpy())
    assert counts.tolist() == [size // 3 for size in np.bincount(load_digits().target)]


def test_a_sample_has_the_same_id_in_every_split() -> None:
    everything, part = of("all"), of("test")
    row = rows(part)[17]
    assert torch.equal(part.read([17]).images, everything.read([row]).images)


def test_the_split_does_not_depend_on_which_rows_come_first() -> None:
    labels = np.array([0, 1] * 30)
    test = split_rows(labels, "test")
    assert len(test) == 20
    assert len({row // 20 for row in test}) > 1, "not the first rows"


def test_an_evaluation_takes_it_and_no_image_is_a_copy() -> None:
    data = of("all")
    samples = data.read(range(len(data)))
    check_samples(samples, shape=(1, 8, 8), num_classes=10, grid=Grid.EIGHT_BIT, where="digits")
    counter = Duplicates()
    counter.add(samples.images)
    assert counter.unique == 1797
    assert any("v * 255 / 16" in note for note in data.notes)


def test_fingerprints_tell_the_splits_apart() -> None:
    assert len({of(split).fingerprint() for split in ("all", "train", "test")}) == 3
    assert of("test").fingerprint() == of("test").fingerprint()


@pytest.mark.parametrize("params", [{"split": "validation"}, {"spilt": "test"}, {"split": None}])
def test_row_16_other_parameters_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        parse(Digits.Params, params)


@pytest.mark.parametrize(
    ("reference", "params"), [("digits", {}), ("Digits", None), ("mnist", None), ("./digits", None)]
)
def test_accepts(reference: str, params: dict[str, Any] | None) -> None:
    assert Digits.accepts(reference, None) == params
