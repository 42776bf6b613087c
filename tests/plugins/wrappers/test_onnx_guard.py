"""The front door of ONNX files: rows 7 to 10 of the hostile inputs. ONNX Runtime must never be reached."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from charpy.errors import CharpyError, ModelError, UnsafeFileError
from charpy_plugins.wrappers import onnx_external, onnx_guard
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.onnx_guard import inspect

WEIGHTS = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def closed(monkeypatch):
    """ONNX Runtime, which must not be asked."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("ONNX Runtime was reached")

    monkeypatch.setattr("onnxruntime.InferenceSession", refuse)


def external(location: str, **entries: object) -> TensorProto:
    """The tensor `w` (4, 3) with its values in another file."""
    tensor = TensorProto(name="w", dims=[4, 3], data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    for key, value in {"location": location, **entries}.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def initialiser(tensor):
    def edit(model):
        model.graph.initializer.append(tensor)

    return edit


def constant(tensor):
    def edit(model):
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))

    return edit


def constant_list(tensor):
    def edit(model):
        node = helper.make_node("Constant", [], ["w"])
        node.attribute.append(onnx.AttributeProto(name="values", type=onnx.AttributeProto.TENSORS, tensors=[tensor]))
        model.graph.node.insert(0, node)

    return edit


def sparse(tensor):
    def edit(model):
        values = TensorProto()
        values.CopyFrom(tensor)
        values.dims[:] = [12]
        model.graph.sparse_initializer.append(
            helper.make_sparse_tensor(values, numpy_helper.from_array(np.arange(12)), [4, 3])
        )

    return edit


def sparse_constant(tensor):
    def edit(model):
        node = helper.make_node("Constant", [], ["w"])
        indices = numpy_helper.from_array(np.arange(12))
        node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
        node.attribute[0].sparse_tensor.CopyFrom(helper.make_sparse_tensor(tensor, indices, [4, 3]))
        model.graph.node.insert(0, node)

    return edit


def subgraph(tensor):
    def edit(model):
        inner = helper.make_graph(
            [helper.make_node("Identity", ["w"], ["v"])],
            "inner",
            [],
            [helper.make_tensor_value_info("v", TensorProto.FLOAT, [4, 3])],
            [tensor],
        )
        model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
        model.graph.node.insert(0, helper.make_node("If", ["yes"], ["w"], then_branch=inner, else_branch=inner))

    return edit


def function(tensor):
    def edit(model):
        body = helper.make_node("Constant", [], ["v"], value=tensor)
        opset = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "Weights", [], ["v"], [body], opset))
        model.opset_import.append(helper.make_opsetid("own", 1))
        model.graph.node.insert(0, helper.make_node("Weights", [], ["w"], domain="own"))

    return edit


PLACES = [initialiser, constant, constant_list, sparse, sparse_constant, subgraph, function]


@pytest.fixture
def with_tensor(save_graph):
    def save(edit, **rest) -> Path:
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        return save_graph([node], ["N", 4], [("y", TensorProto.FLOAT, ["N", 3])], edit=edit, **rest)

    return save


# row 7: external data


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "location",
    ["../w.bin", "sub/../../w.bin", "/etc/hostname", "", "..\\w.bin", "C:/w.bin", "*/_ORT_MEM_ADDR_/*", "a\0b"],
)
def test_locations_outside_the_folder_are_refused(with_tensor, closed, tmp_path, place, location):
    (tmp_path.parent / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = with_tensor(place(external(location)))
    with pytest.raises(UnsafeFileError, match="tensor 'w'"):
        OnnxModel(OnnxModel.Params(path=str(path)))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("link", ["symlink", "hard link", "folder symlink", "folder", "fifo"])
def test_links_and_other_things_than_files_are_refused(with_tensor, closed, tmp_path, place, link):
    outside = tmp_path.parent / f"outside-{tmp_path.name}"
    outside.mkdir()
    (outside / "w.bin").write_bytes(WEIGHTS.tobytes())
    location = "w.bin"
    if link == "symlink":
        (tmp_path / "w.bin").symlink_to(outside / "w.bin")
    elif link == "hard link":
        os.link(outside / "w.bin", tmp_path / "w.bin")
    elif link == "folder symlink":
        (tmp_path / "sub").symlink_to(outside)
        location = "sub/w.bin"
    elif link == "folder":
        (tmp_path / "w.bin").mkdir()
    else:
        os.mkfifo(tmp_path / "w.bin")
    path = with_tensor(place(external(location)))
    with pytest.raises(CharpyError, match="tensor 'w'"):
        OnnxModel(OnnxModel.Params(path=str(path)))


def test_a_missing_weight_file_is_named(with_tensor, closed):
    with pytest.raises(ModelError, match=r"missing[\s\S]*'absent.bin'"):
        inspect(with_tensor(initialiser(external("absent.bin"))))


@pytest.mark.parametrize(
    "entries",
    [
        {"offset": -4},
        {"offset": 8},
        {"length": 49},
        {"length": -1},
        {"offset": "x"},
        {"offset": 2**63},
        {"length": 2**62},
    ],
)
def test_pieces_that_do_not_fit_the_file_are_refused(with_tensor, closed, tmp_path, entries):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = with_tensor(initialiser(external("w.bin", **{"length": 48, **entries})))
    with pytest.raises(UnsafeFileError, match="does not fit"):
        inspect(path)


def test_honest_external_data_is_read_and_counts_in_the_fingerprint(with_tensor, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 16 + WEIGHTS.tobytes())
    path = with_tensor(initialiser(external("sub/w.bin", offset=16, length=48)))
    model = OnnxModel(OnnxModel.Params(path=str(path)))
    images = torch.rand(5, 1, 2, 2)
    np.testing.assert_allclose(model.predict(images).numpy(), images.flatten(1).numpy() @ WEIGHTS, rtol=1e-5)
    before = model.fingerprint()
    assert set(before) == {"onnx", "external sub/w.bin", "onnxruntime"}
    # row 8: the weight file is swapped, the .onnx file stays
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 16 + (2 * WEIGHTS).tobytes())
    after = OnnxModel(OnnxModel.Params(path=str(path))).fingerprint()
    assert after["onnx"] == before["onnx"]
    assert after["external sub/w.bin"] != before["external sub/w.bin"]


# row 9: operators


@pytest.mark.parametrize(
    ("domain", "operator"),
    [
        ("com.microsoft", "EPContext"),
        ("com.microsoft", "Unheard"),
        ("my.company", "Gemm"),
        ("ai.onnx.contrib", "PyOp"),
        ("ai.onnx.preview.training", "Gradient"),
        ("com.microsoft.nchwc", "Conv"),
        (" ", "Relu"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_operators_of_other_domains_are_refused_by_name(save_graph, closed, domain, operator, nested):
    node = helper.make_node(operator, ["x"], ["y"], domain=domain)

    def edit(model):
        if nested:
            value = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
            inner = helper.make_graph([node], "inner", [], [value])
            model.graph.node[0].attribute.append(helper.make_attribute("then_branch", inner))

    nodes = [helper.make_node("Relu", ["x"], ["y"])] if nested else [node]
    path = save_graph(nodes, ["N", 4], [("y", TensorProto.FLOAT, ["N", 4])], domains=[domain], edit=edit)
    with pytest.raises(UnsafeFileError) as raised:
        OnnxModel(OnnxModel.Params(path=str(path)))
    assert repr(operator) in str(raised.value)
    assert repr(domain) in str(raised.value)


def test_operators_that_the_file_defines_itself_and_arithmetic_contributions_are_allowed(save_graph):
    def edit(model):
        body = helper.make_node("Mul", ["a", "a"], ["b"])
        opset = [helper.make_opsetid("", 17)]
        model.functions.append(helper.make_function("own", "Square", ["a"], ["b"], [body], opset))

    nodes = [
        helper.make_node("Square", ["x"], ["s"], domain="own"),
        helper.make_node("Gelu", ["s"], ["y"], domain="com.microsoft"),
    ]
    outputs = [("y", TensorProto.FLOAT, ["N", 4])]
    path = save_graph(nodes, ["N", 4], outputs, domains=["own", "com.microsoft"], edit=edit)
    images = torch.rand(3, 1, 2, 2)
    expected = torch.nn.functional.gelu(images.flatten(1) ** 2)
    found = OnnxModel(OnnxModel.Params(path=str(path))).predict(images)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_an_own_function_does_not_open_its_domain(save_graph, closed):
    def edit(model):
        body = helper.make_node("EPContext", ["a"], ["b"], domain="com.microsoft")
        opset = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
        model.functions.append(helper.make_function("own", "Square", ["a"], ["b"], [body], opset))

    nodes = [helper.make_node("Square", ["x"], ["y"], domain="own")]
    path = save_graph(nodes, ["N", 4], [("y", TensorProto.FLOAT, ["N", 4])], domains=["own"], edit=edit)
    with pytest.raises(UnsafeFileError, match="EPContext"):
        inspect(path)


# row 10: size


def test_large_files_are_refused_by_their_size(linear_graph, closed, monkeypatch):
    path, _ = linear_graph([1, 2, 2], 4)
    assert inspect(path).fingerprint
    monkeypatch.setattr(onnx_guard, "MAX_BYTES", path.stat().st_size - 1)
    with pytest.raises(UnsafeFileError, match="too large"):
        OnnxModel(OnnxModel.Params(path=str(path)))


def test_external_files_count_in_the_size(with_tensor, closed, tmp_path, monkeypatch):
    (tmp_path / "w.bin").write_bytes(WEIGHTS.tobytes())
    path = with_tensor(initialiser(external("w.bin")))
    inspect(path)
    monkeypatch.setattr(onnx_guard, "MAX_BYTES", path.stat().st_size + 40)
    with pytest.raises(UnsafeFileError, match="too large"):
        inspect(path)


def test_graphs_with_too_many_parts_are_refused(save_graph, closed, monkeypatch):
    nodes = [helper.make_node("Relu", [f"v{i}" if i else "x"], [f"v{i + 1}"]) for i in range(100)]
    path = save_graph(nodes, ["N", 4], [("v100", TensorProto.FLOAT, ["N", 4])])
    inspect(path)
    monkeypatch.setattr(onnx_guard, "MAX_MESSAGES", 50)
    with pytest.raises(UnsafeFileError, match="graph is too large"):
        inspect(path)


def test_graphs_that_are_too_deep_are_refused(save_graph, closed):
    data = b""
    for _ in range(400):  # GraphProto.node = 1, NodeProto.attribute = 5, AttributeProto.g = 6, each with its length
        for tag in (b"\x32", b"\x2a", b"\x0a"):
            length, size = len(data), b""
            while True:
                size += bytes([length & 0x7F | (0x80 if length > 0x7F else 0)])
                length >>= 7
                if not length:
                    break
            data = tag + size + data
    path = save_graph([helper.make_node("Relu", ["x"], ["y"])], ["N", 4], [("y", TensorProto.FLOAT, ["N", 4])])
    model = onnx.load(path).SerializeToString()
    size = bytes([len(data) & 0x7F | 0x80, (len(data) >> 7) & 0x7F | 0x80, len(data) >> 14])
    path.write_bytes(model + b"\x3a" + size + data)  # ModelProto.graph = 7, merged with the first
    with pytest.raises(ModelError, match="not an ONNX file"):
        inspect(path)


@pytest.mark.parametrize("dims", [[10**6, 10**6], [2**62, 2**62], [-1, 4]])
@pytest.mark.parametrize("place", [initialiser, constant, sparse_constant])
def test_tensors_too_large_to_be_true_are_refused(with_tensor, closed, dims, place):
    tensor = TensorProto(name="w", dims=dims, data_type=TensorProto.FLOAT)
    with pytest.raises(UnsafeFileError, match="too large"):
        inspect(with_tensor(place(tensor)))


def test_sparse_tensors_count_at_their_dense_size_and_together(with_tensor, closed):
    def edit(model, count):
        for number in range(count):
            values = numpy_helper.from_array(np.ones(1, np.float32), f"w{number}")
            indices = numpy_helper.from_array(np.zeros(1, np.int64))
            model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [20_000, 20_000]))

    inspect(with_tensor(lambda model: edit(model, 1)))
    with pytest.raises(UnsafeFileError, match="too large"):
        inspect(with_tensor(lambda model: edit(model, 3)))


@pytest.mark.parametrize(
    "nodes",
    [
        [helper.make_node("ConstantOfShape", ["size"], ["z"])],
        [helper.make_node("Expand", ["one", "size"], ["z"])],
        [helper.make_node("Tile", ["one2", "size"], ["z"])],
        [helper.make_node("Mul", ["root", "root"], ["s"]), helper.make_node("Expand", ["one", "s"], ["z"])],
    ],
    ids=["ConstantOfShape", "Expand", "Tile", "computed size"],
)
def test_bombs_of_a_few_bytes_are_refused(save_graph, closed, nodes):
    path = save_graph(
        [*nodes, helper.make_node("ReduceSum", ["z"], ["r"]), helper.make_node("Add", ["x", "r"], ["y"])],
        ["N", 4],
        [("y", TensorProto.FLOAT, ["N", 4])],
        {
            "size": np.array([10**6, 10**6]),
            "root": np.array([10**3, 10**3]),
            "one": np.ones((), np.float32),
            "one2": np.ones((1, 1), np.float32),
        },
    )
    assert path.stat().st_size < 1000
    with pytest.raises(UnsafeFileError, match="computes a tensor that is too large"):
        inspect(path)


def test_an_endless_loop_is_stopped(save_graph):
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Relu", ["v"], ["v_next"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("v_next", TensorProto.FLOAT, None),
        ],
    )
    nodes = [helper.make_node("Loop", ["", "yes", "x"], ["y"], body=body)]
    path = save_graph(nodes, ["N", 4], [("y", TensorProto.FLOAT, ["N", 4])], {"yes": np.array(True)})
    assert inspect(path).loops
    model = OnnxModel(OnnxModel.Params(path=str(path), run_seconds=0.3))
    with pytest.raises(ModelError, match="failed on a batch"):
        model.predict(torch.rand(2, 1, 2, 2))


# what is no ONNX file at all


@pytest.mark.parametrize("data", [b"", b"hello", b"\x08\x08", b"PK\x03\x04" + b"\0" * 40, b"\x80\x04\x95" + b"\0" * 40])
def test_other_files_are_refused(tmp_path, closed, data):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(ModelError, match="not an ONNX file"):
        inspect(path)


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="no such ONNX file"):
        inspect(tmp_path / "absent.onnx")


def test_a_graph_that_onnx_runtime_refuses_is_an_error(save_graph):
    path = save_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], ["N", 4], [("y", TensorProto.FLOAT, None)])
    with pytest.raises(ModelError, match="cannot open"):
        OnnxModel(OnnxModel.Params(path=str(path)))


def test_a_file_of_weights_above_the_cap_is_refused_before_it_is_read(with_tensor, closed, tmp_path, monkeypatch):
    path = with_tensor(initialiser(external("w.bin")))
    with (tmp_path / "w.bin").open("wb") as file:
        file.truncate(onnx_guard.MAX_BYTES + 1)  # no block of it is on the disk
    with pytest.raises(UnsafeFileError, match="are in a file that is too large") as refused:
        inspect(path)
    assert refused.value.found == "'w.bin'"


def test_a_graph_whose_shapes_cannot_be_inferred_is_left_to_onnx_runtime(save_graph):
    def without_opset(model):
        del model.opset_import[:]

    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    path = save_graph(nodes, ["N", 1, 2, 2], [("y", TensorProto.FLOAT, ["N", 4])], edit=without_opset)
    with pytest.raises(onnx.shape_inference.InferenceError, match="No opset import"):
        onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    inspect(path)
    with pytest.raises(ModelError, match="ONNX Runtime cannot open the model"):
        OnnxModel(OnnxModel.Params(path=str(path)))


@pytest.mark.parametrize("kind", [0, 999])
def test_values_of_a_type_that_nobody_knows_count_one_byte_each(kind):
    assert onnx_external.item_size(kind) == 1
    assert onnx_external.item_size(TensorProto.DOUBLE) == 8
