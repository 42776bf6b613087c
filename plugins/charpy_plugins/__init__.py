"""The built-in components of charpy, found through the same entry-point group as a stranger's."""
