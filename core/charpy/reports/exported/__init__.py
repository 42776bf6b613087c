"""A run file as tables and images that other programs read."""
