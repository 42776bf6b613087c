"""Built-in executors, one algorithm a file."""
