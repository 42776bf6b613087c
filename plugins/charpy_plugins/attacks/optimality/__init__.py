"""Attacks that look for the nearest adversarial image; one algorithm a file."""
