"""Twenty-two faulty models, each the digits network behind one fault; `FAULTS` says what is wrong with each."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from charpy.plugins import registry

FAULTS: dict[str, str] = {}

Change = Callable[[Any, torch.Tensor], Any]


class Faulty(nn.Module):
    """The digits network, whose answer is `change(self, images)`; `state` is the model's own memory."""

    def __init__(self, change: Change) -> None:
        super().__init__()
        self.network: nn.Module = registry().create("models", "digits-cnn").module
        self.change, self.state = change, {"asked": 0, "seen": []}

    def forward(self, images: torch.Tensor) -> Any:
        """What the fault makes of the network's answer."""
        return self.change(self, images)


def fault(text: str) -> Callable[[Change], Callable[[], nn.Module]]:
    """Registers a faulty model under the name of the function that answers for it."""

    def register(change: Change) -> Callable[[], nn.Module]:
        name = change.__name__
        FAULTS[name] = text

        def make() -> nn.Module:
            return Faulty(change)

        make.__name__ = name
        return make

    return register


@fault("every logit is NaN")
def nan(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x) * torch.nan


@fault("every logit is infinite")
def infinite(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x) + torch.inf


@fault("NaN wherever an image is no clean one")
def nan_under_attack(net: Faulty, x: torch.Tensor) -> Any:
    clean = ((x * 16 - (x * 16).round()).abs() < 0.04).flatten(1).all(1)  # digits lie near k/16
    return torch.where(clean[:, None], net.network(x), torch.nan)


@fault("answers differently every second time")
def stateful(net: Faulty, x: torch.Tensor) -> Any:
    net.state["asked"] += 1
    return net.network(x) * (1 if net.state["asked"] % 2 else -1)


@fault("remembers its first answer for everything near an image that it has seen")
def memorising(net: Faulty, x: torch.Tensor) -> Any:
    answers = []
    for image, answer in zip(x, net.network(x), strict=True):
        known = [old for seen, old in net.state["seen"] if float((image - seen).abs().max().detach()) < 0.2]
        if not known:
            net.state["seen"].append((image.detach().clone(), answer.detach()))
        answers.append(known[0] if known else answer)
    return torch.stack(answers)


@fault("another function from the 3,000th image on that it is asked about")
def turning(net: Faulty, x: torch.Tensor) -> Any:
    net.state["asked"] += len(x)
    return net.network(x) if net.state["asked"] < 3000 else net.network(((x - 0.5) * 50).sigmoid())


@fault("halves the images that it is given, in place")
def mutating(net: Faulty, x: torch.Tensor) -> Any:
    x.data.mul_(0.5)
    return net.network(x * 2)


@fault("adds noise to its logits")
def noisy(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x) + 6 * torch.randn(len(x), 10)


@fault("dropout is live")
def dropout(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(nn.functional.dropout(x, 0.5, training=True))


class BatchNorm(Faulty):
    """Stays in train mode."""

    def __init__(self) -> None:
        super().__init__(lambda net, x: net.network(net.norm(x) * 0.37 + 0.3))
        self.norm = nn.BatchNorm2d(1)

    def train(self, mode: bool = True) -> BatchNorm:
        """Not for the normalisation."""
        super().train(mode)
        self.norm.training = True
        return self


FAULTS["train_mode"] = "BatchNorm stays in train mode"
train_mode = BatchNorm


@fault("expects values from 0 to 255")
def wrong_range(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x / 255)


@fault("gives probabilities of logits times 1,000")
def saturated(net: Faulty, x: torch.Tensor) -> Any:
    return (net.network(x) * 1000).softmax(1)


@fault("rounds its logits")
def rounded(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x).round()


@fault("detaches the images: no gradient reaches them")
def detached(net: Faulty, x: torch.Tensor) -> Any:
    first = next(net.network.parameters())
    return net.network(x.detach()) + 0 * (first.detach().clone().requires_grad_(True)).sum()


@fault("subtracts the mean of the batch from its logits")
def batch_dependent(net: Faulty, x: torch.Tensor) -> Any:
    answer = net.network(x)
    return answer - answer.mean(0) * 4


@fault("a class of its own for rejection, and always that")
def rejecting(net: Faulty, x: torch.Tensor) -> Any:
    return torch.cat([net.network(x), torch.full((len(x), 1), 1e4)], 1)


@fault("one answer too many")
def wrong_batch(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(torch.cat([x, x[:1]]))


@fault("logits in a tuple")
def pair(net: Faulty, x: torch.Tensor) -> Any:
    return net.network(x), x


@fault("raises SystemExit(0)")
def exits(net: Faulty, x: torch.Tensor) -> Any:
    raise SystemExit(0)


@fault("os._exit(0)")
def gone(net: Faulty, x: torch.Tensor) -> Any:
    os._exit(0)


@fault("reads at address 0")
def segfault(net: Faulty, x: torch.Tensor) -> Any:
    return ctypes.string_at(0)


@fault("sleeps for an hour")
def hanging(net: Faulty, x: torch.Tensor) -> Any:
    time.sleep(3600)
    return net.network(x)
