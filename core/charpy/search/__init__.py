"""Black-box optimisers over many samples at once, for attacks that search with scores alone."""
