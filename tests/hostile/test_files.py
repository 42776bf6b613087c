"""Rows 1 to 11 of the hostile inputs, through the command line: files of weights, graphs, arrays and archives."""

from __future__ import annotations

import collections
import gzip
import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from charpy.errors import DataError, IdentityError, ModelError, UnsafeFileError

ARCHITECTURE = "arch:make"


class Runs:
    """A pickle that makes the folder `ran` when it is opened."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(autouse=True)
def architecture(folder):
    """A small network that weights can be given for, and the proof that no file ran code."""
    (folder / "arch.py").write_text("import torch\ndef make():\n    return torch.nn.Linear(36, 2)\n")
    yield
    assert not (folder / "ran").exists(), "code of the file was run"


def torch_bytes(value: object, *, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def torchscript() -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is on its way out
        torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), buffer)
    return buffer.getvalue()


def bad_checksum() -> bytes:
    data = torch_bytes({"weight": torch.full((100,), 1.5)})
    return data.replace(struct.pack("<f", 1.5) * 100, struct.pack("<f", 2.5) * 100)


def safetensors(*tensors: tuple[str, dict[str, Any]], held: int = 32, length: int | None = None) -> bytes:
    """A file with exactly this header, which may name a tensor twice."""
    text = ("{" + ",".join(f"{json.dumps(name)}:{json.dumps(entry)}" for name, entry in tensors) + "}").encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + bytes(held)


def entry(*shape: int, start: int = 0, end: int = 16, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}


def many_views() -> bytes:
    """10,000 tensors of 1 MB each that all look at the same megabyte."""
    stored = torch.zeros(2**18)
    return torch_bytes({f"t{number}": stored.view(2**9, 2**9) for number in range(10_000)})


WEIGHTS = {
    # row 1
    "reduce in a tensor file": ("w.pt", lambda: torch_bytes({"weight": Runs()}), UnsafeFileError, "would run code"),
    "reduce, old format": ("w.pt", lambda: torch_bytes({"weight": Runs()}, old=True), UnsafeFileError, "run code"),
    "reduce deep inside": (
        "w.pt", lambda: torch_bytes({"state_dict": {"a": [torch.ones(1), {"b": Runs()}]}}), UnsafeFileError,
        "run code"),
    "import put together at run time": (
        "w.pt", lambda: pickle.dumps({"weight": Runs()}, protocol=4), UnsafeFileError, "cannot be read off"),
    # row 2
    "a whole module": ("w.pt", lambda: torch_bytes(torch.nn.Linear(2, 2)), UnsafeFileError, "model.state_dict()"),
    "TorchScript": ("w.pt", torchscript, UnsafeFileError, "model.state_dict()"),
    # row 3
    "pickle called safetensors": (
        "w.safetensors", lambda: pickle.dumps(Runs(), protocol=2), UnsafeFileError, "run code"),
    "pickle called .bin": ("w.bin", lambda: pickle.dumps(Runs(), protocol=0), UnsafeFileError, "not a weight file"),
    "wrong checksum in the zip": ("w.pt", bad_checksum, UnsafeFileError, "checksum"),
    "half a zip": ("w.pt", lambda: torch_bytes({"weight": torch.ones(99)})[:300], UnsafeFileError, "damaged"),
    "an empty file": ("w.pt", bytes, UnsafeFileError, "not a weight file"),
    # row 5
    "stride 0": (
        "w.pt", lambda: torch_bytes({"weight": torch.zeros(1).expand(10**6, 10**6)}), UnsafeFileError, "claims more"),
    "stride 0, old format": (
        "w.pt", lambda: torch_bytes({"weight": torch.zeros(1).expand(10**12)}, old=True), UnsafeFileError,
        "claims more"),
    "many views of one megabyte": ("w.pt", many_views, UnsafeFileError, "claim more"),
    # row 6
    "header of 2^62 bytes": ("w.safetensors", lambda: safetensors(length=2**62), UnsafeFileError, "header"),
    "header longer than the file": ("w.safetensors", lambda: safetensors(length=999), UnsafeFileError, "header"),
    "overlapping offsets": (
        "w.safetensors", lambda: safetensors(("a", entry(4)), ("b", entry(4, start=8, end=24))), UnsafeFileError,
        "damaged"),
    "the same bytes twice": (
        "w.safetensors", lambda: safetensors(("a", entry(4)), ("b", entry(4))), UnsafeFileError, "damaged"),
    "a gap": (
        "w.safetensors", lambda: safetensors(("a", entry(4)), ("b", entry(3, start=20, end=32))), UnsafeFileError,
        "damaged"),
    "a shape beyond its bytes": (
        "w.safetensors", lambda: safetensors(("a", entry(10**12, end=32))), UnsafeFileError, "damaged"),
    "a shape that overflows": (
        "w.safetensors", lambda: safetensors(("a", entry(2**62, 8, end=32))), UnsafeFileError, "damaged"),
    "one name twice": (
        "w.safetensors",
        lambda: safetensors(("a", entry(4)), ("a", entry(4, start=16, end=32))), UnsafeFileError, "damaged"),
    # row 11
    "a zip bomb": (
        "w.pt", lambda: zipped({"archive/data.pkl": bytes(5_000_000)}, zipfile.ZIP_DEFLATED), UnsafeFileError,
        "not written by torch.save"),
}  # fmt: skip


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights(refused, folder, case, on_shades):
    name, content, kind, say = WEIGHTS[case]
    (folder / name).write_bytes(content())
    assert (folder / name).stat().st_size < 10_000_000
    refused(kind, say, "assess", f"{name}@{ARCHITECTURE}", *on_shades)


# rows 7 to 10: ONNX


def graph(*nodes: onnx.NodeProto, held: tuple[TensorProto, ...] = ()) -> onnx.ModelProto:
    """A model from (N, 1, 6, 6) to (N, 2) with `nodes` before its last one, which takes (N, 36) `f` and (36, 2) `w`."""
    own = [helper.make_node("Flatten", ["x"], ["f"]), *nodes, helper.make_node("MatMul", ["f", "w"], ["y"])]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 6, 6])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 2])
    made = helper.make_graph(own, "g", [x], [y], list(held))
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


HELD = np.random.default_rng(0).normal(size=(36, 2)).astype(np.float32)


def elsewhere(location: str, **entries: object) -> TensorProto:
    """The tensor `w`, its values in another file."""
    tensor = TensorProto(name="w", dims=[36, 2], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def sparse_elsewhere() -> onnx.ModelProto:
    values = elsewhere("../w.bin")
    values.dims[:] = [72]
    node = helper.make_node("Constant", [], ["w"])
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    indices = numpy_helper.from_array(np.arange(72))
    node.attribute[0].sparse_tensor.CopyFrom(helper.make_sparse_tensor(values, indices, [36, 2]))
    return graph(node)


def vendor(operator: str, domain: str, **attributes: Any) -> onnx.ModelProto:
    node = helper.make_node(operator, ["f"], ["z"], domain=domain, **attributes)
    model = graph(node, held=(numpy_helper.from_array(HELD, "w"),))
    model.opset_import.append(helper.make_opsetid(domain, 1))
    return model


def bomb(*nodes: onnx.NodeProto, **held: np.ndarray) -> onnx.ModelProto:
    tensors = [numpy_helper.from_array(value, name) for name, value in {"w": HELD, **held}.items()]
    return graph(*nodes, helper.make_node("ReduceSum", ["z"], ["s"]), held=tuple(tensors))


def deep() -> onnx.ModelProto:
    """4,000 graphs inside each other, as bytes that no library would write."""
    data = b""
    for _ in range(4_000):  # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6, each with its length
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            data = tag + varint(len(data)) + data
    return graph(held=(numpy_helper.from_array(HELD, "w"),)).SerializeToString() + b"\x3a" + varint(len(data)) + data


def varint(number: int) -> bytes:
    data = b""
    while number > 0x7F:
        data, number = data + bytes([number & 0x7F | 0x80]), number >> 7
    return data + bytes([number])


SIZE = np.array([10**6, 10**6])
ONNX = {
    "external data above the folder": (lambda: graph(held=(elsewhere("../w.bin"),)), "outside the model's folder"),
    "external data by a detour": (lambda: graph(held=(elsewhere("a/../../w.bin"),)), "outside the model's folder"),
    "external data at an absolute path": (lambda: graph(held=(elsewhere("/etc/hostname"),)), "outside the model's"),
    "external data through a link": (lambda: graph(held=(elsewhere("link.bin"),)), "symbolic link"),
    "external data through a linked folder": (lambda: graph(held=(elsewhere("linked/w.bin"),)), "symbolic link"),
    "external data with a second name": (lambda: graph(held=(elsewhere("hard.bin"),)), "hard link"),
    "external data in a pipe": (lambda: graph(held=(elsewhere("pipe.bin"),)), "no regular file"),
    "external data in a sparse constant": (sparse_elsewhere, "outside the model's folder"),
    "external data at an address in memory": (
        lambda: graph(held=(elsewhere("*/_ORT_MEM_ADDR_/*", offset=4096),)), "no plain relative path"),
    "external data beyond its file": (
        lambda: graph(held=(elsewhere("w.bin", offset=200, length=288),)), "does not fit the file"),
    "custom domain": (lambda: vendor("Backdoor", "evil.example"), "not allowed"),
    "EPContext": (
        lambda: vendor("EPContext", "com.microsoft", ep_cache_context=b"blob", embed_mode=1), "not allowed"),
    "EPContext of a file": (
        lambda: vendor("EPContext", "com.microsoft", ep_cache_context="../blob", embed_mode=0), "not allowed"),
    "graphs inside graphs": (deep, "not an ONNX file"),
    "a tensor of 10^12 values": (
        lambda: graph(held=(TensorProto(name="w", dims=[10**6, 10**6], data_type=1),)), "too large"),
    "ConstantOfShape of 10^12 values": (
        lambda: bomb(helper.make_node("ConstantOfShape", ["size"], ["z"]), size=SIZE), "too large"),
    "Expand to 10^12 values": (
        lambda: bomb(helper.make_node("Expand", ["one", "size"], ["z"]), size=SIZE, one=np.ones((), np.float32)),
        "too large"),
    "a pickle": (lambda: pickle.dumps(Runs(), protocol=2), "not an ONNX file"),
    "nothing": (bytes, "not an ONNX file"),
}  # fmt: skip


@pytest.mark.parametrize("case", ONNX)
def test_onnx(refused, folder, monkeypatch, case, on_shades):
    """ONNX Runtime is never reached."""

    def reached(*_: object, **__: object) -> None:
        raise AssertionError("ONNX Runtime was reached")

    monkeypatch.setattr("onnxruntime.InferenceSession", reached)
    (folder / "m").mkdir()
    (folder / "w.bin").write_bytes(HELD.tobytes())
    for name in ("w.bin", "first.bin"):
        (folder / "m" / name).write_bytes(HELD.tobytes())
    (folder / "m" / "link.bin").symlink_to(folder / "w.bin")
    (folder / "m" / "linked").symlink_to(folder)
    os.link(folder / "m" / "first.bin", folder / "m" / "hard.bin")
    os.mkfifo(folder / "m" / "pipe.bin")
    make, say = ONNX[case]
    made = make()
    (folder / "m" / "net.onnx").write_bytes(made if isinstance(made, bytes) else made.SerializeToString())
    kind = ModelError if say == "not an ONNX file" else UnsafeFileError
    refused(kind, say, "assess", "m/net.onnx", *on_shades)


def test_a_swapped_weight_file_is_another_model(refused, charpy, folder, on_shades):
    """Row 8: the .onnx file itself is unchanged."""
    (folder / "net.onnx").write_bytes(graph(held=(elsewhere("w.bin"),)).SerializeToString())
    (folder / "w.bin").write_bytes(HELD.tobytes())
    code, _, err = charpy("assess", "net.onnx", *on_shades)
    assert code == 0, err
    (folder / "w.bin").write_bytes((-HELD).tobytes())
    refused(IdentityError, "external w.bin", "assess", "net.onnx", *on_shades)


# rows 3, 4 and 11: arrays and archives


def saved(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def header_that_runs() -> bytes:
    """An array whose header, a Python literal, is a call."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", 40) + b"__import__('os').mkdir('ran')".ljust(40)


def header_only(shape: tuple[int, ...]) -> bytes:
    """An array of this shape, and none of its bytes."""
    text = repr({"descr": "|u1", "fortran_order": False, "shape": shape}).ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


LABELS = npy(np.arange(12) % 2)
GOOD = np.random.default_rng(0).integers(0, 256, (12, 1, 6, 6), np.uint8)
NPZ = {
    "object images": (
        lambda: saved(images=np.array([Runs()] * 12), labels=np.arange(12) % 2), UnsafeFileError, "could run code"),
    "object labels": (
        lambda: saved(images=GOOD, labels=np.array([Runs()] * 12)), UnsafeFileError, "could run code"),
    "objects in a record": (
        lambda: saved(images=GOOD, labels=np.zeros(12, [("a", "i4"), ("b", "O")])), UnsafeFileError, "could run code"),
    "a bare pickle": (lambda: pickle.dumps(Runs(), protocol=2), DataError, "no .npz file"),
    "an array of objects alone": (lambda: npy(np.array([Runs()], object)), DataError, "no .npz file"),
    "a damaged member": (
        lambda: zipped({"images.npy": npy(GOOD), "labels.npy": LABELS}).replace(GOOD[0].tobytes(), bytes(36)),
        DataError, "cannot be read"),
    "a header of 10^12 values": (
        lambda: zipped({"images.npy": header_only((10**6, 1, 10**3, 10**3)), "labels.npy": LABELS}), DataError,
        "wrong size"),
    "a bomb": (
        lambda: zipped({"images.npy": npy(np.zeros((2000, 1, 60, 60), np.uint8)), "labels.npy": LABELS},
                       zipfile.ZIP_DEFLATED),
        UnsafeFileError, "bomb"),
    "a member above the folder": (
        lambda: zipped({"../images.npy": npy(GOOD), "labels.npy": LABELS}), UnsafeFileError, "not written by NumPy"),
    "a member at an absolute path": (
        lambda: zipped({"/images.npy": npy(GOOD), "labels.npy": LABELS}), UnsafeFileError, "not written by NumPy"),
    "a header that is a program": (
        lambda: zipped({"images.npy": header_that_runs(), "labels.npy": LABELS}),
        DataError, "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("case", NPZ)
def test_arrays(refused, folder, case, by_brightness):
    content, kind, say = NPZ[case]
    (folder / "d.npz").write_bytes(content())
    assert (folder / "d.npz").stat().st_size < 10_000_000
    refused(kind, say, "assess", *by_brightness, "--data", "d.npz")


def tar(*members: tuple[str, bytes | tuple[bytes, str]]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, bytes):
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
            else:
                info.type, info.linkname = content
                archive.addfile(info)
    return buffer.getvalue()


TAR = {
    "above the folder": (("../escape", b"x"),),
    "at an absolute path": (("/tmp/escape", b"x"),),
    "a link outside": (("data", (tarfile.SYMTYPE, "/etc/passwd")),),
    "a hard link outside": (("data", (tarfile.LNKTYPE, "../../outside")),),
    "a device": (("data", (tarfile.CHRTYPE, "")),),
}


@pytest.mark.parametrize("case", TAR)
def test_archives(refused, folder, case, by_brightness):
    (folder / "cifar-10-binary.tar.gz").write_bytes(tar(*TAR[case]))
    refused(UnsafeFileError, "outside itself", "assess", *by_brightness, "--data", "cifar10", "--data-dir", folder)


def test_an_archive_that_is_a_bomb(refused, folder, monkeypatch, by_brightness):
    monkeypatch.setattr("charpy_plugins.datasets.cifar10.MOST_ARCHIVE_BYTES", 1_000_000)
    (folder / "cifar-10-binary.tar.gz").write_bytes(tar(("zeros", bytes(30_000_000))))
    refused(UnsafeFileError, "bomb", "assess", *by_brightness, "--data", "cifar10", "--data-dir", folder)


@pytest.mark.parametrize("count", [60_000, 10**9])
def test_a_compressed_file_that_is_a_bomb(refused, folder, count, by_brightness):
    """The second one says more in its header than it holds."""
    held = min(count, 60_000)
    images = struct.pack(">IIII", 0x803, count, 28, 28) + bytes(held * 28 * 28)
    (folder / "mnist").mkdir()
    (folder / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
    (folder / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(
        gzip.compress(struct.pack(">II", 0x801, count) + bytes(held))
    )
    refused(UnsafeFileError, "bomb", "assess", *by_brightness, "--data", "mnist", "--data-dir", folder)


def test_an_ordered_dict_of_tensors_is_what_weights_are(charpy, folder, on_shades):
    """The control: what these tests refuse is not refused for its form."""
    state = collections.OrderedDict(weight=torch.rand(2, 36), bias=torch.zeros(2))
    (folder / "w.pt").write_bytes(torch_bytes(state))
    (folder / "arch.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Linear):\n"
        "    def forward(self, images):\n"
        "        return super().forward(images.flatten(1))\n"
        "def make():\n    return Net(36, 2)\n"
    )
    code, _, err = charpy("assess", "w.pt@arch:make", *on_shades)
    assert code == 0, err
    assert Path("out/report.json").is_file()
