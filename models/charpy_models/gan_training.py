"""Training an AC-GAN (Odena, Olah & Shlens 2017): a generator of images of a class, and a critic, from each other.

The critic's step is on the batch and as many generated images: max(0, 1 - real) on those of the data, max(0, 1 + real)
on the generated ones (the hinge of Miyato et al. 2018), and the cross-entropy of its auxiliary classifier on those of
the data. The generator's is on the same generated images, seen by the critic after its step: - real, and
`class_weight` times the cross-entropy of the class that was asked for.

Differs from the paper: the hinge for the log-likelihood of the source; the auxiliary classifier learns from the data
alone, as that of Song et al. 2018 did, for one that is also taught to name generated images by the class that was asked
for calls a bad image good; the mean of the generator's weights is kept (Yazici et al. 2019).
"""

from __future__ import annotations

import copy
from typing import Protocol, cast, runtime_checkable

import torch
from torch import nn
from torch.nn import functional

from charpy.errors import SpecError
from charpy_models.accuracy import count_correct
from charpy_models.checkpoint import State
from charpy_models.descent import BETAS, Descent
from charpy_models.recipe import Precision, Recipe
from charpy_models.training import Images, Trained, Training


@runtime_checkable
class GanNetwork(Protocol):
    """What a network must have to be trained so; called, it is its auxiliary classifier.

    Attributes:
        latent_size: numbers of a latent vector.
        generator: the part that only `generate` uses; the critic is all the rest.
    """

    latent_size: int
    generator: nn.Module

    def generate(self, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images `(N, C, H, W)` in [0, 1] of the classes `labels` `(N,)`, from standard normal `latent` `(N, L)`."""

    def judge(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How real images look, `(N,)`, and the logits of their classes, `(N, K)`."""


class GanTraining(Training):
    """A generator and its critic on their way; what is kept is the running mean of the generator's weights.

    Raises:
        SpecError: the network generates nothing.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: Images,
        held_out: Images | None,
        seed: int,
        device: torch.device,
        precision: Precision,
    ) -> None:
        super().__init__(recipe, data, held_out, seed, device, precision)
        if recipe.gan is None:
            raise SpecError("no generator's recipe", where="recipe.gan", expected="critic_rate, and what else differs")
        self.gan = recipe.gan
        self.module = self.fresh()
        self.network = as_gan(self.module, recipe)
        inside = {id(parameter) for parameter in self.network.generator.parameters()}
        self.critic = [parameter for parameter in self.module.parameters() if id(parameter) not in inside]
        self.classes = int(data.labels.max()) + 1
        steps, betas = recipe.epochs * self.each, (self.gan.momentum, BETAS[1])
        maker = self.network.generator.parameters()
        self.making = Descent(recipe, maker, steps, device, precision, betas=betas)
        self.judging = Descent(
            recipe, self.critic, steps, device, precision, learning_rate=self.gan.critic_rate, betas=betas
        )
        self.mean = copy.deepcopy(self.network.generator).requires_grad_(False)

    def learn(self, images: torch.Tensor, labels: torch.Tensor, batch: int) -> torch.Tensor:
        """One step of the critic and one of the generator; the sum of both losses."""
        latent = torch.randn(len(labels), self.network.latent_size, device=self.device)
        asked = torch.randint(self.classes, labels.shape, device=self.device)
        with self.precisely():
            made = self.network.generate(latent, asked)
        critic = self._critic_loss(images, labels, made.detach().float())
        self.judging.step(critic)
        for parameter in self.critic:  # the generator's step needs no gradient of theirs
            parameter.requires_grad_(False)
        with self.precisely():
            real, classes = self.network.judge(made.float())
        maker = -real.float().mean() + self.gan.class_weight * functional.cross_entropy(classes.float(), asked)
        self.making.step(maker)
        for parameter in self.critic:
            parameter.requires_grad_(True)
        self._average()
        return (critic + maker).detach()

    def _critic_loss(self, images: torch.Tensor, labels: torch.Tensor, made: torch.Tensor) -> torch.Tensor:
        both = torch.cat([images, made]).contiguous(memory_format=torch.channels_last)
        with self.precisely():
            real, classes = (part.float() for part in self.network.judge(both))
        hinge = (1 - real[: len(labels)]).relu().mean() + (1 + real[len(labels) :]).relu().mean()
        return hinge + functional.cross_entropy(classes[: len(labels)], labels)

    @torch.no_grad()
    def _average(self) -> None:
        """Take today's generator into the mean, which reaches back over no more than the last tenth of the steps."""
        keep = min(self.gan.average, 1 - 10 / (self.making.taken + 10))
        today = self.network.generator.state_dict()
        for name, mean in self.mean.state_dict().items():
            if mean.is_floating_point():
                mean.lerp_(today[name], 1 - keep)
            else:
                mean.copy_(today[name])

    def judge(self) -> float | None:
        """The share of held-out images that the auxiliary classifier names; the last weights are kept anyway."""
        if self.held_out is None:
            return None
        self.module.eval()
        correct = count_correct(self.module, *self.held_out)
        self.module.train()
        return correct / len(self.held_out.labels)

    def state(self) -> State:
        """What `load` needs to go on from here."""
        descents = {"making": self.making.state(), "judging": self.judging.state()}
        return {**super().state(), **descents, "mean": self.mean.state_dict()}

    def load(self, state: State) -> None:
        """Go on from `state`."""
        self.making.load(state["making"])
        self.judging.load(state["judging"])
        self.mean.load_state_dict(state["mean"])
        super().load(state)

    def result(self) -> Trained:
        """The network with the mean of the generator's weights."""
        self.network.generator.load_state_dict(self.mean.state_dict())
        return Trained(self.module.eval(), self.epoch, None)


def as_gan(module: nn.Module, recipe: Recipe) -> GanNetwork:
    """`module`, known to generate images.

    Raises:
        SpecError: it has not what that takes.
    """
    if not isinstance(module, GanNetwork):
        raise SpecError(
            "the network generates no images",
            where=recipe.architecture,
            found=type(module).__name__,
            expected="latent_size, generator, generate(latent, labels) and judge(images)",
            hint="leave `gan` out of the recipe, or take charpy_models.architectures.acgan:ACGAN",
        )
    return cast("GanNetwork", module)
