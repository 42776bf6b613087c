"""ImageNet classifiers out of timm, the optional package of PyTorch image models: `pip install 'charpy[imagenet]'`."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy_models.architectures.normalise import Normalise
from charpy_plugins.wrappers import digests
from charpy_plugins.wrappers.architectures import load_into
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.torch_module import TorchModel
from charpy_plugins.wrappers.weights import load_weights

PRETRAINED, RANDOM = "pretrained", "random"
SEED = 0
"""Of random weights: a model is the same one each time it is opened."""


class TimmModel(TorchModel):
    """A network that timm builds by name, with the normalisation and the image size that timm states for it.

    Attributes:
        name: the architecture's in timm; with the tag of its weights it is the model's.
    """

    class Params(BaseParams):
        """Which weights, for images of which size."""

        weights: str = param(
            PRETRAINED,
            min_length=1,
            description=f"{PRETRAINED}: those of the tag, which timm downloads; {RANDOM}: fresh ones; or the path of a"
            " .safetensors file",
            identity=False,
        )
        tag: str = param(min_length=1, description="timm's name of one training of the network")
        image_size: int | None = param(
            None, ge=32, description="H and W of the images; those that timm states if not given", unit="pixels"
        )
        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    name: ClassVar[str]

    def __init__(self, params: Any = None) -> None:
        """Build the network and fill in its weights.

        Raises:
            ModelError: timm is not installed, does not know the name, or cannot download; or the weights do not fit.
        """
        Model.__init__(self, params)
        weights = self.params.weights
        title = f"{self.name}.{self.params.tag}"
        network, stated = _from_timm(title, pretrained=weights == PRETRAINED)
        if weights not in (PRETRAINED, RANDOM):
            load_into(network, load_weights(Path(weights)).state, weights, title)
        channels, height, width = stated["input_size"]
        size = self.params.image_size
        self._adopt(
            nn.Sequential(Normalise(channels, stated["mean"], stated["std"]), network),
            output=Output.LOGITS,
            input_shape=(channels, size or height, size or width),
            num_classes=int(network.num_classes),  # type: ignore[arg-type]  # an attribute of every timm network
            device=pick_device(self.params.device),
            fingerprint={"weights": digests.of_module_state(network), "architecture": f"timm:{title}"},
        )
        if weights == RANDOM:
            self._note("the weights are random: nothing was learnt")


class InceptionV3(TimmModel):
    """Inception v3 of timm, for ImageNet images of 299 x 299 pixels (Szegedy et al. 2016).

    The tags tf_in1k and tf_adv_in1k are TensorFlow's plain and adversarially trained weights; of the latter "Smooth
    adversarial examples" (Zhang et al. 2019) names the source.
    """

    name = "inception_v3"

    class Params(TimmModel.Params):
        """Which weights, for images of which size."""

        tag: str = param("tf_in1k", min_length=1, description="tf_in1k, tf_adv_in1k, tv_in1k or gluon_in1k")


class ResNetV2(TimmModel):
    """Pre-activation ResNet-50 of timm, for ImageNet images of 224 x 224 pixels (He et al. 2016).

    The weights that "Smooth adversarial examples" (Zhang et al. 2019) attacks are an older training of this network.
    """

    name = "resnetv2_50"

    class Params(TimmModel.Params):
        """Which weights, for images of which size."""

        tag: str = param("a1h_in1k", min_length=1, description="a1h_in1k")


def _from_timm(title: str, *, pretrained: bool) -> tuple[nn.Module, dict[str, Any]]:
    """The network, and what timm states of its images: input_size (C, H, W), mean and std per channel."""
    try:
        timm, data = importlib.import_module("timm"), importlib.import_module("timm.data")
    except ImportError as cause:
        raise ModelError(
            f"{title} needs the package timm", found=cause, hint="pip install 'charpy[imagenet]'"
        ) from None
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(SEED)
            network: nn.Module = timm.create_model(title, pretrained=pretrained)
    except Exception as cause:  # of timm, of the hub, of the network
        raise ModelError(
            f"timm cannot open {title}" + (" with its pretrained weights" if pretrained else ""),
            found=f"{type(cause).__name__}: {cause}"[:300],
            hint=f"give weights: FILE.safetensors, or {RANDOM}"
            if pretrained
            else "`timm.list_models()` lists the names",
        ) from cause
    return network, dict(data.resolve_model_data_config(network))
