"""A composition whose last stage is not differentiable: features, then a tree, nearest neighbours or rules."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import torch

from charpy.errors import ModelError, UnsafeFileError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.specs import parse
from charpy.threat import Access
from charpy_plugins.wrappers.callable_model import CallableModel
from charpy_plugins.wrappers.head import Head
from charpy_plugins.wrappers.onnx_file import OnnxModel
from charpy_plugins.wrappers.references import load_reference, produced
from charpy_plugins.wrappers.torch_module import TorchModel

PIXELS = "pixels"
_STAGES: tuple[type[Model], ...] = (OnnxModel, TorchModel, CallableModel)
_PICKLES = frozenset({".pkl", ".pickle", ".joblib", ".dill", ".sav", ".skops"})


class Hybrid(Model):
    """Features from an ONNX file, torch weights, a callable or the raw pixels; then a scikit-learn estimator or rules.

    It gives scores where the head has `predict_proba` or `decision_function`, otherwise labels; never gradients.

    Attributes:
        notes: what the reader of a report must know (why only labels are given).
    """

    class Params(BaseParams):
        """The two stages."""

        features: str = param(
            PIXELS,
            min_length=1,
            description="pixels, FILE.onnx, weights.safetensors@architecture or package.module:callable",
        )
        features_params: dict[str, Any] = param(
            default_factory=dict, description="parameters of that stage, as `charpy describe model onnx` lists them"
        )
        head: str = param(
            min_length=1,
            description="package.module:object, a fitted scikit-learn classifier or a callable on features (N, D); "
            "never a pickle file",
        )
        output: Literal["auto"] | Output = param("auto", description="auto, logits, probabilities or labels")
        num_classes: int | None = param(None, ge=2, description="K, where labels do not show it")

    def __init__(self, params: Params) -> None:
        """Open both stages; a head in a pickle file is refused."""
        super().__init__(params)
        _refuse_pickle(params.head)
        head = produced(load_reference(params.head), params.head, None)
        output = None if params.output == "auto" else Output(params.output)
        features = _open_features(params.features, params.features_params)
        self._adopt(features, Head(head, output, params.head), params.num_classes)

    @classmethod
    def compose(
        cls,
        features: Model | torch.nn.Module | Callable[..., Any] | str | Path,
        head: Any,
        *,
        output: Output | None = None,
        num_classes: int | None = None,
    ) -> Self:
        """A hybrid of Python objects.

        Args:
            features: `"pixels"`, a path or reference, a torch module, a callable, or a model that predicts them.
            head: a fitted scikit-learn classifier, or a callable from float32 `(N, D)` to labels or scores (numpy).
            output: what the head gives; found out if not given.
            num_classes: K, where labels do not show it.
        """
        if isinstance(head, str | Path):
            _refuse_pickle(str(head))
            head = produced(load_reference(str(head)), str(head), None)
        model = cls.__new__(cls)
        model.params = None
        model._adopt(_features_of(features), Head(head, output, type(head).__qualname__), num_classes)
        return model

    @classmethod
    def wrap(cls, subject: object) -> Self | None:
        """A fitted scikit-learn classifier on raw pixels."""
        if isinstance(subject, type) or callable(subject) or not hasattr(subject, "predict"):
            return None
        return cls.compose(PIXELS, subject) if hasattr(subject, "classes_") else None

    @property
    def device(self) -> torch.device:
        """Where the features are computed."""
        return torch.device("cpu") if self._features is None else self._features.device

    def features(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N, D)` features of `(N, C, H, W)` images; pixels in the order C, H, W."""
        if self._features is None:
            return images.detach().flatten(1)
        with torch.no_grad():
            stage = self._features
            # a plain callable may give features of any shape, which are no answer of a classifier
            found = (
                stage.call(images) if isinstance(stage, CallableModel) and stage.is_black_box else stage.predict(images)
            )
        return found.flatten(1).float()

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N, K)` scores or int64 `(N,)` labels of float32 `(N, C, H, W)` images in [0, 1]; no gradients."""
        answer = self._head(self.features(images).cpu().numpy())
        self.output = self._head.output
        self.access = Access.LABELS if self.output is Output.LABELS else Access.SCORES
        if answer.ndim == 2:
            self.num_classes = self.num_classes or answer.shape[1]
        self.notes[:] = [*getattr(self._features, "notes", ()), *self._head.notes]
        return answer.to(self.device)

    def fingerprint(self) -> Mapping[str, str]:
        """The identity of the features and of the head, each by its values."""
        own = {"features": PIXELS} if self._features is None else self._features.fingerprint()
        return {**{f"features.{key}": value for key, value in own.items()}, **self._head.fingerprint()}

    def state_digest(self) -> str:
        """The features' own."""
        return "" if self._features is None else self._features.state_digest()

    def _adopt(self, features: Model | None, head: Head, num_classes: int | None) -> None:
        self._features, self._head = features, head
        self.output = head.output
        self.access = Access.LABELS if head.output is Output.LABELS else Access.SCORES
        self.num_classes = num_classes or head.num_classes
        self.input_shape = None if features is None else features.input_shape
        self.notes: list[str] = []


def _refuse_pickle(head: str) -> None:
    if Path(head).suffix.lower() in _PICKLES or os.path.isfile(head):
        raise UnsafeFileError(
            "a head is never loaded from a file: opening a pickle runs the code in it",
            where=head,
            expected="package.module:object",
            hint="write a module that fits or loads the head, and name the object in it",
        )


def _open_features(reference: str, params: Mapping[str, Any]) -> Model | None:
    if reference == PIXELS:
        return None
    for stage in _STAGES:
        accepted = stage.accepts(reference)
        if accepted is not None:
            return stage(parse(stage.Params, {**accepted, **params}, where="features_params"))
    raise ModelError(
        "unknown features",
        found=repr(reference),
        expected="pixels, FILE.onnx, weights.safetensors@architecture or package.module:callable",
    )


def _features_of(features: Any) -> Model | None:
    if isinstance(features, str | Path):
        return _open_features(str(features), {})
    if isinstance(features, Model):
        return features
    for stage in _STAGES:
        model = stage.wrap(features)
        if model is not None:
            return model
    raise ModelError(
        "no way to get features from this object",
        found=type(features).__name__,
        expected="'pixels', a path, a torch module, a callable or a charpy Model",
    )
