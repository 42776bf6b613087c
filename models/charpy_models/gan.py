"""What a recipe says of a training whose network makes images: a generator and a critic that learn from each other."""

from __future__ import annotations

from pydantic import Field

from charpy.specs import Spec


class Gan(Spec):
    """How an AC-GAN is trained (Odena, Olah & Shlens 2017), beside what every recipe says.

    The recipe's learning rate is the generator's; schedule, weight decay, batches, epochs and augmentation are both's.
    """

    critic_rate: float = Field(gt=0, description="peak learning rate of the critic")
    class_weight: float = Field(
        default=0.1, ge=0, description="of the auxiliary classifier's cross-entropy in the generator's loss"
    )
    momentum: float = Field(default=0.5, ge=0, lt=1, description="beta_1 of both optimisers (Radford et al. 2016)")
    average: float = Field(
        default=0.999,
        ge=0,
        lt=1,
        description="of the generator's weights, the mean over this share of the last mean and the rest of today's is"
        " kept; 0: the last ones",
    )
    judge: str | None = Field(
        default=None,
        description="model reference of a classifier that has no part in the training and is asked what the finished"
        " generator's images show, such as a kind of the zoo",
    )
