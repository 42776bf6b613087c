"""Learned perceptual image patch similarity: how far apart a network's features are."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import interpolate

from charpy.errors import PluginError
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.metric import Metric
from charpy_plugins.metrics.colour import as_colour
from charpy_plugins.metrics.lp import check_pair
from charpy_plugins.metrics.lpips_networks import PUBLISHED, find_weights, layers, load_into
from charpy_plugins.metrics.windows import common_dtype
from charpy_plugins.wrappers.weights import load_weights

SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Mean and standard deviation of ImageNet's colours, of [-1, 1]."""

STEADY = 1e-8
"""Added to the squared length of a feature vector."""

PIXELS = 1 << 20
"""Pixels that go through the network at a time, at least one image."""


class Lpips(Metric):
    """LPIPS of Zhang, Isola, Efros, Shechtman & Wang 2018, eq. 1, version 0.1 with linear heads.

    The sum over layers of the mean over places of sum_c w_c (f'_c - f_c)^2, f the features of unit length over the
    channels. The heads' weights w are those in torchmetrics. The network's, trained on ImageNet, are not in charpy:
    they come from a file, from `lpips/` in the data folder, or from a download that is compared with the digits in
    its name. Images whose shorter side is less than `side` are enlarged to it, bilinearly, both alike (ours; the heads
    were trained on 64 x 64 pixels). Grey images are read as red = green = blue. Symmetric; 0 between equals.
    """

    unit = "1"

    class Params(BaseParams):
        """The network and where its weights are."""

        net: Literal["alex", "vgg", "squeeze"] = param("alex", description="network", source="Zhang et al. 2018")
        weights: str | None = param(
            None, description="its weights: torchvision's state dict, .pth or .safetensors; else the published file"
        )
        side: int = param(
            64, ge=31, le=1024, description="least side to which images are enlarged", unit="pixels", source="ours"
        )
        data_dir: str | None = param(None, description="data folder; $CHARPY_DATA if not given")
        download: bool = param(True, description="download missing weights (kept in the user's cache)")

    def __init__(self, params: Any = None) -> None:
        super().__init__(params)
        self._network: tuple[nn.Sequential, nn.ParameterList] | None = None

    def __call__(self, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
        """`(N,)` distances, differentiable; NaN where an image holds one.

        Raises:
            DataError: not a pair of images, or of other than one or three channels; or no weights are found.
            ModelError, UnsafeFileError: what is found are no such weights.
            PluginError: torchmetrics, which holds the heads, is not installed.
        """
        check_pair(images, perturbed)
        dtype = torch.promote_types(common_dtype(images, perturbed), torch.float32)
        before, after = (self._enlarged(as_colour(part).to(dtype)) for part in (images, perturbed))
        if self._network is None:
            self._network = self._loaded()
        network, heads = self._network[0].to(before), self._network[1].to(before)
        rows = max(1, PIXELS // (before.shape[-2] * before.shape[-1]))
        pairs = zip(torch.split(before, rows), torch.split(after, rows), strict=True)
        distance = torch.cat([self._distance(network, heads, *pair) for pair in pairs])
        unknown = (images.isnan() | perturbed.isnan()).flatten(1).any(1)
        return distance.masked_fill(unknown, float("nan")).to(common_dtype(images, perturbed))

    def _enlarged(self, images: torch.Tensor) -> torch.Tensor:
        height, width = images.shape[2:]
        by = self.params.side / min(height, width)
        if by > 1:
            size = (round(height * by), round(width * by))
            images = interpolate(images, size, mode="bilinear", align_corners=False)
        mean, spread = (images.new_tensor(value)[:, None, None] for value in (SHIFT, SCALE))
        return (2 * images - 1 - mean) / spread

    def _distance(
        self, network: nn.Sequential, heads: nn.ParameterList, before: torch.Tensor, after: torch.Tensor
    ) -> torch.Tensor:
        total = before.new_zeros(len(before))
        taps, weights = PUBLISHED[self.params.net].taps, iter(heads)
        for number, layer in enumerate(network):
            before, after = layer(before), layer(after)
            if number in taps:
                gap = (_unit(after) - _unit(before)) ** 2
                total = total + torch.einsum("c,nchw->n", next(weights), gap) / (gap.shape[2] * gap.shape[3])
        return total

    def _loaded(self) -> tuple[nn.Sequential, nn.ParameterList]:
        params = self.params
        network = layers(params.net)
        state = find_weights(params.net, params.weights, params.data_dir, params.download)
        load_into(network, state, "features.")
        found = importlib.util.find_spec("torchmetrics")
        if found is None or found.origin is None:
            raise PluginError("torchmetrics is not installed", hint="pip install torchmetrics")
        state = load_weights(Path(found.origin).parent / "functional/image/lpips_models" / f"{params.net}.pth").state
        names = [f"lin{number}.model.1.weight" for number in range(len(PUBLISHED[params.net].taps))]
        heads = nn.ParameterList([state[name].flatten() for name in names])
        return network.eval().requires_grad_(False), heads.requires_grad_(False)


def _unit(features: torch.Tensor) -> torch.Tensor:
    return features / (STEADY + (features**2).sum(1, keepdim=True)).sqrt()
