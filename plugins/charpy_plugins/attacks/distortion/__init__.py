"""Attacks that are given a radius; one algorithm a file."""
