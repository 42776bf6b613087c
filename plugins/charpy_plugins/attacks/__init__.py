"""Built-in attacks, one algorithm a file."""
