"""A served model answers as the same model called in process, and is known again."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from charpy.errors import ModelError, ServiceError, SpecError, UnknownNameError
from charpy.interfaces.model import Output
from charpy.plugins import registry
from charpy.threat import Access

IMAGES = torch.rand(7, 1, 8, 8, generator=torch.Generator().manual_seed(1))
COLOUR = torch.rand(3, 3, 5, 6, generator=torch.Generator().manual_seed(2))


def opened(server, **params):
    quick = {"backoff_seconds": 0.01, "ready_seconds": 1.0}
    return registry().create("models", "open_inference", {"url": server.url, **quick, **params})


@pytest.mark.parametrize("binary", [False, True])
def test_answers_are_those_of_the_model_to_the_bit(serve, in_process, binary):
    server = serve()
    server.binary = binary
    server.server["extensions"] = ["binary_tensor_data"] if binary else []
    model = opened(server)
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert (model.access, model.output) == (Access.SCORES, Output.LOGITS)
    assert (model.input_shape, model.num_classes) == ((1, 8, 8), 10)
    assert server.log[-1]["raw"] is binary
    assert not model.notes


def test_raw_values_that_are_refused_are_sent_as_json(serve, in_process):
    server = serve()
    server.server["extensions"] = ["binary_tensor_data"]
    model = opened(server)
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert not server.log[-1]["raw"]
    assert "JSON is sent" in model.notes[0]
    with pytest.raises(ModelError, match="422"):
        opened(server, wire="binary")


def test_layout_range_and_normalisation(serve):
    seen = []

    def model(values):
        seen.append(values)
        return np.zeros((len(values), 10), np.float32)

    mean, std = [10.0, 20.0, 30.0], [2.0, 4.0, 8.0]
    served = opened(serve(model, (-1, 5, 6, 3)), range=[0.0, 255.0], mean=mean, std=std)
    served.predict(COLOUR)
    wanted = ((COLOUR * 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)).permute(0, 2, 3, 1)
    assert np.array_equal(seen[-1], wanted.numpy())
    assert served.input_shape == (3, 5, 6)

    opened(serve(model, (-1, 90)), layout="flat_hwc").predict(COLOUR)
    assert np.array_equal(seen[-1], COLOUR.permute(0, 2, 3, 1).reshape(3, 90).numpy())

    opened(serve(model, (-1, 3, 5, 6), datatype="UINT8")).predict(COLOUR)
    assert np.array_equal(seen[-1], (COLOUR * 255).round().to(torch.uint8).numpy())


def test_labels(serve, in_process):
    model = opened(serve(lambda values: in_process(values).argmax(1)[:, None]))
    assert (model.access, model.output) == (Access.LABELS, Output.LABELS)
    assert model.predict(IMAGES).tolist() == in_process(IMAGES.numpy()).argmax(1).tolist()


def test_nothing_gives_gradients(serve):
    images = IMAGES.clone().requires_grad_(True)
    assert not opened(serve()).predict(images).requires_grad


@pytest.mark.parametrize("way", ["given", "configuration", "fixed"])
def test_no_request_is_larger_than_the_server_takes(serve, in_process, way):
    server = serve(shape=(3 if way == "fixed" else -1, 1, 8, 8))
    if way == "configuration":
        server.server["extensions"], server.config = ["model_configuration"], {"max_batch_size": 3}
    model = opened(server, **({"batch": 3} if way == "given" else {}))
    server.log.clear()
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert [each["rows"] for each in server.log] == ([3, 3, 3] if way == "fixed" else [3, 3, 1])


def test_requests_at_the_same_time(serve, in_process):
    server = serve()
    model = opened(server, parallel=4)
    server.log.clear()
    server.most_at_once, server.faults = 0, [0.2, 0.2, 0.2, 0.2]
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert sorted(each["rows"] for each in server.log) == [1, 2, 2, 2]
    assert server.most_at_once == 4


@pytest.mark.parametrize(("limit", "gap"), [({"requests_per_second": 20.0}, 0.05), ({"rows_per_second": 140.0}, 0.05)])
def test_the_rate_limit_holds_over_all_models_of_a_server(serve, limit, gap):
    server = serve()
    models = [opened(server, known_by="nothing", **limit) for _ in range(2)]
    server.log.clear()
    for model in models * 3:
        model.predict(IMAGES)
    times = [each["at"] for each in server.log]
    assert times[-1] - times[0] >= 5 * gap * 0.9


def test_metadata_that_says_nothing_is_made_up_for(serve, in_process):
    server = serve()
    server.inputs = server.outputs = []
    with pytest.raises(ModelError, match="does not say what the model takes"):
        opened(server)
    model = opened(server, input_name="x", input_shape=[1, 8, 8])
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert model.input_shape == (1, 8, 8)


def test_several_outputs(serve):
    server = serve()
    server.outputs = [
        {"name": "predict", "datatype": "INT64", "shape": [-1, 1]},
        {"name": "predict_proba", "datatype": "FP64", "shape": [-1, 10]},
    ]
    opened(server)
    assert server.log[-1]["said"]["outputs"] == [{"name": "predict_proba"}]
    with pytest.raises(UnknownNameError, match="did you mean predict"):
        opened(server, output_name="predikt")
    server.outputs[0] |= {"datatype": "FP32", "shape": [-1, 10]}
    with pytest.raises(ModelError, match="several outputs"):
        opened(server)


def test_a_model_is_known_by_what_the_server_says_and_by_its_answers(serve, in_process):
    server = serve()
    first, again = opened(server).fingerprint(), opened(server).fingerprint()
    assert first == again
    assert first["known by"] == "scores"
    server.model = lambda values: in_process(values) + 1e-3
    other = opened(server).fingerprint()
    assert {key for key in first if first[key] != other[key]} == {"answers"}
    assert opened(server, known_by="labels").fingerprint()["answers"] != first["answers"]
    server.server["version"] = "2.0"
    assert opened(server).fingerprint()["server version"] == "2.0"


def test_a_swapped_model_ends_the_run(serve, in_process):
    server = serve()
    model = opened(server)
    assert model.state_digest() == model.state_digest() == model.fingerprint()["answers"]
    server.model = lambda values: in_process(values)[:, ::-1].copy()
    with pytest.raises(ServiceError, match="other answers to a fixed batch"):
        model.state_digest()


def test_another_version_in_the_middle_ends_the_run(serve):
    server = serve()
    model = opened(server)
    server.model_version = "2"
    with pytest.raises(ServiceError, match="another version"):
        model.predict(IMAGES)


def test_scores_that_waver_are_known_by_their_labels_or_not_at_all(serve, in_process):
    noise = iter(np.linspace(0, 1, 1000))
    wavering = opened(serve(lambda values: (in_process(values) + next(noise)).astype(np.float32)))
    assert wavering.fingerprint()["known by"] == "labels"
    turns = iter(range(1000))
    random = opened(serve(lambda values: np.roll(in_process(values), next(turns), axis=1)))
    assert "answers" not in random.fingerprint()
    assert "no part of its identity" in random.notes[0]
    assert random.state_digest() == ""


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://user:hush@host/v2/models/m", "user name"),
        ("http://host/v2/models/m?token=hush", "a query"),
        ("http://host/v2/models/m/infer", "not the address"),
        ("http://host/v2/models/", "not the address"),
    ],
)
def test_addresses_that_are_refused(url, says):
    with pytest.raises(SpecError, match=says) as refused:
        registry().create("models", "open_inference", {"url": url})
    assert "hush" not in str(refused.value)


def test_what_reference_is_taken():
    kind = registry().load("models", "open_inference")
    for url in ("http://h:1/v2/models/m", "https://h/prefix/v2/models/m/versions/3", "http://h/v2/models/m/"):
        assert kind.accepts(url) == {"url": url}
    for other in ("digits-cnn", "model.onnx", "package.module:name", "http://h/model.onnx", "http://h/v1/models/m"):
        assert kind.accepts(other) is None


@pytest.mark.parametrize("std", [[0.0], [-1.0], [1.0, 0.0, 1.0]])
def test_a_std_that_divides_by_nothing_is_refused(serve, std):
    with pytest.raises(SpecError, match="std"):
        opened(serve(shape=(-1, 3, 5, 6)), std=std)


def test_where_nothing_tells_what_the_answers_are_it_must_be_said(serve, in_process):
    server = serve(lambda values: in_process(values.reshape(-1, 1, 8, 8)), (-1, 1, -1, -1))
    server.outputs = []
    with pytest.raises(ModelError, match="what the model answers is not known") as refused:
        opened(server)
    assert "set `output`, or `input_shape`" in refused.value.hint
    said = opened(server, output="logits")
    assert (said.output, said.input_shape) == (Output.LOGITS, None)
    assert any("no part of its identity" in note for note in said.notes)
    assert opened(server, input_shape=[1, 8, 8]).output is Output.LOGITS


def test_scores_are_no_labels_whatever_is_declared(serve):
    with pytest.raises(ModelError, match="the output cannot be labels") as refused:
        opened(serve(), output="labels")
    assert refused.value.found == "floating-point numbers"


def test_an_input_shape_that_the_server_does_not_take_is_refused_with_both(serve):
    with pytest.raises(ModelError, match="input_shape and layout do not fit"):
        opened(serve(), input_shape=[1, 8, 9])


def test_a_model_of_two_inputs_is_refused_with_both_named(serve):
    server = serve()
    server.inputs = [{"name": name, "datatype": "FP32", "shape": [-1, 1, 8, 8]} for name in ("image", "mask")]
    with pytest.raises(ModelError, match="does not take one batch of images") as refused:
        opened(server)
    assert "image" in refused.value.found
    assert "mask" in refused.value.found
    with pytest.raises(UnknownNameError, match="unknown input 'imgae'"):
        opened(server, input_name="imgae")


def test_several_outputs_without_a_name_are_refused_and_an_unknown_name_too(serve):
    server = serve()
    server.outputs = [{"name": name, "datatype": "FP32", "shape": [-1, 10]} for name in ("a", "b")]
    with pytest.raises(ModelError, match="several outputs could be the answer") as refused:
        opened(server)
    assert refused.value.hint == "set output_name"
    with pytest.raises(UnknownNameError, match="unknown output 'c'"):
        opened(server, output_name="c")


@pytest.mark.parametrize("config", [None, {}, {"max_batch_size": 0}, {"max_batch_size": "many"}])
def test_a_configuration_that_names_no_largest_batch_limits_nothing(serve, in_process, config):
    server = serve()
    server.server["extensions"], server.config = ["model_configuration"], config
    model = opened(server)
    assert torch.equal(model.predict(IMAGES), torch.from_numpy(in_process(IMAGES.numpy())))
    assert server.log[-1]["rows"] == len(IMAGES)
