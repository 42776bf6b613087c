"""Rows 22 to 32 of the hostile inputs, through the command line: models that answer badly.

What cannot be scored is refused. What can is scored, and no figure of it is `supported`: the run is invalid, or the
grade is lowered and the report says why.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from charpy.errors import ModelError

MODELS = """
import random
import numpy
import torch

def scores(images):
    mean = images.flatten(1).mean(1)
    return torch.stack([0.5 - mean, mean - 0.5], 1) * 40

class Net(torch.nn.Module):
    def __init__(self, change, **parts):
        super().__init__()
        self.change = change
        for name, part in parts.items():
            setattr(self, name, part)
    def forward(self, images):
        return self.change(self, images)

class State:
    asked = 0

def bright(images):
    return images.flatten(1).mean(1) > 0.6

# row 22
def nan(): return Net(lambda net, x: scores(x) * torch.nan)
def inf(): return Net(lambda net, x: scores(x) + torch.inf)
def minus_inf(): return Net(lambda net, x: scores(x) - torch.inf)
def half_inf(): return Net(lambda net, x: torch.where(torch.tensor([True, False]), scores(x), torch.inf))
def nan_of_one():
    return Net(lambda net, x: torch.where(((x[:, 0, 0, 0] - 0.75).abs() < 0.055)[:, None], torch.nan, scores(x)))
def nan_under_attack():
    def change(net, x):
        moved = ((x == 0) | (x == 1)).flatten(1).any(1)
        return torch.where(moved[:, None], torch.nan, scores(x))
    return Net(change)

# row 23
def one_row(): return Net(lambda net, x: scores(x)[:1])
def one_row_more(): return Net(lambda net, x: scores(torch.cat([x, x[:1]])))
def flat(): return Net(lambda net, x: scores(x)[:, 0])
def number(): return Net(lambda net, x: scores(x).sum())
def pair(): return Net(lambda net, x: (scores(x), x))
def mapping(): return Net(lambda net, x: {"logits": scores(x)})
def nothing(): return Net(lambda net, x: None)
def maps(): return Net(lambda net, x: scores(x)[:, :, None, None])
def one_column(): return Net(lambda net, x: scores(x)[:, :1])
def varying():
    return Net(lambda net, x: torch.cat([scores(x)] * (2 if len(x) < 5 else 1), 1))
def another_shape(): return Net(lambda net, x: torch.nn.functional.conv2d(x, torch.ones(2, 3, 1, 1)))
def complex_numbers(): return Net(lambda net, x: scores(x) * 1j)

# row 24 and 25
def probabilities(): return Net(lambda net, x: scores(x).softmax(1))
def half(): return Net(lambda net, x: scores(x).half())
def bfloat(): return Net(lambda net, x: scores(x).bfloat16())

# row 26
def dropout():
    return Net(lambda net, x: scores(torch.nn.functional.dropout(x, 0.5, training=True)))
def dropout_part():
    return Net(lambda net, x: scores(net.drop(x)), drop=torch.nn.Dropout(0.5)).train()
def stays_in_train_mode():
    class Stubborn(Net):
        def train(self, mode=True): return super().train(True)
    return Stubborn(lambda net, x: scores(net.norm(x) / 6 + 0.5), norm=torch.nn.BatchNorm2d(1))
def updates_its_statistics():
    return Net(lambda net, x: scores(net.norm(x)), norm=type("Live", (torch.nn.BatchNorm2d,), {
        "forward": lambda self, x: torch.nn.functional.batch_norm(
            x, self.running_mean, self.running_var, training=True)})(1))
def norm_of_the_batch():
    return Net(lambda net, x: scores((x - x.mean()) / x.std() / 6 + 0.5))

# row 27
def noise(): return Net(lambda net, x: scores(x) + 4 * torch.randn(len(x), 2))
def small_noise(): return Net(lambda net, x: scores(x) + 0.1 * torch.randn(len(x), 2))
def noise_of_numpy():
    return Net(lambda net, x: scores(x) + 4 * torch.from_numpy(numpy.random.randn(len(x), 2)).float())
def noise_of_python(): return Net(lambda net, x: scores(x) + torch.tensor([0.0, random.gauss(0, 4)]))
def noise_on_a_few():
    noise = lambda x: 40 * torch.randn(len(x), 2) * (x.flatten(1).mean(1) > 0.62)[:, None]
    return Net(lambda net, x: scores(x) + noise(x))

# row 28
def counts(images):
    State.asked += 1
    return scores(images) * (1 if State.asked % 2 else -1)
def learns_from_attacks(images):
    State.asked += int(((images == 0) | (images == 1)).flatten(1).any(1).sum())
    return scores(images) if State.asked < 30 else -scores(images)
def first_of_the_batch(): return Net(lambda net, x: scores(x) + scores(x)[:1])
def rank_in_the_batch():
    return Net(lambda net, x: scores(x) + 4 * torch.arange(len(x))[:, None] * torch.tensor([0.0, 1.0]))

# row 29
def mutates(images):
    images *= 0.5
    return scores(images * 2)
class Mutating(torch.nn.Module):
    def forward(self, images):
        images.mul_(0.5)
        return scores(images * 2)
def mutating(): return Mutating()
def reseeds():
    def change(net, x):
        torch.manual_seed(0)
        return scores(x)
    return Net(change)
def changes_the_dtype():
    def change(net, x):
        torch.set_default_dtype(torch.float64)
        return scores(x)
    return Net(change)
def switches_gradients_off():
    def change(net, x):
        torch.set_grad_enabled(False)
        return scores(x)
    return Net(change)

# row 30, in this process
def exits():
    def change(net, x): raise SystemExit(0)
    return Net(change)
def interrupts():
    def change(net, x): raise RuntimeError("CUDA error: device-side assert")
    return Net(change)

# row 31
def detached(): return Net(lambda net, x: scores(x.detach()))
def rounded(): return Net(lambda net, x: scores(x).round())
def saturated(): return Net(lambda net, x: torch.tanh(scores(x) * 1e5))
def quantised_input(): return Net(lambda net, x: scores((x * 15).round() / 15))

# row 32
def always_rejects():
    return Net(lambda net, x: torch.cat([scores(x), torch.full((len(x), 1), 100.0)], 1))
def rejects_the_bright():
    def change(net, x):
        doubt = torch.where(bright(x), 100.0, -100.0)[:, None]
        return torch.cat([scores(x), doubt], 1)
    return Net(change)
def one_class(): return Net(lambda net, x: scores(x) * 0 + torch.tensor([0.0, 1.0]))
"""


@pytest.fixture(autouse=True)
def models(folder):
    (folder / "models.py").write_text(MODELS, encoding="utf-8")


REFUSED = {
    "one_row": "(1, 2)", "one_row_more": "(9, 2)", "flat": "(8,)", "number": "()", "pair": "one tensor",
    "mapping": "one tensor", "nothing": "one tensor", "maps": "(8, 2, 1, 1)", "one_column": "at least 2",
    "varying": "number of classes", "another_shape": "fails on images", "complex_numbers": "wrong form",
    "stays_in_train_mode": "changes itself", "updates_its_statistics": "changes itself",
    "exits": "end the process", "interrupts": "device-side assert",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(refused, name, on_shades):
    """Rows 23, 26 and 30: there is nothing to score."""
    error = refused(ModelError, REFUSED[name], "assess", f"models:{name}", *on_shades)
    assert error.found is not None


INVALID = {
    "nan": "no valid answer", "inf": "no valid answer", "minus_inf": "no valid answer", "half_inf": "no valid answer",
    "nan_under_attack": "NaN or infinity",
}  # fmt: skip


def assess(charpy, name, *rest):
    code, out, err = charpy("assess", f"models:{name}", *rest)
    assert "Traceback" not in err
    report = json.loads(Path("out/report.json").read_text(encoding="utf-8"))
    return code, report, out


def said(report) -> str:
    return " | ".join([*report["warnings"], *report["model"]["notes"], report["status_reason"], report["verdict"]])


@pytest.mark.parametrize("name", INVALID)
def test_row_22_neither_robust_nor_broken(charpy, name, on_shades):
    code, report, out = assess(charpy, name, *on_shades)
    assert code == 3
    assert report["status"] == "invalid"
    assert INVALID[name] in report["status_reason"]
    assert all(threat["grade"] == "invalid" for threat in report["threats"])
    assert "No verdict" in out


LOWERED = {
    # rows 26 and 27
    "dropout": ("weak", "randomised"), "noise": ("weak", "randomised"), "small_noise": ("weak", "randomised"),
    "noise_of_numpy": ("weak", "randomised"), "noise_of_python": ("weak", "randomised"),
    # row 28
    "norm_of_the_batch": ("invalid", "depend"), "first_of_the_batch": ("invalid", "depend"),
    "rank_in_the_batch": ("invalid", "depend"), "counts": ("weak", "randomised"),
    "learns_from_attacks": ("invalid", "stateful"),
    # row 32
    "always_rejects": ("weak", "8 of 8 (100.0 %) of the unchanged images are put into a class"),
    "one_class": ("weak", "every image is put into class 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOWERED)
def test_no_figure_is_supported(charpy, name, on_shades):
    code, report, _ = assess(charpy, name, *on_shades)
    grade, say = LOWERED[name]
    assert code == (3 if grade == "invalid" else 0)
    assert {threat["grade"] for threat in report["threats"]} == {grade}
    assert say in said(report)


@pytest.mark.parametrize("name", ["noise", "noise_of_numpy", "noise_of_python"])
def test_row_27_a_randomised_model_is_scored_over_repeated_draws(charpy, name, on_shades):
    """Every figure has a mean over ten other draws with an interval beside it; the draws follow from the seed."""
    reports = []
    for folder in ("out", "again"):
        code, out, err = charpy("assess", f"models:{name}", *on_shades[:-1], folder)
        assert code == 0, err
        assert "right under 10 other draws" in out
        reports.append(json.loads(Path(folder, "report.json").read_text())["redraws"])
    clean, attacked = reports[0]
    assert (clean["norm"], attacked["norm"]) == ("", "l0")
    for part in (clean, attacked):
        assert part["draws"] == 10
        assert part["interval"][0] < part["mean"] < part["interval"][1]
    assert reports[0][0] == reports[1][0]


def test_row_27_randomness_outside_the_probe_is_found(charpy, on_shades):
    """The first 64 samples of `noise_on_a_few` are answered the same each time; some of the others are not."""
    mine = [*on_shades]
    mine[mine.index("--samples") + 1] = "40"
    _, report, _ = assess(charpy, "noise_on_a_few", *mine)
    assert report["model"]["deterministic"] is False
    assert {threat["grade"] for threat in report["threats"]} == {"weak"}


NOTED = {
    "probabilities": "read as probabilities", "half": "float16", "bfloat": "bfloat16",
    "mutates": None, "mutating": "changes its input", "reseeds": "reseeds", "changes_the_dtype": "default dtype",
    "switches_gradients_off": "grad mode", "detached": "no gradients", "dropout_part": None,
}  # fmt: skip


@pytest.mark.parametrize("name", NOTED)
def test_what_can_be_put_right_is_and_is_said(charpy, name, on_shades):
    """Rows 24, 25, 26, 29 and 31: converted, copied or restored; the figures are those of the sound model."""
    generator, dtype = torch.get_rng_state(), torch.get_default_dtype()
    code, report, _ = assess(charpy, name, *on_shades)
    assert code == 0
    assert torch.equal(torch.get_rng_state(), generator)
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()
    assert NOTED[name] is None or NOTED[name] in said(report)
    assert report["clean_accuracy"] == 1
    masked = [t for t in report["threats"] if "no gradient reaches the images" in " ".join(t["grade_reasons"])]
    assert bool(masked) == (name in ("detached", "switches_gradients_off"))
    assert (report["model"]["access"] == "SCORES") == (name in ("detached", "mutates", "switches_gradients_off"))


@pytest.mark.parametrize("name", ["rounded", "saturated"])
def test_row_31_gradients_that_lead_nowhere_lower_the_grade(charpy, name):
    """The indicator fires, the black-box attack finds what the gradients do not, and the figure is weak."""
    rest = ["--data", "shades", "--samples", "8", "--norms", "linf", "--levels", "3", "--queries", "60"]
    code, report, _ = assess(charpy, name, *rest, "--battery", "pgd", "--certify", "0", "--out", "out")
    assert code == 0
    (threat,) = report["threats"]
    assert threat["held"] > 0
    assert threat["grade"] == "weak"
    fired = {part["kind"] for part in report["indicators"] if part["fired"]}
    assert fired & {"zero_gradients", "planted", "loss_still_rising", "unbounded_fails"}


def test_row_32_the_reject_rate_is_reported(charpy, on_shades):
    """A rejected image is an error, and a witness that is a rejection is counted and named as one."""
    _, report, _ = assess(charpy, "rejects_the_bright", *on_shades)
    refused = round((1 - report["clean_accuracy"]) * 8)
    assert 0 < refused < 8
    assert f"{refused} of 8" in said(report)
    threat = report["threats"][0]
    assert threat["clean_error"] == refused
    assert threat["robust_accuracy"]["not_broken"] <= report["clean_accuracy"]


def test_f10_nan_for_one_sample_marks_that_one_alone(charpy, on_shades):
    many = [*on_shades]
    many[many.index("--samples") + 1] = "40"
    _, report, _ = assess(charpy, "nan_of_one", *many)
    assert 0 < report["invalid"]["count"] < 10
    assert report["threats"][0]["invalid"] == report["invalid"]["count"]
    assert report["clean"]["count"] == 40 - report["invalid"]["count"]
