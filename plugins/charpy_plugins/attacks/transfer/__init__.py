"""Attacks that carry perturbations from elsewhere; one algorithm a file."""
