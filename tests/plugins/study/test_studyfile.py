"""The study file: the same study the same bytes, and nothing that was changed, added or blown up gets through."""

from __future__ import annotations

import json
import random
import shutil
import struct
import tracemalloc
import zipfile

import pytest
from pydantic import ValidationError

from charpy.errors import CharpyError, DataError
from charpy_plugins.study import studyfile
from charpy_plugins.study.document import StudyDocument
from charpy_plugins.study.studyfile import DOCUMENT, Study, digest, image_name, read_study, write_study


@pytest.fixture
def copy(built_path, tmp_path):
    return shutil.copy(built_path, tmp_path / "copy.study")


def rewritten(path, change):
    """The file again, its entries by name run through `change`."""
    with zipfile.ZipFile(path) as file:
        entries = change({name: file.read(name) for name in file.namelist()})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in entries.items():
            file.writestr(name, data)


def first_image(study):
    return image_name(study.document.stimuli[0].id, 1)


def test_round_trip_and_the_same_bytes(built, built_path, tmp_path):
    write_study(built, tmp_path / "again.study")
    assert (tmp_path / "again.study").read_bytes() == built_path.read_bytes()
    again = read_study(tmp_path / "again.study")
    assert again.document == built.document
    assert dict(again.images) == dict(built.images)
    assert [path.name for path in tmp_path.iterdir()] == ["again.study"]


def test_an_ordinary_zip_program_can_read_it(built, built_path):
    with zipfile.ZipFile(built_path) as file:
        assert file.testzip() is None
        assert file.namelist()[0] == DOCUMENT
        assert len(file.namelist()) == 1 + len(built.document.stimuli) * len(built.document.sizes)
        assert json.loads(file.read(DOCUMENT))["name"] == "digits"


def test_rewritten_without_a_change_it_still_reads(built, copy):
    rewritten(copy, lambda entries: entries)
    assert read_study(copy).document == built.document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda entries, name: {**entries, name: entries[name] + b" "}, "a stimulus was changed"),
        (lambda entries, name: {key: data for key, data in entries.items() if key != name}, "no study file"),
        (lambda entries, name: {**entries, "stimuli/more.png": b""}, "no part of the study"),
        (lambda entries, name: {**entries, "../outside": b"x"}, "no part of the study"),
        (lambda entries, name: {key: data for key, data in entries.items() if key != DOCUMENT}, "no study file"),
        (lambda entries, name: {**entries, DOCUMENT: b"{"}, "not valid"),
        (lambda entries, name: {**entries, DOCUMENT: b"\xff\xfe"}, "not valid"),
        (lambda entries, name: {**entries, DOCUMENT: b"[" * 100_000}, "not valid"),
        (lambda entries, name: {**entries, DOCUMENT: b"[]"}, "not valid"),
    ],
)
def test_what_was_changed_is_refused(built, copy, change, message):
    rewritten(copy, lambda entries: change(entries, first_image(built)))
    with pytest.raises(DataError, match=message):
        read_study(copy)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "charpy-study-2"}, "format"),
        ({"colour": "red"}, "colour"),
        ({"labels": ["one"]}, "labels"),
        ({"labels": ["x"] * 10}, "two labels read the same"),
        ({"sizes": [2, 4, 8]}, "sizes are distinct and have 1"),
        ({"questions": 0}, "questions"),
        ({"dropout_minutes": -1}, "dropout_minutes"),
        ({"name": ""}, "name"),
    ],
)
def test_a_document_that_is_not_valid_is_refused_naming_the_field(copy, change, message):
    def changed(entries):
        return {**entries, DOCUMENT: json.dumps({**json.loads(entries[DOCUMENT]), **change}).encode()}

    rewritten(copy, changed)
    with pytest.raises(DataError, match=message):
        read_study(copy)


def test_the_parts_of_a_document_hang_together(built):
    whole = built.document.model_dump(mode="json")
    first = whole["stimuli"][0]
    for change, message in (
        ({"stimuli": [first, first]}, "two stimuli of one id"),
        ({"stimuli": [{**first, "condition": "none"}]}, "of no condition"),
        ({"stimuli": [{**first, "label": 10}]}, "has label 10, of 10"),
        ({"stimuli": [{**first, "digests": first["digests"][:2]}]}, "2 images of 3 sizes"),
        ({"stimuli": [{**first, "id": "../../etc/passwd"}]}, "pattern"),
        ({"conditions": [whole["conditions"][0]] * 2, "stimuli": []}, "two conditions of one name"),
    ):
        with pytest.raises(ValidationError, match=message):
            StudyDocument.model_validate({**whole, **change})


def test_the_fingerprint_follows_every_field_and_every_pixel(built):
    whole = built.document.model_dump(mode="json")
    fingerprints = {built.document.fingerprint}
    first = whole["stimuli"][0]
    changes = [{"name": "other"}, {"seed": 9}, {"questions": 5}, {"labels": [f"digit {n}" for n in range(10)]}]
    changes += [{"stimuli": [{**first, "digests": ["0" * 64, *first["digests"][1:]]}, *whole["stimuli"][1:]]}]
    changes += [{"texts": {**whole["texts"], "consent": {"version": "2", "text": "Yes?"}}}]
    for change in changes:
        fingerprints.add(StudyDocument.model_validate({**whole, **change}).fingerprint)
    assert len(fingerprints) == 1 + len(changes)
    assert StudyDocument.model_validate(whole).fingerprint == built.document.fingerprint


def test_a_file_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(copy, monkeypatch):
    rewritten(copy, lambda entries: {**entries, "zeros": bytes(50_000_000)})
    assert copy.stat().st_size < 1_000_000
    monkeypatch.setattr(studyfile, "LARGEST", 40_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_: pytest.fail("unpacked"))
    with pytest.raises(DataError, match="unpacks to too much"):
        read_study(copy)


def test_an_entry_that_lies_about_its_size_is_refused(tmp_path):
    path = tmp_path / "lying.study"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(DOCUMENT, bytes(50_000_000))
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    data[directory + 24 : directory + 28] = struct.pack("<I", 10)
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"no study file|not valid"):
        read_study(path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 5_000_000


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_are_refused(built, copy):
    with zipfile.ZipFile(copy, "a") as file:
        file.writestr(DOCUMENT, built.document.canonical())
    with pytest.raises(DataError, match="stands twice"):
        read_study(copy)


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip file", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "other.study").write_bytes(content)
    with pytest.raises(DataError, match="no study file"):
        read_study(tmp_path / "other.study")


def test_no_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "none.study", tmp_path):
        with pytest.raises(DataError, match="no such study file") as error:
            read_study(path)
        assert ("a folder" in str(error.value)) == path.is_dir()
        assert "NAME.study" in str(error.value)


def test_damaged_bytes_are_refused_and_never_crash(built, copy):
    whole, draw = copy.read_bytes(), random.Random(0)
    with zipfile.ZipFile(copy) as file:
        directory, document = file.start_dir, file.getinfo(DOCUMENT).compress_size
    refused = 0
    for region in ((0, document), (directory, len(whole)), (0, len(whole))):
        for _ in range(60):
            damaged = bytearray(whole)
            damaged[draw.randrange(*region)] ^= 1 << draw.randrange(8)
            copy.write_bytes(damaged)
            try:
                assert read_study(copy).document == built.document  # a bit that says nothing, such as a time stamp
            except CharpyError:
                refused += 1
    assert refused > 90


def test_what_is_not_in_the_document_is_not_written_and_the_old_file_stays(built, copy):
    before = copy.read_bytes()
    key = (built.document.stimuli[0].id, 2)
    without = {name: data for name, data in built.images.items() if name != key}
    for images, found in ((without, "no image"), ({**built.images, key: b"another"}, "another image")):
        with pytest.raises(DataError, match=found):
            write_study(Study(built.document, images), copy)
        assert copy.read_bytes() == before


def test_a_place_that_cannot_be_written_is_named(built, tmp_path):
    with pytest.raises(DataError, match="cannot be written"):
        write_study(built, tmp_path / "no" / "folder.study")


@pytest.mark.parametrize("wrong", ["large", "colour", "script", "short", "other size"])
def test_an_image_that_is_no_picture_of_the_study_is_refused(built, tmp_path, wrong):
    """A study of somebody else: 2 KB that unpack to 10 GB, or a page with a script in place of a picture."""
    first, study = built.document.stimuli[0], built
    good = study.images[first.id, 2]
    data = {
        "large": good[:16] + struct.pack(">II", 60_000, 60_000) + good[24:],
        "colour": good[:25] + bytes([6]) + good[26:],
        "script": b"<script>alert(1)</script>" + bytes(40),
        "short": good[:20],
        "other size": study.images[first.id, 1],
    }[wrong]
    place = built.document.sizes.index(2)
    digests = tuple(digest(data) if at == place else one for at, one in enumerate(first.digests))
    changed = first.model_copy(update={"digests": digests})
    document = built.document.model_copy(update={"stimuli": (changed, *built.document.stimuli[1:])})
    write_study(Study(document, {**study.images, (first.id, 2): data}), tmp_path / "wrong.study")
    with pytest.raises(DataError, match="no picture of the study"):
        read_study(tmp_path / "wrong.study")
