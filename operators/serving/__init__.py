"""Which model serves, from when on, and whether it is better than the one before."""
