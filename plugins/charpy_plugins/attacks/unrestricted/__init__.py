"""Attacks that are bounded by parameters of their own, not by a distance; one algorithm a file."""
