"""Preflight: what a model may not do (rows 20, 23 to 29 of the hostile inputs), and what is found out about it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch

from charpy.errors import DataError, ModelError
from charpy.interfaces.model import Model, Output
from charpy.preflight import PASSES, PROBE, preflight
from charpy.threat import Access

IMAGES = torch.rand(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
WEIGHT = torch.randn(16, 3, generator=torch.Generator().manual_seed(1))


def linear(images: torch.Tensor) -> torch.Tensor:
    return images.flatten(1) @ WEIGHT


class Given(Model):
    """A model that is one function."""

    def __init__(self, function: Callable[[torch.Tensor], Any], **attributes: Any) -> None:
        super().__init__()
        self.function = function
        self.access = Access.SCORES
        for name, value in attributes.items():
            setattr(self, name, value)

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return self.function(images)

    def fingerprint(self) -> Mapping[str, str]:
        return {}


def labels_model(function: Callable[[torch.Tensor], Any], **attributes: Any) -> Given:
    return Given(function, output=Output.LABELS, access=Access.LABELS, **attributes)


def test_a_sound_model_passes_without_a_note():
    found = preflight(Given(linear), IMAGES, torch.tensor([0, 2]))
    assert (found.num_classes, found.output, found.access) == (3, Output.LOGITS, Access.SCORES)
    assert found.notes == ()
    assert found.deterministic
    assert found.batch_invariant


def test_looks_at_no_more_than_the_probe_and_takes_uint8():
    seen = []

    def model(images: torch.Tensor) -> torch.Tensor:
        seen.append(len(images))
        assert images.dtype == torch.float32
        return images.flatten(1)[:, :3] * 5

    preflight(Given(model), torch.randint(0, 256, (500, 1, 4, 4), dtype=torch.uint8))
    assert max(seen) == PROBE
    assert seen.count(PROBE) >= PASSES


def test_a_single_image_is_enough():
    assert preflight(Given(linear), IMAGES[:1]).num_classes == 3


def test_no_images_are_refused():
    with pytest.raises(DataError, match="no images"):
        preflight(Given(linear), IMAGES[:0])


# row 23: the form of the answer


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda x: linear(x)[:1], r"\(1, 3\)"),
        (lambda x: linear(x)[:, 0], r"\(20,\)"),
        (lambda x: (linear(x), x), "tuple of 2"),
        (lambda x: linear(x).numpy(), "ndarray"),
        (lambda x: None, "NoneType"),
        (lambda x: linear(x)[:, :, None], r"\(20, 3, 1\)"),
        (lambda x: linear(x).long(), "torch.int64"),
        (lambda x: linear(x) > 0, "torch.bool"),
        (lambda x: linear(x).to(torch.complex64), "complex64"),
    ],
)
def test_wrong_forms_are_refused_with_the_shapes(function, found):
    with pytest.raises(ModelError, match=found) as raised:
        preflight(Given(function), IMAGES)
    assert "wrong form" in str(raised.value)
    assert "(20, K)" in str(raised.value)


def test_a_score_model_that_answers_labels_is_told_to_declare_them():
    with pytest.raises(ModelError, match="output: labels"):
        preflight(Given(lambda x: linear(x).argmax(1)), IMAGES)


@pytest.mark.parametrize("function", [linear, lambda x: linear(x).argmax(1).float(), lambda x: linear(x).argmax(1)[1:]])
def test_a_label_model_must_answer_whole_numbers_one_a_row(function):
    with pytest.raises(ModelError, match="int64 \\(20,\\) labels"):
        preflight(labels_model(function), IMAGES)


@pytest.mark.parametrize(
    "columns",
    [lambda n: 3 if n > 1 else 4, lambda n: 3 if n == 20 else 2],
    ids=["another K at batch 1", "another K at another size"],
)
def test_a_number_of_classes_that_varies_is_refused(columns):
    with pytest.raises(ModelError, match="number of classes"):
        preflight(Given(lambda x: torch.zeros(len(x), columns(len(x)))), IMAGES)


def test_a_number_of_classes_that_depends_on_the_order_is_refused():
    brightest = IMAGES.flatten(1).sum(1).argmax()
    images = torch.cat([IMAGES[brightest : brightest + 1], IMAGES])  # the brightest stands first, in one order only

    def model(x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(x), 3 if x[0].sum() >= x[-1].sum() else 4)

    with pytest.raises(ModelError, match="number of classes"):
        preflight(Given(model), images)


def test_fewer_than_two_classes_are_refused():
    with pytest.raises(ModelError, match="at least 2 columns"):
        preflight(Given(lambda x: x.flatten(1)[:, :1]), IMAGES)


def test_another_number_of_classes_than_declared_is_refused():
    with pytest.raises(ModelError, match="10 columns"):
        preflight(Given(linear, num_classes=10), IMAGES)


def test_images_of_another_shape_than_declared_are_refused_with_both_shapes():
    with pytest.raises(ModelError) as raised:
        preflight(Given(linear, input_shape=(3, 32, 32)), IMAGES)
    assert "(1, 4, 4)" in str(raised.value)
    assert "(3, 32, 32)" in str(raised.value)


def test_more_classes_in_the_data_than_in_the_model_are_refused_with_both_figures():
    with pytest.raises(DataError) as raised:
        preflight(Given(linear), IMAGES, torch.tensor([0, 6]))
    assert "7 classes" in str(raised.value)
    assert "3 classes" in str(raised.value)


# labels only


def test_the_classes_of_a_label_model_come_from_what_is_seen():
    model = labels_model(lambda x: linear(x).argmax(1))
    assert preflight(model, IMAGES, torch.tensor([4])).num_classes == 5
    assert preflight(model, IMAGES).access is Access.LABELS
    assert preflight(labels_model(lambda x: torch.zeros(len(x), dtype=torch.int64)), IMAGES).num_classes == 2


@pytest.mark.parametrize("label", [-1, 3])
def test_a_predicted_label_that_is_no_class_is_refused(label):
    with pytest.raises(ModelError, match="no class"):
        preflight(labels_model(lambda x: torch.full((len(x),), label), num_classes=3), IMAGES)


# rows 24 and 25: probabilities, half precision


def test_probabilities_declared_as_logits_are_read_as_probabilities():
    found = preflight(Given(lambda x: linear(x).softmax(1)), IMAGES)
    assert found.output is Output.PROBABILITIES
    assert any("probability distribution" in note for note in found.notes)


def test_one_row_that_is_no_distribution_keeps_logits():
    def model(images: torch.Tensor) -> torch.Tensor:
        answer = linear(images).softmax(1)
        return torch.where(images.flatten(1).sum(1, keepdim=True) == IMAGES[0].sum(), answer * 2, answer)

    assert preflight(Given(model), IMAGES).output is Output.LOGITS


def test_declared_probabilities_that_are_none_are_refused():
    with pytest.raises(ModelError, match="declare `output: logits`"):
        preflight(Given(linear, output=Output.PROBABILITIES), IMAGES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_noted(dtype):
    found = preflight(Given(lambda x: linear(x).to(dtype)), IMAGES)
    assert any("converted to float32" in note for note in found.notes)
    assert found.deterministic


def test_nan_answers_are_not_refused_here():
    def model(images: torch.Tensor) -> torch.Tensor:
        answer = linear(images)
        answer[images.flatten(1).sum(1) == IMAGES[3].sum()] = torch.nan
        return answer

    found = preflight(Given(model), IMAGES)
    assert found.output is Output.LOGITS
    assert found.deterministic
    assert found.batch_invariant


# row 26: a model that changes itself


def test_a_model_whose_state_changes_is_refused():
    norm = torch.nn.BatchNorm2d(1).train()

    class Training(Given):
        def state_digest(self) -> str:
            return str(norm.running_mean)

    with pytest.raises(ModelError, match="changes itself"):
        preflight(Training(lambda x: norm(x).flatten(1)[:, :3]), IMAGES)


# rows 27 and 28: randomised, stateful, batch-dependent


def test_random_labels_are_found():
    found = preflight(Given(lambda x: torch.randn(len(x), 3)), IMAGES)
    assert not found.deterministic
    assert any("labels changed" in note for note in found.notes)


def test_random_scores_are_found_where_the_labels_stand():
    found = preflight(Given(lambda x: linear(x) * 100 + 0.1 * torch.rand(len(x), 3)), IMAGES)
    assert not found.deterministic


def test_rounding_differences_are_not_called_random():
    wobble = iter(torch.full((100,), 1e-6).cumprod(0).clamp_min(1e-7))
    assert preflight(Given(lambda x: linear(x) + next(wobble)), IMAGES).deterministic


def test_a_memorising_model_is_found():
    seen: set[bytes] = set()

    def model(images: torch.Tensor) -> torch.Tensor:
        known = torch.tensor([row.numpy().tobytes() in seen for row in images])
        seen.update(row.numpy().tobytes() for row in images)
        return torch.where(known[:, None], linear(images), -linear(images))

    assert not preflight(Given(model), IMAGES).deterministic


def test_an_answer_that_depends_on_the_place_in_the_batch_is_found():
    found = preflight(Given(lambda x: linear(x) + torch.arange(len(x))[:, None] * torch.tensor([0.0, 1, 2])), IMAGES)
    assert found.deterministic
    assert not found.batch_invariant
    assert any("depend on the batch" in note for note in found.notes)


def test_an_answer_that_depends_on_the_neighbours_is_found():
    def model(images: torch.Tensor) -> torch.Tensor:
        return linear(images - images.mean(0)) if len(images) > 1 else linear(images)

    found = preflight(Given(model), IMAGES)
    assert found.deterministic
    assert not found.batch_invariant


# row 29: what belongs to others


def test_a_model_that_changes_its_images_is_refused_and_the_callers_are_untouched():
    before = IMAGES.clone()
    with pytest.raises(ModelError, match="changes the images"):
        preflight(Given(lambda x: linear(x.sub_(0.5))), IMAGES)
    assert torch.equal(IMAGES, before)


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (lambda x: (torch.manual_seed(3), torch.rand(2), linear(x))[-1], "reseeds"),
        (lambda x: (np.random.seed(3), linear(x))[-1], "reseeds"),  # noqa: NPY002
        (lambda x: (random.seed(3), linear(x))[-1], "reseeds"),
        (lambda x: (torch.set_default_dtype(torch.float64), linear(x))[-1], "default dtype"),
        (lambda x: (torch.set_grad_enabled(True), linear(x))[-1], "grad mode"),
        (lambda x: (torch.set_num_threads(torch.get_num_threads() + 1), linear(x))[-1], "threads"),
    ],
)
def test_global_state_is_restored_and_noted(function, note):
    torch.manual_seed(11)
    before = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    found = preflight(Given(function), IMAGES)
    assert any(note in each for each in found.notes), found.notes
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # noqa: NPY002
    assert random.getstate() == before[2]
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (dtype, threads)
    assert torch.is_grad_enabled()


def test_drawing_random_numbers_is_no_reseeding_but_the_generator_is_restored():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = preflight(Given(lambda x: (torch.rand(3), linear(x))[-1]), IMAGES)
    assert found.notes == ()
    assert torch.equal(torch.get_rng_state(), before)


def test_global_state_is_restored_when_the_model_fails():
    torch.manual_seed(5)
    before = torch.get_rng_state()

    def model(images: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(1)
        torch.set_default_dtype(torch.float64)
        raise RuntimeError("no such layer")

    with pytest.raises(ModelError, match="RuntimeError: no such layer"):
        preflight(Given(model), IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_default_dtype() == torch.float32


def test_a_model_that_ends_the_process_is_an_error():
    def model(images: torch.Tensor) -> torch.Tensor:
        raise SystemExit(0)

    with pytest.raises(ModelError, match="end the process"):
        preflight(Given(model), IMAGES)


# gradients


@pytest.mark.parametrize(
    ("function", "access"),
    [
        (linear, Access.GRADIENTS),
        (lambda x: linear(x.detach()), Access.SCORES),
        (lambda x: linear((x > 0.5).float()) * torch.ones(3, requires_grad=True), Access.SCORES),
        (lambda x: torch.from_numpy(linear(x.detach()).numpy()), Access.SCORES),
        (lambda x: torch.from_numpy(x.numpy() @ np.ones((4, 4), np.float32)).flatten(1)[:, :3], Access.SCORES),
    ],
    ids=["true", "detached", "of the parameters alone", "through numpy", "numpy refuses"],
)
def test_gradients_count_only_where_they_reach_the_images(function, access):
    found = preflight(Given(function, access=Access.GRADIENTS), IMAGES)
    assert found.access is access
    assert any("no gradients" in note for note in found.notes) is (access is not Access.GRADIENTS)
