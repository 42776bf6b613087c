"""Built-in wrappers, one algorithm a file."""
