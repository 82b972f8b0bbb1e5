"""Training on Spark: sources, windows made where the meters lie, and judging there."""
