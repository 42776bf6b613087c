"""Bounds of a network's answers over sets of images: intervals and linear functions, propagated through its graph."""
