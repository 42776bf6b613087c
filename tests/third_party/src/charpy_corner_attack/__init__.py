"""Components for charpy by somebody else."""
