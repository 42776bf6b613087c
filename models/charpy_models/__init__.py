"""Ready-made classifiers: architectures, training recipes, and weights trained with them."""
