"""Attacks that walk to the boundary and find their own radius; one algorithm a file."""
