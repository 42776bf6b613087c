"""What tests of models and attacks need: models whose robustness is known exactly, and `assert_robust`."""

from charpy.testing.robust import assert_robust

__all__ = ["assert_robust"]
