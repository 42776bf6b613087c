"""Built-in metrics, one algorithm a file."""
