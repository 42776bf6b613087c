"""Branch and bound against exact minima of small networks: a mixed-integer program says what can be proven."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import Bounds, LinearConstraint, milp
from torch import nn

from charpy.bounds.activations import Relu
from charpy.bounds.from_torch import graph_of_module
from charpy.bounds.inner import known_bounds
from charpy.bounds.regions import Box
from charpy.bounds.splitting import Splitting
from charpy.threat import Norm, ThreatModel
from charpy_plugins.certifiers.branch_and_bound import BranchAndBound
from charpy_plugins.certifiers.crown import Crown
from charpy_plugins.wrappers.torch_module import TorchModel

GENERATOR = torch.Generator().manual_seed(9)


def large(module: nn.Sequential) -> nn.Sequential:
    """With larger weights: more of it is undecided at first."""
    for parameter in module.parameters():
        parameter.data *= 2
    return module


def dense(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return large(nn.Sequential(nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)))


def pooled(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Conv2d(1, 4, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)]
    return large(nn.Sequential(*layers))


def exact_minimum(module: nn.Sequential, low: np.ndarray, high: np.ndarray, row: np.ndarray) -> float:
    """The least value of `row` times the answers over a box, by a mixed-integer linear program (big M = 100)."""
    big, size = 100.0, 0
    kinds: list[int] = []
    ends: list[tuple[float, float]] = []
    constraints: list[tuple[dict[int, float], float, float]] = []

    def fresh(count: int, least: float, most: float, whole: bool = False) -> list[int]:
        nonlocal size
        kinds.extend([int(whole)] * count)
        ends.extend([(least, most)] * count)
        size += count
        return list(range(size - count, size))

    def largest(out: int, values: list[int], zero: bool) -> None:
        picks = fresh(len(values) + zero, 0, 1, whole=True)
        constraints.append((dict.fromkeys(picks, 1.0), 1, 1))
        for value, pick in zip(values, picks, strict=False):
            constraints.append(({out: 1.0, value: -1.0}, 0, np.inf))
            constraints.append(({out: 1.0, value: -1.0, pick: big}, -np.inf, big))
        if zero:
            constraints.append(({out: 1.0}, 0, np.inf))
            constraints.append(({out: 1.0, picks[-1]: big}, -np.inf, big))

    now = []
    for least, most in zip(low, high, strict=True):
        now += fresh(1, least, most)
    for layer in module:
        if isinstance(layer, nn.Linear | nn.Conv2d):
            weight, bias = layer.weight.detach().numpy().reshape(len(layer.weight), -1), layer.bias.detach().numpy()
            if isinstance(layer, nn.Conv2d):  # of one pixel each
                places = len(now)
                weight, bias = np.kron(weight, np.eye(places)), np.repeat(bias, places)
            new = fresh(len(bias), -big, big)
            for out, line, shift in zip(new, weight, bias, strict=True):
                constraints.append(({out: 1.0} | {i: -w for i, w in zip(now, line, strict=True)}, shift, shift))
        elif isinstance(layer, nn.ReLU | nn.MaxPool2d):
            windows = torch.tensor(now).view(-1, 2, 4).unfold(2, 2, 2).transpose(1, 2).flatten(2).flatten(0, 1)
            groups = [[i] for i in now] if isinstance(layer, nn.ReLU) else windows.tolist()
            new = fresh(len(groups), -big, big)
            for out, group in zip(new, groups, strict=True):
                largest(out, group, zero=isinstance(layer, nn.ReLU))
        else:
            continue
        now = new
    matrix = np.zeros((len(constraints), size))
    for number, (terms, _, _) in enumerate(constraints):
        for place, value in terms.items():
            matrix[number, place] = value
    cost = np.zeros(size)
    cost[now] = row
    rows = LinearConstraint(matrix, [c[1] for c in constraints], [c[2] for c in constraints])
    limits = Bounds([end[0] for end in ends], [end[1] for end in ends])
    found = milp(cost, constraints=rows, bounds=limits, integrality=np.array(kinds))
    assert found.success
    return float(found.fun)


@pytest.mark.parametrize("network", [dense, pytest.param(pooled, marks=pytest.mark.slow)])
def test_it_proves_what_is_true_and_nothing_else(network):
    """One relaxation leaves many of these open; branch and bound decides most, up to a fiftieth of a logit."""
    decided = open_before = 0
    generator = torch.Generator().manual_seed(9)
    for seed in range(12):
        module = network(seed)
        graph = graph_of_module(module, (1, 2, 4))
        image = torch.rand(1, 1, 2, 4, generator=generator)
        region = Box.around(image, 0.4)
        row = torch.tensor([1.0, -1.0, 0.0])
        least = exact_minimum(module, *(end.flatten().numpy() for end in region.hull()), row.numpy())
        known = known_bounds(graph, region)
        for offset, truth in ((0.02, True), (-0.02, False)):
            moved = Splitting(shifted(graph, least - offset), region, known, slack=0.0, steps=10)
            whole = moved._bounded(moved._whole(row[None])).bound
            open_before += bool(whole <= 0)
            proven = moved.proves(row[None], deadline=in_seconds(5 if truth else 0.3))
            assert proven <= truth, (seed, offset)
            decided += proven == truth
    assert decided >= 22, decided
    assert open_before >= 15, "too easy"


def shifted(graph, by: float):
    """The same network, whose first answer is smaller by `by`."""
    from charpy.bounds.affine import Scale
    from charpy.bounds.graph import Graph, Node

    shift = torch.tensor([-by, 0.0, 0.0])
    return Graph([*graph.nodes, Node(Scale(torch.ones(()), shift), (len(graph.nodes) - 1,), (3,))])


def in_seconds(seconds: float) -> float:
    import time

    return time.monotonic() + seconds


@pytest.mark.parametrize("network", [dense, pooled])
def test_the_two_sides_of_a_split_cover_their_part(network):
    graph = graph_of_module(network(2), (1, 2, 4))
    region = Box.around(torch.full((1, 1, 2, 4), 0.5), 0.5)
    splitting = Splitting(graph, region, known_bounds(graph, region), slack=0.0, steps=2)
    images = torch.rand(500, 1, 2, 4, generator=GENERATOR)
    parts = splitting._whole(torch.tensor([[1.0, -1.0, 0.0]]))
    for _ in range(5):
        parts = splitting._bounded(splitting._split(parts))
        values = [images]
        for node in graph.nodes[1:]:
            values.append(node.op(*(values[i] for i in node.inputs)))
        inside = torch.ones(len(images), len(parts), dtype=torch.bool)
        for place, mark in parts.marks.items():
            given = values[graph.nodes[place].inputs[0]]
            if isinstance(graph.nodes[place].op, Relu):
                wrong = (mark > 0) & (given[:, None] < 0) | (mark < 0) & (given[:, None] > 0)
                inside &= ~wrong.flatten(2).any(2)
            else:
                top = given[:, None].masked_fill(~mark, -torch.inf).amax(2)
                inside &= (top >= given.amax(1)[:, None]).flatten(2).all(2)
        assert bool(inside.any(1).all())
        score = values[-1][:, 0] - values[-1][:, 1]
        assert bool((parts.bound <= torch.where(inside, score[:, None], torch.inf).amin(0) + 1e-4).all())
    assert len(parts) > 16


@pytest.mark.parametrize("norm", [Norm.LINF, Norm.L2, pytest.param(Norm.L1, marks=pytest.mark.slow)])
def test_it_proves_what_one_relaxation_leaves_open_and_no_sample_breaks_it(norm):
    gained, generator = 0, torch.Generator().manual_seed(9)
    for seed in range(3):
        torch.manual_seed(seed)
        layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 12), nn.ReLU()]
        module = nn.Sequential(*layers, nn.Linear(12, 3))
        model = TorchModel.from_module(module, input_shape=(1, 6, 6), num_classes=3)
        images = torch.rand(4, 1, 6, 6, generator=generator)
        labels = model.predict(images).argmax(1)
        for radius in {Norm.LINF: (0.1, 0.2), Norm.L2: (0.3, 0.5), Norm.L1: (1.0, 1.5)}[norm]:
            threat = ThreatModel(norm=norm, radius=radius)
            split = BranchAndBound(BranchAndBound.Params(seconds=0.5)).certify(model, images, labels, threat)
            relaxed = Crown(Crown.Params(seconds=0.5)).certify(model, images, labels, threat)
            assert bool((split >= relaxed).all())
            gained += int((split & ~relaxed).sum())
            step = torch.randn(3000, 4, 1, 6, 6, generator=generator)
            step = step.sign() if norm is Norm.LINF else step
            length = step.flatten(2).norm(p={Norm.LINF: torch.inf, Norm.L2: 2, Norm.L1: 1}[norm], dim=2)
            inside = (images + radius * step / length[..., None, None, None]).clamp(0, 1)
            same = (model.predict(inside.flatten(0, 1)).argmax(1).view(3000, 4) == labels).all(0)
            assert not bool((split & ~same).any())
    assert gained > 0


def test_a_misclassified_image_and_a_tie_are_never_proven():
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    nn.init.zeros_(module[1].weight)
    module[1].bias.data = torch.tensor([1.0, 1.0, 0.0])
    model = TorchModel.from_module(module, input_shape=(1, 2, 2), num_classes=3)
    threat = ThreatModel(norm=Norm.LINF, radius=0.1)
    answers = BranchAndBound().certify(model, torch.rand(2, 1, 2, 2), torch.tensor([2, 0]), threat)
    assert answers.tolist() == [False, False]
