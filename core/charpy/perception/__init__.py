"""Pairs of images that are shown to look alike or different, whatever a norm says of them: made, read and measured."""
