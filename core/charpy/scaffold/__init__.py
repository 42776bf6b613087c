"""What `charpy new-plugin` writes: a package with one small, working component of each kind that is asked for."""
