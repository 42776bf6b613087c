"""The device that a parameter names."""

from __future__ import annotations

import torch

from charpy.errors import ModelError, SpecError


def pick_device(name: str) -> torch.device:
    """The device that `name` stands for: auto (the GPU when there is one), cpu, cuda or cuda:N.

    Raises:
        SpecError: no such kind of device.
        ModelError: the device is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as cause:
        first = str(cause).splitlines()[0]
        raise SpecError(
            f"unknown device {name!r}",
            found=first,
            expected="auto, cpu, cuda or cuda:N",
            hint="leave it out to have it chosen",
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r} is not there",
            found=f"{torch.cuda.device_count()} CUDA devices that torch can use",
            hint="use device: auto",
        )
    return device
