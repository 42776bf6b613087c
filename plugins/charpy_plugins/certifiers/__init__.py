"""Built-in certifiers, one algorithm a file."""
