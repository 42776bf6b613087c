"""Built-in components beside another default device: what they make lies where the images lie.

The other device is "meta", whose tensors have no values: one that is made there by mistake fails beside one that has
some, as a tensor of the processor does beside one of a GPU.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from charpy.interfaces.attack import Attack, Task
from charpy.interfaces.defense import Defense
from charpy.interfaces.metric import Metric
from charpy.judge import Claim, Judge
from charpy.pixels import pack
from charpy.plugins import registry
from charpy.testing import AttackContract, CertifierContract, DefenseContract, MetricContract
from charpy.threat import BALLS, Grid, Norm, ThreatModel

PARAMS = {"trades": {"radius": 0.1}, "random_resize": {"draws": 2}, "tvm": {"draws": 2}}
ELSEWHERE = {
    "foolbox", "torchattacks", "art",  # attacks of others, who make what they like where they like
    "acgan", "embedding_pgd", "transfer",  # need a network of their own
    "embedding", "lpips", "magnification", "ms_ssim", "vif",  # likewise, or larger images
    "background_change", "thermometer",  # need masks of objects, a model of codes
    "psnr",  # torchmetrics makes a number at the default device, which may lie beside a GPU's tensors
}  # fmt: skip


def components(hook: str, kind: type) -> dict[str, type]:
    found = {entry.kind: component for entry, component in registry().usable(hook) if entry.package == "charpy"}
    return {name: found[name] for name in sorted(found) if issubclass(found[name], kind) and name not in ELSEWHERE}


def elsewhere(change: bool) -> Any:
    return torch.device("meta") if change else nullcontext()


ATTACKS = components("attacks", Attack)


@pytest.mark.slow
@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize(
    ("name", "norm"), [(name, norm) for name in ATTACKS for norm in BALLS if norm in ATTACKS[name].norms]
)
def test_an_attack_asks_the_same(name, norm, grid):
    class Away(ATTACKS[name]):
        change = False

        def run(self, task: Task) -> Any:
            with elsewhere(self.change):
                return super().run(task)

    contract = type(name, (AttackContract,), {"component": Away, "params": PARAMS.get(name, {})})()
    digests = []
    for Away.change in (False, True):
        digests.append(contract.attacked(norm, queries=60, grid=grid).log.digest())
    assert digests[0] == digests[1]


METRICS = components("metrics", Metric)


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_measures_the_same(name):
    contract = type(name, (MetricContract,), {"component": METRICS[name], "params": PARAMS.get(name, {})})()
    metric, pair = contract.make(), contract.pairs()
    expected = metric(*pair)
    with elsewhere(True):
        found = contract.make()(*pair)
    torch.testing.assert_close(found, expected)


DEFENSES = components("defenses", Defense)


@pytest.mark.parametrize("name", DEFENSES)
def test_a_defence_answers_the_same(name):
    contract = type(name, (DefenseContract,), {"component": DEFENSES[name], "params": PARAMS.get(name, {})})()
    images, model, again = contract.images(), contract.model(), contract.model()
    expected = contract.wrapped(model).predict(images)
    with elsewhere(True):
        found = contract.wrapped(again).predict(images)
    torch.testing.assert_close(found, expected)


CERTIFIERS = components("certifiers", object)


@pytest.mark.parametrize("name", CERTIFIERS)
def test_a_certifier_proves_the_same(name):
    contract = type(name, (CertifierContract,), {"component": CERTIFIERS[name], "params": PARAMS.get(name, {})})()
    model, images, labels = contract.problem()
    supported = [case for case in contract.threats(0.5)[::3] if not contract.make().supports(model, case[0])]
    if not supported:
        pytest.skip("it proves nothing of a linear model")
    for threat, row in supported:
        expected = contract.make().certify(model, images[row], labels[row], threat)
        with elsewhere(True):
            assert torch.equal(contract.make().certify(model, images[row], labels[row], threat), expected)


@pytest.mark.parametrize("grid", list(Grid))
@pytest.mark.parametrize("norm", BALLS)
def test_the_judge_decides_the_same(norm, grid):
    metric = next(iter(METRICS.values()))
    model, images, labels = AttackContract.problem(type("any", (AttackContract,), {"component": ATTACKS["pgd"]})())
    moved = (images + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(3))).clamp(0, 1)
    claims = [
        Claim(pack(image, grid), pack(near, grid), int(label))
        for image, near, label in zip(images, moved, labels, strict=True)
    ]
    verdicts = []
    for change in (False, True):
        with elsewhere(change):
            judge = Judge(model, model.output, tuple(images.shape[1:]), {"first": metric(metric.Params())})
            verdicts.append(
                judge.decide(claims, ThreatModel(norm=norm, radius=30 if norm is Norm.L0 else 0.5, grid=grid))
            )
    assert repr(verdicts[0]) == repr(verdicts[1])
