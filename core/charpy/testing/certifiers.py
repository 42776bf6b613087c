"""The contract of certifiers: sound or silent, on linear models whose smallest distances are known exactly."""

from __future__ import annotations

from typing import ClassVar
from unittest import SkipTest

import torch

from charpy.errors import CharpyError
from charpy.interfaces.certifier import THE_MODEL, Arithmetic, Certifier
from charpy.interfaces.model import Model, Output
from charpy.testing.contract import Contract, ContractError, nothing_global_changes, require
from charpy.testing.linear import LinearClassifier
from charpy.threat import BALLS, Access, Grid, Norm, ThreatModel

CLASSES, SHAPE, COUNT = 3, (1, 4, 4), 8
PARTS = (0.25, 0.5, 0.9, 1.1, 2.0)
ROOM = {Arithmetic.REAL: 1e-3, Arithmetic.FLOAT_SOUND: 1e-6}
"""How far beyond the closed form a proof may not reach, as a share: float32 rounding of scores, or of the truth."""


class CertifierContract(Contract):
    """What every certifier must do.

    Attributes:
        least: share of the samples that must be proven at half of their smallest distance.
    """

    component: ClassVar[type[Certifier]]
    sort = Certifier
    least: ClassVar[float] = 0.5

    def problem(self, output: Output = Output.LOGITS) -> tuple[LinearClassifier, torch.Tensor, torch.Tensor]:
        """A linear classifier of 3 classes on 1 x 4 x 4 images, samples at some way from its boundaries, their labels.

        One pixel weighs much less than the others together, so that there is something to prove under L0, too.
        """
        generator = torch.Generator().manual_seed(5)
        weight = torch.randn(CLASSES, *SHAPE, generator=generator).clamp(-1.5, 1.5)
        images = torch.rand(COUNT, *SHAPE, generator=generator) * 0.2 + 0.4
        labels = torch.arange(COUNT) % CLASSES
        images = (images + 0.25 * weight[labels]).clamp(0, 1).mul(255).round().div(255)
        model = LinearClassifier(weight, -0.5 * weight.flatten(1).sum(1), output)
        labels = LinearClassifier(weight, model.bias).predict(images).argmax(1)
        return model, images, labels

    def threats(self, part: float) -> list[tuple[ThreatModel, torch.Tensor]]:
        """Of each norm and sample the threat at `part` of its smallest distance, and that sample `(1,)`."""
        model, images, labels = self.problem()
        found = []
        for norm in BALLS:
            if norm not in self.make().norms:
                continue
            for row, distance in enumerate(model.smallest(norm, images, labels).tolist()):
                radius = float(int(part * distance + 1e-6)) if norm is Norm.L0 else part * distance
                if 0 < radius < 1e6:
                    found.append((ThreatModel(norm=norm, radius=radius, grid=Grid.NONE), torch.tensor([row])))
        if not found:
            raise SkipTest("none of its norms has a ball")
        return found

    def proven(self, threat: ThreatModel, rows: torch.Tensor, model: Model | None = None) -> torch.Tensor:
        """What it proves of the samples `rows`."""
        linear, images, labels = self.problem()
        found: torch.Tensor = self.make().certify(model or linear, images[rows], labels[rows], threat)
        return found

    def supported(self) -> None:
        """Skip where it has nothing to say about a linear model."""
        model, _, _ = self.problem()
        for threat, _ in self.threats(0.5):
            if reason := self.make().supports(model, threat):
                raise SkipTest(f"it does not support the linear model: {reason}")

    def test_declares_what_it_is(self) -> None:
        """Norms, and the arithmetic that its proofs hold in."""
        certifier = self.make()
        require(certifier.norms and all(isinstance(norm, Norm) for norm in certifier.norms), "norms are no set of Norm")
        require(isinstance(getattr(certifier, "arithmetic", None), Arithmetic), "arithmetic is no Arithmetic")
        require(certifier.of.strip(), "`of` does not say what its proofs are of")

    def test_gives_one_bool_for_each_sample(self) -> None:
        """bool `(N,)`, and of no samples none."""
        self.supported()
        threat, _ = self.threats(0.5)[0]
        for count in (COUNT, 1, 0):
            found = self.proven(threat, torch.arange(count))
            require(found.shape == (count,) and found.dtype == torch.bool, "it gives not one bool for each sample",
                    f"{found.dtype} {tuple(found.shape)}")  # fmt: skip

    def test_never_proves_what_a_witness_breaks(self) -> None:
        """At and beyond the smallest distance of the closed form nothing is proven, in the arithmetic it declares."""
        self.supported()
        if self.make().of != THE_MODEL:
            raise SkipTest(f"its proofs are of {self.make().of}")
        for beyond in (1 + ROOM[self.make().arithmetic], 1.1, 2.0):
            for threat, row in self.threats(beyond):
                proven = bool(self.proven(threat, row))
                require(
                    not proven,
                    f"{threat.norm}: proven at {beyond:.4g} times the distance of a witness",
                    f"sample {int(row)}",
                )

    def test_proves_something(self) -> None:
        """At half of the smallest distance, `least` of the samples."""
        self.supported()
        proven = [bool(self.proven(threat, row)) for threat, row in self.threats(0.5)]
        share = sum(proven) / len(proven)
        require(share >= self.least, f"proven at half of the smallest distance below {self.least:.0%}", f"{share:.0%}")

    def test_a_smaller_radius_is_never_harder(self) -> None:
        """What is proven at a radius is proven at every smaller one."""
        self.supported()
        runs: dict[tuple[str, int], list[bool]] = {}
        for part in PARTS:
            for threat, row in self.threats(part):
                runs.setdefault((threat.norm, int(row)), []).append(bool(self.proven(threat, row)))
        for (norm, sample), proven in runs.items():
            falls = proven == sorted(proven, reverse=True)
            require(falls, f"{norm}: proven at a radius, not at a smaller one", f"sample {sample}")

    def test_never_proves_a_wrong_label(self) -> None:
        """A sample that the model already gets wrong has no proof."""
        self.supported()
        model, images, labels = self.problem()
        for threat, _ in self.threats(0.5)[::COUNT]:
            found = self.make().certify(model, images, (labels + 1) % CLASSES, threat)
            require(not found.any(), f"{threat.norm}: it proves labels that the model does not give")

    def test_is_silent_where_it_has_nothing_to_say(self) -> None:
        """A model of which `supports` says why not gets no proof; what it supports is said in words, or ''."""
        certifier = self.make()
        _, images, labels = self.problem()
        labels_only = self.problem(Output.LABELS)[0]
        threat, _ = self.threats(0.5)[0]
        for subject in (labels_only, _Opaque()):
            reason = certifier.supports(subject, threat)
            require(isinstance(reason, str), "supports gives no text", reason)
            if not reason:
                continue
            try:
                found = certifier.certify(subject, images, labels, threat)
            except CharpyError:
                continue
            except Exception as cause:
                raise ContractError(f"it raises {type(cause).__name__}, no CharpyError: {cause}") from cause
            require(not found.any(), "it proves what it says it does not support", reason)

    def test_proves_nothing_of_a_model_that_answers_nan(self) -> None:
        """NaN is no margin."""
        self.supported()
        model, _, _ = self.problem()
        for threat, _ in self.threats(0.5)[::COUNT]:
            try:
                found = self.proven(threat, torch.arange(COUNT), LinearClassifier(model.weight * torch.nan))
            except CharpyError:
                continue
            require(not found.any(), f"{threat.norm}: it proves a model whose scores are NaN")

    def test_a_sample_does_not_depend_on_the_others(self) -> None:
        """Alone, in a batch, in another order, from another object: the same proof."""
        self.supported()
        for threat, _ in self.threats(0.5)[::COUNT]:
            whole = self.proven(threat, torch.arange(COUNT))
            turned = self.proven(threat, torch.arange(COUNT).flip(0)).flip(0)
            alone = torch.cat([self.proven(threat, torch.tensor([row])) for row in range(COUNT)])
            require(torch.equal(turned, whole), f"{threat.norm}: order changes proofs")
            require(torch.equal(alone, whole), f"{threat.norm}: a sample alone has another proof")

    def test_leaves_its_inputs_alone(self) -> None:
        """Images, labels, the model and global state are as before."""
        self.supported()
        model, images, labels = self.problem()
        copies, before = (images.clone(), labels.clone()), model.predict(images)
        threat, _ = self.threats(0.5)[0]
        with nothing_global_changes():
            self.make().certify(model, *copies, threat)
        require(torch.equal(copies[0], images), "it writes into the images")
        require(torch.equal(copies[1], labels), "it writes into the labels")
        require(torch.equal(model.predict(images), before), "it changes the model")


class _Opaque(Model):
    """Scores without gradients and without a graph: the mean, and two numbers."""

    access = Access.SCORES
    num_classes = CLASSES

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        """Scores `(N, 3)`."""
        bright = images.detach().flatten(1).mean(1)
        return torch.stack([bright, torch.zeros_like(bright), 0.5 - bright], 1)

    def fingerprint(self) -> dict[str, str]:
        """It has no weights."""
        return {"opaque": "1"}
