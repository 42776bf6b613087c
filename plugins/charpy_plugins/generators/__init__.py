"""Generators of images of a class."""
