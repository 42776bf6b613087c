"""`charpy study plan`, as it is typed."""

import pytest

from charpy.cli.app import run_program


@pytest.fixture(autouse=True)
def _wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")


def table(capsys, *options):
    assert run_program(["study", "plan", *options]) == 0
    text = capsys.readouterr().out
    return [[cell.strip() for cell in line.strip("│ ").split("│")] for line in text.splitlines() if "│" in line]


def test_participants_needed(capsys):
    """Lehr's rule, 16 (sd / difference)^2 for 80 % at 5 %: 16 (0.0064 + (0.0675 ...) / 25) / 0.05^2, about 58."""
    rows = table(capsys, "--accuracies", "benign=0.95,other=0.9", "--spread", "0.08")
    variance = sum(0.08**2 + (p * (1 - p) - 0.08**2) / 25 for p in (0.95, 0.9)) / 2
    people = int(rows[0][2])
    assert people == pytest.approx(16 * variance / 0.05**2, rel=0.05)
    assert float(rows[0][3]) == pytest.approx(people * 25 / 75, abs=0.05)


def test_three_conditions_share_alpha(capsys):
    alone = table(capsys, "--accuracies", "a=0.95,b=0.9,c=0.5", "--comparisons", "1")
    shared = table(capsys, "--accuracies", "a=0.95,b=0.9,c=0.5")
    assert [row[0] for row in shared] == ["a, b", "a, c", "b, c"]
    assert int(shared[0][2]) > int(alone[0][2])
    assert int(table(capsys, "--accuracies", "a=0.95,b=0.9,c=0.5", "--alpha", "0.15")[0][2]) == int(alone[0][2])


def test_power_of_a_size(capsys):
    rows = table(capsys, "--accuracies", "a=0.95,b=0.9", "--participants", "a=60,b=40", "--spread", "a=0.05,b=0.1")
    formula, simulated = (float(rows[0][at].rstrip(" %")) for at in (4, 5))
    assert rows[0][2] == "60 + 40"
    assert rows[0][3] == "20.0, 13.3"
    assert formula == pytest.approx(simulated, abs=4)


@pytest.mark.parametrize(
    "options",
    [
        ("--accuracies", "benign"),
        ("--accuracies", "benign=0.9"),
        ("--accuracies", "a=0.9,a=0.8"),
        ("--accuracies", "a=0.9,b=nan"),
        ("--accuracies", "a=0.9,b=1.8"),
        ("--accuracies", "a=0.9,b=0.8", "--spread", "0.6"),
        ("--accuracies", "a=0.9,b=0.8", "--spread", "a=0.1"),
        ("--accuracies", "a=0.9,b=0.8", "--spread", "a=0.1,b=0.1,c=0.1"),
        ("--accuracies", "a=0.9,b=0.8", "--power", "1"),
        ("--accuracies", "a=0.9,b=0.8", "--participants", "1"),
        ("--accuracies", "a=0.9,b=0.8", "--participants", "2.5"),
        ("--accuracies", "a=0.9,b=0.8", "--questions", "0"),
        ("--accuracies", "a=0.9,b=0.8", "--comparisons", "0"),
    ],
)
def test_what_cannot_be_planned_is_refused(capsys, options):
    assert run_program(["study", "plan", *options]) == 2
    assert "--" in capsys.readouterr().err
