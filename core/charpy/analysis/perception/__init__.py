"""Whether a condition D(x, x') <= eps is necessary and sufficient for two images to look alike."""
