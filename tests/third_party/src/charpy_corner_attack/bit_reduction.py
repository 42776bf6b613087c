"""Fewer bits per colour before the model sees an image (Xu et al. 2018, section II)."""

from collections.abc import Mapping

import torch

from charpy.interfaces.component import Params, param
from charpy.interfaces.defense import Defense
from charpy.interfaces.model import Model
from charpy.threat import Access


class BitReduction(Defense):
    """Rounds every value to `bits` bits: round(x (2^b - 1)) / (2^b - 1)."""

    class Params(Params):
        """How strong it is."""

        bits: int = param(4, ge=1, le=8, description="bits that are kept", unit="bits", source="Xu et al. 2018")

    def wrap(self, model: Model) -> Model:
        """`model` behind the rounding."""
        return _Reduced(model, 2**self.params.bits - 1)


class _Reduced(Model):
    """A model that sees rounded images; rounding has no useful gradient, so it offers none."""

    def __init__(self, model: Model, steps: int) -> None:
        super().__init__()
        self.model, self.steps = model, steps
        self.access = min(model.access, Access.SCORES)
        self.output, self.input_shape, self.num_classes = model.output, model.input_shape, model.num_classes

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.device

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """The model's answer to the rounded images."""
        return self.model.predict((images * self.steps).round() / self.steps)

    def fingerprint(self) -> Mapping[str, str]:
        """The model's, and how many steps are left."""
        return {**self.model.fingerprint(), "bit_reduction": str(self.steps)}
