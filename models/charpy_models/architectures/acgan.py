"""AC-GAN (Odena, Olah, Shlens 2017, "Conditional image synthesis with auxiliary classifier GANs") for small images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from charpy_models.architectures.normalise import Normalise


class ACGAN(nn.Module):
    """A generator of images of a class, and a critic that tells real from generated and names the class.

    Called as a network, it is its auxiliary classifier: logits `(N, K)` of images `(N, C, H, W)` in [0, 1].

    Differs from the paper, whose images are larger: two transposed convolutions in the generator, two convolutions in
    the critic, no dropout; the critic's layers but the auxiliary one are spectrally normalised (Miyato et al. 2018),
    which keeps a short training stable.

    Args:
        in_channels: C of the images.
        num_classes: K.
        image_size: H and W, a multiple of 4.
        latent_size: numbers of a latent vector, standard normal.
        widths: channels of the first and second layer of the critic; the generator has them in reverse order.
        hidden: features of the critic's third layer.
        mean: per channel, or one for all, in image values.
        std: like `mean`.

    Attributes:
        latent_size, num_classes: as given.
        image_shape: `(C, H, W)`.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        num_classes: int = 10,
        image_size: int = 28,
        latent_size: int = 64,
        widths: tuple[int, int] = (32, 64),
        hidden: int = 128,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.5,),
    ) -> None:
        super().__init__()
        self.latent_size, self.num_classes = latent_size, num_classes
        self.image_shape = (in_channels, image_size, image_size)
        side, (first, second) = image_size // 4, widths
        self.generator = nn.Sequential(
            nn.Linear(latent_size + num_classes, second * side**2, bias=False),
            nn.Unflatten(1, (second, side, side)),
            nn.BatchNorm2d(second),
            nn.ReLU(),
            nn.ConvTranspose2d(second, first, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(first),
            nn.ReLU(),
            nn.ConvTranspose2d(first, in_channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        self.critic = nn.Sequential(
            Normalise(in_channels, mean, std),
            spectral_norm(nn.Conv2d(in_channels, first, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(first, second, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            spectral_norm(nn.Linear(second * side**2, hidden)),
            nn.LeakyReLU(0.1),
        )
        self.real = spectral_norm(nn.Linear(hidden, 1))
        self.auxiliary = nn.Linear(hidden, num_classes)

    def generate(self, latent: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Images `(N, C, H, W)` in [0, 1] of the classes `labels`, int64 `(N,)`, from `latent` `(N, latent_size)`."""
        asked = nn.functional.one_hot(labels, self.num_classes).to(latent.dtype)
        images: torch.Tensor = self.generator(torch.cat([latent, asked], 1))
        return images

    def judge(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """How real the images look, `(N,)`, and logits of their classes, `(N, K)`."""
        features = self.critic(images)
        return self.real(features)[:, 0], self.auxiliary(features)

    def classify(self, images: torch.Tensor) -> torch.Tensor:
        """Logits `(N, K)` of the auxiliary classifier."""
        return self.judge(images)[1]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The same."""
        return self.classify(images)
