"""The last stage of a hybrid: a fitted scikit-learn classifier, or rules in a callable."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from charpy.errors import ModelError
from charpy.interfaces.model import Output
from charpy.questioner import describe
from charpy_plugins.wrappers import digests

_SCORERS = {"predict_proba": Output.PROBABILITIES, "decision_function": Output.LOGITS}


class Head:
    """Answers on features: float32 `(N, D)` numpy in, `(N, K)` scores or `(N,)` labels out, as tensors.

    Scores are used where the classifier has some. They must name the classes that its `predict` names: the first batch
    is compared, and scikit-learn's SVC, which votes and whose scores may say something else, gives labels.

    Attributes:
        output: what it gives; of a callable it is known after the first batch.
        num_classes: K, where the classifier says.
        notes: why it gives labels although it has scores.
    """

    def __init__(self, head: Any, output: Output | None, where: str) -> None:
        """Around `head`, an object with `predict` or a callable; with `output` None, the most that it can give."""
        self._head, self._where = head, where
        self.notes: list[str] = []
        self.num_classes: int | None = None
        self._classes: NDArray[Any] = np.empty(0, dtype=np.int64)
        self._scorer: str | None = None
        self._checked = False
        if hasattr(head, "predict") and not isinstance(head, type):
            self.output = self._estimator(output)
        elif callable(head) and not isinstance(head, type | torch.nn.Module):
            # found out from the first answer
            self.output = output or Output.LOGITS
            self._checked = output is not None
        else:
            raise ModelError(
                "not a head",
                where=where,
                found=describe(head),
                expected="a fitted classifier with `predict`, or a callable on features",
                hint="a torch module belongs to the features, or is a `torch` model of its own",
            )

    def __call__(self, features: NDArray[np.float32]) -> torch.Tensor:
        """`(N, K)` float32 or `(N,)` int64 for `features` `(N, D)`."""
        if not hasattr(self._head, "predict"):
            return self._rules(features)
        if self._scorer is None:
            return self._labels(features)
        scores = self._scores(features)
        if not self._checked:
            self._checked = True
            labels = self._labels(features)
            if not torch.equal(scores.argmax(1), labels):
                raise ModelError(
                    "the head's scores do not name the classes that it predicts",
                    where=self._where,
                    found=f"{int((scores.argmax(1) != labels).sum())} of {len(labels)} rows differ",
                    hint="set output: labels",
                )
        return scores

    def fingerprint(self) -> Mapping[str, str]:
        """Type and values of the head, and the version of the package that it comes from."""
        kind = type(self._head)
        package = kind.__module__.split(".", 1)[0]
        found = {"head": digests.of_object(self._head), "head type": f"{kind.__module__}.{kind.__qualname__}"}
        if package == "sklearn":
            found["scikit-learn"] = importlib.metadata.version("scikit-learn")
        return found

    def _estimator(self, output: Output | None) -> Output:
        """What the classifier gives; sets the method that gives its scores."""
        classes = getattr(self._head, "classes_", None)
        if classes is not None:
            self._classes = np.asarray(classes)
            if self._classes.dtype.kind not in "iu" or self._classes.min() < 0:
                raise ModelError(
                    "the head's classes are no labels",
                    where=self._where,
                    found=self._classes[:5].tolist(),
                    expected="whole numbers from 0",
                    hint="fit it on labels 0..K-1",
                )
            self.num_classes = max(int(self._classes.max()) + 1, 2)
        if output is Output.LABELS or classes is None:
            return Output.LABELS
        methods = [method for method in _SCORERS if hasattr(self._head, method)]
        consistent = _consistent(self._head, methods)
        for method in consistent if output is None else methods:
            if output in (None, _SCORERS[method]):
                self._scorer = method
                return _SCORERS[method]
        if output is None and methods:
            self.notes.append("the head predicts by vote, which its scores may contradict; only its labels are used")
        if output is not None:
            raise ModelError(
                f"the head gives no {output}",
                where=self._where,
                expected=" or ".join(_SCORERS),
                hint="leave `output` to auto",
            )
        return Output.LABELS

    def _labels(self, features: NDArray[np.float32]) -> torch.Tensor:
        predicted = np.asarray(self._head.predict(features))
        if predicted.dtype.kind not in "iu" or predicted.ndim != 1:
            raise ModelError(
                "the head predicts no labels",
                where=self._where,
                found=describe(predicted),
                expected=f"whole numbers ({len(features)},)",
                hint="a regressor or a multi-output classifier is no head",
            )
        return torch.from_numpy(predicted.astype(np.int64))

    def _scores(self, features: NDArray[np.float32]) -> torch.Tensor:
        raw = np.asarray(getattr(self._head, self._scorer or "")(features), dtype=np.float32)
        if raw.ndim == 1:  # two classes: the distance from the boundary, above 0 for the second
            raw = np.stack([np.zeros_like(raw), raw], axis=1)
        columns = self.num_classes or raw.shape[1]
        if raw.shape[1] == columns:
            return torch.from_numpy(raw)
        # classes that the head has never seen: below all others
        lowest = 0.0 if self._scorer == "predict_proba" else float(raw.min()) - 1
        full = np.full((len(raw), columns), lowest, dtype=np.float32)
        full[:, self._classes] = raw
        return torch.from_numpy(full)

    def _rules(self, features: NDArray[np.float32]) -> torch.Tensor:
        answer = self._head(features.copy())
        values = answer.detach().cpu().numpy() if isinstance(answer, torch.Tensor) else np.asarray(answer)
        labels = values.ndim == 1 and values.dtype.kind in "iu"
        if not self._checked:
            self._checked = True
            self.output = Output.LABELS if labels else Output.LOGITS
        fits = labels if self.output is Output.LABELS else values.ndim == 2 and values.dtype.kind in "fiu"
        if isinstance(answer, tuple) or not fits or len(values) != len(features):
            raise ModelError(
                "the head's answer has the wrong form",
                where=self._where,
                found=f"{describe(answer)} for features {features.shape}",
                expected=f"({len(features)},) whole numbers for labels, or ({len(features)}, K) scores",
                hint="give a classifier with predict_proba, decision_function or predict",
            )
        return torch.from_numpy(values.astype(np.int64 if labels else np.float32))


def _consistent(head: Any, methods: list[str]) -> list[str]:
    """Those of `methods` whose largest score is what `predict` gives, as far as the kind of classifier tells."""
    final = getattr(head, "best_estimator_", head)
    if hasattr(final, "steps"):
        final = final.steps[-1][1]
    ties = getattr(final, "break_ties", None)  # scikit-learn's SVC and NuSVC alone have it
    if ties is None:
        return methods
    return [method for method in methods if ties and method == "decision_function"]
