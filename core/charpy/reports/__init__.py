"""A run written for a reader: one file format each."""
