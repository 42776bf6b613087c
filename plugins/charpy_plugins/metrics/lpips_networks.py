"""The feature networks of LPIPS in plain torch, with torchvision's names, and where their published weights are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from charpy.errors import ModelError, UnsafeFileError
from charpy_plugins.datasets.locate import Shelf
from charpy_plugins.wrappers.weights import load_weights

ADDRESS = "https://download.pytorch.org/models/"


@dataclass(frozen=True)
class Published:
    """A network's file of weights for ImageNet, as torchvision publishes it.

    Args:
        filename: before the suffix, the first eight digits of the file's SHA-256: what torch.hub checks.
        taps: the layers whose outputs are compared.
    """

    filename: str
    taps: Sequence[int]

    @property
    def digits(self) -> str:
        """The first digits of the SHA-256."""
        return self.filename.removesuffix(".pth").rsplit("-", 1)[1]


PUBLISHED = {
    "alex": Published("alexnet-owt-7be5be79.pth", (1, 4, 7, 9, 11)),
    "vgg": Published("vgg16-397923af.pth", (3, 8, 15, 22, 29)),
    "squeeze": Published("squeezenet1_1-b8a52dc0.pth", (1, 4, 7, 9, 10, 11, 12)),
}


class Fire(nn.Module):
    """Iandola et al. 2016, figure 1: few channels, then many, by kernels of 1 and of 3."""

    def __init__(self, channels: int, few: int, many: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, few, 1)
        self.expand1x1 = nn.Conv2d(few, many, 1)
        self.expand3x3 = nn.Conv2d(few, many, 3, padding=1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """`(N, 2 many, H, W)`."""
        narrow = self.squeeze(features).relu()
        return torch.cat([self.expand1x1(narrow), self.expand3x3(narrow)], dim=1).relu()


def layers(net: str) -> nn.Sequential:
    """The convolutional part of a network, up to the last layer that is compared."""
    if net == "squeeze":
        fires = [Fire(*sizes) for sizes in ((64, 16, 64), (128, 16, 64), (128, 32, 128), (256, 32, 128))]
        more = [Fire(*sizes) for sizes in ((256, 48, 192), (384, 48, 192), (384, 64, 256), (512, 64, 256))]
        pools = [nn.MaxPool2d(3, 2, ceil_mode=True) for _ in range(3)]
        start = [nn.Conv2d(3, 64, 3, stride=2), nn.ReLU()]
        return nn.Sequential(*start, pools[0], *fires[:2], pools[1], *fires[2:], pools[2], *more)
    # channels, kernel, stride, padding; without channels a pool
    if net == "alex":  # Krizhevsky 2014, one tower
        rows = [(64, 11, 4, 2), (0, 3, 2, 0), (192, 5, 1, 2), (0, 3, 2, 0)]
        rows += [(size, 3, 1, 1) for size in (384, 256, 256)]
    else:  # Simonyan & Zisserman 2015, table 1, D
        sizes = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
        rows = [(size, 3, 1, 1) if size else (0, 2, 2, 0) for size in sizes]
    parts: list[nn.Module] = []
    channels = 3
    for size, kernel, stride, padding in rows:
        if size:
            parts += [nn.Conv2d(channels, size, kernel, stride, padding), nn.ReLU()]
            channels = size
        else:
            parts.append(nn.MaxPool2d(kernel, stride))
    return nn.Sequential(*parts)


def find_weights(net: str, path: str | None, data_dir: str | None, download: bool) -> dict[str, torch.Tensor]:
    """The state dict of a network: from `path`, or else the published file from the data folder or a download.

    Raises:
        DataError: it is nowhere, or cannot be downloaded; with where it was looked for and what to do.
        ModelError: no such file, or no weights in it.
        UnsafeFileError: loading it would run code, or it is not the published file.
    """
    if path is not None:
        return load_weights(Path(os.path.expanduser(path))).state
    published = PUBLISHED[net]
    shelf = Shelf("lpips", data_dir, ("lpips", "."), download)
    otherwise = f"give the file itself: weights: PATH ({ADDRESS}{published.filename} or one of that form)"
    place = shelf.find([published.filename])
    if place is None and not download:
        raise shelf.missing([published.filename], otherwise)
    place = place or _download(published, shelf, otherwise)
    weights = load_weights(place)
    if not weights.sha256.startswith(published.digits):
        raise UnsafeFileError(
            "the file is not the published one",
            where=str(place),
            found=f"SHA-256 {weights.sha256}",
            expected=f"one that begins with {published.digits}",
            hint="delete it and fetch it again, or name it as a file of your own: weights: PATH",
        )
    return weights.state


def _download(published: Published, shelf: Shelf, otherwise: str) -> Path:
    try:
        import pooch
    except ImportError:
        raise shelf.missing([published.filename], f"`pip install charpy[data]`, or {otherwise}") from None
    address = ADDRESS + published.filename
    try:
        # its whole checksum is not published: `find_weights` compares the digits in its name
        return Path(pooch.retrieve(address, None, published.filename, Path(pooch.os_cache("charpy")) / "lpips"))
    except OSError as cause:
        raise shelf.missing([published.filename], otherwise, f"{address}: {type(cause).__name__}") from cause


def load_into(network: nn.Module, state: Mapping[str, torch.Tensor], prefix: str) -> None:
    """Fill `network` with the tensors named `prefix` + its own names.

    Raises:
        ModelError: some are missing, or of another shape.
    """
    expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(state[prefix + name].shape) for name in expected if prefix + name in state}
    wrong = [name for name in expected if found.get(name) != expected[name]]
    if wrong:
        raise ModelError(
            "the weights are not those of the network",
            found=", ".join(f"{prefix}{name}: {found.get(name, 'missing')}" for name in wrong[:3]),
            expected=", ".join(f"{prefix}{name}: {expected[name]}" for name in wrong[:3]),
            hint="give a state dict of torchvision's alexnet (net: alex), vgg16 (vgg) or squeezenet1_1 (squeeze)",
        )
    network.load_state_dict({name: state[prefix + name] for name in expected})
