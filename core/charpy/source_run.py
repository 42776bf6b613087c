"""A finished run as a source of adversarial images: its witnesses, found by what their originals look like."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from charpy.errors import RunFileError, unknown_name
from charpy.pixels import GRID_TOLERANCE, as_images, quantise, unpack
from charpy.runfile import RunFile
from charpy.runfile.content import read_as_written
from charpy.threat import Grid


@dataclass(frozen=True)
class SourceRun:
    """The witnesses of a run, by the key of their original (`image_keys`).

    Attributes:
        path: of the run file.
        name: title of the run.
        models: titles of the models whose witnesses these are.
        shape: `(C, H, W)`.
        grid: how the images are stored.
        witnesses: key -> stored images, of every attack (or the one asked for) and norm; equal ones once.
        digest: SHA-256 of all keys and images: two runs that found the same are the same source.
    """

    path: Path
    name: str
    models: tuple[str, ...]
    shape: tuple[int, int, int]
    grid: Grid
    witnesses: Mapping[str, tuple[bytes, ...]]
    digest: str

    @classmethod
    def read(cls, path: Path, model: str | None = None, attack: str | None = None) -> SourceRun:
        """The witnesses of `model` by `attack`, or of all models and attacks of the run.

        Raises:
            RunFileError: no run file, not finished, or without any witness.
            UnknownNameError: the run has no such model, or attack.
        """
        with RunFile.open(path) as run, read_as_written([path]):
            if not run.meta("finished", False):
                raise RunFileError(
                    "the source run is not finished: what it found may still grow",
                    where=str(path),
                    hint="run its own command again first, it goes on where it stands",
                )
            titles = [part["name"] for part in run.meta("models")]
            if model is not None and model not in titles:
                raise unknown_name("model of the source run", model, titles, where=str(path))
            chosen = [index for index, title in enumerate(titles) if model in (None, title)]
            attacks = {unit["attack"]: None for index in chosen for unit in run.units(index)}
            if attack is not None and attack not in attacks:
                raise unknown_name("attack of the source run", attack, list(attacks), where=str(path))
            dataset = run.meta("dataset")
            shape, grid = _triple(dataset["shape"]), Grid(dataset["grid"])
            found: dict[str, dict[bytes, None]] = {}
            keys: dict[int, str] = {}
            for index in chosen:
                for row in run.witnesses(index):
                    if attack not in (None, row.attack):
                        continue
                    if row.sample not in keys:
                        keys[row.sample] = image_keys(unpack(run.original(row.sample), shape, grid)[None])[0]
                    found.setdefault(keys[row.sample], {})[row.image] = None
            name = str(run.spec["name"])
        if not found:
            raise RunFileError(
                "the source run has no witness to try",
                where=str(path),
                found=f"models {', '.join(titles[index] for index in chosen)}, none of them broken"
                + ("" if attack is None else f" by {attack}"),
                hint="give the run of a model that some attack broke" + ("" if attack is None else ", or name another"),
            )
        witnesses = {key: tuple(images) for key, images in found.items()}
        return cls(path, name, tuple(titles[index] for index in chosen), shape, grid, witnesses, _digest(witnesses))

    @property
    def count(self) -> int:
        """How many witnesses there are."""
        return sum(len(images) for images in self.witnesses.values())

    def common(self, images: torch.Tensor) -> int:
        """How many of `images` `(N, C, H, W)` the run has a witness of."""
        return sum(key in self.witnesses for key in image_keys(images))

    def candidates(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The witnesses of `images` `(N, C, H, W)`: `(M, C, H, W)` uint8 or float32, and whose each is, `(M,)`."""
        stored = [(i, data) for i, key in enumerate(image_keys(images)) for data in self.witnesses.get(key, ())]
        owner = torch.tensor([i for i, _ in stored], dtype=torch.int64)
        if not stored:
            return torch.zeros(0, *images.shape[1:]), owner
        return torch.stack([unpack(data, self.shape, self.grid) for _, data in stored]), owner


def image_keys(images: torch.Tensor) -> list[str]:
    """A digest of each of `images` `(N, C, H, W)`, uint8 or float32 in [0, 1]: equal images have equal keys.

    An image on the 8-bit grid has the key of its pixels, whichever type it comes in.
    """
    images = images.detach().cpu()
    pixels = quantise(images)
    exact = as_images(images) * 255
    gridded = ((exact - exact.round()).abs() <= GRID_TOLERANCE).flatten(1).all(1).tolist()
    rows = [pixels[i] if on_grid else images[i] + 0 for i, on_grid in enumerate(gridded)]  # + 0 turns -0.0 into 0.0
    head = str(tuple(images.shape[1:])).encode()
    return [hashlib.blake2b(head + row.contiguous().numpy().tobytes(), digest_size=16).hexdigest() for row in rows]


def _digest(witnesses: Mapping[str, tuple[bytes, ...]]) -> str:
    whole = hashlib.sha256()
    for key in sorted(witnesses):
        whole.update(key.encode())
        for image in sorted(hashlib.sha256(data).digest() for data in witnesses[key]):
            whole.update(image)
    return whole.hexdigest()


def _triple(shape: Sequence[int]) -> tuple[int, int, int]:
    return shape[0], shape[1], shape[2]
