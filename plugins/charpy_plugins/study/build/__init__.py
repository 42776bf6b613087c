"""From runs to a study file: which images are shown, in which condition, and that each is what it is said to be."""
