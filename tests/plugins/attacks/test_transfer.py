"""transfer from a run file: whose witnesses are tried on which sample, what a resume needs, what is refused."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from charpy.arrays import ArrayDataset
from charpy.errors import DataError, IdentityError, RunFileError, SpecError, UnknownNameError
from charpy.evaluator import evaluate
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.runfile import RunFile
from charpy.source_run import SourceRun, image_keys
from charpy.specs import RunSpec, parse
from charpy.subjects import Subject
from charpy.testing.linear import LinearModel
from charpy.threat import Norm

GENERATOR = torch.Generator().manual_seed(3)
IMAGES = torch.randint(0, 256, (24, 1, 6, 5), generator=GENERATOR, dtype=torch.uint8)
WEIGHT = torch.randn(1, 6, 5, generator=GENERATOR)
OTHER = WEIGHT + 0.7 * torch.randn(1, 6, 5, generator=GENERATOR)


def linear(weight=WEIGHT, output=Output.LOGITS) -> LinearModel:
    return LinearModel(weight, -float((IMAGES / 255 * weight).flatten(1).sum(1).median()), output)


LABELS = linear().predict(IMAGES / 255).argmax(1)


def target() -> LinearModel:
    return linear(OTHER, Output.LABELS)


def data(rows=None) -> ArrayDataset:
    rows = list(range(len(IMAGES))) if rows is None else rows
    return ArrayDataset(IMAGES[rows].numpy(), LABELS[rows].numpy())


def spec_of(threats, **fields) -> RunSpec:
    base = {"data": {"kind": "arrays"}, "models": [{"reference": "linear"}], "threats": threats, "shard": 8}
    return parse(RunSpec, {**base, **fields})


def threat_of(norm, levels, kind, queries=60, **params) -> dict:
    battery = [{"kind": kind, "params": params}]
    return {"norm": norm, "levels": list(levels), "battery": battery, "queries": queries}


def source_run(path: Path, seed: int = 0, rows=None, levels=(20, 60)) -> Path:
    """Witnesses of `linear()`, under Linf and L0."""
    threats = [threat_of("linf", levels, "mi_fgsm"), threat_of("l0", [3, 8], "few_pixel", population=20)]
    evaluate(
        spec_of(threats, name="source", seed=seed),
        path,
        subjects=[Subject("first", "test", linear)],
        dataset=data(rows),
    )
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    return source_run(tmp_path_factory.mktemp("source") / "run.charpy")


def transferred(path: Path, threats, model=target, rows=None, **options) -> Path:
    dataset = options.pop("dataset", None) or data(rows)
    evaluate(spec_of(threats), path, subjects=[Subject("linear", "test", model)], dataset=dataset, **options)
    return path


def stored_in(path: Path) -> dict[int, list[tuple[str, torch.Tensor]]]:
    """sample -> (norm, witness) of a run, nearest first."""
    found: dict[int, list[tuple[str, torch.Tensor]]] = {}
    with RunFile.open(path) as run:
        for row in run.witnesses(0):
            image = np.frombuffer(zlib.decompress(row.image), np.uint8).reshape(1, 6, 5).copy()
            found.setdefault(row.sample, []).append((row.norm, torch.from_numpy(image)))
    return found


def broken_at(path: Path, norm: str, th: int) -> set[int]:
    with RunFile.open(path) as run:
        return {sample for sample, _, distance in run.witness_distances(0, norm) if distance <= th}


def clean_hits(model: LinearModel) -> set[int]:
    answers = model.predict(IMAGES / 255)
    labels = answers if answers.ndim == 1 else answers.argmax(1)
    return set((labels == LABELS).nonzero()[:, 0].tolist())


def expected(source: Path, norm: Norm, th: int) -> set[int]:
    """What the source's witnesses inside the ball break of the target, one by one."""
    out = set()
    for sample, witnesses in stored_in(source).items():
        for _, image in witnesses:
            gap = (image.int() - IMAGES[sample].int()).abs()
            size = int(gap.amax()) if norm is Norm.LINF else int((gap > 0).any(0).sum())
            wrong = int(target().predict(image[None] / 255)) != int(LABELS[sample])
            if size <= th and wrong:
                out.add(sample)
    return out & clean_hits(target())


def test_the_samples_are_broken_that_the_sources_witnesses_break(source, tmp_path):
    threats = [
        threat_of("linf", [20, 60], "transfer", source=str(source)),
        threat_of("l0", [3, 8], "transfer", source=str(source)),
    ]
    path = transferred(tmp_path / "run.charpy", threats)
    for norm, th in ((Norm.LINF, 20), (Norm.LINF, 60), (Norm.L0, 3), (Norm.L0, 8)):
        assert broken_at(path, norm, th) == expected(source, norm, th), (norm, th)
    assert 0 < len(broken_at(path, "linf", 60)) < len(clean_hits(target()))
    assert broken_at(path, "l0", 8)


def test_a_sample_costs_at_most_as_many_rows_as_it_has_witnesses(source, tmp_path):
    path = transferred(tmp_path / "run.charpy", [threat_of("linf", [60], "transfer", source=str(source))])
    tried = {sample: len(witnesses) for sample, witnesses in stored_in(source).items()}
    with RunFile.open(path) as run:
        results = [row for _, _, row in run.results(0)]
    assert {row.sample for row in results} == clean_hits(target())
    assert all(row.queries <= tried.get(row.sample, 0) for row in results)
    assert any(row.queries for row in results)


def test_samples_are_recognised_by_content_not_by_index(source, tmp_path):
    rows = [17, 3, 9, 21, 5, 0, 11]
    path = transferred(tmp_path / "run.charpy", [threat_of("linf", [60], "transfer", source=str(source))], rows=rows)
    assert {rows[sample] for sample in broken_at(path, "linf", 60)} == expected(source, Norm.LINF, 60) & set(rows)
    assert broken_at(path, "linf", 60)


def test_witnesses_outside_the_ball_can_be_projected_into_it(source, tmp_path):
    plain = transferred(tmp_path / "a.charpy", [threat_of("linf", [19], "transfer", source=str(source))])
    cut = transferred(
        tmp_path / "b.charpy", [threat_of("linf", [19], "transfer", source=str(source), outside="project")]
    )
    wanted = set()
    for sample, witnesses in stored_in(source).items():
        for _, image in witnesses:
            low, high = IMAGES[sample].int() - 19, IMAGES[sample].int() + 19
            near = image.int().clamp(low, high)
            if int(target().predict(near[None] / 255)) != int(LABELS[sample]):
                wanted.add(sample)
    assert broken_at(cut, "linf", 19) == wanted & clean_hits(target())
    assert broken_at(plain, "linf", 19) < broken_at(cut, "linf", 19)


def test_a_chosen_model_of_the_source_is_the_only_one_used(tmp_path):
    path = tmp_path / "two.charpy"
    both = [Subject("first", "test", linear), Subject("second", "test", lambda: linear(OTHER))]
    models = [{"reference": "first"}, {"reference": "second"}]
    evaluate(spec_of([threat_of("linf", [60], "mi_fgsm")], models=models), path, subjects=both, dataset=data())
    every, second = SourceRun.read(path), SourceRun.read(path, "second")
    assert every.models == ("first", "second")
    assert second.models == ("second",)
    assert second.count < every.count
    assert second.digest != every.digest
    with pytest.raises(UnknownNameError, match="did you mean second"):
        SourceRun.read(path, "secnd")


def test_a_chosen_attack_of_the_source_is_the_only_one_used(tmp_path):
    path = tmp_path / "two.charpy"
    battery = [{"kind": "mi_fgsm", "name": "momentum"}, {"kind": "fgm", "name": "single"}]
    threats = [{"norm": "linf", "levels": [60], "battery": battery, "queries": 60}]
    threats.append(threat_of("l0", [8], "few_pixel", population=20))
    evaluate(spec_of(threats, contest=True), path, subjects=[Subject("first", "test", linear)], dataset=data())
    made: dict[str, dict[int, set[bytes]]] = {}
    with RunFile.open(path) as run:
        for row in run.witnesses(0):
            made.setdefault(row.attack, {}).setdefault(row.sample, set()).add(row.image)
    assert set(made) == {"momentum", "single", "few_pixel"}
    keys = image_keys(IMAGES)
    for attack, of_sample in made.items():
        read = SourceRun.read(path, None, attack)
        assert {key: set(images) for key, images in read.witnesses.items()} == {
            keys[sample]: images for sample, images in of_sample.items()
        }
    digests = {SourceRun.read(path, None, attack).digest for attack in (None, *made)}
    assert len(digests) == 4, "a resume must tell them apart"
    params = {"source": str(path), "source_attack": "single"}
    shown = transferred(tmp_path / "run.charpy", [threat_of("linf", [60], "transfer", **params)])
    with RunFile.open(shown) as run:
        rows = {row.sample: row.queries for _, _, row in run.results(0)}
    assert {sample for sample, queries in rows.items() if queries} == set(made["single"]) & clean_hits(target())
    assert max(rows.values()) == 1
    with pytest.raises(UnknownNameError, match="did you mean momentum"):
        SourceRun.read(path, None, "momentun")
    with pytest.raises(UnknownNameError, match="did you mean single"):
        transferred(
            tmp_path / "other.charpy",
            [threat_of("linf", [60], "transfer", source=str(path), source_attack="singel")],
        )


def test_an_attack_of_the_source_that_broke_nothing_is_named(tmp_path):
    path = tmp_path / "two.charpy"
    threats = [threat_of("linf", [60], "mi_fgsm"), threat_of("l2", [1], "simba", queries=1)]  # the original, no more
    evaluate(spec_of(threats), path, subjects=[Subject("first", "test", linear)], dataset=data())
    with RunFile.open(path) as run:
        assert {row.attack for row in run.witnesses(0)} == {"mi_fgsm"}
        assert {unit["attack"] for unit in run.units(0)} == {"mi_fgsm", "simba"}
    with pytest.raises(RunFileError, match="models first, none of them broken by simba"):
        SourceRun.read(path, None, "simba")


def test_a_run_resumes_with_its_source_wherever_that_lies(source, tmp_path):
    threats = [threat_of("linf", [20, 60], "transfer", source=str(source))]
    whole = transferred(tmp_path / "whole.charpy", threats)

    class StopError(Exception):
        pass

    def stop(progress):
        if progress.done >= 2:
            raise StopError

    part = tmp_path / "part.charpy"
    with pytest.raises(StopError):
        transferred(part, threats, listen=stop)
    with RunFile.open(part) as run:
        done = len(run.units(0))
        assert not run.meta("finished", False)
    moved = tmp_path / "moved.charpy"
    moved.write_bytes(source.read_bytes())
    transferred(part, [threat_of("linf", [20, 60], "transfer", source=str(moved))])
    with RunFile.open(part) as a, RunFile.open(whole) as b:
        assert 0 < done < len(a.units(0))
        assert list(a.witnesses(0)) == list(b.witnesses(0))
        assert list(a.results(0)) == list(b.results(0))


def test_a_resume_against_another_source_is_refused_and_names_it(source, tmp_path):
    path = transferred(tmp_path / "run.charpy", [threat_of("linf", [60], "transfer", source=str(source))])
    other = source_run(tmp_path / "other.charpy", levels=(30, 61))
    with pytest.raises(IdentityError, match=r"source\.witnesses: \d+, SHA-256 .* -> \d+, SHA-256"):
        transferred(path, [threat_of("linf", [60], "transfer", source=str(other))])


def test_a_source_without_common_samples_is_an_error_that_says_so_before_anything_is_written(source, tmp_path):
    fresh = torch.randint(0, 256, IMAGES.shape, generator=torch.Generator().manual_seed(99), dtype=torch.uint8)
    elsewhere = ArrayDataset(fresh.numpy(), LABELS.numpy())
    path = tmp_path / "run.charpy"
    with pytest.raises(DataError, match="no sample in common") as caught:
        transferred(path, [threat_of("linf", [60], "transfer", source=str(source))], dataset=elsewhere)
    assert "none of them among the 24 images here" in str(caught.value)
    assert not path.exists()


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ("missing", RunFileError, "no such run file"),
        ("foreign", RunFileError, "not a charpy run file"),
        ("unfinished", RunFileError, "not finished"),
        ("unbroken", RunFileError, "no witness"),
        ("shape", DataError, "of other images"),
    ],
)
def test_a_source_that_cannot_be_used_is_refused(change, error, match, source, forged, tmp_path):
    path, dataset = tmp_path / "source.charpy", data()
    if change == "foreign":
        path.write_bytes(b"no database")
    elif change == "unbroken":
        threats = [threat_of("l0", [1], "few_pixel", queries=1)]
        still = LinearModel(torch.zeros(1, 6, 5), 1.0)
        ones = ArrayDataset(IMAGES.numpy(), np.ones(len(IMAGES), int))
        evaluate(spec_of(threats), path, subjects=[Subject("still", "test", lambda: still)], dataset=ones)
    elif change != "missing":
        path.write_bytes(source.read_bytes())
    if change == "unfinished":
        with forged(path) as run:
            run.execute("UPDATE meta SET value = 'false' WHERE key = 'finished'")
    if change == "shape":
        dataset = ArrayDataset(IMAGES.transpose(2, 3).numpy(), LABELS.numpy())
        model = lambda: LinearModel(OTHER.transpose(1, 2), 0.0, Output.LABELS)  # noqa: E731
    else:
        model = target
    with pytest.raises(error, match=match):
        transferred(
            tmp_path / "run.charpy", [threat_of("linf", [60], "transfer", source=str(path))], model, dataset=dataset
        )


def test_keys_do_not_depend_on_how_an_image_is_held():
    assert image_keys(IMAGES) == image_keys(IMAGES.float() / 255) == image_keys(IMAGES / 255.0)
    assert len(set(image_keys(IMAGES))) == len(IMAGES)
    off = IMAGES.float() / 255 + 0.001
    assert not set(image_keys(off)) & set(image_keys(IMAGES))
    assert image_keys(IMAGES[:1]) != image_keys(IMAGES[:1].transpose(2, 3))


@pytest.mark.parametrize("name", ["source_model", "source_attack"])
def test_what_chooses_from_a_source_needs_one(name):
    with pytest.raises(SpecError, match="choose from a `source`"):
        registry().create("attacks", "transfer", {"surrogate": {"reference": "digits-cnn"}, name: "a"})


@pytest.mark.parametrize("params", [{}, {"source": "a.charpy", "surrogate": {"reference": "digits-cnn"}}])
def test_exactly_one_source(params):
    with pytest.raises(SpecError, match="give either `source`"):
        registry().create("attacks", "transfer", params)
