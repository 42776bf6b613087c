"""Built-in defences, one algorithm a file."""
