"""Attacks that ask for labels only; one algorithm a file."""
