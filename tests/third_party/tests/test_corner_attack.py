"""What the author of the package tests, with nothing but the installed packages."""

from __future__ import annotations

import math

import pytest
import torch
from charpy_corner_attack.bit_reduction import BitReduction
from charpy_corner_attack.brightness import Brightness
from charpy_corner_attack.changed_share import ChangedShare
from charpy_corner_attack.shades import Shades

from charpy.errors import SpecError
from charpy.plugins import registry


@pytest.mark.parametrize(
    ("hook", "kind"),
    [
        ("attacks", "corner_pixels"),
        ("metrics", "changed_share"),
        ("defenses", "bit_reduction"),
        ("datasets", "shades"),
        ("models", "brightness"),
    ],
)
def test_pip_install_is_all_it_takes(hook, kind):
    entry = registry().find(hook, kind)
    assert (entry.plugin, entry.package, entry.version) == ("corner_attack", "charpy-corner-attack", "1.2.0")
    assert entry.summary
    assert registry().create(hook, kind) is not None


def test_the_metric_counts_pixels_not_features():
    images = torch.zeros(2, 3, 4, 5)
    perturbed = images.clone()
    perturbed[0, :, 1, 2] = 1.0
    perturbed[0, 0, 3, 4] = 0.5
    assert ChangedShare()(images, perturbed).tolist() == pytest.approx([2 / 20, 0.0])


def test_the_defence_leaves_two_to_the_bits_values():
    ramp = torch.linspace(0, 1, 256).view(1, 1, 16, 16)
    seen = []

    class Spy(Brightness):
        def predict(self, images):
            seen.append(images)
            return super().predict(images)

    BitReduction(BitReduction.Params(bits=3)).wrap(Spy()).predict(ramp)
    assert seen[0].unique().tolist() == pytest.approx([step / 7 for step in range(8)])
    with pytest.raises(SpecError, match="bits"):
        registry().create("defenses", "bit_reduction", {"bits": 9})


def test_the_attack_breaks_only_what_can_be_broken(tmp_path):
    """th pixels can move the mean by at most the sum of the th largest steps to a corner: a closed form per sample."""
    from charpy.evaluator import evaluate
    from charpy.runfile import RunFile
    from charpy.specs import RunSpec, parse

    spec = parse(
        RunSpec,
        {
            "data": {"kind": "shades"},
            "models": [{"reference": "brightness"}],
            "threats": [
                {"norm": "l0", "levels": [1, 3, 8], "battery": [{"kind": "corner_pixels"}], "queries": 2000},
            ],
            "metrics": [{"kind": "changed_share"}],
        },
    )
    evaluate(spec, tmp_path / "run.charpy")
    data = Shades()
    images = data.read(range(len(data))).images.flatten(1)
    steps = torch.where(data.labels[:, None] == 1, images, 1 - images).sort(dim=1, descending=True).values
    gap = (images.sum(1) - 18).abs()
    with RunFile.open(tmp_path / "run.charpy") as run:
        found = {(w.sample, w.th): w for w in run.witnesses(0, "l0")}
        correct = [row.sample for row in run.samples(0) if row.prediction == row.label]
    assert len(correct) == len(data)
    for (sample, th), witness in found.items():
        assert steps[sample, :th].sum() > gap[sample]
        assert witness.distance <= th
        assert witness.metrics["changed_share"] == pytest.approx(witness.distance / 36)
    easy = [s for s in correct if steps[s, 36 - 8 :].sum() > gap[s] + 0.1]  # even the worst eight pixels suffice
    broken = {sample for sample, _ in found}
    assert easy
    assert set(easy) <= broken
    assert not math.isclose(len(broken), 0)
