"""What a metric says, held against what it promises: a stranger's figure is not printed unseen."""

from __future__ import annotations

import torch

from charpy.errors import CharpyError, PluginError, told_of
from charpy.interfaces.metric import Metric

SLACK = 1e-3
"""What rounding may add to the ends of a range, relative to 1 or to the end."""


@torch.no_grad()
def measured(name: str, metric: Metric, images: torch.Tensor, perturbed: torch.Tensor) -> torch.Tensor:
    """float `(N,)` on the CPU: `metric` of copies of both, `(N, C, H, W)` in [0, 1].

    Raises:
        PluginError: it raises, or gives another shape or type than promised or a value outside its own range. The upper
            end is not looked at where it has a `scale`, for images in [0, 1] are what the range is of.
    """
    try:
        values = metric(images.clone(), perturbed.clone())
    except CharpyError:
        raise
    except (Exception, SystemExit) as cause:
        raise PluginError(
            "the metric fails",
            where=f"metric {name}",
            found=told_of(cause),
            expected="one number for each pair of images",
            hint="leave the metric out, or repair its plugin",
        ) from cause
    if not isinstance(values, torch.Tensor) or values.shape != (len(images),) or values.is_complex():
        raise PluginError(
            "the metric's answer has the wrong form",
            where=f"metric {name}",
            found=f"{tuple(values.shape)} {values.dtype}"
            if isinstance(values, torch.Tensor)
            else type(values).__name__,
            expected=f"({len(images)},), one number for each pair of images",
            hint="leave the metric out, or repair its plugin",
        )
    values = values.cpu()
    low, high = metric.range
    scaled = getattr(metric.params, "scale", 1) != 1
    outside = (values < low - SLACK * max(1.0, abs(low))) | (values > high + SLACK * max(1.0, abs(high)))
    if scaled:
        outside = values < low - SLACK
    if bool(outside.any()):
        raise PluginError(
            "the metric's answer lies outside the range that it declares",
            where=f"metric {name}",
            found=f"{float(values[outside][0]):g}",
            expected=f"{low:g}..{high:g} {metric.unit}",
            hint="leave the metric out, or repair its plugin",
        )
    return values
