"""Attacks that ask for scores only; one algorithm a file."""
