"""What tests of models and attacks need: models whose robustness is known exactly."""
