"""`charpy study build`: which images become stimuli, that each is what it is said to be, that nobody is lost unseen."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from charpy.cli.runs import opened_runs
from charpy.errors import CharpyError, DataError, ModelError, RunFileError, SpecError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.pixels import unpack
from charpy.plugins import registry
from charpy.runfile.integrity import seal
from charpy.specs import RunSpec, parse
from charpy.threat import Grid
from charpy_plugins.study.build.build import build
from charpy_plugins.study.build.pick import _best
from charpy_plugins.study.build.spec import read_build_spec
from charpy_plugins.study.model import model_of
from charpy_plugins.study.studyfile import write_study

THREE = ("benign", "imperceptible", "perceptible")


def built(paths, conditions=THREE, **options):
    if isinstance(conditions, dict):
        options, conditions = {**options, "conditions": conditions}, None
    spec = read_build_spec(None, {"questions": 1, **options}, conditions)
    with opened_runs(paths if isinstance(paths, list) else [paths]) as runs:
        return build(runs, spec, "test", registry())


def decoded(study, stimulus, size):
    with Image.open(io.BytesIO(study.images[stimulus.id, size])) as image:
        return np.asarray(image)


def predicted(images):
    """What digits-cnn says of grey images, 0..255."""
    batch = torch.from_numpy(np.stack(images).astype(np.float32))[:, None] / 255
    return registry().create("models", "digits-cnn").predict(batch).argmax(1).tolist()


def whole_run(path):
    """Of every original: its image, and its witnesses by attack, `(H, W)`, 0..255."""
    with opened_runs([path]) as (run,):
        names = {row.sample: row.id for row in run.samples(0)}
        originals, witnesses = {}, {}
        for found in run.witnesses(0):
            original = unpack(run.original(found.sample), (1, 8, 8), Grid.EIGHT_BIT)[0].numpy()
            originals[names[found.sample]] = original
            witness = unpack(found.image, (1, 8, 8), Grid.EIGHT_BIT)[0].numpy()
            witnesses.setdefault(names[found.sample], {}).setdefault(found.attack, []).append(witness)
    return originals, witnesses


def by_original(document, condition):
    return {stimulus.original: stimulus for stimulus in document.of(condition)}


def lost(document, name):
    condition = next(condition for condition in document.conditions if condition.name == name)
    return {loss.reason: loss.originals for loss in condition.losses}


def check_nobody_is_lost_unseen(document):
    for condition in document.conditions:
        names = [stimulus.original for stimulus in document.of(condition.name)]
        names += [original for loss in condition.losses for original in loss.originals]
        assert len(names) == len(set(names)) == condition.candidates


@pytest.fixture
def changed(study_run, tmp_path):
    """A copy of the run, after a change by SQL."""

    def make(*statements, name="changed.charpy"):
        path = shutil.copy(study_run, tmp_path / name)
        with closing(sqlite3.connect(path)) as run, run:
            for statement, *values in statements:
                assert run.execute(statement, values).rowcount > 0
        seal(Path(path))  # as if it had been written so
        return path

    return make


def meta_of(path, key):
    with opened_runs([path]) as (run,):
        return run.meta(key)


@pytest.fixture(scope="session")
def real_run(tmp_path_factory):
    """Off the 8-bit grid, on the sphere of L2 2: rounding takes many witnesses beyond it."""
    path = tmp_path_factory.mktemp("real-run") / "run.charpy"
    battery = [{"kind": "ssim_sphere", "params": {"mode": mode, "steps": 8}} for mode in THREE[1:]]
    spec = {
        "contest": True,
        "grid": "none",
        "data": {"kind": "digits", "samples": 40},
        "models": [{"reference": "digits-cnn"}],
        "threats": [{"norm": "l2", "levels": [510], "battery": battery}],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("charpy.engine._MEASURE_SECONDS", 0.05)
        evaluate(parse(RunSpec, spec), path)
    return path


def test_the_same_originals_in_every_condition_and_nobody_lost_unseen(built):
    document = built.document
    assert [condition.name for condition in document.conditions] == list(THREE)
    originals = [set(by_original(document, name)) for name in THREE]
    assert originals[0] == originals[1] == originals[2]
    assert len(originals[0]) == 30
    check_nobody_is_lost_unseen(document)
    assert {loss.reason for condition in document.conditions for loss in condition.losses} == {
        "not among the 30 drawn with seed 1"
    }
    assert [stimulus.id for stimulus in document.stimuli] == sorted(stimulus.id for stimulus in document.stimuli)
    threat = document.source.threat
    assert threat is not None
    assert (threat.norm, threat.level) == ("linf", 60)


def test_every_image_is_what_its_condition_says_at_every_size(built):
    document = built.document
    for size in document.sizes:
        images = [decoded(built, stimulus, size) for stimulus in document.stimuli]
        assert {image.shape for image in images} == {(8 * size, 8 * size)}
        small = [np.asarray(Image.fromarray(image).reduce(size)) for image in images]  # Pillow's means
        for stimulus, answer in zip(document.stimuli, predicted(small), strict=True):
            assert (answer == stimulus.label) == (stimulus.condition == "benign")
            assert answer == stimulus.prediction


def test_benign_images_are_unchanged_and_distances_are_those_of_the_pngs(built, study_run):
    originals, _ = whole_run(study_run)
    for stimulus in built.document.stimuli:
        image, original = decoded(built, stimulus, 1).astype(int), originals[stimulus.original].astype(int)
        if stimulus.condition == "benign":
            assert (image == original).all()
            assert stimulus.distance is None
        else:
            assert stimulus.distance == np.abs(image - original).max() <= 60
            assert stimulus.metrics["linf"] == pytest.approx(stimulus.distance, rel=1e-6)
            assert stimulus.metrics["l0_pixels"] == (image != original).sum()
            assert stimulus.metrics["l2"] == pytest.approx(np.sqrt(((image - original) ** 2).sum()), rel=1e-5)


def test_the_witness_with_the_highest_and_the_lowest_ssim(built, study_run):
    originals, witnesses = whole_run(study_run)
    ssim = registry().create("metrics", "ssim")
    for name, best in (("imperceptible", max), ("perceptible", min)):
        for original, stimulus in by_original(built.document, name).items():
            found = [image for images in witnesses[original].values() for image in images]
            assert len(found) == 2
            pairs = torch.from_numpy(np.stack([originals[original], *found])).float()[:, None] / 255
            values = ssim(pairs[:1].expand(len(found), -1, -1, -1), pairs[1:]).tolist()
            assert stimulus.metrics["ssim"] == pytest.approx(best(values))
            assert (decoded(built, stimulus, 1) == found[values.index(best(values))]).all()


def test_the_same_again_and_another_seed(study_run, tmp_path):
    for name in ("one", "two"):
        write_study(built(study_run, stimuli=10).study, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    first, other = (
        set(by_original(built(study_run, stimuli=10, seed=seed).study.document, "benign")) for seed in (0, 1)
    )
    assert first != other
    assert len(first) == len(other) == 10


def test_ids_need_the_key_of_the_run(study_run, changed):
    """The same images in the same conditions have other ids in the study of a run with another id."""
    other = changed(("UPDATE meta SET value = '\"another\"' WHERE key = 'run_id'",))
    first, second = (built(path).study.document for path in (study_run, other))
    assert {stimulus.digests for stimulus in first.stimuli} == {stimulus.digests for stimulus in second.stimuli}
    assert not {stimulus.id for stimulus in first.stimuli} & {stimulus.id for stimulus in second.stimuli}


def smooth_failures(images, labels):
    """Names -> sizes at which Pillow's enlargement by Lanczos, brought back by means, is classified correctly again."""
    found = {}
    for size in (2, 4):
        seen = []
        for image in images.values():
            large = Image.fromarray(image.astype(np.float32)).resize((8 * size, 8 * size), Image.Resampling.LANCZOS)
            seen.append(np.asarray(large).clip(0, 255).round().reshape(8, size, 8, size).mean((1, 3)).round())
        for name, answer in zip(images, predicted(seen), strict=True):
            if answer == labels[name]:
                found.setdefault(name, []).append(f"x{size}")
    return found


def test_smooth_enlarging_loses_those_that_the_model_gets_right_again(study_run):
    rules = {mode: {"attacks": [mode], "pick": "nearest"} for mode in THREE[1:]}
    everything = built(study_run, rules).study
    study = built(study_run, rules, resampling="lanczos").study
    check_nobody_is_lost_unseen(study.document)
    for name in rules:
        sharp = by_original(everything.document, name)
        images = {original: decoded(everything, stimulus, 1) for original, stimulus in sharp.items()}
        expected = smooth_failures(images, {original: stimulus.label for original, stimulus in sharp.items()})
        found = {
            original: reason.removeprefix("classified correctly at ").split(", ")
            for reason, originals in lost(study.document, name).items()
            if reason.startswith("classified correctly at ")
            for original in originals
        }
        assert expected  # or there is nothing to see here
        assert found == expected


@pytest.mark.parametrize(("pick", "best"), [("nearest", max), ("farthest", min)])
def test_where_the_best_witness_fails_the_check_the_next_best_is_taken(study_run, pick, best):
    result = built(study_run, {"changed": {"pick": pick}}, resampling="lanczos")
    document = result.study.document
    check_nobody_is_lost_unseen(document)
    originals, witnesses = whole_run(study_run)
    sharp = by_original(built(study_run, {"changed": {}}).study.document, "changed")
    ssim = registry().create("metrics", "ssim")
    second, gone = set(), set()
    chosen = by_original(document, "changed")
    for original, found in witnesses.items():
        images = dict(enumerate(image for every in found.values() for image in every))
        pairs = torch.from_numpy(np.stack([originals[original], *images.values()])).float()[:, None] / 255
        values = ssim(pairs[:1].expand(len(images), -1, -1, -1), pairs[1:]).tolist()
        bad = smooth_failures(images, dict.fromkeys(images, sharp[original].label))
        good = [place for place in images if place not in bad]
        if not good:
            gone.add(original)
            continue
        place = best(good, key=values.__getitem__)
        if place != best(images, key=values.__getitem__):
            second.add(original)
        assert (decoded(result.study, chosen[original], 1) == images[place]).all()
        assert chosen[original].metrics["ssim"] == pytest.approx(values[place])
    assert second  # or nothing was tried again
    assert gone
    assert set(chosen) == set(witnesses) - gone
    reasons = lost(document, "changed")
    assert {original for names in reasons.values() for original in names} == gone
    assert all(reason.endswith("; the last of 2 witnesses tried") for reason in reasons)
    (condition,) = document.conditions
    assert f"of {len(second)} originals the best that passed the check, after {len(second)} that" in condition.text
    assert any(f"of {len(second)} originals the best witness did not pass" in note for note in result.notes)


def test_small_images_are_noted_naming_the_option(study_run):
    (note,) = built(study_run).notes
    assert "32 CSS pixels" in note
    assert "--sizes" in note
    assert "1,2,4,10" in note
    assert built(study_run, sizes=[1, 2, 4, 10]).notes == ()


def test_off_the_grid_what_rounding_takes_beyond_the_level_is_lost(real_run):
    study = built(real_run, ("imperceptible",)).study
    check_nobody_is_lost_unseen(study.document)
    distances = [stimulus.distance for stimulus in study.document.stimuli]
    beyond = lost(study.document, "imperceptible")["beyond L2 510/255 once rounded"]
    assert 0 < max(distances) <= 510
    assert beyond
    wider = built(real_run, ("imperceptible",), level=520).study.document
    assert set(beyond) <= set(by_original(wider, "imperceptible"))
    assert max(stimulus.distance for stimulus in wider.stimuli) > 510


def test_bounds_and_attacks(study_run):
    bounds = {"ssim": {"least": 0.98}, "l2": {"most": 600}}
    rules = {"kept": {"attacks": ["imperceptible"], "bounds": bounds}, "all": {"attacks": ["imperceptible"]}}
    document = built(study_run, rules, paired=False).study.document
    assert {stimulus.attack for stimulus in document.stimuli} == {"imperceptible"}
    expected = {
        stimulus.original
        for stimulus in document.of("all")
        if stimulus.metrics["ssim"] >= 0.98 and stimulus.metrics["l2"] <= 600
    }
    assert set(by_original(document, "kept")) == expected
    assert 0 < len(expected) < 38
    assert len(lost(document, "kept")["no witness with ssim >= 0.98, l2 <= 600"]) == 38 - len(expected)
    assert "ssim >= 0.98" in document.conditions[0].text


def test_a_bound_that_is_met_exactly_is_kept(study_run):
    assert len(built(study_run, {"one": {"bounds": {"linf": {"most": 60}}}}).study.document.stimuli) == 38
    with pytest.raises(SpecError, match=r"no witness with linf <= 59\.99"):
        built(study_run, {"one": {"bounds": {"linf": {"most": 59.99}}}})


def test_a_distance_as_the_metric_picks_the_other_way_round(study_run):
    rules = {"near": {"metric": "l2"}, "far": {"metric": "l2", "pick": "farthest"}}
    document = built(study_run, rules).study.document
    near, far = by_original(document, "near"), by_original(document, "far")
    assert all(near[name].metrics["l2"] <= far[name].metrics["l2"] for name in near)
    assert any(near[name].metrics["l2"] < far[name].metrics["l2"] for name in near)


def test_several_runs_and_their_norms(study_run, real_run):
    with pytest.raises(SpecError, match=r"which norm(.|\n)*linf(.|\n)*l2"):
        built([study_run, real_run])
    document = built([study_run, real_run], norm="l2", level=520).study.document
    assert document.source.threat is not None
    assert document.source.threat.norm == "l2"
    assert {stimulus.attack for stimulus in document.of("imperceptible")} <= {
        "ssim_sphere, imperceptible",
        "ssim_sphere, perceptible",
    }
    rules = {"linf": {"norm": "linf"}, "l2": {"norm": "l2", "attacks": ["ssim_sphere, perceptible"]}}
    mixed = built([study_run, real_run], rules, level=520).study.document
    assert mixed.source.threat is None
    assert len(mixed.source.runs) == 2
    assert {stimulus.attack for stimulus in mixed.of("l2")} == {"ssim_sphere, perceptible"}


def test_benign_alone_is_read_from_the_data(study_run, changed):
    unbroken = ("DELETE FROM witnesses WHERE sample < 20",), ("DELETE FROM originals WHERE sample < 20",)
    study = built(changed(*unbroken), ("benign",)).study
    assert len(study.document.stimuli) == 38
    data = registry().create("datasets", "digits")
    samples = data.read(range(len(data)))
    place = {name: row for row, name in enumerate(samples.ids)}
    for stimulus in study.document.stimuli:
        expected = (samples.images[place[stimulus.original], 0] * 255).round().numpy()
        assert (decoded(study, stimulus, 1) == expected).all()
    dataset = {**meta_of(study_run, "dataset"), "fingerprint": "0" * 64}
    swapped = ("UPDATE meta SET value = ? WHERE key = 'dataset'", json.dumps(dataset))
    other = changed(swapped, *unbroken)
    with pytest.raises(DataError, match=f"found: *data {data.fingerprint()}\n *expected: *data {'0' * 64}"):
        built(other, ("benign",))
    assert len(built(other).study.document.of("benign")) < 38  # of these the run has the originals itself


def test_a_model_that_is_not_the_one_of_the_run_is_refused_naming_both(study_run, changed):
    parts = meta_of(study_run, "models")
    name, value = sorted(parts[0]["fingerprint"].items())[0]
    parts[0]["fingerprint"][name] = "f" * 64
    other = changed(("UPDATE meta SET value = ? WHERE key = 'models'", json.dumps(parts)))
    with pytest.raises(ModelError) as refused:
        built(other)
    assert value in str(refused.value)
    assert "f" * 64 in str(refused.value)
    with pytest.raises(SpecError, match="different models"):
        built([study_run, other])


def test_the_model_of_a_study_is_opened_again(built):
    model = model_of(built.document.source, registry())
    assert model.num_classes == 10
    with pytest.raises(ModelError, match="not the one of the study"):
        model_of(built.document.source.model_copy(update={"fingerprint": "0" * 64}), registry())
    with pytest.raises(CharpyError, match="nosuch"):
        model_of(built.document.source.model_copy(update={"reference": '{"reference": "nosuch"}'}), registry())
    with pytest.raises(ModelError, match="does not say"):
        model_of(built.document.source.model_copy(update={"reference": "digits-cnn"}), registry())


def test_painted_stimuli_come_later(study_run):
    document = built(study_run, ("benign", "painted"), norm="l0", level=10, stimuli=20).study.document
    assert document.of("painted") == ()
    assert document.conditions[1].candidates == 20
    assert document.source.threat is not None
    assert (document.source.threat.norm, document.source.threat.level) == ("l0", 10)
    with pytest.raises(SpecError, match="benign condition"):
        built(study_run, ("painted",))


def test_a_balanced_draw_takes_the_classes_in_turn(study_run):
    document = built(study_run, stimuli=20, balanced=True).study.document
    there = Counter(stimulus.label for stimulus in built(study_run).study.document.of("benign"))
    drawn = Counter(stimulus.label for stimulus in document.of("benign"))
    assert sum(drawn.values()) == 20
    most = max(drawn.values())
    assert all(drawn[label] >= min(there[label], most - 1) for label in there)


def test_conditions_of_the_same_images_are_noted(study_run):
    rules = {name: {"attacks": ["perceptible"]} for name in ("one", "two")}
    assert any("38 of 38 images are the same in one and two" in note for note in built(study_run, rules).notes)
    assert not any("the same" in note for note in built(study_run).notes)


def test_too_few_stimuli_are_refused_saying_why(study_run):
    with pytest.raises(SpecError, match=r"38 stimuli of 38 candidates\n *expected: 39"):
        built(study_run, questions=39)
    rules = {"imperceptible": {"bounds": {"ssim": {"least": 1.0}}}}
    with pytest.raises(SpecError, match=r"0 stimuli of 38 candidates \(38 lost: no witness with ssim >= 1"):
        built(study_run, rules)


@pytest.mark.parametrize(
    ("rule", "options", "error", "message"),
    [
        ({}, {"model": "resnet"}, UnknownNameError, "resnet"),
        ({"attacks": ["perceptibel"]}, {}, UnknownNameError, "did you mean perceptible"),
        ({"run": "other"}, {}, UnknownNameError, "unknown run 'other'"),
        ({"metric": "ssimm"}, {}, CharpyError, "did you mean (.*, )?ssim"),
        ({}, {"norm": "l0"}, SpecError, "there is no witness for this condition"),
        ({}, {"labels": ["a", "b"]}, SpecError, "as many labels as classes"),
        ({}, {"fill": {"instituton": "x"}}, UnknownNameError, "did you mean institution"),
    ],
)
def test_what_the_runs_do_not_have_is_refused(study_run, rule, options, error, message):
    with pytest.raises(error, match=message):
        built(study_run, {"one": rule}, **options)


def test_runs_that_cannot_be_used(study_run, changed):
    unfinished = changed(("UPDATE meta SET value = 'false' WHERE key = 'finished'",))
    with pytest.raises(RunFileError, match="not finished"):
        built(unfinished)
    for damage in ("[{}]", "[{"):
        with pytest.raises(RunFileError, match="damaged"):
            built(changed(("UPDATE meta SET value = ? WHERE key = 'models'", damage)))
    dataset = meta_of(study_run, "dataset")
    for channels in (2, 4):
        part = json.dumps({**dataset, "shape": [channels, 8, 8]})
        other = changed(("UPDATE meta SET value = ? WHERE key = 'dataset'", part))
        with pytest.raises(DataError, match=f"{channels} channels"):
            built(other)
    part = json.dumps({**dataset, "class_names": ["same"] * 10})
    twins = changed(("UPDATE meta SET value = ? WHERE key = 'dataset'", part))
    with pytest.raises(SpecError, match="two classes have one name"):
        built(twins)
    assert built(twins, labels=list("abcdefghij")).study.document.labels == tuple("abcdefghij")


numbers = st.one_of(st.integers(0, 3).map(float), st.sampled_from((np.nan, np.inf, -np.inf)))


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), numbers), min_size=1), st.booleans())
def test_the_best_allowed_row_of_each_owner(rows, largest):
    owner, allowed, values = (np.array(column) for column in zip(*rows, strict=True))
    found = _best(owner, allowed, values, largest).tolist()
    expected = []
    for one in sorted(set(owner[allowed].tolist())):
        places = [place for place in range(len(rows)) if owner[place] == one and allowed[place]]
        numbered = [place for place in places if not np.isnan(values[place])] or places
        best = max(values[numbered]) if largest else min(values[numbered])
        expected.append(next(place for place in numbered if values[place] == best or np.isnan(best)))
    assert found == expected


HOSTILE = "\x1b[2J\u202e=cmd()|<script>alert(1)</script>'\"; DROP TABLE--"


def test_hostile_names_stay_what_they_are_and_do_nothing(study_run, changed, charpy):
    dataset = meta_of(study_run, "dataset")
    dataset["class_names"][3], dataset["name"] = HOSTILE, HOSTILE
    path = changed(
        ("UPDATE meta SET value = ? WHERE key = 'dataset'", json.dumps(dataset)),
        ("UPDATE samples SET id = ? || sample", HOSTILE),
        ("UPDATE units SET attack = ? WHERE attack = 'perceptible'", HOSTILE),
    )
    document = built(path).study.document
    assert all(stimulus.original.startswith(HOSTILE) for stimulus in document.stimuli)
    assert {stimulus.attack for stimulus in document.of("perceptible")} == {HOSTILE}
    assert document.labels[3].startswith("[U+001B][2J[U+202E]=cmd")
    done = charpy("study", "build", path, "--conditions", ",".join(THREE), "--out", "hostile.study")
    assert done.code == 0, done.err
    assert "\x1b" not in done.out
    assert "\u202e" not in done.out
    assert "[U+202E]" in done.out
