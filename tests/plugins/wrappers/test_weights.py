"""Weight files: rows 1, 2, 3, 5 and 6 of the hostile inputs, and the honest files of several kinds."""

from __future__ import annotations

import collections
import hashlib
import io
import json
import os
import pickle
import struct
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from charpy.errors import CharpyError, ModelError, UnsafeFileError
from charpy_plugins.wrappers.weights import _check_tensor, load_weights

STATE = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


class Runs:
    """A pickle that creates the file `ran` when it is opened."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not Path("ran").exists(), "code of the file was run"


def torch_bytes(value: object, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def rewritten(data: bytes, compression: int = zipfile.ZIP_STORED, twice: bool = False) -> bytes:
    """The zip with its entries written again."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(buffer, "w", compression) as target:
        for name in source.namelist():
            for _ in range(1 + (twice and name.endswith("data.pkl"))):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    target.writestr(name, source.read(name))
    return buffer.getvalue()


def header_of(**tensors: dict) -> bytes:
    text = json.dumps(tensors).encode()
    return struct.pack("<Q", len(text)) + text


def load(data: bytes, name: str = "w.pt"):
    Path(name).write_bytes(data)
    return load_weights(Path(name))


# honest files


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.anything"])
@pytest.mark.parametrize("data", [save(STATE), torch_bytes(STATE), torch_bytes(STATE, old=True)], ids="stz")
def test_the_content_decides_not_the_name(data, name):
    loaded = load(data, name)
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    assert loaded.state.keys() == STATE.keys()
    assert all(torch.equal(loaded.state[key], STATE[key]) for key in STATE)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        {"state_dict": STATE, "epoch": 3},
        {"model": {f"module.{key}": value for key, value in STATE.items()}},
        {key: torch.nn.Parameter(value) for key, value in STATE.items()},
        collections.OrderedDict(STATE),
        {"a": STATE["a"], "b": STATE["b"].clone()},
    ],
    ids=["nested", "data parallel", "parameters", "ordered", "plain"],
)
def test_wrapped_state_dicts(value, old):
    state = load(torch_bytes(value, old=old)).state
    assert {key: value.tolist() for key, value in state.items()} == {key: v.tolist() for key, v in STATE.items()}
    assert not any(value.requires_grad for value in state.values())


def test_a_real_state_dict_with_shared_storage_and_every_dtype():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    big = torch.rand(10)
    state = {
        **module.state_dict(),
        "half": big[:5],
        "bf": torch.ones(2, dtype=torch.bfloat16),
        "tr": big.reshape(2, 5).T,
    }
    loaded = load(torch_bytes(state)).state
    assert all(torch.equal(loaded[key], state[key]) for key in state)


# row 1: code in a pickle


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("value", [Runs(), {"a": Runs()}, {"a": torch.ones(2), "x": {"y": [Runs()]}}])
def test_code_in_a_torch_file_is_refused_and_never_run(value, old):
    with pytest.raises(UnsafeFileError, match=r"posix\.mkdir|nt\.mkdir"):
        load(torch_bytes(value, old=old))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors", "w.model"])
def test_plain_pickles_are_refused_under_every_name(protocol, name):
    with pytest.raises(UnsafeFileError):
        load(pickle.dumps({"a": Runs()}, protocol), name)
    with pytest.raises(UnsafeFileError):
        load(pickle.dumps({"a": [1.0, 2.0]}, protocol), name)


@pytest.mark.parametrize(
    "call", [b"cbuiltins\neval\n", b"cos\nsystem\n", b"ctorch.serialization\nload\n", b"cnumpy\nload\n"]
)
def test_every_name_but_those_of_tensors_is_refused(call):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("archive/data.pkl", b"\x80\x02" + call + b"X\x01\x00\x00\x00a\x85R.")
        target.writestr("archive/version", "3\n")
    with pytest.raises(UnsafeFileError, match="would run code"):
        load(archive.getvalue())


def test_names_that_are_put_together_at_run_time_are_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("archive/data.pkl", pickle.dumps({"a": Runs()}, 4))
    with pytest.raises(UnsafeFileError, match="STACK_GLOBAL"):
        load(archive.getvalue())


# row 2: whole modules


@pytest.mark.parametrize("old", [False, True])
def test_a_whole_module_is_refused_with_the_way_to_convert_it(old):
    with pytest.raises(UnsafeFileError, match=r"torch\.save\(model\.state_dict\(\)") as raised:
        load(torch_bytes(torch.nn.Linear(2, 2), old=old))
    assert "whole module" in str(raised.value)


def test_torchscript_is_refused_with_the_way_to_convert_it():
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), buffer)
    with pytest.raises(UnsafeFileError, match=r"TorchScript[\s\S]*state_dict"):
        load(buffer.getvalue())


# row 3: damaged and strange files


def test_a_wrong_checksum_is_refused():
    data = bytearray(torch_bytes(STATE))
    at = data.find(STATE["a"].numpy().tobytes())
    data[at + 5] ^= 0x40
    with pytest.raises(UnsafeFileError, match="checksum"):
        load(bytes(data))


@pytest.mark.parametrize("keep", [4, 30, 500])
@pytest.mark.parametrize(
    "data", [torch_bytes(STATE), torch_bytes(STATE, old=True), save(STATE)], ids=["zip", "old", "st"]
)
def test_truncated_files_are_refused(data, keep):
    with pytest.raises(CharpyError):
        load(data[: min(keep, len(data) - 1)])


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n", b"hello world", b"\x80", b"\x80\x02", b"PK\x03\x04"])
def test_other_files_are_refused(data):
    with pytest.raises(UnsafeFileError):
        load(data)


def test_compressed_and_doubled_entries_are_refused():
    good = torch_bytes(STATE)
    assert load(rewritten(good)).state.keys() == STATE.keys()
    with pytest.raises(UnsafeFileError, match="compressed"):
        load(rewritten(good, zipfile.ZIP_DEFLATED))
    with pytest.raises(UnsafeFileError, match="two entries"):
        load(rewritten(good, twice=True))


def test_a_zip_without_weights_is_refused():
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("hello.txt", "hello")
    with pytest.raises(ModelError, match="no weights"):
        load(archive.getvalue())


@pytest.mark.parametrize("value", [torch.ones(3), [torch.ones(3)], {}, {"a": 3}, {"a": torch.ones(1), "b": "text"}])
def test_what_is_no_state_dict_is_refused(value):
    with pytest.raises(ModelError, match="state_dict"):
        load(torch_bytes(value))


def test_a_missing_file_is_an_error():
    with pytest.raises(ModelError, match="no such weight file"):
        load_weights(Path("absent.pt"))


# row 5: tensors that claim more than they hold


@pytest.mark.parametrize("old", [False, True])
def test_a_giant_tensor_of_one_element_is_refused(old):
    data = torch_bytes({"a": torch.zeros(1).expand(10**6, 10**6)}, old=old)
    assert len(data) < 10_000
    with pytest.raises(UnsafeFileError, match="claims more than the file holds"):
        load(data)


def test_sparse_tensors_are_refused():
    giant = torch.sparse_coo_tensor([[0]], [1.0], (10**12,), check_invariants=True)
    with pytest.raises(UnsafeFileError, match="_rebuild_sparse_tensor"):
        load(torch_bytes({"a": giant}))


# row 6: safetensors headers


@pytest.mark.parametrize("length", [2**62, 2**64 - 1, 10**6])
def test_a_header_longer_than_the_file_is_refused(length):
    with pytest.raises(UnsafeFileError, match="header"):
        load(struct.pack("<Q", length) + b'{"a": 1}', "w.safetensors")


@pytest.mark.parametrize(
    "second",
    [
        {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]},
        {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
        {"dtype": "F32", "shape": [4], "data_offsets": [20, 36]},
        {"dtype": "F32", "shape": [10**12], "data_offsets": [16, 32]},
        {"dtype": "F32", "shape": [2**62, 8], "data_offsets": [16, 32]},
        {"dtype": "F32", "shape": [4], "data_offsets": [32, 16]},
        {"dtype": "X32", "shape": [4], "data_offsets": [16, 32]},
        {"dtype": "F32", "shape": [-4], "data_offsets": [16, 32]},
    ],
    ids=["same", "overlap", "gap", "shape", "overflow", "backwards", "type", "negative"],
)
def test_offsets_and_shapes_that_do_not_fit_are_refused(second):
    first = {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}
    with pytest.raises(UnsafeFileError, match="damaged"):
        load(header_of(a=first, b=second) + b"\0" * 32)
    good = {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}
    assert load(header_of(a=first, b=good) + b"\0" * 32).state.keys() == {"a", "b"}


# caps


def test_a_file_above_the_cap_is_refused_before_it_is_read(monkeypatch):
    data = save(STATE)
    monkeypatch.setattr("charpy_plugins.wrappers.weights.MAX_BYTES", len(data) - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("it must not be read"))
    with pytest.raises(UnsafeFileError, match="the weight file is too large") as refused:
        load(data)
    assert (refused.value.found, refused.value.expected) == (len(data), f"{len(data) - 1} bytes")


@pytest.mark.parametrize("old", [False, True])
def test_many_tensors_over_the_same_bytes_claim_no_more_than_a_file_may_hold(old, monkeypatch):
    base = torch.zeros(1000)
    data = torch_bytes({f"{i}": base for i in range(100)}, old=old)
    assert len(data) < 100_000
    monkeypatch.setattr("charpy_plugins.wrappers.weights.MAX_BYTES", 100_000)
    with pytest.raises(UnsafeFileError, match=r"100 tensors, 400000 bytes in all, many over the same stored ones"):
        load(data)


def test_a_pickle_of_too_many_steps_is_refused(monkeypatch):
    monkeypatch.setattr("charpy_plugins.wrappers.pickle_scan._MAX_OPCODES", 30)
    with pytest.raises(UnsafeFileError, match="the pickle is too long") as refused:
        load(torch_bytes(STATE))
    assert "safetensors" in refused.value.hint


def test_sparse_tensors_of_a_loader_that_lets_them_through_are_no_weights():
    sparse = torch.ones(2, 2).to_sparse()
    with pytest.raises(ModelError, match=r"tensor 'a' is not dense(.|\n)*to_dense"):
        _check_tensor("a", sparse, "w.pt")
