"""How images `(N, C, H, W)` in [0, 1] become the input of an ONNX graph: layout, range, normalisation, type."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import prod

import torch

from charpy.bounds.graph import Builder, UnsupportedError
from charpy.errors import ModelError, SpecError
from charpy_plugins.wrappers.onnx_session import DTYPES, Port

CHANNELS = (1, 3, 4)
"""Channel counts by which a layout can be told: grey, RGB, RGBA."""


class Layout(StrEnum):
    """Where the channels of an image stand in the graph's input; `flat_*` are one vector (or column) per image."""

    AUTO = "auto"
    NCHW = "nchw"
    NHWC = "nhwc"
    FLAT_CHW = "flat_chw"
    FLAT_HWC = "flat_hwc"


@dataclass(frozen=True)
class InputForm:
    """What `feed` does to a batch of images.

    Attributes:
        port: the graph's input.
        layout: never AUTO.
        assumed: the layout was not declared, so a flat one holds for one channel only.
        range: what the values 0 and 1 of an image become, before normalisation.
        mean, std: subtracted and divided by, after that; one value, or one per channel; empty for none.
    """

    port: Port
    layout: Layout
    assumed: bool
    range: tuple[float, float]
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def sizes(self) -> tuple[int | None, ...]:
        """`(C, H, W)` as the graph wants them, None where it leaves a size free; empty for a flat layout."""
        sizes = self.port.shape[1:]
        if self.layout is Layout.NHWC:
            return (sizes[2], sizes[0], sizes[1])
        return sizes if self.layout is Layout.NCHW else ()

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """`(C, H, W)` where the graph fixes all three."""
        fixed = [size for size in self.sizes if size is not None]
        return (fixed[0], fixed[1], fixed[2]) if len(fixed) == 3 else None

    def feed(self, images: torch.Tensor) -> torch.Tensor:
        """The graph's input for `images`; a new tensor or a view, `images` itself is never changed."""
        self._check(images)
        low, high = self.range
        batch = images if (low, high) == (0.0, 1.0) else images * (high - low) + low
        if self.mean:
            batch = batch - _per_channel(self.mean, images)
        if self.std:
            batch = batch / _per_channel(self.std, images)
        if self.layout in (Layout.NHWC, Layout.FLAT_HWC):
            batch = batch.permute(0, 2, 3, 1)
        if self.layout in (Layout.FLAT_CHW, Layout.FLAT_HWC):
            batch = batch.reshape(len(images), *(-1 if size is None else size for size in self.port.shape[1:]))
        dtype, _ = DTYPES[self.port.type]
        return batch.to(dtype) if dtype.is_floating_point else batch.round().clamp(low, high).to(dtype)

    def add_to(self, builder: Builder) -> int:
        """What `feed` does as operators of a graph of images; returns the place of the graph's input.

        Raises:
            UnsupportedError: the input is whole numbers, to which pixel values are rounded.
        """
        shape = builder.shape(0)
        self._check(torch.empty(1, *shape))
        if not DTYPES[self.port.type][0].is_floating_point:
            raise UnsupportedError("no bounds through the rounding to whole numbers", where=str(self.port))
        low, high = self.range
        none = torch.zeros((), dtype=torch.float64)
        mean = _per_channel(self.mean, none) if self.mean else none
        std = _per_channel(self.std, none) if self.std else none + 1
        factor, shift = (high - low) / std, (low - mean) / std
        place = 0
        if bool((factor != 1).any()) or bool((shift != 0).any()):
            place = builder.scale(place, factor.float(), shift.float())
        if self.layout in (Layout.NHWC, Layout.FLAT_HWC):
            place = builder.permute(place, (1, 2, 0))
        if self.layout in (Layout.FLAT_CHW, Layout.FLAT_HWC):
            sizes = self.port.shape[1:]
            free = prod(shape) // prod(size for size in sizes if size is not None)
            place = builder.reshape(place, [free if size is None else size for size in sizes])
        return place

    def _check(self, images: torch.Tensor) -> None:
        channels, found = images.shape[1], tuple(images.shape[1:])
        if self.layout in (Layout.FLAT_CHW, Layout.FLAT_HWC):
            fixed = prod(size for size in self.port.shape[1:] if size is not None)
            fits = prod(found) == fixed if None not in self.port.shape[1:] else prod(found) % fixed == 0
            if fits and self.assumed and channels > 1:
                raise ModelError(
                    "the order of a flat image with several channels cannot be seen from the file",
                    where=str(self.port),
                    found=f"images (C, H, W) = {found}",
                    hint="set layout: flat_chw (one channel after the other) or flat_hwc",
                )
        else:
            fits = all(want in (None, have) for want, have in zip(self.sizes, found, strict=True))
        if not fits:
            raise ModelError(
                "the images do not fit the input of the graph",
                where=str(self.port),
                found=f"images (C, H, W) = {found}",
                expected=f"{self.port} in layout {self.layout}",
                hint="give the data set that the model was trained on, or the right layout",
            )
        if any(len(values) not in (0, 1, channels) for values in (self.mean, self.std)):
            raise SpecError(
                "mean and std do not fit the images",
                where=str(self.port),
                found=f"{len(self.mean)} and {len(self.std)} values for {channels} channels",
                expected="one value, or one per channel",
                hint="give one value, or one for each channel",
            )


def input_form(
    port: Port,
    layout: Layout,
    value_range: tuple[float, float] | None,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    where: str,
) -> InputForm:
    """How images are fed to `port`.

    Raises:
        ModelError: the layout cannot be told from the shape, or does not fit it; or the input is no tensor of numbers.
        SpecError: the range or the normalisation does not fit the input's type.
    """
    if port.type not in DTYPES:
        raise ModelError(
            "the graph takes no tensor of numbers",
            where=where,
            found=str(port),
            expected=", ".join(DTYPES),
            hint="export the part of the pipeline that takes images",
        )
    chosen = _layout(port, where) if layout is Layout.AUTO else layout
    rank = len(port.shape)
    if (chosen in (Layout.NCHW, Layout.NHWC) and rank != 4) or rank < 2:
        raise ModelError(
            f"layout {chosen} does not fit the input",
            where=where,
            found=str(port),
            expected="4 axes, the batch first",
            hint="leave `layout` out, or give the one that the graph was exported with",
        )
    if chosen in (Layout.FLAT_CHW, Layout.FLAT_HWC) and port.shape[1:].count(None) > 1:
        raise ModelError(
            "the input has no size",
            where=where,
            found=str(port),
            expected="one free axis beside the batch",
            hint="export it with the size of one image fixed",
        )
    whole = not DTYPES[port.type][0].is_floating_point
    if whole and (mean or std or value_range not in (None, (0.0, 255.0))):
        raise SpecError(
            "an input of whole numbers takes pixels 0..255 as they are",
            where=where,
            found=f"{port}, range {value_range}, mean {mean}, std {std}",
            expected="no normalisation, range [0, 255]",
            hint="leave mean, std and range out",
        )
    if value_range is not None and not value_range[0] < value_range[1]:
        raise SpecError(
            "the range is empty",
            where=where,
            found=list(value_range),
            expected="low < high",
            hint="give the smaller value first",
        )
    default = (0.0, 255.0) if whole else (0.0, 1.0)
    return InputForm(port, chosen, layout is Layout.AUTO, value_range or default, mean, std)


def _layout(port: Port, where: str) -> Layout:
    """The layout, where the shape leaves no doubt."""
    shape = port.shape
    if len(shape) == 2 or (len(shape) == 3 and shape[0] in (None, 1)):
        return Layout.FLAT_CHW
    if len(shape) == 4:
        first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
        if first and not last:
            return Layout.NCHW
        if last and not first:
            return Layout.NHWC
    raise ModelError(
        "the layout of the input cannot be told from its shape",
        where=where,
        found=str(port),
        expected="one axis of 1, 3 or 4 channels, second (nchw) or last (nhwc)",
        hint="set layout: nchw, nhwc, flat_chw or flat_hwc",
    )


def _per_channel(values: tuple[float, ...], images: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, dtype=images.dtype, device=images.device).reshape(-1, 1, 1)
