"""The contract of attacks: checks on linear models whose robustness is known exactly."""

from __future__ import annotations

from typing import Any, ClassVar
from unittest import SkipTest

import torch

from charpy.errors import AccessError
from charpy.interfaces.attack import Family
from charpy.interfaces.dataset import Samples
from charpy.interfaces.model import Output
from charpy.judge import Claim, Judge
from charpy.losses import margin
from charpy.pixels import as_images, inside, pack
from charpy.testing.attack_trials import CLASSES, COUNT, SHAPE, AttackTrials, Still, ids_of
from charpy.testing.bench import Trial, trial
from charpy.testing.contract import ContractError, nothing_global_changes, require, unlike
from charpy.testing.linear import LinearClassifier
from charpy.threat import Access, Goal, Grid, Norm

FARTHEST = {Norm.L0: 25.0, Norm.LINF: 1.0, Norm.L2: 75**0.5, Norm.L1: 75.0}
TARGETED = {Norm.L0: 12.0, Norm.LINF: 0.25, Norm.L2: 2.5, Norm.L1: 16.0}
BUDGETS = (1, 2, 7, 37)


class AttackContract(AttackTrials):
    """What every attack must do.

    Attributes:
        factor: a target-distortion attack breaks every sample at `factor` times the largest optimum; of the other
            families, the mean distance found is at most `factor` times the mean optimum.
        queries: budget per sample where the optimum is looked for.
        usual: budget per sample of most other checks.
        share: of the samples that must be broken there.
        within: share of its rows that a target-distortion attack asks inside the threat model; less for one that
            looks around (finite differences).
        randomised: whether another seed asks other rows; None: not said.
        shared: its samples depend on each other (one perturbation for all).
        rows_per_query: False where a query is no row of the model (`oracle.jacobian`).
    """

    factor: ClassVar[float] = 2.0
    queries: ClassVar[int] = 2000
    share: ClassVar[float] = 1.0
    within: ClassVar[float] = 0.9
    randomised: ClassVar[bool | None] = None
    shared: ClassVar[bool] = False
    rows_per_query: ClassVar[bool] = True

    def test_declares_what_it_is(self) -> None:
        """Norms, access, family and goals are of their types, and the source is a text."""
        attack = self.make()
        require(attack.norms and all(isinstance(norm, Norm) for norm in attack.norms), "norms are no set of Norm")
        require(isinstance(attack.access, Access), "access is no Access", attack.access)
        require(isinstance(attack.family, Family), "family is no Family", attack.family)
        require(attack.goals and all(isinstance(goal, Goal) for goal in attack.goals), "goals are no set of Goal")
        require(isinstance(attack.source, str), "source is no text: who published it", attack.source)

    def test_every_parameter_names_its_source(self) -> None:
        """Paper and section, or 'ours'."""
        for name, field in self.schema().items():
            require(field.get("source"), f"parameter {name!r} names no source (or 'ours')")

    def test_breaks_a_linear_model_within_its_factor(self) -> None:
        """Against the closed form of the smallest distance, under every norm."""
        _, images, labels = self.problem()
        for norm in self.norms():
            optimum = self.truth().smallest(norm, images, labels)
            own = self.make().family is not Family.TARGET_DISTORTION
            radius = FARTHEST[norm] if own else float(optimum.max()) * self.factor
            radius = float(int(radius + 0.999)) if norm is Norm.L0 else radius
            done = self.attacked(norm, radius=radius, queries=self.queries, grid=Grid.NONE)
            broken = float(done.found.found.float().mean())
            require(broken >= self.share, f"{norm}: broken at {radius:.3g} should be {self.share:.0%}", f"{broken:.0%}")
            if own:
                ratio = float(_size(norm, done.found.images - images).mean() / optimum.mean())
                require(ratio <= self.factor, f"{norm}: mean distance / optimum above {self.factor}", f"{ratio:.3f}")

    def test_spends_no_row_beyond_the_budget(self) -> None:
        """With 1, 2, 7 and 37 queries: it copes with any, and never goes on asking when nothing is left."""
        for norm in self.norms():
            for queries in BUDGETS:
                done = self.attacked(norm, queries=queries)
                require(int(done.found.queries.max()) <= queries, f"{norm}: beyond a budget of {queries}")

    def test_asks_the_model_through_the_oracle_alone(self) -> None:
        """The model computes no row that the oracle has not charged."""
        for norm in self.norms():
            done = self.attacked(norm)
            least = done.rows if self.rows_per_query else 0
            require(least <= done.rows <= done.oracle.rows, f"{norm}: rows of the model that were not charged",
                    f"{done.rows} rows, {done.oracle.rows} charged")  # fmt: skip

    def test_asks_for_no_more_than_its_access(self) -> None:
        """Under a threat model that gives exactly what it declares, it asks for nothing else."""
        for norm in self.norms():
            try:
                self.attacked(norm, queries=60)
            except AccessError as error:
                raise ContractError(
                    f"{norm}: it declares {self.make().access.name} and asks for more: {error.what}"
                ) from None

    def test_stops_when_nothing_is_active(self) -> None:
        """At most a few calls are made once every sample is broken or out of budget."""
        for norm in self.norms():
            for radius, queries in ((FARTHEST[norm], 2 * self.usual), (self.radius(norm), 20)):
                done = self.attacked(norm, radius=radius, queries=queries)
                require(done.log.idle <= 5, f"{norm}: it goes on asking with no sample active", done.log.idle)

    def test_leaves_finished_samples_alone(self) -> None:
        """Rows offered for samples that are already finished are the exception."""
        for norm in self.norms():
            done = self.attacked(norm, radius=self.radius(norm) * max(1.0, self.factor))
            spare = done.log.offered - done.log.finished
            require(done.log.finished <= 2 * spare, f"{norm}: most rows are of finished samples (`oracle.active`)",
                    f"{done.log.finished} of {done.log.offered}")  # fmt: skip

    def test_proposes_inside_the_threat_model(self) -> None:
        """What a target-distortion attack asks about is finite and, for the most part, allowed."""
        _, images, _ = self.problem()
        for norm in self.norms():
            done = self.attacked(norm, grid=Grid.NONE)
            require(not done.log.bad, f"{norm}: it asks about NaN or infinity", f"{done.log.bad} rows")
            rows, owner = done.log.rows()
            if len(rows) and self.make().family is Family.TARGET_DISTORTION:
                allowed = float(inside(done.task.threat, images[owner], rows).float().mean())
                require(
                    allowed >= self.within,
                    f"{norm}: rows inside the threat model below {self.within:.0%}",
                    f"{allowed:.0%}",
                )

    def test_what_it_claims_is_confirmed_by_the_judge(self) -> None:
        """Each image that it returns and that differs from its original is a witness."""
        model, images, labels = self.problem()
        judge = Judge(model, model.output, SHAPE)
        for norm in self.norms():
            done = self.attacked(norm)
            if done.returned is None:
                continue
            returned = torch.as_tensor(done.returned).detach()
            require(returned.shape == images.shape, f"{norm}: it returns no image per sample", tuple(returned.shape))
            moved = (returned != images).flatten(1).any(1).nonzero()[:, 0].tolist()
            box = ((returned >= 0) & (returned <= 1)).flatten(1).all(1)
            require(bool(box[moved].all()), f"{norm}: it claims images outside the box [0, 1], or NaN")
            stored = [[pack(part[i], Grid.EIGHT_BIT) for part in (images, returned)] for i in moved]
            claims = [Claim(a, b, int(labels[i])) for i, (a, b) in zip(moved, stored, strict=True)]
            for verdict in judge.decide(claims, done.task.threat):
                require(verdict.confirmed, f"{norm}: a claim that the judge rejects", verdict.reason)

    def test_a_sample_alone_is_as_in_a_batch(self) -> None:
        """Rows, budget and witness of a sample do not depend on the others."""
        self._same(lambda norm: (self.attacked(norm), self.attacked(norm, [4])), [4])

    def test_the_order_of_samples_does_not_matter(self) -> None:
        """The same samples in another order get the same results."""
        order = [3, 0, 5, 1, 4, 2]
        self._same(lambda norm: (self.attacked(norm), self.attacked(norm, order)), order)

    def test_the_batch_size_of_the_model_does_not_matter(self) -> None:
        """`oracle.batch` says what fills the model; results are the same with 3 as with 64."""
        every = list(range(COUNT))
        self._same(lambda norm: (self.attacked(norm), self.attacked(norm, batch=3)), every)

    def test_the_same_seed_gives_the_same(self) -> None:
        """Twice from the same seed, with the global generators in other states: the same rows in the same order."""
        for norm in self.norms():
            first = self.attacked(norm)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(12345)
                second = self.attacked(norm)
            require(first.log.digest() == second.log.digest(), f"{norm}: the same seed asks other rows")

    def test_another_seed_gives_another_search_where_declared(self) -> None:
        """`randomised` True: another seed asks other rows; False: the same."""
        if self.randomised is None:
            raise SkipTest("`randomised` is not declared")
        for norm in self.norms():
            same = self.attacked(norm, seed=0).log.digest() == self.attacked(norm, seed=1).log.digest()
            require(
                same != self.randomised, f"{norm}: declared randomised={self.randomised}, another seed: same={same}"
            )

    def test_keeps_nothing_between_runs(self) -> None:
        """An attack that has run once does the same again."""
        for norm in self.norms():
            attack = self.prepared()
            digests = [self.attacked(norm, attack=attack).log.digest() for _ in range(2)]
            require(digests[0] == digests[1], f"{norm}: a second run of the same object asks other rows")

    def test_leaves_global_state_alone(self) -> None:
        """Global random generators, default dtype, grad mode and threads are as before."""
        for norm in self.norms():
            with nothing_global_changes():
                self.attacked(norm, queries=60)

    def test_leaves_its_inputs_alone(self) -> None:
        """Images, labels and targets of the task are not written to."""
        _, images, labels = self.problem()
        for norm in self.norms():
            done = self.attacked(norm, queries=60)
            require(torch.equal(done.task.images, images), f"{norm}: it writes into task.images")
            require(torch.equal(done.task.labels, labels), f"{norm}: it writes into task.labels")

    def test_each_effect_is_one(self) -> None:
        """Each parameter of `effects` changes what is asked, under one of the norms at least."""
        for name, value in self.effects.items():
            pairs = [
                (self.attacked(norm), self.attacked(norm, attack=self.prepared(**{name: value})))
                for norm in self.norms()
            ]
            changed = any(a.log.digest() != b.log.digest() for a, b in pairs)
            require(changed, f"parameter {name!r} has no effect: {value!r} asks the same rows")

    def test_a_targeted_witness_is_of_the_target(self) -> None:
        """Under a targeted goal it reaches targets, and what it finds is taken for them."""
        if Goal.TARGETED not in self.make().goals:
            raise SkipTest("it has no targeted goal")
        _, _, labels = self.problem()
        targets = (labels + 1) % CLASSES
        for norm in self.norms():
            done = self.attacked(norm, radius=TARGETED[norm], targets=targets, queries=self.queries)
            found = done.found.found
            require(found.any(), f"{norm}: it reaches none of the targets at {TARGETED[norm]:g}")
            scores = self.truth().predict(as_images(done.found.images[found]))
            require((margin(scores, labels[found], targets[found]) < 0).all(), f"{norm}: a witness of another class")

    def test_copes_with_no_samples(self) -> None:
        """An empty shard is no error, and costs nothing."""
        for norm in self.norms():
            done = self.attacked(norm, [])
            require(done.rows == 0, f"{norm}: it asks although there are no samples", done.rows)

    def test_copes_with_a_model_that_answers_nan(self) -> None:
        """No exception, no claim, and an end."""
        if self.make().access is Access.LABELS:
            raise SkipTest("labels are never NaN")
        model, images, _ = self.problem()
        broken = LinearClassifier(model.weight * torch.nan)
        for norm in self.norms():
            done = self.attacked(norm, model=broken)
            require(not _claims(done, images), f"{norm}: it claims success although no answer is a number")

    def test_copes_with_a_model_that_never_moves(self) -> None:
        """A constant model is not broken, and no success is claimed."""
        model, images, labels = self.problem()
        for norm in self.norms():
            still = Still(model)
            done = trial(self.prepared(), still, images, torch.full_like(labels, 2), norm=norm, radius=1.0, queries=60)
            require(not done.found.found.any(), f"{norm}: it broke a model that always answers the same")
            require(not _claims(done, images), f"{norm}: it claims success on a model that always answers the same")

    def test_a_radius_below_one_step_changes_nothing(self) -> None:
        """On the 8-bit grid half a step, or half a pixel, allows no image: it says so by finding nothing."""
        for norm in self.norms():
            done = self.attacked(norm, radius=0.5 if norm is Norm.L0 else 0.5 / 255, queries=60)
            require(not done.found.found.any(), f"{norm}: broken with nothing allowed")

    def test_takes_images_of_any_shape(self) -> None:
        """One channel, and sides that differ."""
        generator = torch.Generator().manual_seed(3)
        weight = torch.randn(3, 1, 4, 7, generator=generator)
        images = torch.rand(3, 1, 4, 7, generator=generator).mul(255).round().div(255)
        output = Output.LABELS if self.make().access is Access.LABELS else Output.LOGITS
        model = LinearClassifier(weight, output=output)
        labels = LinearClassifier(weight).predict(images).argmax(1)
        attack = self.make()
        attack.prepare(self.norms()[0], Goal.UNTARGETED, [Samples(images, labels, ids_of(3))])
        for norm in self.norms():
            radius = 3.0 if norm is Norm.L0 else 0.05
            done = trial(attack, model, images, labels, norm=norm, radius=radius, queries=30)
            require(done.rows > 0, f"{norm}: it asks nothing about grey images of 4 x 7")

    def _same(self, pair: Any, rows: list[int]) -> None:
        if self.shared:
            raise SkipTest("its samples depend on each other, as `shared` says")
        for norm in self.norms():
            whole, part = pair(norm)
            for name in ("queries", "queries_to_success", "found", "images"):
                differ = unlike(getattr(part.found, name), getattr(whole.found, name)[rows])
                require(not differ, f"{norm}: {name} of a sample depend on the others in the batch")
            asked = [(part.log.of(new), whole.log.of(old)) for new, old in enumerate(rows)]
            differ = any(unlike(*pair) for pair in asked)
            require(not differ, f"{norm}: what is asked about a sample depends on the others in the batch")


def _claims(done: Trial, images: torch.Tensor) -> bool:
    return done.returned is not None and unlike(torch.as_tensor(done.returned).detach(), images)


def _size(norm: Norm, moved: torch.Tensor) -> torch.Tensor:
    """`(N,)` sizes: pixels, or image values."""
    if norm is Norm.L0:
        return (moved != 0).any(1).flatten(1).sum(1).float()
    if norm is Norm.LINF:
        return moved.flatten(1).abs().amax(1)
    return moved.flatten(1).abs().sum(1) if norm is Norm.L1 else moved.flatten(1).norm(dim=1)
