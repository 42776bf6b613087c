"""First weights of deep networks without batch normalisation."""

from __future__ import annotations

from torch import nn


def he_normal(module: nn.Module) -> None:
    """Fresh weights for every convolution in `module`: normal with variance 2 / inputs, biases 0.

    Source: He, Zhang, Ren, Sun 2015, "Delving deep into rectifiers", equation 10. torch's own have a sixth
    of that variance, so that the answers of a deep network start next to nothing. Drawn from torch's global generator.
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
