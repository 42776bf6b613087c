"""Feature squeezing as a detector (Xu, Evans & Qi 2018, section V): does squeezing an image change the answer?"""

from __future__ import annotations

import torch

from charpy.engine import as_scores
from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.defense import Detector
from charpy.interfaces.model import Model, Output
from charpy_plugins.filters.squeezers import FORMS, SqueezerName, squeezer

GREY = ("bit_depth_1", "median_filter_2_2")
COLOUR = ("bit_depth_5", "median_filter_2_2", "non_local_means_13_3_2")
PIECE = 256
"""Images that are squeezed at once."""


class FeatureSqueezingDetector(Detector):
    """Scores an image by how far squeezing it moves the model's probabilities, at most over several squeezers.

    max over j of |p(x) - p(s_j(x))|_1, p the softmax of the model's scores (section V): 0 where nothing
    changes, at most 2. An image that the model has no finite answer to scores 2.
    """

    class Params(BaseParams):
        """The squeezers whose results are compared, each for itself."""

        squeezers: tuple[SqueezerName, ...] | None = param(
            None,
            min_length=1,
            description=f"{FORMS}; if not given, {', '.join(COLOUR)} for colour images, {', '.join(GREY)} for others",
            source="Xu et al. 2018, section V: the best joint detectors for CIFAR-10 and MNIST",
        )

    @torch.no_grad()
    def flag(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        """float32 `(N,)` in [0, 2].

        Raises:
            ModelError: the model gives labels only.
        """
        scores = [self._scores(model, piece.to(model.device)) for piece in torch.split(images, PIECE)]
        return torch.cat(scores).to(images.device) if scores else images.new_zeros(0)

    def _scores(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        whole = _probabilities(model, images)
        names = self.params.squeezers or (COLOUR if images.shape[1] == 3 else GREY)
        moved = [(whole - _probabilities(model, squeezer(name).apply(images))).abs().sum(1) for name in names]
        return torch.stack(moved).amax(0).nan_to_num(nan=2.0)


def _probabilities(model: Model, images: torch.Tensor) -> torch.Tensor:
    answers = model.predict(images.clone())
    if model.output is Output.LABELS:
        raise ModelError(
            "the detector compares probabilities, and the model gives labels only",
            where="feature_squeezing_detector",
            expected="a model that gives scores",
        )
    return as_scores(answers, model.output).softmax(1)
