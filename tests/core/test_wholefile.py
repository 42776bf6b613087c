"""Files written whole: what a reader finds while one is written, and after a failure."""

from __future__ import annotations

import pytest

from charpy.wholefile import replacing


def test_the_old_file_stands_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("ne")
        assert path.read_text() == "old"
        partial.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("old", ["old", None])
@pytest.mark.parametrize("raised", [OSError("full"), KeyboardInterrupt()])
def test_a_failure_leaves_what_was_there_and_nothing_beside_it(tmp_path, old, raised):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def write():
        with replacing(path) as partial:
            partial.write_text("half")
            raise raised

    with pytest.raises(type(raised)):
        write()
    assert [file.read_text() for file in tmp_path.iterdir()] == ([old] if old else [])


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_folder_in_the_way_is_an_error_and_is_left(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(OSError, match=r"a\.txt"), replacing(tmp_path / "a.txt") as partial:
        partial.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
