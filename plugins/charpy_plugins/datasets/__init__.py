"""Built-in datasets, one algorithm a file."""
