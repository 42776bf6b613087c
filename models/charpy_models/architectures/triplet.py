"""Triplet networks: embeddings in which images of a class lie closer than those of two classes.

Sources: Hoffer & Ailon 2015, "Deep metric learning using triplet network"; Schroff, Kalenichenko & Philbin 2015,
"FaceNet"; Hermans, Beyer & Leibe 2017, "In defense of the triplet loss for person re-identification".
"""

from __future__ import annotations

import importlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import SpecError, unknown_name

MOMENTUM = 0.1
"""Weight of a batch in the running means of the classes, as in batch normalisation."""


class UnitLength(nn.Module):
    """Embeddings at L2 length 1, in float32 whatever the trunk computes in."""

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """`(N, size)`; zeros stay zeros."""
        kept = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        return functional.normalize(kept, dim=1)


class TripletNet(nn.Module):
    """An embedding of length 1 that is trained on triplets mined inside the batch, and the class means in it.

    A triplet is an anchor, a positive of its class and a negative of another. Its loss is
    max(0, |e_a - e_p|^2 - |e_a - e_n|^2 + margin) (FaceNet, equation 3). Mining:
    batch-hard: for each anchor the furthest positive and the nearest negative (Hermans et al., equation 5);
    semi-hard: for each anchor and positive the nearest negative beyond the positive, the furthest if there is none
    (FaceNet, equation 4).

    To be a classifier as well it scores each class by the cosine of the embedding and the class's mean embedding. The
    means are no weights: they run along with the training, like those of batch normalisation. In train mode it answers
    with the embedding, which its `loss` wants, in eval mode with the scores.

    Differs from the papers: batches are drawn at random, not so many images of so many classes. Where there are many
    classes, a batch needs several images of each.

    Args:
        trunk: module:Class of another architecture of this package; what would be its scores is the embedding.
        trunk_params: keywords of the trunk, without `num_classes`.
        size: numbers of an embedding.
        num_classes: K of the scores.
        margin: by how much a negative must be further, in squared distance; two embeddings are at most 4 apart.
        mining: batch-hard or semi-hard.

    Raises:
        UnknownNameError: no such mining.
        SpecError: no such trunk, or a parameter is out of its range.
    """

    means: torch.Tensor

    def __init__(
        self,
        *,
        trunk: str = "lenet:LeNet",
        trunk_params: Mapping[str, Any] | None = None,
        size: int = 64,
        num_classes: int = 10,
        margin: float = 0.2,
        mining: Literal["batch-hard", "semi-hard"] = "semi-hard",
    ) -> None:
        super().__init__()
        if mining not in MINING:
            raise unknown_name("mining", mining, MINING)
        if not 0 < margin <= 4 or size < 2:
            raise SpecError(
                "no such embedding can be trained",
                where="triplet network",
                found=f"margin {margin}, size {size}",
                expected="a margin in (0, 4], two numbers or more",
            )
        self.margin, self.mining = margin, mining
        inner = _architecture(trunk)(**(trunk_params or {}), num_classes=size)
        self.embedding = nn.Sequential(OrderedDict(trunk=inner, unit=UnitLength()))
        self.register_buffer("means", torch.zeros(num_classes, size))

    def embed(self, images: torch.Tensor) -> torch.Tensor:
        """Embeddings `(N, size)` of length 1 of `images` `(N, C, H, W)` in [0, 1]."""
        embeddings: torch.Tensor = self.embedding(images)
        return embeddings

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, num_classes)` in [-1, 1]; in train mode the embeddings."""
        embeddings = self.embed(images)
        return embeddings if self.training else embeddings @ functional.normalize(self.means, dim=1).T

    def loss(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean loss of the mined triplets of a batch, 0 where it has none; the means of its classes follow."""
        with torch.no_grad():
            members = functional.one_hot(labels, len(self.means)).to(embeddings.dtype)
            count = members.sum(0)[:, None]
            mean = members.T @ embeddings / count.clamp_min(1)
            self.means.copy_(torch.where(count > 0, self.means.lerp(mean, MOMENTUM), self.means))
        return triplet_loss(embeddings, labels, self.margin, self.mining)


def triplet_loss(embeddings: torch.Tensor, labels: torch.Tensor, margin: float, mining: str) -> torch.Tensor:
    """The mean over the mined triplets of embeddings `(N, D)` of length 1, `labels` `(N,)`; 0 where there are none."""
    squared = (2 - 2 * embeddings @ embeddings.T).clamp_min(0)
    alike = labels[:, None] == labels
    positive = alike & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    near, far, there = MINING[mining](squared, positive, ~alike)
    hinge: torch.Tensor = torch.relu(near - far + margin)[there]
    return hinge.sum() / max(1, len(hinge))


def _batch_hard(
    squared: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    near = squared.masked_fill(~positive, -1).amax(1)
    far = squared.masked_fill(~negative, 5).amin(1)
    return near, far, positive.any(1) & negative.any(1)


def _semi_hard(
    squared: torch.Tensor, positive: torch.Tensor, negative: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ordered = squared.masked_fill(~negative, 5).sort(dim=1).values
    beyond = torch.searchsorted(ordered.detach(), squared.detach(), right=True)
    last = (negative.sum(1, keepdim=True) - 1).clamp_min(0)
    return squared, ordered.gather(1, beyond.minimum(last)), positive & negative.any(1, keepdim=True)


Mining = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""Squared distances, and which pairs are positives and negatives, all `(N, N)`, anchors first -> squared distances to
the positives, to the negatives, and which of these triplets there are."""

MINING: Mapping[str, Mining] = {"batch-hard": _batch_hard, "semi-hard": _semi_hard}


def _architecture(name: str) -> type[nn.Module]:
    """The network of this package: a card may come from anyone, and nothing else may be built for it."""
    module, _, attribute = name.partition(":")
    try:
        home = importlib.import_module(f"{__package__}.{module}") if module.isidentifier() else None
    except ModuleNotFoundError:
        home = None
    found = getattr(home, attribute, None) if attribute.isidentifier() else None
    own = getattr(found, "__module__", "") == getattr(home, "__name__", None)
    if not (own and isinstance(found, type) and issubclass(found, nn.Module)):
        raise SpecError(
            "there is no such trunk",
            where="triplet network",
            found=repr(name)[:80],
            expected="module:Class of charpy_models.architectures, such as lenet:LeNet",
        )
    return found
