"""The thresholds at which prior work calls two images alike, by metric and by the size of the images."""

from __future__ import annotations

from typing import NamedTuple

LARGE = 128
"""Images with a shorter side from this are like those of ImageNet, smaller ones like those of MNIST or CIFAR-10."""


class Usual(NamedTuple):
    """A threshold: how it is written, its value in the unit of the metric, and who uses it."""

    title: str
    value: float
    source: str


def usual_thresholds(kind: str, shape: tuple[int, int, int]) -> tuple[Usual, ...]:
    """Those of the metric for images `(C, H, W)`, from the smallest; none where prior work sets none."""
    channels, height, width = shape
    if kind in ("l0_pixels", "l0_features"):
        return _counts(kind, channels, height * width)
    found = {"l1": _l1, "l2": _l2, "linf": _linf}.get(kind)
    return () if found is None else found(channels, min(height, width))


def _counts(kind: str, channels: int, pixels: int) -> tuple[Usual, ...]:
    shares = ((0.049, "mean of JSMA in Sharif et al. 2018"), (0.15, "limit of JSMA in Sharif et al. 2018"))
    count = pixels * (channels if kind == "l0_features" else 1)
    few = ((1, "Su et al. 2019"), (10, "Kotyan & Vargas 2020")) if kind == "l0_pixels" else ()
    found = [Usual(f"{number}", number, source) for number, source in few]
    found += [
        Usual(f"{int(share * count)} ({100 * share:g} %)", int(share * count), source) for share, source in shares
    ]
    return tuple(sorted({item.value: item for item in reversed(found)}.values(), key=lambda item: item.value))


def _l1(channels: int, side: int) -> tuple[Usual, ...]:
    return (Usual("12", 12, "Croce & Hein 2021, CIFAR-10"),) if channels == 3 and side < LARGE else ()


def _l2(channels: int, side: int) -> tuple[Usual, ...]:
    if side >= LARGE:
        return (Usual("3", 3, "Engstrom et al. 2019, ImageNet"),)
    if channels == 1:
        return (Usual("4.5", 4.5, "Madry et al. 2018, MNIST"),)
    return Usual("0.5", 0.5, "Croce et al. 2021, CIFAR-10"), Usual("6", 6, "Sharif et al. 2018, CIFAR-10")


def _linf(channels: int, side: int) -> tuple[Usual, ...]:
    found = [Usual("8/255", 8 / 255, "Madry et al. 2018, CIFAR-10"), Usual("0.1", 0.1, "Goodfellow et al. 2015")]
    if side >= LARGE:
        return (Usual("4/255", 4 / 255, "Croce et al. 2021, ImageNet"), *found)
    return (*found, Usual("0.3", 0.3, "Madry et al. 2018, MNIST"))
