"""The pairs of runs: originals, each attack's nearest witness, names that tell attacks apart."""

from __future__ import annotations

import pytest
import torch

from charpy.analysis.perception.witnesses import read_runs
from charpy.errors import RunFileError
from charpy.pixels import distances, quantise
from charpy.runfile import RunFile
from charpy.threat import Grid, Norm


def gaps(group, norm):
    first, changed = group.read(torch.arange(len(group)))
    return distances(norm, quantise(first), quantise(changed)).tolist()


def test_each_attack_under_each_norm_is_a_group_of_its_nearest_witnesses(synthetic, tmp_path):
    plan = synthetic.Plan(
        "frail",
        finds=(
            synthetic.Find("l0", 2, 3, 3),
            synthetic.Find("l0", 2, 1, 1),
            synthetic.Find("l0", 4, 5, 2, step=1),
            synthetic.Find("linf", 2, 10, 7),
        ),
    )
    with synthetic.build(tmp_path / "run.charpy", [plan], carry=False) as run:
        originals, groups, titles = read_runs([run])
    assert titles == ("synthetic",)
    assert [group.name for group in groups] == ["few-de (L0)", "few-cma (L0)", "thr-de (Linf)"]
    assert set(originals.ids) == {"id-2", "id-4"}
    assert originals.labels.tolist() == [0, 1]
    assert originals.class_names == ("cat", "dog")
    assert groups[0].originals == ("id-2",)
    assert gaps(groups[0], Norm.L0) == [1]
    assert gaps(groups[1], Norm.L0) == [2]
    assert gaps(groups[2], Norm.LINF) == [7]
    assert all(group.look is None for group in groups)


def test_the_mode_of_an_attack_is_in_its_name(synthetic, forged, tmp_path):
    path = tmp_path / "run.charpy"
    synthetic.build(path, [synthetic.FRAIL]).close()
    with forged(path) as run:
        run.execute("""UPDATE units SET detail = '{"params": {"mode": "perceptible"}}' WHERE attack = 'thr-de'""")
        run.execute("""UPDATE units SET kind = attack WHERE attack = 'thr-de'""")
    with RunFile.open(path) as run:
        _, groups, _ = read_runs([run])
    names = [group.name for group in groups]
    assert "thr-de, perceptible (Linf)" in names
    assert "thr-cma (Linf)" in names


def test_an_attack_that_was_given_a_name_keeps_it(synthetic, forged, tmp_path):
    path = tmp_path / "run.charpy"
    synthetic.build(path, [synthetic.FRAIL]).close()
    with forged(path) as run:
        run.execute("""UPDATE units SET detail = '{"params": {"mode": "perceptible"}}' WHERE attack = 'thr-de'""")
        run.execute("""UPDATE units SET kind = 'ssim_pgd' WHERE attack = 'thr-de'""")
    with RunFile.open(path) as run:
        _, groups, _ = read_runs([run])
    assert "thr-de (Linf)" in {group.name for group in groups}


def test_models_and_runs_are_told_apart(synthetic, tmp_path):
    def names(*plans, runs=1):
        opened = []
        for number in range(runs):
            folder = tmp_path / f"{len(plans)}-{runs}-{number}"
            folder.mkdir()
            opened.append(synthetic.build(folder / "run.charpy", plans, norms=("l0",)))
        _, groups, _ = read_runs(opened)
        for run in opened:
            run.close()
        assert len({group.name for group in groups}) == len(groups)
        return {group.name for group in groups}

    assert names(synthetic.FRAIL) == {"few-de (L0)", "few-cma (L0)"}
    assert {"few-de (L0), frail", "few-de (L0), sick"} <= names(synthetic.FRAIL, synthetic.SICK)
    assert sum(name.startswith("few-de (L0), synthetic") for name in names(synthetic.FRAIL, runs=2)) == 2


def test_off_the_grid_nothing_is_rounded(synthetic, tmp_path):
    plan = synthetic.Plan("frail", finds=(synthetic.Find("linf", 2, 3, 2.5),))
    with synthetic.build(tmp_path / "run.charpy", [plan], norms=("linf",), grid=Grid.NONE) as run:
        originals, groups, _ = read_runs([run])
    assert originals.grid is Grid.NONE
    first, changed = groups[0].read(torch.tensor([0]))
    assert float((changed - first).abs().max() * 255) == pytest.approx(2.5, abs=1e-4)


def test_runs_that_cannot_be_used(synthetic, tmp_path):
    with synthetic.build(tmp_path / "none.charpy", [synthetic.Plan("strong")]) as strong:
        with pytest.raises(RunFileError, match="--data DATASET"):
            read_runs([strong])
        with synthetic.build(tmp_path / "some.charpy", [synthetic.FRAIL]) as some:
            assert {len(group) for group in read_runs([strong, some])[1]} <= {1, 2, 3}
            some.set_meta(dataset={**some.meta("dataset"), "fingerprint": "other"})
            with pytest.raises(RunFileError, match="different data"):
                read_runs([strong, some])
    new = RunFile.create(tmp_path / "new.charpy", {"name": "new"}, {})
    with new, pytest.raises(RunFileError, match="nothing was assessed yet"):
        read_runs([new])
    with synthetic.build(tmp_path / "bad.charpy", [synthetic.FRAIL]) as bad:
        bad.set_meta(models=[{}])
        with pytest.raises(RunFileError, match="damaged"):
            read_runs([bad])
