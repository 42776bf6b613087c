"""What the author of the package inherits: one class a component, and the contract's checks are its tests."""

from typing import ClassVar

from charpy_corner_attack.bit_reduction import BitReduction
from charpy_corner_attack.brightness import Brightness
from charpy_corner_attack.corner_pixels import CornerPixels
from charpy_corner_attack.shades import Shades

from charpy.testing import AttackContract, DatasetContract, DefenseContract, ModelContract


class TestCornerPixels(AttackContract):
    component = CornerPixels
    randomised = True
    factor = 5.0  # places and colours are guesses: at five times the optimum most samples are broken
    share = 0.5
    queries = 500
    effects: ClassVar = {"colours": 1}


class TestBitReduction(DefenseContract):
    component = BitReduction
    effects: ClassVar = {"bits": 2}


class TestBrightness(ModelContract):
    component = Brightness


class TestShades(DatasetContract):
    component = Shades

    def another(self):
        return self.make(size=20)
