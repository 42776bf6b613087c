"""The ONNX wrapper against numpy: layouts, ranges, types, batch sizes, outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from sklearn.datasets import load_digits
from sklearn.tree import DecisionTreeClassifier

from charpy.bounds.graph import UnsupportedError
from charpy.engine import QueryEngine
from charpy.errors import CharpyError, ModelError, SpecError, UnknownNameError
from charpy.interfaces.model import Output
from charpy.preflight import preflight
from charpy.specs import parse
from charpy.threat import Access
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.onnx_session import Session

RGB = torch.rand(5, 3, 5, 6, generator=torch.Generator().manual_seed(2))


def opened(path: Path, **params) -> OnnxModel:
    return OnnxModel(parse(OnnxModel.Params, {"path": str(path), **params}))


def chw(images: torch.Tensor) -> np.ndarray:
    return images.numpy().reshape(len(images), -1)


def hwc(images: torch.Tensor) -> np.ndarray:
    return images.numpy().transpose(0, 2, 3, 1).reshape(len(images), -1)


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-4)


# layouts


@pytest.mark.parametrize(
    ("shape", "layout", "order", "input_shape"),
    [
        ([3, 5, 6], "auto", chw, (3, 5, 6)),
        ([5, 6, 3], "auto", hwc, (3, 5, 6)),
        ([3, None, None], "auto", chw, None),
        ([None, None, 3], "auto", hwc, None),
        ([3, 5, 6], "nchw", chw, (3, 5, 6)),
        ([5, 6, 3], "nhwc", hwc, (3, 5, 6)),
        ([90], "flat_chw", chw, None),
        ([90], "flat_hwc", hwc, None),
        ([90, 1], "flat_hwc", hwc, None),
        ([1, 90], "flat_chw", chw, None),
        ([1, 1, 90], "flat_chw", chw, None),
    ],
)
def test_layouts(linear_graph, shape, layout, order, input_shape):
    path, weights = linear_graph(shape, 90)
    model = opened(path, layout=layout)
    close(model.predict(RGB), order(RGB) @ weights)
    assert model.input_shape == input_shape
    assert (model.num_classes, model.access, model.output) == (3, Access.SCORES, Output.LOGITS)


def test_a_grey_vector_needs_no_layout(linear_graph):
    images = torch.rand(5, 1, 4, 6)
    for shape in ([24], [24, 1], [1, 24], [4, 6]):
        path, weights = linear_graph(shape, 24, batch=None if len(shape) == 1 else 1)
        close(opened(path).predict(images), chw(images) @ weights)


@pytest.mark.parametrize(
    ("batch", "shape", "found"),
    [
        ("N", [3, 32, 3], r"\[\?, 3, 32, 3\]"),
        ("N", [8, 8, 8], r"\[\?, 8, 8, 8\]"),
        ("N", [None, None, None], r"\[\?, \?, \?, \?\]"),
        (3, [32, 32], r"\[3, 32, 32\]"),
        ("N", [2, 3, 4, 5], r"\[\?, 2, 3, 4, 5\]"),
    ],
)
def test_a_layout_in_doubt_is_refused_with_the_shape(save_graph, batch, shape, found):
    outputs = [("y", TensorProto.FLOAT, None)]
    path = save_graph([helper.make_node("Identity", ["x"], ["y"])], [batch, *shape], outputs)
    with pytest.raises(ModelError, match=found) as raised:
        opened(path)
    assert "set layout" in str(raised.value)


def test_a_flat_colour_image_in_doubt_is_refused(linear_graph):
    path, _ = linear_graph([90], 90)
    with pytest.raises(ModelError, match=r"flat_chw .* or flat_hwc"):
        opened(path).predict(RGB)


def test_a_layout_that_does_not_fit_is_refused(linear_graph):
    path, _ = linear_graph([90], 90)
    with pytest.raises(ModelError, match="does not fit the input"):
        opened(path, layout="nchw")


@pytest.mark.parametrize("images", [torch.rand(2, 1, 4, 6), torch.rand(2, 3, 6, 5), torch.rand(2, 3, 7, 6)])
@pytest.mark.parametrize(("shape", "layout"), [([3, 5, 6], "nchw"), ([5, 6, 3], "nhwc")])
def test_images_of_another_shape_are_refused_with_both(linear_graph, images, shape, layout):
    path, _ = linear_graph(shape, 90)
    with pytest.raises(ModelError) as raised:
        opened(path, layout=layout).predict(images)
    assert str(tuple(images.shape[1:])) in str(raised.value)
    assert ", ".join(map(str, shape)) in str(raised.value)


def test_a_vector_of_another_length_is_refused(linear_graph):
    path, _ = linear_graph([90], 90)
    with pytest.raises(ModelError, match=r"\(3, 7, 6\)"):
        opened(path, layout="flat_chw").predict(torch.rand(2, 3, 7, 6))


# range and normalisation


def test_range_comes_before_mean_and_std(linear_graph):
    path, weights = linear_graph([3, 5, 6], 90)
    mean, std = np.float32([10, 20, 30]), np.float32([2, 4, 8])
    model = opened(path, range=[-1, 255], mean=mean.tolist(), std=std.tolist())
    expected = (RGB.numpy() * 256 - 1 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(model.predict(RGB).numpy(), expected.reshape(5, -1) @ weights, rtol=1e-3, atol=1e-2)


def test_normalisation_is_per_channel_in_every_layout(linear_graph):
    mean, std = [0.1, 0.2, 0.3], ["1/2", 1, 2]
    expected = (RGB - torch.tensor(mean).reshape(3, 1, 1)) / torch.tensor([0.5, 1, 2]).reshape(3, 1, 1)
    for shape, layout, order in (([5, 6, 3], "nhwc", hwc), ([90], "flat_hwc", hwc), ([90], "flat_chw", chw)):
        path, weights = linear_graph(shape, 90)
        close(opened(path, layout=layout, mean=mean, std=std).predict(RGB), order(expected) @ weights)


def test_one_value_stands_for_every_channel(linear_graph):
    path, weights = linear_graph([3, 5, 6], 90)
    close(opened(path, mean=[0.5], std=[0.25]).predict(RGB), chw((RGB - 0.5) / 0.25) @ weights)


@pytest.mark.parametrize(
    "params",
    [
        {"mean": [0.1, 0.2]},
        {"std": [1, 2, 3, 4]},
        {"std": [0.5, 0, 1]},
        {"std": [-1]},
        {"range": [1, 1]},
        {"range": [1, 0]},
    ],
)
def test_normalisation_that_cannot_be_is_refused(linear_graph, params):
    path, _ = linear_graph([3, 5, 6], 90)
    with pytest.raises(SpecError):
        opened(path, **params).predict(RGB)


def test_the_images_stay_as_they_are(linear_graph):
    path, _ = linear_graph([3, 5, 6], 90)
    before = RGB.clone()
    opened(path).predict(RGB)
    opened(path, range=[0, 255], mean=[3], std=[2]).predict(RGB)
    assert torch.equal(RGB, before)


# element types


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.INT32, TensorProto.INT64])
def test_whole_number_inputs_get_the_exact_pixels(save_graph, kind):
    nodes = [
        helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["f"], ["y"]),
    ]
    path = save_graph(nodes, ["N", 1, 16, 16], [("y", TensorProto.FLOAT, ["N", 256])], dtype=kind)
    pixels = torch.arange(256, dtype=torch.float32).reshape(1, 1, 16, 16)
    assert torch.equal(opened(path).predict(pixels / 255), pixels.flatten(1))
    with pytest.raises(SpecError, match="whole numbers"):
        opened(path, mean=[0.5])
    with pytest.raises(SpecError, match="whole numbers"):
        opened(path, range=[0, 1])


@pytest.mark.parametrize("kind", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_floats_go_in_and_come_out_as_float32(save_graph, kind):
    path = save_graph([helper.make_node("Flatten", ["x"], ["y"])], ["N", 3, 5, 6], [("y", kind, ["N", 90])], dtype=kind)
    answer = opened(path).predict(RGB)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, RGB.flatten(1), atol=1e-3, rtol=1e-3)


def test_text_inputs_are_refused(save_graph):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save_graph(nodes, ["N", 3], [("y", TensorProto.STRING, ["N", 3])], dtype=TensorProto.STRING)
    with pytest.raises(ModelError, match=r"tensor\(string\)"):
        opened(path)


def test_two_inputs_are_refused(save_graph):
    def edit(model):
        model.graph.input.append(helper.make_tensor_value_info("x2", TensorProto.FLOAT, ["N", 4]))

    path = save_graph(
        [helper.make_node("Add", ["x", "x2"], ["y"])], ["N", 4], [("y", TensorProto.FLOAT, ["N", 4])], edit=edit
    )
    with pytest.raises(ModelError, match="'x2'"):
        opened(path)


# batch sizes


@pytest.mark.parametrize("batch", [1, 3, 8, "N", None, 0, -1])
@pytest.mark.parametrize("rows", [1, 3, 5, 16])
def test_every_batch_axis_takes_every_number_of_rows(linear_graph, batch, rows):
    path, weights = linear_graph([3, 5, 6], 90, batch=batch)
    images = torch.rand(rows, 3, 5, 6)
    model = opened(path)
    assert model.batch == (batch if batch in (1, 3, 8) else None)
    close(model.predict(images), chw(images) @ weights)


def fixed_reshape(save_graph, batch: int, target: list[int]) -> tuple[Path, np.ndarray]:
    weights = np.random.default_rng(1).normal(size=(90, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Reshape", ["r", "size"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["y"]),
    ]
    constants = {"w": weights, "size": np.array(target)}
    outputs = [("y", TensorProto.FLOAT, [batch, 3])]
    return save_graph(nodes, [batch, 3, 5, 6], outputs, constants), weights


@pytest.mark.parametrize(("batch", "target"), [(1, [1, -1]), (1, [1, 90]), (4, [4, 90]), (4, [-1, 90])])
def test_a_fixed_batch_axis_can_be_freed(save_graph, batch, target):
    path, weights = fixed_reshape(save_graph, batch, target)
    model = opened(path)
    images = torch.rand(10, 3, 5, 6)
    close(model.predict(images), chw(images) @ weights)
    (build,) = model.forwards().values()
    close(build()(images), chw(images) @ weights)


def test_a_graph_that_mixes_its_batch_is_never_used_freed(save_graph):
    # the mean over the batch axis is the row itself as long as the batch is one row
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"], axes=[0], keepdims=1),
        helper.make_node("Add", ["x", "m"], ["s"]),
        helper.make_node("Flatten", ["s"], ["y"]),
    ]
    path = save_graph(nodes, [1, 3, 5, 6], [("y", TensorProto.FLOAT, [1, 90])])
    model = opened(path)
    torch.testing.assert_close(model.predict(RGB), 2 * RGB.flatten(1))
    engine = QueryEngine.measure(model, Output.LOGITS, RGB)
    assert engine.chosen.name == "as given"
    assert any("disagrees" in note for note in engine.notes)


def test_a_free_batch_axis_needs_no_other_forward(linear_graph):
    path, _ = linear_graph([3, 5, 6], 90)
    assert opened(path).forwards() == {}


# outputs


def with_outputs(save_graph, *outputs: tuple[str, str, int, list]) -> Path:
    """A graph whose outputs are (name, operator on the flat input, type, shape)."""
    nodes = [helper.make_node("Flatten", ["x"], ["flat"])]
    for name, operator, _, _ in outputs:
        extra = {"ArgMax": {"axis": 1, "keepdims": 0}, "Cast": {"to": TensorProto.STRING}}.get(operator, {})
        nodes.append(helper.make_node(operator, ["flat"], [name], **extra))
    ports = [(name, kind, shape) for name, _, kind, shape in outputs]
    return save_graph(nodes, ["N", 1, 2, 2], ports)


SCORES = ("scores", "Identity", TensorProto.FLOAT, ["N", 4])
SOFT = ("soft", "Softmax", TensorProto.FLOAT, ["N", 4])
LABELS = ("label", "ArgMax", TensorProto.INT64, ["N"])
TEXT = ("text", "Cast", TensorProto.STRING, ["N", 4])
IMAGES = torch.rand(6, 1, 2, 2, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize(
    ("ports", "params", "name", "output"),
    [
        ([SCORES], {}, "scores", Output.LOGITS),
        ([SOFT], {}, "soft", Output.PROBABILITIES),
        ([LABELS], {}, "label", Output.LABELS),
        ([LABELS, SCORES], {}, "scores", Output.LOGITS),
        ([LABELS, SOFT], {"output_name": "label"}, "label", Output.LABELS),
        ([LABELS, SOFT, SCORES], {"output_index": 2}, "scores", Output.LOGITS),
        ([SCORES], {"output": "probabilities"}, "scores", Output.PROBABILITIES),
        ([SOFT], {"output": "logits"}, "soft", Output.LOGITS),
    ],
)
def test_the_output_is_found_or_as_declared(save_graph, ports, params, name, output):
    model = opened(with_outputs(save_graph, *ports), **params)
    flat = IMAGES.flatten(1)
    expected = {"scores": flat, "soft": flat.softmax(1), "label": flat.argmax(1)}[name]
    torch.testing.assert_close(model.predict(IMAGES), expected)
    assert model.output is output
    assert model.access is (Access.LABELS if output is Output.LABELS else Access.SCORES)
    assert any(repr(name) in note for note in model.notes) is (len(ports) > 1)


@pytest.mark.parametrize(
    ("ports", "params", "error", "says"),
    [
        ([SCORES, SOFT], {}, ModelError, "output_name"),
        ([TEXT], {}, ModelError, "string"),
        ([LABELS, TEXT], {}, ModelError, "several|no tensor"),
        ([SCORES], {"output": "labels"}, ModelError, "cannot be labels"),
        ([LABELS], {"output": "logits"}, ModelError, "cannot be logits"),
        ([SCORES], {"output_name": "score"}, UnknownNameError, "scores"),
        ([SCORES], {"output_index": 1}, SpecError, "no such output"),
    ],
)
def test_outputs_that_cannot_be_are_refused(save_graph, ports, params, error, says):
    with pytest.raises(error, match=says):
        opened(with_outputs(save_graph, *ports), **params)


def test_a_zipmap_is_refused_with_the_way_round_it_and_its_labels_can_be_used(save_graph):
    def edit(model):
        kind = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        model.graph.output.append(helper.make_value_info("maps", helper.make_sequence_type_proto(kind)))
        node = helper.make_node("ZipMap", ["flat"], ["maps"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2, 3])
        model.graph.node.append(node)

    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("ArgMax", ["flat"], ["label"], axis=1, keepdims=0),
    ]
    outputs = [("label", TensorProto.INT64, ["N"])]
    path = save_graph(nodes, ["N", 1, 2, 2], outputs, domains=["ai.onnx.ml"], edit=edit)
    for params in ({}, {"output_name": "maps"}):
        with pytest.raises(ModelError, match=r"ZipMap[\s\S]*'zipmap': False"):
            opened(path, **params)
    assert torch.equal(opened(path, output_name="label").predict(IMAGES), IMAGES.flatten(1).argmax(1))


def test_axes_of_size_one_behind_the_scores_are_dropped(save_graph):
    nodes = [helper.make_node("Reshape", ["x", "size"], ["y"])]
    path = save_graph(
        nodes, ["N", 1, 2, 2], [("y", TensorProto.FLOAT, ["N", 4, 1, 1])], {"size": np.array([-1, 4, 1, 1])}
    )
    model = opened(path)
    assert model.num_classes == 4
    assert torch.equal(model.predict(IMAGES), IMAGES.flatten(1))


def test_scores_of_another_shape_are_left_to_preflight(save_graph):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    path = save_graph(nodes, ["N", 1, 2, 2], [("y", TensorProto.FLOAT, ["N", 1, 2, 2])])
    with pytest.raises(ModelError, match=r"wrong form|number of classes"):
        preflight(opened(path), IMAGES)


def test_a_decision_tree_in_onnx_answers_like_scikit_learn(save_graph):
    # an ai.onnx.ml tree ensemble written out node by node
    digits = load_digits()
    tree = DecisionTreeClassifier(max_depth=4, random_state=0).fit(digits.data / 16, digits.target)
    inner = tree.tree_
    count, leaf = inner.node_count, inner.children_left < 0
    ids = np.arange(count)
    leaves = np.repeat(ids[leaf], 10)
    attributes = {
        "nodes_treeids": [0] * count,
        "nodes_nodeids": ids.tolist(),
        "nodes_featureids": np.where(leaf, 0, inner.feature).tolist(),
        "nodes_modes": ["LEAF" if end else "BRANCH_LEQ" for end in leaf],
        "nodes_values": np.where(leaf, 0, inner.threshold).astype(float).tolist(),
        "nodes_truenodeids": np.where(leaf, 0, inner.children_left).tolist(),
        "nodes_falsenodeids": np.where(leaf, 0, inner.children_right).tolist(),
        "class_treeids": [0] * len(leaves),
        "class_nodeids": leaves.tolist(),
        "class_ids": list(range(10)) * int(leaf.sum()),
        "class_weights": inner.value[leaf, 0].ravel().tolist(),
        "classlabels_int64s": list(range(10)),
    }
    nodes = [
        helper.make_node("Flatten", ["x"], ["flat"]),
        helper.make_node("TreeEnsembleClassifier", ["flat"], ["label", "proba"], domain="ai.onnx.ml", **attributes),
    ]
    outputs = [("label", TensorProto.INT64, ["N"]), ("proba", TensorProto.FLOAT, ["N", 10])]
    path = save_graph(nodes, ["N", 1, 8, 8], outputs, domains=["ai.onnx.ml"])
    images = torch.from_numpy(digits.images[:200, None] / 16).float()
    labels, scores = opened(path, output_name="label"), opened(path)
    assert np.array_equal(labels.predict(images).numpy(), tree.predict(images.flatten(1).numpy()))
    close(scores.predict(images), tree.predict_proba(images.flatten(1).numpy()))
    assert preflight(labels, images).access is Access.LABELS
    assert preflight(scores, images).output is Output.PROBABILITIES


# identity, references, machine


def test_fingerprint_covers_the_file_and_how_it_is_read(linear_graph):
    path, _ = linear_graph([3, 5, 6], 90)
    plain = opened(path).fingerprint()
    assert plain == opened(path, device="cpu").fingerprint()
    assert plain != opened(path, mean=[0.5]).fingerprint()
    other, _ = linear_graph([3, 5, 6], 90, name="other.onnx")
    assert opened(other).fingerprint() == plain
    path.write_bytes(path.read_bytes() + b"\x12\x01a")  # the producer's name
    assert opened(path).fingerprint()["onnx"] != plain["onnx"]


def test_references_and_wrap(linear_graph, tmp_path):
    path, weights = linear_graph([3, 5, 6], 90)
    assert OnnxModel.accepts("a/b.ONNX") == {"path": "a/b.ONNX"}
    assert OnnxModel.accepts("digits-cnn") is None
    for subject in (path, str(path)):
        model = OnnxModel.wrap(subject)
        assert model is not None
        close(model.predict(RGB), chw(RGB) @ weights)
    assert OnnxModel.wrap(tmp_path / "images.npz") is None
    assert OnnxModel.wrap(lambda x: x) is None


def test_there_are_no_gradients_and_no_state(linear_graph):
    path, _ = linear_graph([3, 5, 6], 90)
    model = opened(path)
    assert not model.predict(RGB.clone().requires_grad_(True)).requires_grad
    assert model.state_digest() == ""


def test_a_gpu_that_onnx_runtime_cannot_use_is_noted_and_the_cpu_taken(linear_graph, monkeypatch):
    path, weights = linear_graph([3, 5, 6], 90)
    # a provider list without CUDA is what ONNX Runtime comes back with when its libraries are missing
    monkeypatch.setattr("charpy_plugins.wrappers.onnx_session._providers", lambda device: ["CPUExecutionProvider"])
    session = Session(path.read_bytes(), torch.device("cuda"))
    assert session.device.type == "cpu"
    assert "CUDA provider did not start" in session.notes[0]
    close(session.run("x", RGB, session.outputs[0]), chw(RGB) @ weights)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize("known", [True, False])
def test_bound_memory_gives_the_same_answers(save_graph, kind, known):
    # the path of the GPU, walked on the CPU: torch's own memory bound to input and output
    shape = ["N", 90] if known else None
    path = save_graph([helper.make_node("Flatten", ["x"], ["y"])], ["N", 3, 5, 6], [("y", kind, shape)], dtype=kind)
    session = Session(path.read_bytes(), torch.device("cpu"))
    (port,) = session.outputs
    if not known:  # shape inference knows better: forget it
        port = type(port)(port.name, port.type, (None, None))
    feed = RGB.to({TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}.get(kind, torch.float64))
    strided = feed.permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2)
    answer = session._run_bound("x", strided, port, None)
    assert torch.equal(answer, feed.flatten(1))
    assert torch.equal(answer, session.run("x", strided, port))


def test_sessions_do_not_spin_and_use_torchs_threads(linear_graph, monkeypatch):
    import onnxruntime

    seen = []

    class Spy(onnxruntime.InferenceSession):
        def __init__(self, data, options, **rest):
            seen.append(options)
            super().__init__(data, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Spy)
    path, _ = linear_graph([3, 5, 6], 90)
    opened(path)
    assert seen[0].intra_op_num_threads == torch.get_num_threads()
    assert seen[0].get_session_config_entry("session.intra_op.allow_spinning") == "0"


def test_a_batch_that_fails_is_an_error_with_its_shape(save_graph):
    nodes = [helper.make_node("Reshape", ["x", "size"], ["y"])]
    path = save_graph(nodes, ["N", 1, 2, 2], [("y", TensorProto.FLOAT, None)], {"size": np.array([-1, 5])})
    with pytest.raises(CharpyError, match=r"\(6, 1, 2, 2\)"):
        opened(path).predict(IMAGES)


# the graph behind it


@pytest.mark.parametrize("numbers", [{}, {"range": [0, 255], "mean": [100.0, 90, 80], "std": [50.0]}])
@pytest.mark.parametrize(("shape", "layout"), [([3, 5, 6], "nchw"), ([5, 6, 3], "nhwc"), ([90, 1], "flat_hwc")])
def test_the_graph_does_to_images_what_the_wrapper_does(linear_graph, shape, layout, numbers):
    path, _ = linear_graph(shape, 90)
    model = opened(path, layout=layout, **numbers)
    expected = model.predict(RGB)
    torch.testing.assert_close(model.graph()(RGB), expected, atol=1e-3, rtol=1e-4)


def test_there_is_no_graph_before_the_shape_is_known_and_none_of_labels_or_whole_numbers(linear_graph, save_graph):
    path, _ = linear_graph([90], 90)
    model = opened(path, layout="flat_chw")
    assert model.graph() is None
    model.predict(RGB)
    assert model.graph().input_shape == (3, 5, 6)
    flat = helper.make_node("Flatten", ["x"], ["f"])
    labels = [flat, helper.make_node("ArgMax", ["f"], ["y"], axis=1, keepdims=0)]
    path = save_graph(labels, ["N", 3, 5, 6], [("y", TensorProto.INT64, ["N"])], name="labels.onnx")
    with pytest.raises(UnsupportedError, match=r"answers with labels(.|\n)*output with scores"):
        opened(path).graph()
    whole = [helper.make_node("Cast", ["x"], ["c"], to=TensorProto.FLOAT), helper.make_node("Flatten", ["c"], ["y"])]
    ports = [("y", TensorProto.FLOAT, ["N", 90])]
    path = save_graph(whole, ["N", 3, 5, 6], ports, dtype=TensorProto.UINT8, name="whole.onnx")
    with pytest.raises(UnsupportedError, match="no bounds through the rounding to whole numbers"):
        opened(path).graph()
