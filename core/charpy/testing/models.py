"""The contract of models."""

from __future__ import annotations

from typing import ClassVar
from unittest import SkipTest

import torch

from charpy.bounds.graph import UnsupportedError
from charpy.errors import ModelError
from charpy.interfaces.model import Model, Output
from charpy.testing.contract import Contract, nothing_global_changes, require
from charpy.threat import Access

ROUNDING = 1e-4
"""Largest change of a score, relative to the largest score (at least 1), that rounding may explain."""

SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from 1."""


class ModelContract(Contract):
    """What every model must do.

    Attributes:
        shape: `(C, H, W)` of the images of the checks; the model's own `input_shape` where it declares one.
        slope: largest relative error of a directional derivative against finite differences.
    """

    component: ClassVar[type[Model]]
    sort = Model
    shape: ClassVar[tuple[int, int, int]] = (1, 8, 8)
    slope: ClassVar[float] = 0.05

    def another(self) -> Model | None:
        """A model of the same kind with other weights; None where there is none."""
        return None

    def images(self, count: int = 12) -> torch.Tensor:
        """`(N, C, H, W)` noise on the 8-bit grid, black and white."""
        shape = self.make().input_shape or self.shape
        images = torch.rand(count, *shape, generator=torch.Generator().manual_seed(1)).mul(255).round().div(255)
        images[-2], images[-1] = 0, 1
        return images

    def answer(self, model: Model, images: torch.Tensor) -> torch.Tensor:
        """What it says to a copy of `images`, without gradients.

        Raises:
            ContractError: it says it in no tensor.
        """
        with torch.no_grad():
            found = model.predict(images.clone())
        require(isinstance(found, torch.Tensor), "predict gives no torch tensor", type(found).__name__)
        return found

    def same(self, first: torch.Tensor, second: torch.Tensor) -> bool:
        """Whether two answers are equal but for rounding."""
        if first.shape != second.shape or not first.is_floating_point():
            return torch.equal(first, second)
        return bool(((first - second).abs() <= ROUNDING * max(1.0, float(second.abs().max()))).all())

    def test_answers_have_the_declared_form(self) -> None:
        """float32 `(N, K)` scores with K as declared, or int64 `(N,)` labels below it."""
        model, images = self.make(), self.images()
        for count in (len(images), 1):
            found = self.answer(model, images[:count])
            if model.output is Output.LABELS:
                require(found.shape == (count,), "labels are not (N,)", tuple(found.shape))
                require(found.dtype == torch.int64, "labels are not int64", found.dtype)
                most = int(found.max()) + 1
                require(model.num_classes is None or most <= model.num_classes, "a label is no class", most - 1)
                continue
            require(found.ndim == 2 and len(found) == count, "scores are not (N, K)", tuple(found.shape))
            require(found.dtype == torch.float32, "scores are not float32", found.dtype)
            require(model.num_classes in (None, found.shape[1]), "K is not num_classes", found.shape[1])

    def test_answers_are_numbers(self) -> None:
        """No NaN or infinity, on noise, black and white."""
        require(self.answer(self.make(), self.images()).double().isfinite().all(), "an answer is NaN or infinite")

    def test_output_is_what_is_declared(self) -> None:
        """Rows of probabilities add up to 1; logits do not."""
        model = self.make()
        if model.output is Output.LABELS:
            raise SkipTest("it gives labels")
        found = self.answer(model, self.images())
        sums = bool(((found.sum(1) - 1).abs() <= SUM_TOLERANCE).all() and (found >= 0).all())
        said = model.output is Output.PROBABILITIES
        require(sums == said, f"declared {model.output.value}, but rows that add up to 1: {sums}")

    def test_the_same_image_gets_the_same_answer(self) -> None:
        """Five times from one object, whatever the global generators' state, and once from another one."""
        model, images = self.make(), self.images()
        first = self.answer(model, images)
        with torch.random.fork_rng(devices=[]):
            for seed in range(5):
                torch.manual_seed(seed)
                require(self.same(self.answer(model, images), first), "the same images get other answers")
        require(
            self.same(self.answer(self.make(), images), first), "another object of the same model answers otherwise"
        )

    def test_an_answer_does_not_depend_on_the_batch(self) -> None:
        """Alone, in another order, in a smaller batch."""
        model, images = self.make(), self.images()
        whole = self.answer(model, images)
        require(self.same(self.answer(model, images.flip(0)).flip(0), whole), "order changes answers")
        require(self.same(self.answer(model, images[:5]), whole[:5]), "a smaller batch changes answers")
        require(self.same(self.answer(model, images[3:4]), whole[3:4]), "an image alone gets another answer")

    def test_leaves_its_images_alone(self) -> None:
        """The images are not written to."""
        model, images = self.make(), self.images()
        copy = images.clone()
        with torch.no_grad():
            model.predict(copy)
        require(torch.equal(copy, images), "it writes into the images")

    def test_does_not_change_itself(self) -> None:
        """`state_digest` and `fingerprint` are the same after predicting."""
        model, images = self.make(), self.images()
        before = model.state_digest(), dict(model.fingerprint())
        self.answer(model, images)
        require((model.state_digest(), dict(model.fingerprint())) == before, "it changes its state by predicting")

    def test_leaves_global_state_alone(self) -> None:
        """Global random generators, default dtype, grad mode and threads are as before."""
        model, images = self.make(), self.images()
        with nothing_global_changes():
            model.predict(images)

    def test_access_is_honest(self) -> None:
        """LABELS if and only if labels come; GRADIENTS only where they are the slope of the scores."""
        model, images = self.make(), self.images()[:4]
        require((model.access is Access.LABELS) == (model.output is Output.LABELS), "access and output do not agree",
                f"{model.access.name}, {model.output.value}")  # fmt: skip
        if model.access is not Access.GRADIENTS:
            return
        leaf = (images * 0.9 + 0.05).requires_grad_(True)
        with torch.enable_grad():
            scores = model.predict(leaf)
        require(scores.requires_grad, "it declares GRADIENTS, and its scores have none")
        rows = torch.randn(scores.shape, generator=torch.Generator().manual_seed(4))
        slope = torch.autograd.grad((scores * rows).sum(), leaf, allow_unused=True)[0]
        require(slope is not None and bool(slope.isfinite().all()), "no finite gradient reaches the images")
        require(float(slope.abs().max()) > 0, "its gradients are zero everywhere")
        way, step = slope / slope.flatten(1).norm(dim=1).clamp_min(1e-30)[:, None, None, None], 1e-2
        with torch.no_grad():
            ahead, behind = (model.predict(leaf + sign * step * way).double() for sign in (1, -1))
        rise, told = ((ahead - behind) * rows).sum(1) / (2 * step), (slope * way).flatten(1).sum(1).double()
        error = float(((rise - told).abs() / told.abs().clamp_min(1e-12)).median())
        require(error <= self.slope, "its gradients are not the slope of its scores", f"relative error {error:.2g}")

    def test_its_fingerprint_says_which_model_it_is(self) -> None:
        """Not empty, texts by name, and the same for two of the same."""
        first, second = dict(self.make().fingerprint()), dict(self.make().fingerprint())
        require(first, "its fingerprint is empty")
        require(all(isinstance(part, str) for pair in first.items() for part in pair), "its fingerprint is no text")
        require(first == second, "two of the same model have different fingerprints")

    def test_its_fingerprint_follows_its_weights(self) -> None:
        """A model with other weights, and other answers, has another fingerprint."""
        other = self.another()
        if other is None:
            raise SkipTest("`another` gives no model with other weights")
        model, images = self.make(), self.images()
        require(not self.same(self.answer(other, images), self.answer(model, images)), "`another` answers the same")
        require(dict(other.fingerprint()) != dict(model.fingerprint()), "other weights, the same fingerprint")

    def test_other_ways_to_compute_it_agree(self) -> None:
        """`forwards` and `differentiable` give what `predict` gives; a way that cannot work here raises."""
        model, images = self.make(), self.images()
        expected = self.answer(model, images)
        for name, build in [*model.forwards().items(), *model.differentiable().items()]:
            try:
                forward = build()
            except Exception:  # noqa: BLE001 - a way that cannot work here raises; the engine goes on without it
                continue
            with torch.no_grad():
                require(self.same(forward(images.clone()), expected), f"the way {name!r} answers otherwise")

    def test_its_graph_is_the_model(self) -> None:
        """What is proven of the graph is said of the model: both give the same scores."""
        model, images = self.make(), self.images()
        try:
            graph = model.graph()
        except UnsupportedError as cause:
            raise SkipTest(str(cause)) from None
        if graph is None:
            raise SkipTest("it shows no graph")
        with torch.no_grad():
            found = graph(images.clone())
        expected = self.answer(model, images)
        expected = expected.log() if model.output is Output.PROBABILITIES else expected
        gaps = (found - found.amax(1, keepdim=True)) - (expected - expected.amax(1, keepdim=True))
        require(float(gaps.abs().max()) <= 10 * ROUNDING * max(1.0, float(expected.abs().max())),
                "its graph has other scores", f"largest difference {float(gaps.abs().max()):.3g}")  # fmt: skip

    def test_references_that_are_not_its_own_are_left_to_others(self) -> None:
        """`accepts` and `wrap` say None to what they do not know."""
        require(self.component.accepts("no-such-model-\u00e9") is None, "it accepts any reference")
        require(self.component.wrap(object()) is None, "it wraps any object")

    def test_export_writes_a_file_or_says_why_not(self) -> None:
        """`export` gives an ONNX file, or raises ModelError."""
        import tempfile
        from pathlib import Path

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model.onnx"
            try:
                self.make().export(target)
            except ModelError:
                return
            require(target.is_file() and target.stat().st_size, "export wrote no file")
