"""Images of a class that a generator makes from scratch (Song, Shu, Kushman & Ermon 2018)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property

import torch
from torch.nn import functional

from charpy.errors import DataError
from charpy.generators import open_generator
from charpy.interfaces.attack import Attack, Family, Task
from charpy.interfaces.component import Params as BaseParams
from charpy.interfaces.component import param
from charpy.interfaces.dataset import Samples
from charpy.interfaces.generator import Generator
from charpy.losses import Objective
from charpy.pixels import as_images, quantise
from charpy.plugins import registry
from charpy.search.adam import direction, moments
from charpy.search.stream import State, each_sample
from charpy.threat import Access, Goal, Grid, Norm

SONG = "Song et al. 2018, section 3.2"
CODE = "default of Song et al.'s code"


class Acgan(Attack):
    """Searches a generator's latent space for images of the sample's class that the model calls another one.

    With g the generator, c its auxiliary classifier, f the model and y the sample's class, from a random start z0 each
    `steps` steps down the gradient of

        L0 + lambda1 mean_i max(|z_i - z0_i| - eps, 0) + lambda2 CE(c(x), y),    x = g(z, y) + noise tanh(t)

    over z (and over t where `noise` is not 0, from t = 0), then from another start, until the model is wrong. L0 is the
    cross-entropy of the class other than y that f finds most likely, or of the target (section 3.2). f is asked about x
    as it would be stored; its gradient is carried on through g.

    The sample lends its class, nothing else: not one value of its image is used, and no distance from it bounds x.
    An image whose auxiliary class is not y, as it would be stored, is a rehearsal: it costs a query and leads on, but
    is no witness whatever the model says. That the witnesses look like y to people is c's word for it, no more; the
    paper asked people.

    A generator also makes images that f gets wrong without any search: `steps: 1` shows it nothing but random ones, and
    says how much of the success is the generator's reach and not the search's.

    Differs from the authors' code: steps of Adam instead of plain gradient descent on a batch's mean with noise added
    to the gradient; with them lambda2 = 100 drowns L0, so that it is 10; eps is 0.5, for within 0.1 of its starts a
    search broke no more than random images did; |z_i - z0_i| as in the paper, not its square; c sees x with the noise.
    """

    norms = frozenset({Norm.UNRESTRICTED})
    access = Access.GRADIENTS
    family = Family.TARGET_DISTORTION
    source = "Song et al. 2018, Constructing unrestricted adversarial examples with generative models (NeurIPS)"

    class Params(BaseParams):
        """Parameters of the search."""

        generator: str = param(
            "mnist-acgan",
            min_length=1,
            description="a generator's kind, package.module:object, or FILE.safetensors of a trained one",
            source="ours",
        )
        steps: int = param(20, ge=1, description="of one search", unit="queries", source="ours (1000)")
        starts: int = param(1000, ge=1, description="searches of a sample, one after the other", source="ours")
        step_size: float = param(0.1, gt=0, description="of a step of Adam, in every latent value", source="ours")
        eps: float = param(0.5, ge=0, description="how far a latent value moves freely", source="ours (0.1)")
        lambda1: float = param(100.0, ge=0, description="weight of what it moves beyond", source=CODE)
        lambda2: float = param(10.0, ge=0, description="weight of the auxiliary classifier's loss", source="ours (100)")
        confidence: float = param(
            0.0,
            ge=0,
            lt=1,
            description="least probability that the auxiliary classifier gives the class of a witness",
            source="ours",
        )
        noise: float = param(
            0.0, ge=0, le=1, description="largest change of a value of the generator's image; 0.1 in the authors' code",
            unit="image values", source="Song et al. 2018, section 3.3",
        )  # fmt: skip

    @cached_property
    def generator(self) -> Generator:
        """The generator, opened on first use."""
        return open_generator(self.params.generator, registry())

    def fingerprint(self) -> Mapping[str, str]:
        """What the generator is."""
        return {f"generator.{key}": value for key, value in self.generator.fingerprint().items()}

    def prepare(self, norm: Norm, goal: Goal, samples: Iterable[Samples]) -> None:
        """Refuse images that the generator does not make.

        Raises:
            DataError: images of another shape, or a class that the generator does not have.
        """
        generator, where = self.generator, f"attack acgan, generator {self.params.generator}"
        for piece in samples:
            shape = tuple(piece.images.shape[1:])
            if shape != tuple(generator.image_shape):
                raise DataError(
                    "the generator makes images of another shape",
                    where=where,
                    found=f"(C, H, W) = {shape} in the data",
                    expected=tuple(generator.image_shape),
                    hint="give a `generator` of such images; `charpy train` trains one",
                )
            if len(piece.labels) and int(piece.labels.max()) >= generator.num_classes:
                raise DataError(
                    "the generator has not this class",
                    where=where,
                    found=f"label {int(piece.labels.max())} in the data",
                    expected=f"labels below {generator.num_classes}",
                    hint="give a `generator` of these classes; `charpy train` trains one",
                )

    def run(self, task: Task) -> None:
        """Search for every sample that still stands."""
        each_sample(
            task,
            lambda sample, run: self._begin(task, sample, run),
            lambda state: self._advance(task, state),
            runs=self.params.starts,
        )

    def _begin(self, task: Task, sample: torch.Tensor, run: torch.Tensor) -> State:
        """Latent vectors, of another draw in each run, and behind them what makes the noise, if there is any."""
        start = task.random.fork("latent").normal(sample, run, self.generator.latent_size)
        pixels = task.images[0].numel() if self.params.noise else 0
        variables = torch.cat([start, start.new_zeros(len(start), pixels)], 1)
        return {"variables": variables, "start": start, "step": torch.zeros_like(run), **moments(variables)}

    def _advance(self, task: Task, state: State) -> torch.Tensor:
        """One step of each search."""
        labels = task.labels[state["sample"]]
        variables = state["variables"].clone().requires_grad_(True)
        with torch.enable_grad():
            made = self._images(variables, labels)
            far = (variables[:, : state["start"].shape[1]] - state["start"]).abs()
            straying = (far - self.params.eps).clamp_min(0).mean(1)
        shown = quantise(made.detach()) if task.threat.grid is Grid.EIGHT_BIT else made.detach()
        slope, legitimate = self._auxiliary(shown, labels)
        slope = self.params.lambda2 * slope + self._slope(task, shown, state["sample"], legitimate)
        total = (made * slope).sum() + self.params.lambda1 * straying.sum()
        gradient = torch.autograd.grad(total, variables)[0]
        state["variables"] = state["variables"] - self.params.step_size * direction(state, gradient)
        state["step"] = state["step"] + 1
        finished: torch.Tensor = state["step"] >= self.params.steps
        return finished

    def _images(self, variables: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)` in [0, 1]: the generator's, with the noise on them."""
        latent = variables[:, : self.generator.latent_size]
        made = self.generator.generate(latent, labels).to(variables.device)
        if not self.params.noise:
            return made
        noise = variables[:, self.generator.latent_size :].tanh().view_as(made)
        noisy: torch.Tensor = (made + self.params.noise * noise).clamp(0, 1)
        return noisy

    def _auxiliary(self, shown: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradient `(B, C, H, W)` of the auxiliary cross-entropy at `shown`; bool `(B,)`, where it names the label, and
        is as sure as it has to be.
        """
        images = as_images(shown).detach().clone().requires_grad_(True)
        with torch.enable_grad():
            scores = self.generator.classify(images).to(labels.device)
            losses = functional.cross_entropy(scores, labels, reduction="none")
        named = (scores.argmax(1) == labels) & ((-losses).exp() >= self.params.confidence)
        return torch.autograd.grad(losses.sum(), images)[0], named

    def _slope(self, task: Task, shown: torch.Tensor, sample: torch.Tensor, legitimate: torch.Tensor) -> torch.Tensor:
        """`(B, C, H, W)`: gradient of L0 at `shown`. What the auxiliary classifier does not confirm is a rehearsal."""
        slope = torch.zeros(shown.shape, device=sample.device)
        for rows in (legitimate.nonzero()[:, 0], (~legitimate).nonzero()[:, 0]):
            if len(rows):
                own = sample[rows]
                rehearsal = not bool(legitimate[rows[0]])
                asked = task.oracle.loss_and_gradient(shown[rows], own, _aim(task, own), rehearsal=rehearsal)
                slope[rows] = asked.gradient
        return slope


def _aim(task: Task, sample: torch.Tensor) -> Objective:
    """L0: `(A,)` cross-entropy of the likeliest class that will do, of scores of the samples `sample`."""

    def loss(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        logs, own = scores.log_softmax(1), sample[rows]
        if task.targets is not None:
            return -logs.gather(1, task.targets[own][:, None])[:, 0]
        return -logs.scatter(1, task.labels[own][:, None], -torch.inf).amax(1)

    return loss
