"""A study's answers: what they say, and errors that name what, where and what was expected."""

from __future__ import annotations

import pytest
import torch

from charpy.analysis.perception.labels import ALIKE, DIFFERENT, UNKNOWN, labels_of
from charpy.errors import CharpyError, SpecError, UnknownNameError
from charpy.perception.answers import read_answers
from charpy.perception.groups import Look, PairGroup


def group(name, ids, look=None, changed=None):
    def read(rows):
        return torch.zeros(len(rows), 1, 4, 4), torch.ones(len(rows), 1, 4, 4)

    return PairGroup(name, "", ids, changed or (name,) * len(ids), read, look)


GROUPS = [
    group("turned", ("a", "b", "c"), Look.ALIKE),
    group("pgd (Linf)", ("a", "b")),
    group("pgd, perceptible (L2)", ("a",)),
    group("changed", ("x.png", "y.png"), changed=("x.png", "y.png")),
]


def written(tmp_path, text):
    path = tmp_path / "answers.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_yes_no_and_votes(tmp_path):
    path = written(
        tmp_path,
        "\ufeffgroup,Pair,Same\nx,a|turned,yes\nx,b|turned,NO\nx,c|turned,7/10\n,x.png,2 / 5\n\n,y.png,3/6\n",
    )
    found = read_answers(path, GROUPS)
    assert found.looks == {
        "a|turned": Look.ALIKE, "b|turned": Look.DIFFERENT, "c|turned": Look.ALIKE, "x.png": Look.DIFFERENT,
    }  # fmt: skip
    assert found.undecided == ("y.png",)


def test_by_file_names_or_by_original_and_group(tmp_path):
    path = written(tmp_path, "original,changed,same\nx.png,x.png,yes\na,pgd (Linf),no\n")
    assert read_answers(path, GROUPS).looks == {"x.png": Look.ALIKE, "a|pgd (Linf)": Look.DIFFERENT}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["line 1", "an empty file", "columns `pair` and `same`"]),
        ("pair,answer\na|turned,yes\n", ["line 1", "lack a column", "pair, answer"]),
        ("pair,same,same\na|turned,yes,no\n", ["'same' twice"]),
        ("pair,same\n", ["no answer is here"]),
        ("pair,same\na|turned,yes\nb|truned,no\n", ["line 3", "unknown pair 'b|truned'", "b|turned", "pairs.csv"]),
        ("original,changed,same\nx.png,y.png,yes\n", ["line 2", "unknown pair", "'y.png'"]),
        ("pair,same\na|turned,maybe\n", ["line 2", "same = 'maybe'", "7/10"]),
        ("pair,same\na|turned,3/0\n", ["line 2", "same = '3/0'"]),
        ("pair,same\na|turned,4/3\n", ["line 2", "same = '4/3'"]),
        ("pair,same\na|turned,\n", ["line 2", "same = ''"]),
        ("pair,same\na|turned,yes\n\na|turned,yes\n", ["line 4", "answered twice", "first in line 2"]),
        ("pair,same\na|turned,3/6\na|turned,yes\n", ["line 3", "answered twice"]),
        ("pair,same\na|turned,yes,1\n", ["line 2", "another length", "3", "2, as the first line"]),
        ('pair,same\n"a|turned,yes\n', ["no CSV file"]),
    ],
)
def test_what_it_refuses(tmp_path, text, said):
    with pytest.raises(CharpyError) as refused:
        read_answers(written(tmp_path, text), GROUPS)
    for part in (*said, "answers.csv"):
        assert part in str(refused.value), part


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(CharpyError, match="cannot be read"):
        read_answers(tmp_path / "none.csv", GROUPS)
    (tmp_path / "bytes.csv").write_bytes(b"pair,same\n\xff\xfe,yes\n")
    with pytest.raises(CharpyError, match="UTF-8"):
        read_answers(tmp_path / "bytes.csv", GROUPS)


def test_the_proxy_labels_what_was_made_and_names_itself():
    labels = labels_of(GROUPS)
    assert labels.source == "proxy"
    assert labels.values.tolist() == [ALIKE] * 3 + [UNKNOWN] * 5
    assert labels.text.startswith("By a proxy, not by people")
    assert "Taken to look alike: turned." in labels.text
    assert "Without a label: pgd (Linf); pgd, perceptible (L2); changed." in labels.text


def test_a_stated_look_is_named_as_stated():
    labels = labels_of(GROUPS, different=["pgd"], alike=["changed"])
    assert labels.values.tolist() == [ALIKE] * 3 + [DIFFERENT] * 3 + [ALIKE] * 2
    assert "Stated to look different: pgd (Linf); pgd, perceptible (L2)." in labels.text
    only = labels_of(GROUPS, different=["pgd, perceptible"])
    assert only.values.tolist() == [ALIKE] * 3 + [UNKNOWN] * 2 + [DIFFERENT] + [UNKNOWN] * 2
    assert labels_of(GROUPS, different=["turned"]).values.tolist()[:3] == [DIFFERENT] * 3


def test_answers_replace_the_proxy(tmp_path):
    path = written(tmp_path, "pair,same\nb|turned,no\na|pgd (Linf),yes\nc|turned,1/2\n")
    labels = labels_of(GROUPS, path)
    assert labels.source == "answers"
    assert labels.values.tolist() == [UNKNOWN, DIFFERENT, UNKNOWN, ALIKE] + [UNKNOWN] * 4
    assert "2 pairs are labelled by the answers in answers.csv" in labels.text
    assert labels.notes == ("1 pair has as many answers for as against, and so no label",)


def test_stated_looks_that_are_refused(tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean turned"):
        labels_of(GROUPS, alike=["tuned"])
    with pytest.raises(SpecError, match="both ways"):
        labels_of(GROUPS, alike=["pgd"], different=["pgd (Linf)"])
    with pytest.raises(SpecError, match="two sources"):
        labels_of(GROUPS, written(tmp_path, "pair,same\na|turned,yes\n"), alike=["pgd"])
