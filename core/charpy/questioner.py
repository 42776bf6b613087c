"""Asking a model what its contract promises, on copies, and refusing an answer of the wrong form with its shapes."""

from __future__ import annotations

import torch

from charpy.errors import CharpyError, ModelError
from charpy.global_state import generator_states
from charpy.interfaces.model import Model, Output


class Questioner:
    """Asks the model on copies, and checks the form of every answer."""

    def __init__(self, model: Model, notes: list[str]) -> None:
        self.model, self.notes = model, notes
        self._classes: int | None = None
        self._generators_moved: list[bool] = []

    def ask(self, images: torch.Tensor, *, gradients: bool = False) -> torch.Tensor:
        """The checked answer; with `gradients`, in grad mode and connected to the images where the model allows it."""
        given = images.clone().requires_grad_(gradients)
        before = generator_states()
        with torch.set_grad_enabled(gradients):
            answer = self._predict(given)
            if torch.is_grad_enabled() != gradients:
                self._note("the model switches the grad mode; it is restored")
        self._generators_moved.append(generator_states() != before)
        if given.shape != images.shape or not torch.equal(given.detach(), images):
            raise ModelError(
                "the model changes the images that it is given",
                where=name_of(self.model),
                expected="images as they were",
                hint="work on a copy: `images = images - mean`, not `images -= mean`",
            )
        return self._checked(answer, images)

    def note_reseeding(self) -> None:
        """A generator that moves on the first pass and never again was set back to the same state on every pass."""
        first, *rest = self._generators_moved
        if first and not any(rest):
            self._note("the model reseeds a global random generator; it is restored")

    def _predict(self, given: torch.Tensor) -> object:
        try:
            return self.model.predict(given)
        except CharpyError:
            raise
        except SystemExit as cause:
            raise ModelError(
                "the model tried to end the process",
                where=name_of(self.model),
                found=f"SystemExit({cause.code!r})",
                hint="take the exit out of the model; it answers or raises",
            ) from None
        except Exception as cause:
            text = str(cause).strip().splitlines()
            raise ModelError(
                "the model fails on images of the data",
                where=name_of(self.model),
                found=f"{tuple(given.shape)}: {type(cause).__name__}: {text[0] if text else ''}"[:400],
                expected=f"images (N, {', '.join(map(str, self.model.input_shape or ('C', 'H', 'W')))})",
                hint="try it on one batch of the data by itself; its own traceback says more",
            ) from cause

    def _checked(self, answer: object, images: torch.Tensor) -> torch.Tensor:
        rows, labels = len(images), self.model.output is Output.LABELS
        expected = f"int64 ({rows},) labels" if labels else f"float32 ({rows}, K) scores"
        if (
            not isinstance(answer, torch.Tensor)
            or answer.ndim != (1 if labels else 2)
            or len(answer) != rows
            or answer.dtype == torch.bool
            or (answer.is_floating_point() or answer.is_complex()) is labels
            or answer.is_complex()
        ):
            looks_like_labels = isinstance(answer, torch.Tensor) and answer.ndim == 1 and not labels
            raise ModelError(
                "the model's answer has the wrong form",
                where=name_of(self.model),
                found=f"{describe(answer)} for images {tuple(images.shape)}",
                expected=expected,
                hint="declare `output: labels` if it predicts classes"
                if looks_like_labels
                else "return one row of answers for each image, in their order, and nothing else",
            )
        if not labels:
            self._check_classes(answer, images)
            if answer.dtype != torch.float32:
                self._note(f"answers are {str(answer.dtype).removeprefix('torch.')}; converted to float32")
            answer = answer.float()
        return answer.detach() if not torch.is_grad_enabled() else answer

    def _check_classes(self, answer: torch.Tensor, images: torch.Tensor) -> None:
        known = self._classes if self._classes is not None else self.model.num_classes
        if answer.shape[1] < 2 or (known is not None and answer.shape[1] != known):
            raise ModelError(
                "the model's number of classes is wrong",
                where=name_of(self.model),
                found=f"{tuple(answer.shape)} for images {tuple(images.shape)}",
                expected="at least 2 columns" if known is None else f"{known} columns, as declared or as before",
                hint="a single score per image must be turned into two columns"
                if answer.shape[1] == 1
                else "answer with one column per class, whatever the batch holds",
            )
        self._classes = answer.shape[1]

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def describe(answer: object) -> str:
    """What a model's answer is, with its shapes: for error messages."""
    if hasattr(answer, "shape") and hasattr(answer, "dtype"):
        return f"{type(answer).__name__} {tuple(answer.shape)} {answer.dtype}"
    if isinstance(answer, tuple | list):
        return f"{type(answer).__name__} of {len(answer)}: " + ", ".join(describe(part) for part in answer[:3])
    return type(answer).__qualname__


def name_of(model: Model) -> str:
    """The class of a model, and of the module inside, for error messages."""
    inner = getattr(model, "module", None)
    return type(model).__qualname__ + (f" ({type(inner).__qualname__})" if inner is not None else "")
