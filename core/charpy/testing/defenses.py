"""The contracts of defences that wrap a model, and of detectors."""

from __future__ import annotations

from typing import ClassVar
from unittest import SkipTest

import torch

from charpy.interfaces.defense import Defense, Detector, GradientPath
from charpy.interfaces.model import Model, Output
from charpy.testing.contract import Contract, nothing_global_changes, require, unlike
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access

CLASSES = 4
ROUNDING = 1e-4


class ContractOnImages(Contract):
    """Images and a linear model for the checks; `shape` is `(C, H, W)`."""

    shape: ClassVar[tuple[int, int, int]] = (3, 12, 10)

    def images(self, count: int = 8) -> torch.Tensor:
        """`(N, C, H, W)` noise on the 8-bit grid, black and white."""
        images = torch.rand(count, *self.shape, generator=torch.Generator().manual_seed(0)).mul(255).round().div(255)
        images[-2], images[-1] = 0, 1
        return images

    def model(self, seed: int = 1, output: Output = Output.LOGITS) -> LinearClassifier:
        """A linear classifier of 4 classes for `shape`."""
        weight = torch.randn(CLASSES, *self.shape, generator=torch.Generator().manual_seed(seed))
        return LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1), output)


class DefenseContract(ContractOnImages):
    """What every defence that wraps a model must do.

    Attributes:
        slope: EXACT: largest relative error of a directional derivative against finite differences.
        changes: False for a defence that may leave every answer as it is.
    """

    component: ClassVar[type[Defense]]
    sort = Defense
    slope: ClassVar[float] = 0.05
    changes: ClassVar[bool] = True

    def wrapped(self, model: Model | None = None) -> Model:
        """The defended `model`, the linear one if none is given."""
        defended: Model = self.make().wrap(self.model() if model is None else model)
        return defended

    def test_wraps_a_model(self) -> None:
        """The result is a Model that answers in the form of the model inside, `(N, K)` or `(N,)`."""
        defended, images = self.wrapped(), self.images()
        require(isinstance(defended, Model), "wrap gives no Model", type(defended).__name__)
        found = defended.predict(images)
        require(found.shape == (len(images), CLASSES), "answers are not (N, K)", tuple(found.shape))
        require(found.dtype == torch.float32, "scores are not float32", found.dtype)
        require(found.isfinite().all(), "an answer is NaN or infinite")

    def test_declares_how_gradients_pass(self) -> None:
        """`gradient` is a GradientPath, `randomised` a bool; a defence that draws has a seed among its parameters."""
        defense = self.make()
        require(isinstance(defense.gradient, GradientPath), "gradient is no GradientPath", defense.gradient)
        require(isinstance(defense.randomised, bool), "randomised is no bool", defense.randomised)
        if defense.randomised:
            require("seed" in self.component.Params.model_fields, "it draws at random, and has no parameter `seed`")

    def test_the_model_inside_stays_as_it_is(self) -> None:
        """Its answers and its fingerprint are the same after it was wrapped and asked."""
        model, images = self.model(), self.images()
        before = model.predict(images), dict(model.fingerprint()), model.access
        self.wrapped(model).predict(images)
        require(torch.equal(model.predict(images), before[0]), "wrapping changes the answers of the model inside")
        require((dict(model.fingerprint()), model.access) == before[1:], "wrapping changes the model inside")

    def test_changes_something(self) -> None:
        """The defended model is another one: some scores differ."""
        if not self.changes:
            raise SkipTest("it may leave every answer as it is, as `changes` says")
        model, images = self.model(), self.images()
        require(unlike(self.wrapped(model).predict(images), model.predict(images)), "the defended model is the model")

    def test_the_model_inside_sees_images(self) -> None:
        """float32 `(N, C, H, W)`, finite, in [0, 1], for noise, black and white."""
        seen: list[torch.Tensor] = []

        class Spy(LinearClassifier):
            def predict(self, images: torch.Tensor) -> torch.Tensor:
                seen.append(images.detach())
                return super().predict(images)

        model = self.model()
        self.wrapped(Spy(model.weight, model.bias)).predict(self.images())
        require(seen, "the model inside is never asked")
        for images in seen:
            require(images.ndim == 4 and images.dtype == torch.float32, "the model inside does not see float32 images",
                    f"{images.dtype} {tuple(images.shape)}")  # fmt: skip
            held = ((images >= 0) & (images <= 1)).all()  # false for NaN
            require(held, "the model inside sees values outside [0, 1], or NaN")

    def test_gives_no_more_than_the_model_inside(self) -> None:
        """Of a model that gives labels: labels, or scores such as shares of votes; never gradients."""
        images = self.images()
        defended = self.wrapped(self.model(output=Output.LABELS))
        require(defended.access < Access.GRADIENTS, "it declares gradients of a model that gives labels")
        found, labels = defended.predict(images), defended.output is Output.LABELS
        require((defended.access is Access.LABELS) == labels, "access and output do not agree", defended.access.name)
        require(found.shape == ((len(images),) if labels else (len(images), CLASSES)), "answers are not as declared",
                f"{defended.output.value} {tuple(found.shape)}")  # fmt: skip
        require(labels == (found.dtype == torch.int64), "labels are not int64, or scores are", found.dtype)

    def test_gradients_pass_as_declared(self) -> None:
        """EXACT: the slope of the scores, by finite differences. BPDA, EOT: finite, not zero, and useful downhill."""
        defended = self.wrapped()
        if defended.access is not Access.GRADIENTS:
            raise SkipTest("the defended model gives no gradients")
        images = self.images()[:-2] * 0.8 + 0.1
        leaf = images.clone().requires_grad_(True)
        with torch.enable_grad():
            scores = defended.predict(leaf)
        require(scores.requires_grad, "it declares GRADIENTS, and its scores have none")
        slope = torch.autograd.grad(scores[:, 1].sum(), leaf, allow_unused=True)[0]
        require(slope is not None and bool(slope.isfinite().all()), "no finite gradient reaches the images")
        require((slope.flatten(1).abs().amax(1) > 0).all(), "a gradient is zero everywhere")
        with torch.no_grad():
            if self.make().gradient is GradientPath.EXACT:
                way, step = slope / slope.flatten(1).norm(dim=1)[:, None, None, None], 2e-2
                ahead, behind = (defended.predict(images + sign * step * way)[:, 1].double() for sign in (1, -1))
                rise, told = (ahead - behind) / (2 * step), (slope * way).flatten(1).sum(1).double()
                error = float(((rise - told).abs() / told.abs()).median())
                require(error <= self.slope, "declared EXACT, but its gradient is not the slope of its scores",
                        f"relative error {error:.2g}")  # fmt: skip
                return
            lower = defended.predict((images - 0.05 * slope.sign()).clamp(0, 1))[:, 1] < scores[:, 1]
        require(lower.float().mean() >= 0.5, "a step down its gradient does not lower the score", lower.tolist())

    def test_an_answer_depends_on_its_image_and_seed_alone(self) -> None:
        """Not on the batch, the order, the global generators, or which object answers."""
        images = self.images()
        first = self.wrapped().predict(images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(77)
            defended = self.wrapped()
            again, turned = defended.predict(images), defended.predict(images.flip(0)).flip(0)
            alone = torch.cat([defended.predict(images[i : i + 1]) for i in range(len(images))])
        for what, found in (("again", again), ("in another order", turned), ("alone", alone)):
            require(torch.allclose(found, first, rtol=ROUNDING, atol=ROUNDING), f"an image {what} gets another answer")

    def test_its_fingerprint_holds_the_model_inside_and_the_defence(self) -> None:
        """It differs from the model's, follows the model's weights, and follows each parameter of `effects`."""
        model = self.model()
        found = dict(self.wrapped(model).fingerprint())
        require(all(isinstance(part, str) for pair in found.items() for part in pair), "its fingerprint is no text")
        require(found != dict(model.fingerprint()), "the defended model has the fingerprint of the model inside")
        require(dict(self.wrapped(self.model(2)).fingerprint()) != found, "another model inside, the same fingerprint")
        require(dict(self.wrapped(model).fingerprint()) == found, "the same defended model has another fingerprint")
        for name, value in self.effects.items():
            other = dict(self.make(**{name: value}).wrap(model).fingerprint())
            require(other != found, f"parameter {name!r} is not in the fingerprint")

    def test_each_effect_is_one(self) -> None:
        """Each parameter of `effects` changes a score."""
        model, images = self.model(), self.images()
        base = self.wrapped(model).predict(images)
        for name, value in self.effects.items():
            changed = unlike(self.make(**{name: value}).wrap(model).predict(images), base)
            require(changed, f"parameter {name!r} has no effect: {value!r} gives the same answers")

    def test_leaves_its_images_alone(self) -> None:
        """The images are not written to."""
        images = self.images()
        copied = images.clone()
        self.wrapped().predict(copied)
        require(torch.equal(copied, images), "it writes into the images")

    def test_leaves_global_state_alone(self) -> None:
        """Global random generators, default dtype, grad mode and threads are as before."""
        with nothing_global_changes():
            self.wrapped().predict(self.images())


class DetectorContract(ContractOnImages):
    """What every detector must do."""

    component: ClassVar[type[Detector]]
    sort = Detector

    def test_gives_one_float32_for_each_image(self) -> None:
        """`(N,)` finite suspicion scores."""
        images = self.images()
        for count in (len(images), 1):
            found = self.make().flag(self.model(), images[:count])
            require(found.shape == (count,), "suspicion scores are not (N,)", tuple(found.shape))
            require(found.dtype == torch.float32, "suspicion scores are not float32", found.dtype)
            require(found.isfinite().all(), "a suspicion score is NaN or infinite")

    def test_tells_images_apart(self) -> None:
        """Not every image is equally suspicious."""
        require(len(self.make().flag(self.model(), self.images()).unique()) > 1, "every image has the same score")

    def test_a_score_depends_on_its_image_alone(self) -> None:
        """Not on the batch, the order or the global generators."""
        model, images = self.model(), self.images()
        first = self.make().flag(model, images)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(77)
            turned = self.make().flag(model, images.flip(0)).flip(0)
            alone = torch.cat([self.make().flag(model, images[i : i + 1]) for i in range(len(images))])
        for what, found in (("in another order", turned), ("alone", alone)):
            require(torch.allclose(found, first, rtol=ROUNDING, atol=ROUNDING), f"an image {what} has another score")

    def test_the_model_stays_as_it_is(self) -> None:
        """Answers and fingerprint of the model are the same; neither images nor global state are changed."""
        model, images = self.model(), self.images()
        before, copied = (model.predict(images), dict(model.fingerprint())), images.clone()
        with nothing_global_changes():
            self.make().flag(model, copied)
        require(torch.equal(copied, images), "it writes into the images")
        after = model.predict(images), dict(model.fingerprint())
        require(torch.equal(after[0], before[0]) and after[1] == before[1], "it changes the model")

    def test_each_effect_is_one(self) -> None:
        """Each parameter of `effects` changes a score."""
        model, images = self.model(), self.images()
        for name, value in self.effects.items():
            changed = unlike(self.make().flag(model, images), self.make(**{name: value}).flag(model, images))
            require(changed, f"parameter {name!r} has no effect: {value!r} gives the same scores")
