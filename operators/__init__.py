"""What happens to the data: pure functions on numpy arrays, and the thin Flink wrappers around them."""
