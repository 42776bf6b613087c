"""The graph of a model, traced once, or the reason why it has none."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch

from charpy.bounds.graph import Graph, UnsupportedError
from charpy.errors import CharpyError
from charpy.interfaces.model import Model, Output

PROBES = 4
AGREEMENT = 1e-3
"""A graph whose answers differ by more than this share of the largest score is not the model's."""

_graphs: WeakKeyDictionary[Model, Graph] = WeakKeyDictionary()


def graph_of(model: Model) -> Graph:
    """The model's graph.

    Raises:
        UnsupportedError: it shows no network, or one with an operator that is not supported.
    """
    known = _graphs.get(model)
    if known is not None:
        return known
    found = _traced(model)
    if isinstance(found, str):  # not kept: some models know their images only after their first answer
        raise UnsupportedError(found)
    _graphs[model] = found
    return found


def why_not(model: Model) -> str:
    """'' if the model has a graph, otherwise the reason why it has none."""
    try:
        graph_of(model)
    except UnsupportedError as cause:
        return str(cause).splitlines()[0]
    return ""


def _traced(model: Model) -> Graph | str:
    try:
        graph = model.graph()
    except CharpyError as cause:
        return " ".join(line.strip() for line in str(cause).splitlines())
    if graph is None:
        return "the model shows no network that bounds could be propagated through"
    images = torch.rand(PROBES, *graph.input_shape, generator=torch.Generator().manual_seed(0)).to(model.device)
    with torch.no_grad():
        mine, theirs = graph(images), model.predict(images)
    if model.output is Output.PROBABILITIES:
        mine = mine.softmax(1)
    if theirs.shape != mine.shape or bool(((mine - theirs).abs().amax() > AGREEMENT * theirs.abs().amax()).any()):
        return "the traced graph does not answer as the model does"
    return graph
