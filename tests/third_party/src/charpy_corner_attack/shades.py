"""Grey noise in two shades: a dataset that needs no file."""

import hashlib
from collections.abc import Sequence

import torch

from charpy.interfaces.component import Params, param
from charpy.interfaces.dataset import Dataset, Samples


class Shades(Dataset):
    """6x6 grey images, dark (mean near 0.4) and bright (mean near 0.6) in turn."""

    name = "shades"
    class_names = ("dark", "bright")
    shape = (1, 6, 6)

    class Params(Params):
        """How many."""

        size: int = param(40, ge=1, le=10_000, description="number of images", unit="images", source="ours")

    def __init__(self, params: Params | None = None) -> None:
        super().__init__(params)
        size = self.params.size
        self.labels = torch.arange(size) % 2
        noise = torch.rand(size, *self.shape, generator=torch.Generator().manual_seed(0))
        self.pixels = ((0.3 + 0.2 * self.labels.view(-1, 1, 1, 1) + 0.2 * noise) * 255).round()

    def __len__(self) -> int:
        """How many images there are."""
        return self.params.size

    def read(self, indices: Sequence[int]) -> Samples:
        """The images at `indices`, in that order."""
        rows = list(indices)
        return Samples(self.pixels[rows] / 255, self.labels[rows], tuple(f"shades/{row}" for row in rows))

    def fingerprint(self) -> str:
        """SHA-256 of the pixels."""
        return hashlib.sha256(self.pixels.to(torch.uint8).numpy().tobytes()).hexdigest()
