"""Any Python callable as a model: black box, numpy or torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch

from charpy.errors import CharpyError, ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.questioner import describe
from charpy.threat import Access
from charpy_plugins.wrappers import digests
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.references import is_reference, load_reference, produced
from charpy_plugins.wrappers.torch_module import TorchModel

if TYPE_CHECKING:
    from charpy.interfaces.model import Forward

Array = Literal["auto", "numpy", "torch"]
ImageLayout = Literal["nchw", "nhwc"]


class CallableModel(Model):
    """A Python callable that takes a batch of images and returns scores `(N, K)` or labels `(N,)`.

    It is given a copy of float32 `(N, C, H, W)` images in [0, 1]. What it returns is found out from its first answer:
    whole numbers `(N,)` are labels, `(N, K)` are scores. A torch module (or a factory of one) keeps its gradients.

    Its identity is its source, the values it has bound, and what it uses by name of its own package: functions, classes
    and values. What it reads from elsewhere is not part of it.
    """

    _array: Literal["numpy", "torch"] | None

    class Params(BaseParams):
        """Which callable, and what it takes and returns."""

        reference: str = param(min_length=1, description="package.module:callable")
        factory: bool | None = param(
            None, description="whether it returns the model when called without arguments; found out if not given"
        )
        array: Array = param(
            "auto", description="what it takes: numpy, torch, or auto (its annotation; else numpy, then torch)"
        )
        layout: ImageLayout = param("nchw", description="order of the axes that it takes")
        scale: float = param(1.0, gt=0, allow_inf_nan=False, description="what a pixel value of 1 becomes: 1 or 255")
        output: Literal["auto"] | Output = param("auto", description="auto, logits, probabilities or labels")
        num_classes: int | None = param(None, ge=2, description="K, where labels do not show it")
        input_shape: tuple[int, int, int] | None = param(
            None, description="(C, H, W) of one image, whatever the layout; an export needs it", unit="pixels"
        )
        device: str = param("auto", description="for a torch module: auto, cpu, cuda or cuda:N")

    def __init__(self, params: Params) -> None:
        """Import the callable; its module's code runs."""
        super().__init__(params)
        found = produced(load_reference(params.reference), params.reference, params.factory)
        self._adopt(
            found,
            array=params.array,
            layout=params.layout,
            scale=params.scale,
            output=None if params.output == "auto" else Output(params.output),
            num_classes=params.num_classes,
            input_shape=params.input_shape,
            device=pick_device(params.device),
            where=params.reference,
        )

    @classmethod
    def from_callable(
        cls,
        function: Callable[..., Any],
        *,
        array: Array = "auto",
        layout: ImageLayout = "nchw",
        scale: float = 1.0,
        output: Output | None = None,
        num_classes: int | None = None,
        input_shape: tuple[int, int, int] | None = None,
    ) -> Self:
        """This model around `function`; the arguments are those of `Params`."""
        model = cls.__new__(cls)
        model.params = None
        model._adopt(
            function,
            array=array,
            layout=layout,
            scale=scale,
            output=output,
            num_classes=num_classes,
            input_shape=input_shape,
            device=None,
            where=getattr(function, "__qualname__", type(function).__qualname__),
        )
        return model

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """Parameters for `package.module:callable`."""
        return {"reference": reference} if is_reference(reference) else None

    @classmethod
    def wrap(cls, subject: object) -> Self | None:
        """A model around a callable that is neither a class nor a torch module nor a model already."""
        if not callable(subject) or isinstance(subject, type | torch.nn.Module | Model):
            return None
        return cls.from_callable(subject)

    @property
    def device(self) -> torch.device:
        """Where the images are wanted: the CPU, or where the torch module inside computes."""
        return torch.device("cpu") if self._inner is None else self._inner.device

    @property
    def is_black_box(self) -> bool:
        """Whether it is a plain callable; False for a torch module or a model, which keep their own abilities."""
        return self._inner is None

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N, K)` scores or int64 `(N,)` labels of float32 `(N, C, H, W)` images in [0, 1]."""
        if self._inner is not None:
            return self._inner.predict(self._prepared(images))
        answer = self.call(images)
        kind = Output.LABELS if answer.ndim == 1 and not answer.is_floating_point() else Output.LOGITS
        if not self._output_known:
            self._learn(answer, kind)
        if (kind is Output.LABELS) is not (self.output is Output.LABELS) or (
            kind is Output.LOGITS and answer.ndim != 2
        ):
            raise self._wrong_form(answer, images)
        if kind is not Output.LABELS:
            self.num_classes = self.num_classes or answer.shape[1]
            return answer.float()
        return answer

    def call(self, images: torch.Tensor) -> torch.Tensor:
        """What the callable returns, as a tensor of whatever shape: float32 or int64, on the CPU."""
        prepared = self._prepared(images.detach())
        kinds: tuple[Literal["numpy", "torch"], ...] = ("numpy", "torch") if self._array is None else (self._array,)
        causes = []
        for kind in kinds:
            try:
                answer = self._function(_given(prepared, kind))
            except CharpyError:
                raise
            except Exception as cause:
                if self._array is not None:
                    raise
                causes.append(f"{kind}: {type(cause).__name__}: {str(cause).splitlines()[0] if str(cause) else ''}")
                continue
            self._array = kind
            return self._tensor(answer, images)
        raise ModelError(
            "the callable takes neither numpy arrays nor torch tensors",
            where=self._where,
            found="; ".join(causes)[:600],
            expected=f"float32 images {tuple(prepared.shape)} in [0, {self._scale:g}]",
            hint="set array, layout and scale to what it takes; set factory: true if it returns the model",
        )

    def fingerprint(self) -> Mapping[str, str]:
        """Digest of the source and of the values that the callable has bound; where it is a torch module, its own."""
        own = dict(self._inner.fingerprint()) if self._inner is not None else self._fingerprint
        return {**own, "callable": self._where, "layout": self._layout, "scale": f"{self._scale:g}"}

    def state_digest(self) -> str:
        """The torch module's, where it is one; of other callables nothing is known."""
        return "" if self._inner is None else self._inner.state_digest()

    def forwards(self) -> Mapping[str, Callable[[], Forward]]:
        """The torch module's, where it is one that takes images as they are."""
        return self._inner.forwards() if self._inner is not None and self._takes_images else {}

    def export(self, path: Path) -> Mapping[str, object]:
        """The torch module's export, where it is one that takes images as they are."""
        return self._inner.export(path) if self._inner is not None and self._takes_images else super().export(path)

    @property
    def _takes_images(self) -> bool:
        """Whether what is inside takes images as charpy has them."""
        return self._layout == "nchw" and self._scale == 1.0

    def _adopt(
        self,
        found: Any,
        *,
        array: Array,
        layout: ImageLayout,
        scale: float,
        output: Output | None,
        num_classes: int | None,
        input_shape: tuple[int, int, int] | None,
        device: torch.device | None,
        where: str,
    ) -> None:
        self._layout, self._scale, self._where = layout, scale, where
        self.notes: list[str] = []
        self.input_shape = input_shape
        self._inner: Model | None = None
        if isinstance(found, torch.nn.Module):
            found = TorchModel.from_module(
                found,
                output=output or Output.LOGITS,
                num_classes=num_classes,
                input_shape=input_shape if self._takes_images else None,
                device=device,
            )
        if isinstance(found, Model):
            self._inner = found
            self.access, self.output = found.access, found.output
            self.num_classes = found.num_classes
            if self._takes_images:
                self.input_shape = found.input_shape or input_shape
            self.notes = getattr(found, "notes", self.notes)
            return
        if not callable(found):
            raise ModelError(
                "not a callable",
                where=where,
                found=describe(found),
                expected="a function or an object with __call__",
                hint="a scikit-learn estimator is the head of a `hybrid` model",
            )
        self._function: Callable[..., Any] = found
        self._array = _annotated(found) if array == "auto" else array
        self._output_known = output is not None
        self.output = output or Output.LOGITS
        self.access = Access.LABELS if output is Output.LABELS else Access.SCORES
        self.num_classes = num_classes
        source = digests.of_object(found, digests.home_of(found))
        self._fingerprint = {"source": source, "numpy": np.__version__, "torch": torch.__version__}

    def _prepared(self, images: torch.Tensor) -> torch.Tensor:
        scaled = images if self._scale == 1.0 else images * self._scale
        return scaled if self._layout == "nchw" else scaled.permute(0, 2, 3, 1)

    def _tensor(self, answer: Any, images: torch.Tensor) -> torch.Tensor:
        if isinstance(answer, torch.Tensor):
            found = answer.detach().cpu()
        elif isinstance(answer, np.ndarray | list):
            values = np.asarray(answer)
            if values.dtype.kind not in "fiub":
                raise self._wrong_form(values, images)
            found = torch.from_numpy(values.astype(np.float32 if values.dtype.kind == "f" else np.int64))
        else:
            raise self._wrong_form(answer, images)
        if getattr(answer, "dtype", None) in (torch.float16, torch.bfloat16, np.dtype(np.float16)):
            self._note(f"answers are {str(answer.dtype).removeprefix('torch.')}; converted to float32")
        return found.float() if found.is_floating_point() else found.long()

    def _learn(self, answer: torch.Tensor, kind: Output) -> None:
        self._output_known = True
        self.output = kind
        self.access = Access.LABELS if kind is Output.LABELS else Access.SCORES

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _wrong_form(self, answer: object, images: torch.Tensor) -> ModelError:
        return ModelError(
            "the callable's answer has the wrong form",
            where=self._where,
            found=f"{describe(answer)} for images {tuple(images.shape)}",
            expected=f"({len(images)},) whole numbers for labels, or ({len(images)}, K) scores",
            hint="return one array, or one torch tensor",
        )


def _given(prepared: torch.Tensor, kind: str) -> Any:
    """A copy for the callable to do with as it likes."""
    copied = prepared.clone(memory_format=torch.contiguous_format)
    return copied.cpu().numpy() if kind == "numpy" else copied


def _annotated(function: Callable[..., Any]) -> Literal["numpy", "torch"] | None:
    """What the first parameter is annotated to be."""
    try:
        first = next(iter(inspect.signature(function).parameters.values()), None)
    except (ValueError, TypeError):
        return None
    annotation = "" if first is None or first.annotation is first.empty else str(first.annotation)
    if "Tensor" in annotation:
        return "torch"
    return "numpy" if "ndarray" in annotation or "NDArray" in annotation else None
