"""The contract of metrics."""

from __future__ import annotations

import math
from typing import ClassVar
from unittest import SkipTest

import torch

from charpy.errors import CharpyError
from charpy.interfaces.metric import Direction, Metric
from charpy.testing.contract import Contract, ContractError, nothing_global_changes, require, unlike

SMALL = ((1, 1), (1, 3), (2, 2), (3, 2), (5, 5), (8, 8))
TOLERANCE = 1e-5


class MetricContract(Contract):
    """What every metric must do.

    Attributes:
        shape: `(C, H, W)` of the images of the checks, large enough for the metric.
        symmetric: whether it does not matter which image is the original.
        monotone: whether more noise never looks nearer, in the mean of many pairs.
        differentiable: whether autograd gives its derivative with respect to the changed image.
        tolerance: how far an answer may be from what it should be, relative to its size (at least 1).
    """

    component: ClassVar[type[Metric]]
    sort = Metric
    shape: ClassVar[tuple[int, int, int]] = (3, 12, 10)
    symmetric: ClassVar[bool] = True
    monotone: ClassVar[bool] = True
    differentiable: ClassVar[bool] = False
    tolerance: ClassVar[float] = TOLERANCE

    def pairs(self, count: int = 6, noise: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
        """Originals and noisy copies `(N, C, H, W)` on the 8-bit grid."""
        generator = torch.Generator().manual_seed(11)
        images = torch.rand(count, *self.shape, generator=generator)
        moved = (images + noise * (2 * torch.rand(count, *self.shape, generator=generator) - 1)).clamp(0, 1)
        return images.mul(255).round().div(255), moved.mul(255).round().div(255)

    def near(self, first: torch.Tensor, second: torch.Tensor) -> bool:
        """Whether two answers are the same but for rounding; NaN equals NaN."""
        room = self.tolerance * max(1.0, float(second.nan_to_num().abs().max()) if len(second) else 1.0)
        return torch.allclose(first, second, rtol=0, atol=room, equal_nan=True)

    def test_declares_unit_direction_and_range(self) -> None:
        """A unit in words, a Direction, and a range that is one."""
        metric = self.make()
        require(str(getattr(metric, "unit", "")).strip(), "it has no unit ('1' where it has none)")
        require(isinstance(metric.direction, Direction), "direction is no Direction", metric.direction)
        low, high = metric.range
        require(low < high, "range is empty", metric.range)

    def test_gives_one_float32_for_each_pair(self) -> None:
        """`(N,)` for `(N, C, H, W)`, of one pair as of several."""
        images, perturbed = self.pairs()
        for count in (len(images), 1):
            found = self.make()(images[:count], perturbed[:count])
            require(isinstance(found, torch.Tensor), "it gives no tensor", type(found).__name__)
            require(found.shape == (count,), f"{count} pairs give not {count} values", tuple(found.shape))
            require(found.dtype == torch.float32, "its values are not float32", found.dtype)

    def test_equal_images_have_the_best_value(self) -> None:
        """The low end of the range for a distance, the high end for a similarity."""
        images, _ = self.pairs()
        metric = self.make()
        best = metric.range[0] if metric.direction is Direction.DISTANCE else metric.range[1]
        found = metric(images, images.clone())
        if math.isinf(best):
            require((found == best).all(), "equal images do not have the infinite end of the range", found.tolist())
        else:
            require(self.near(found, torch.full_like(found, best)), f"equal images do not have {best}", found.tolist())

    def test_more_noise_is_farther(self) -> None:
        """The declared direction is the true one."""
        if not self.monotone:
            raise SkipTest("it is not monotone in noise, as `monotone` says")
        metric = self.make()
        values = [float(metric(*self.pairs(24, noise)).double().mean()) for noise in (0.02, 0.1, 0.4)]
        up = values[0] < values[1] < values[2]
        down = values[0] > values[1] > values[2]
        right = up if metric.direction is Direction.DISTANCE else down
        require(right, f"more noise does not go the way of a {metric.direction.value}", values)

    def test_values_lie_in_the_range(self) -> None:
        """For noise, black and white, and unrelated images."""
        images, perturbed = self.pairs()
        metric = self.make()
        low, high = metric.range
        black, white = torch.zeros_like(images), torch.ones_like(images)
        for one, other in (
            (images, perturbed),
            (black, white),
            (white, black),
            (images, images.flip(0)),
            (black, black),
        ):
            found = metric(one, other)
            found = found[~found.isnan()]
            room = self.tolerance * max(1.0, *(abs(end) for end in (low, high) if math.isfinite(end)), 1.0)
            held = ((found >= low - room) & (found <= high + room)).all()
            require(held, f"values outside the declared range {metric.range}", found.tolist())

    def test_is_symmetric_where_declared(self) -> None:
        """`symmetric` True: the order of the two images does not matter; False: it does."""
        images, perturbed = self.pairs()
        same = self.near(self.make()(images, perturbed), self.make()(perturbed, images))
        require(same == self.symmetric, f"declared symmetric={self.symmetric}, but it is {same}")

    def test_a_pair_does_not_depend_on_the_others(self) -> None:
        """Alone, in a batch, in another order: the same value."""
        images, perturbed = self.pairs()
        metric = self.make()
        whole = metric(images, perturbed)
        require(self.near(metric(images[2:3], perturbed[2:3]), whole[2:3]), "a pair alone has another value")
        require(self.near(metric(images.flip(0), perturbed.flip(0)).flip(0), whole), "order changes values")

    def test_the_same_pair_has_the_same_value(self) -> None:
        """Twice, whatever the global generators' state."""
        images, perturbed = self.pairs()
        first = self.make()(images, perturbed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(99)
            require(not unlike(first, self.make()(images, perturbed)), "the same pairs get other values")

    def test_gradients_are_those_of_finite_differences(self) -> None:
        """Where `differentiable`: those of the changed image, in double precision; and finite at equal images."""
        if not self.differentiable:
            raise SkipTest("it is not differentiable, as `differentiable` says")
        images, perturbed = (part.double() for part in self.pairs(1))
        metric = self.make()
        leaf = perturbed.clone().requires_grad_(True)
        slope = torch.autograd.grad(metric(images, leaf).sum(), leaf, allow_unused=True)[0]
        require(slope is not None, "no gradient reaches the changed image")
        way = torch.randn(perturbed.shape, generator=torch.Generator().manual_seed(5)).double()
        step = 1e-5
        with torch.no_grad():
            rise = (metric(images, perturbed + step * way) - metric(images, perturbed - step * way)) / (2 * step)
        told = float((slope * way).sum())
        require(math.isclose(told, float(rise), rel_tol=1e-2, abs_tol=1e-6), "its gradient is not its slope",
                f"{told:.6g}, by finite differences {float(rise):.6g}")  # fmt: skip
        leaf = images.clone().requires_grad_(True)
        slope = torch.autograd.grad(metric(images, leaf).sum(), leaf, allow_unused=True)[0]
        require(slope is None or bool(slope.isfinite().all()), "its gradient at equal images is not finite")

    def test_small_images_are_measured_or_refused(self) -> None:
        """From 1 x 1 on: a value in the range, NaN for a pair without one, or a CharpyError; nothing else."""
        for channels in (1, 3):
            for height, width in SMALL:
                shape = (2, channels, height, width)
                images = torch.rand(shape, generator=torch.Generator().manual_seed(2))
                try:
                    found = self.make()(images, (images + 0.25) / 1.5)
                except CharpyError:
                    continue
                except Exception as cause:
                    raise ContractError(f"images {shape} raise {type(cause).__name__}: {cause}") from cause
                require(found.shape == (2,), f"images {shape} give not one value each", tuple(found.shape))

    def test_pairs_that_do_not_match_are_refused(self) -> None:
        """Other numbers, sides or types: torch would broadcast them, or wrap uint8 around, without a word."""
        images, _ = self.pairs(2)
        bytes_ = images.mul(255).to(torch.uint8)
        for one, other in ((images, images[:1]), (images, images[:, :1]), (images, bytes_), (bytes_, bytes_)):
            try:
                self.make()(one, other)
            except CharpyError:
                continue
            except Exception as cause:
                raise ContractError(f"it raises {type(cause).__name__}, no CharpyError: {cause}") from cause
            raise ContractError(f"it measures {one.dtype} {tuple(one.shape)} and {other.dtype} {tuple(other.shape)}")

    def test_nan_is_never_no_change(self) -> None:
        """A pair with a NaN pixel has not the value of equal images, and spoils no other pair."""
        images, perturbed = self.pairs(3)
        metric = self.make()
        clean, best = metric(images, perturbed), metric(images, images.clone())
        perturbed[1, 0, 0, 0] = torch.nan
        try:
            found = metric(images, perturbed)
        except CharpyError:
            return
        require(not torch.equal(found[1], best[1]), "a pair with NaN counts as unchanged")
        require(self.near(found[::2], clean[::2]), "NaN in one pair changes the value of another")

    def test_leaves_its_inputs_alone(self) -> None:
        """Neither image is written to."""
        images, perturbed = self.pairs()
        copies = images.clone(), perturbed.clone()
        self.make()(images, perturbed)
        require(torch.equal(images, copies[0]) and torch.equal(perturbed, copies[1]), "it writes into its images")

    def test_leaves_global_state_alone(self) -> None:
        """Global random generators, default dtype, grad mode and threads are as before."""
        with nothing_global_changes():
            self.make()(*self.pairs())

    def test_each_effect_is_one(self) -> None:
        """Each parameter of `effects` changes a value."""
        pairs = self.pairs()
        for name, value in self.effects.items():
            changed = unlike(self.make()(*pairs), self.make(**{name: value})(*pairs))
            require(changed, f"parameter {name!r} has no effect: {value!r} gives the same values")

    def test_its_fingerprint_is_stable(self) -> None:
        """Two of the same have the same; texts by name."""
        first, second = dict(self.make().fingerprint()), dict(self.make().fingerprint())
        require(first == second, "two of the same metric have different fingerprints")
        require(all(isinstance(part, str) for pair in first.items() for part in pair), "its fingerprint is no text")
