"""Two folders of pictures of the same names."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from charpy.errors import CharpyError
from charpy.perception.sets import originals_of_data, read_sets
from charpy.plugins import registry


def picture(path, level, size=(5, 4)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(size, level, np.uint8)).save(path)


def test_pairs_by_name_without_subfolders(tmp_path):
    for number in range(3):
        picture(tmp_path / "a" / f"{number}.png", 10 * number)
        picture(tmp_path / "b" / f"{number}.png", 10 * number + 5)
    originals, group = read_sets(tmp_path / "a", tmp_path / "b", registry())
    assert originals.ids == group.originals == group.changed == group.pairs == ("0.png", "1.png", "2.png")
    assert originals.shape == (1, 5, 4)
    assert originals.class_names == ()
    assert originals.name == "a and b"
    first, changed = group.read(torch.tensor([2, 0]))
    assert (first * 255).round()[:, 0, 0, 0].tolist() == [20, 0]
    assert (changed * 255).round()[:, 0, 0, 0].tolist() == [25, 5]
    assert group.look is None


def test_pairs_by_name_in_subfolders_of_classes(tmp_path):
    for name, level in (("cat/1.png", 10), ("dog/1.png", 50)):
        picture(tmp_path / "a" / name, level)
        picture(tmp_path / "b" / name, level + 1)
    originals, group = read_sets(tmp_path / "a", tmp_path / "b", registry())
    assert group.pairs == ("cat/1.png", "dog/1.png")
    assert originals.class_names == ("cat", "dog")
    assert originals.labels.tolist() == [0, 1]
    first, changed = group.read(torch.arange(2))
    assert ((changed - first) * 255).round().unique().tolist() == [1]


def test_what_it_refuses(tmp_path):
    picture(tmp_path / "a" / "1.png", 1)
    picture(tmp_path / "a" / "2.png", 1)
    picture(tmp_path / "b" / "1.png", 1)
    picture(tmp_path / "c" / "1.png", 1, (6, 6))
    picture(tmp_path / "c" / "2.png", 1, (6, 6))
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_text("no picture")
    for first, second, said in (
        ("a", "b", ["no partner", "b: ", "no 2.png", "every file of"]),
        ("b", "a", ["no partner", "b: ", "no 2.png"]),
        ("a", "c", ["differ in shape", "1 x 6 x 6", "1 x 5 x 4"]),
        ("a", "none", ["--changed", "no folder is here"]),
        ("none", "a", ["--originals", "no folder is here"]),
        ("a", "empty", ["empty: folder holds no pictures"]),
        ("a", "broken", ["broken/1.png"]),
    ):
        with pytest.raises(CharpyError) as refused:
            read_sets(tmp_path / first, tmp_path / second, registry())
        for part in said:
            assert part in str(refused.value), (first, second, part)
        assert "charpy-" not in str(refused.value)


def test_samples_are_drawn_as_a_run_draws_them():
    some = originals_of_data("digits", {}, 7, registry())
    more = originals_of_data("digits", {}, 12, registry())
    assert some.ids == more.ids[:7]
    assert some.ids != tuple(sorted(some.ids))
    assert len(originals_of_data("digits", {}, "all", registry()).ids) > 300
    assert len(originals_of_data("digits", {}, None, registry()).ids) == 100


def test_a_small_dataset_is_taken_whole_where_no_number_is_given(tmp_path):
    np.savez(tmp_path / "few.npz", images=np.zeros((4, 8, 8, 1), np.uint8), labels=[0, 0, 1, 1])
    few = originals_of_data("npz", {"path": str(tmp_path / "few.npz")}, None, registry())
    assert len(few.ids) == 4
