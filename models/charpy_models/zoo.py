"""The ready-made classifiers: one class a kind, with weights that ship with the package."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib.resources.abc import Traversable
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import nn

from charpy.errors import ModelError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.model import Model, Output
from charpy.specs import parse
from charpy_models.card import Card
from charpy_models.plugin import weights_folder
from charpy_models.recipes import recipe_for
from charpy_plugins.wrappers.devices import pick_device
from charpy_plugins.wrappers.torch_module import TorchModel


class ZooModel(TorchModel):
    """A network of this package with the weights that its recipe gave.

    Attributes:
        kind: its name in the zoo, in the recipes and of its weight file.
        input_shape: `(C, H, W)`.
        num_classes: K.
        card: what it was trained on, how, and its measured accuracy.
    """

    class Params(BaseParams):
        """Where it computes."""

        device: str = param("auto", description="auto (the GPU when there is one), cpu, cuda or cuda:N")

    kind: ClassVar[str]

    def __init__(self, params: Any = None) -> None:
        Model.__init__(self, params)
        self.card, state = read_weights(self.kind, weights_folder())
        module = self.architecture()
        module.load_state_dict(state, strict=True)
        self._adopt(
            module,
            output=Output.LOGITS,
            input_shape=self.input_shape,
            num_classes=self.num_classes,
            device=pick_device(self.params.device),
            fingerprint={"weights": self.card.sha256, "architecture": self.card.recipe.architecture},
        )

    @classmethod
    def architecture(cls) -> nn.Module:
        """The network, untrained: logits `(N, num_classes)` of images `(N, *input_shape)` in [0, 1]."""
        with torch.random.fork_rng(devices=[]):  # fresh weights must not advance the caller's generator
            return recipe_for(cls.kind).build()

    @classmethod
    def accepts(cls, reference: str) -> Mapping[str, Any] | None:
        """No parameters, for the kind's own name."""
        return {} if reference == getattr(cls, "kind", None) else None


class DigitsCNN(ZooModel):
    """A small CNN for the 8x8 digits of scikit-learn: 38,282 parameters."""

    kind = "digits-cnn"
    input_shape = (1, 8, 8)
    num_classes = 10


class DigitsEmbedding(ZooModel):
    """A triplet network for the 8x8 digits of scikit-learn: 39,712 parameters."""

    kind = "digits-embedding"
    input_shape = (1, 8, 8)
    num_classes = 10


class MnistModel(ZooModel):
    """A network for the 28x28 digits of MNIST."""

    input_shape = (1, 28, 28)
    num_classes = 10


class Cifar10Model(ZooModel):
    """A network for the 32x32 colour images of CIFAR-10."""

    input_shape = (3, 32, 32)
    num_classes = 10


class MnistLeNet(MnistModel):
    """LeNet-5 for MNIST: 61,706 parameters."""

    kind = "mnist-lenet"


class MnistEmbedding(MnistModel):
    """A triplet network for MNIST, a wider LeNet-5 with an embedding of 64: 124,972 parameters."""

    kind = "mnist-embedding"


class MnistAllConv(MnistModel):
    """An all-convolutional network for MNIST: 38,570 parameters."""

    kind = "mnist-allconv"


class MnistNIN(MnistModel):
    """A network in network for MNIST: 27,038 parameters."""

    kind = "mnist-nin"


class MnistResNet(MnistModel):
    """A residual network of 8 layers for MNIST: 19,810 parameters."""

    kind = "mnist-resnet"


class MnistWideResNet(MnistModel):
    """A wide residual network for MNIST: 76,450 parameters."""

    kind = "mnist-wideresnet"


class MnistDenseNet(MnistModel):
    """A densely connected network for MNIST: 11,482 parameters."""

    kind = "mnist-densenet"


class MnistCapsNet(MnistModel):
    """A capsule network with dynamic routing for MNIST: 248,528 parameters."""

    kind = "mnist-capsnet"


class MnistC4(MnistModel):
    """C4, the network of "Smooth adversarial examples", for MNIST: 710,218 parameters."""

    kind = "mnist-c4"


class MnistC4AT(MnistModel):
    """C4 for MNIST, trained on single steps to the least likely class, Linf 0.6: 710,218 parameters."""

    kind = "mnist-c4-at"


class MnistLeNetAT(MnistModel):
    """LeNet-5 for MNIST, adversarially trained against Linf 0.2: 61,706 parameters."""

    kind = "mnist-lenet-at"


class MnistLeNetDistilled(MnistModel):
    """LeNet-5 for MNIST, distilled from another one at temperature 20: 61,706 parameters."""

    kind = "mnist-lenet-distilled"


class MnistLeNetTrades(MnistModel):
    """LeNet-5 for MNIST, trained by TRADES against Linf 0.2: 61,706 parameters."""

    kind = "mnist-lenet-trades"


class MnistLeNetTVM(MnistModel):
    """LeNet-5 for MNIST, trained on images of least total variation: 61,706 parameters."""

    kind = "mnist-lenet-tvm"


class MnistLeNetThermometer(MnistModel):
    """LeNet-5 for MNIST behind the defence `thermometer` of 16 levels, and for its codes only: 63,956 parameters."""

    kind = "mnist-lenet-thermometer"
    input_shape = (16, 28, 28)


class MnistLeNetNoise(MnistModel):
    """LeNet-5 for MNIST, trained on noise for `randomized_smoothing` with sigma 0.5: 61,706 parameters."""

    kind = "mnist-lenet-noise"


class MnistLeNetAblation(MnistModel):
    """LeNet-5 for MNIST behind `randomized_ablation` to 45 pixels, doubled, and for those only: 61,856 parameters."""

    kind = "mnist-lenet-ablation"
    input_shape = (2, 28, 28)


class MnistRobust(MnistModel):
    """A wider LeNet-5 for MNIST, adversarially trained against Linf 0.3: 120,382 parameters."""

    kind = "mnist-robust"


class Cifar10CNN(Cifar10Model):
    """A plain CNN for CIFAR-10: 272,810 parameters."""

    kind = "cifar10-cnn"


class Cifar10LeNet(Cifar10Model):
    """A wider LeNet-5 for CIFAR-10: 256,830 parameters."""

    kind = "cifar10-lenet"


class Cifar10AllConv(Cifar10Model):
    """An all-convolutional network for CIFAR-10: 153,482 parameters."""

    kind = "cifar10-allconv"


class Cifar10NIN(Cifar10Model):
    """A network in network for CIFAR-10: 63,186 parameters."""

    kind = "cifar10-nin"


class Cifar10ResNet(Cifar10Model):
    """A residual network of 14 layers for CIFAR-10: 175,258 parameters."""

    kind = "cifar10-resnet"


class Cifar10ResNetAT(Cifar10Model):
    """A residual network of 14 layers for CIFAR-10, adversarially trained against Linf 8/255: 175,258 parameters."""

    kind = "cifar10-resnet-at"


class Cifar10ResNetTVM(Cifar10Model):
    """A residual network of 14 layers for CIFAR-10 behind total variance minimisation: 175,258 parameters."""

    kind = "cifar10-resnet-tvm"


class Cifar10WideResNet(Cifar10Model):
    """A wide residual network for CIFAR-10: 170,258 parameters."""

    kind = "cifar10-wideresnet"


class Cifar10DenseNet(Cifar10Model):
    """A densely connected network for CIFAR-10: 45,690 parameters."""

    kind = "cifar10-densenet"


class Cifar10CapsNet(Cifar10Model):
    """A capsule network with dynamic routing for CIFAR-10: 363,328 parameters."""

    kind = "cifar10-capsnet"


class Cifar10ResNet8Robust(Cifar10Model):
    """A residual network for CIFAR-10, adversarially trained against Linf 8/255: 78,042 parameters."""

    kind = "cifar10-resnet8-robust"


def read_weights(kind: str, folder: Traversable) -> tuple[Card, dict[str, torch.Tensor]]:
    """The card and the state dict of a zoo kind.

    Raises:
        ModelError: a file is missing, or the weight file is not the one that the card was written for.
    """
    try:
        card = parse(Card, json.loads((folder / f"{kind}.json").read_bytes()), where=f"{kind}.json")
        content = (folder / card.weights).read_bytes()
    except (FileNotFoundError, json.JSONDecodeError) as cause:
        raise ModelError(
            f"the weights of {kind!r} cannot be read", where=str(folder), found=cause, hint="reinstall charpy"
        ) from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != card.sha256:
        raise ModelError(
            "the weight file was changed",
            where=str(folder / card.weights),
            found=f"SHA-256 {digest}",
            expected=f"SHA-256 {card.sha256}, as its card says",
            hint="reinstall charpy; load weights of your own as FILE.safetensors@" + kind,
        )
    return card, safetensors.torch.load(content)
