"""`charpy plugins`: everything that is installed, and what is wrong with it."""

from __future__ import annotations

import json

STRANGER = """
    def charpy_attacks():
        return {"mine": "mine:Mine", "few_pixel": "mine:Mine", "lost": "mine:Lost", "number": "mine:NUMBER"}

    from charpy.interfaces.attack import Attack

    NUMBER = 3

    class Mine(Attack):
        '''An attack \\x1b[31mof\\u202e a stranger.'''
        def run(self, task): ...
"""


def test_every_component_with_its_owner(charpy):
    done = charpy("plugins")
    assert done.code == 0
    rows = {tuple(line.split()[:4]) for line in done.out.splitlines()}
    for row in (
        ("models", "digits-cnn", "charpy", "0.1.0"),
        ("attacks", "few_pixel", "charpy", "0.1.0"),
        ("attacks", "corner_pixels", "charpy-corner-attack", "1.2.0"),
        ("datasets", "digits", "charpy", "0.1.0"),
        ("commands", "assess", "charpy", "0.1.0"),
        ("reports", "json", "charpy", "0.1.0"),
    ):
        assert row in rows


def test_as_json(charpy):
    found = json.loads(charpy("plugins", "--json").out)
    assert set(found) == {"components", "failures", "conflicts"}
    assert found["failures"] == found["conflicts"] == []
    row = next(row for row in found["components"] if row["kind"] == "threshold")
    assert row["hook"] == "attacks"
    assert row["package"] == "charpy"
    assert row["plugin"] == "charpy_plugins"
    assert row["summary"]


def test_everything_that_is_installed_can_be_used(charpy):
    done = charpy("plugins", "--check")
    assert done.code == 0, done.out


def test_what_is_wrong_is_shown_and_hides_nothing(stranger, program):
    stranger("mine", STRANGER)
    stranger("torn", "raise RuntimeError('torn \\x1b[31m')")
    listing = program("plugins")
    assert listing.code == 0
    assert "failed: plugin torn (torn 9.9): RuntimeError: torn [U+001B][31m" in listing.out
    assert (
        "refused: attacks few_pixel is registered by charpy_plugins (charpy 0.1.0) and by mine (mine 9.9)"
        in listing.out
    )
    assert "\x1b" not in listing.out
    assert "\u202e" not in listing.out
    assert "corner_pixels" in listing.out

    checked = program("plugins", "--check", "--json")
    assert checked.code == 1
    found = json.loads(checked.out)
    broken = {row["kind"]: row["failure"] for row in found["components"] if "failure" in row}
    assert set(broken) == {"lost", "number"}
    assert "Lost" in broken["lost"]
    assert "is no Attack or Battery" in broken["number"]
    assert [item["plugin"] for item in found["failures"]] == ["torn"]
    assert [item["kind"] for item in found["conflicts"]] == ["few_pixel"]

    said = program("plugins", "--check").out.splitlines()[-4:]  # at the end of a long list, where it is seen
    assert [line.split(":")[0] for line in said] == ["cannot be used", "cannot be used", "failed", "refused"]
    assert said[0].startswith("cannot be used: attacks lost of mine 9.9: AttributeError: ")
